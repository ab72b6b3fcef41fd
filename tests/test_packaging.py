"""The add-on keeps the Supervisor's rules, its start hands options and broker to the daemon; the unit and the image."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

import mbusd
from mbusd import config
from mbusd.line.transport import BAUDRATES
from tests.processes import clean_environment

ROOT = Path(__file__).parent.parent
ADDON = ROOT / "addon"
MANIFEST: dict[str, Any] = yaml.safe_load((ADDON / "config.yaml").read_text("utf-8"))
TRANSLATIONS = sorted((ADDON / "translations").glob("*.yaml"))

# The Supervisor's documented rules for config.yaml
REQUIRED = {"name", "version", "slug", "description", "arch"}
WORDS = {
    "startup": {"initialize", "system", "services", "application", "once"},
    "boot": {"auto", "manual", "manual_only"},
    "stage": {"stable", "experimental", "deprecated"},
}
ARCHITECTURES = {"aarch64", "amd64"}  # of those that the Supervisor of 2026 still has
MAPS = {
    *("data", "config", "ssl", "addons", "backup", "share", "media"),
    *("homeassistant_config", "all_addon_configs", "addon_config"),
}
ELEMENT = re.compile(
    r"(bool|email|url|port|device(\(subsystem=[a-z]+\))?|(str|password|int)(\(\d*,\d*\))?|float(\([\d.]*,[\d.]*\))?"
    r"|match\(.*\)|list\(.+\))\??"
)
KNOWN = REQUIRED | set(WORDS) | {"url", "uart", "services", "map", "timeout", "options", "schema"}

BROKER = {"host": "core-mosquitto", "port": 1883, "username": "addons", "password": "s3 cret", "ssl": False}
OPTIONS = {"serial_port": "/dev/serial/by-id/usb-x", "baudrate": "2400", "discover": "both", "interval": "1h"}


def test_the_manifest_keeps_the_rules() -> None:
    assert REQUIRED <= set(MANIFEST) <= KNOWN, "the Supervisor drops what it does not know"
    assert MANIFEST["version"] == mbusd.__version__
    assert re.fullmatch(r"[-_.A-Za-z0-9]+", MANIFEST["slug"])
    assert set(MANIFEST["arch"]) <= ARCHITECTURES
    for key, words in WORDS.items():
        assert MANIFEST[key] in words
    assert all(re.fullmatch(r"(mqtt|mysql):(provide|want|need)", service) for service in MANIFEST["services"])
    assert all(volume["type"] in MAPS and isinstance(volume["read_only"], bool) for volume in MANIFEST["map"])
    assert 10 <= MANIFEST["timeout"] <= 300


def test_the_options_keep_the_rules_and_their_defaults_fit() -> None:
    schema = MANIFEST["schema"]
    assert set(MANIFEST["options"]) == {key for key, kind in schema.items() if not kind.endswith("?")}
    for key, kind in schema.items():
        assert ELEMENT.fullmatch(kind), key
        choices = re.fullmatch(r"list\((.*)\)", kind)
        assert choices is None or MANIFEST["options"][key] in choices[1].split("|")
    assert schema["baudrate"] == f"list({'|'.join(map(str, sorted(BAUDRATES)))})"


@pytest.mark.parametrize("path", TRANSLATIONS, ids=lambda path: path.stem)
def test_every_option_is_translated(path: Path) -> None:
    options = yaml.safe_load(path.read_text("utf-8"))["configuration"]
    assert set(options) == set(MANIFEST["schema"])
    for words in options.values():
        assert set(words) == {"name", "description"}
        assert all(isinstance(text, str) and text for text in words.values())


def test_there_are_translations() -> None:
    assert [path.stem for path in TRANSLATIONS] == ["de", "en"]


@contextmanager
def supervisor(*answers: tuple[int, object]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Its API, answering one after the other: the address, and path and authorisation of each request."""
    asked: list[tuple[str, str]] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers[len(asked)]
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def start(folder: Path, url: str, options: object, file: str | None = None) -> tuple[int, str, dict[str, str]]:
    """Exit code, what was said, and the variables of the daemon that took over, with its words as WORDS."""
    daemon = folder / "mbusd"
    daemon.write_text('#!/bin/sh\necho "WORDS=$*" >"$SEEN"\nenv | grep -e ^MBUSD_ -e ^STATE >>"$SEEN"\n')
    daemon.chmod(0o755)
    (folder / "options.json").write_text(json.dumps(options))
    if file is not None:
        (folder / "config.yaml").write_text(file)
    environment = clean_environment()
    environment |= {"PATH": f"{folder}:{environment['PATH']}", "SUPERVISOR_TOKEN": "t0ken", "SEEN": f"{folder}/seen"}
    words = ["--options", f"{folder}/options.json", "--config", f"{folder}/config.yaml", "--supervisor", url]
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, str(ADDON / "run.py"), *words, "--pause", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    seen = (folder / "seen").read_text().splitlines() if (folder / "seen").exists() else []
    return done.returncode, done.stdout, dict(line.split("=", 1) for line in seen)


def test_options_and_broker_become_a_configuration(tmp_path: Path) -> None:
    with supervisor((200, {"result": "ok", "data": BROKER})) as (url, asked):
        code, said, variables = start(tmp_path, url, OPTIONS | {"log_level": "debug"})
    assert (code, said) == (0, "")
    assert asked == [("/services/mqtt", "Bearer t0ken")]
    assert (variables.pop("WORDS"), variables.pop("STATE_DIRECTORY")) == ("run", "/data")
    settings = config.parse("", "the environment", variables)
    assert (settings.mqtt.host, settings.mqtt.port) == ("core-mosquitto", 1883)
    assert (settings.mqtt.username, settings.mqtt.read_password()) == ("addons", "s3 cret")
    assert settings.mqtt.tls is None
    assert settings.log_level == "debug"
    bus = settings.buses[0]
    assert (bus.port, bus.baudrate, bus.interval) == ("/dev/serial/by-id/usb-x", 2400, 3600)
    assert bus.scan_at_start == "both"


def test_a_broker_with_tls_and_without_a_password(tmp_path: Path) -> None:
    broker = {"host": "broker.example", "port": 8883, "ssl": True}
    options = {"network_port": "tcp://192.0.2.7:10001"}
    with supervisor((200, {"result": "ok", "data": broker})) as (url, _):
        _, _, variables = start(tmp_path, url, options)
    settings = config.parse("", "the environment", {k: v for k, v in variables.items() if k.startswith("MBUSD_")})
    assert settings.mqtt.tls is not None
    assert settings.mqtt.username is None
    assert settings.buses[0].port == "tcp://192.0.2.7:10001"


def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    none = {"result": "error", "message": "Service not enabled"}
    with supervisor((400, none), (502, "?"), (200, []), (200, {"data": BROKER})) as (url, asked):
        code, said, variables = start(tmp_path, url, OPTIONS)
    assert code == 0
    assert len(asked) == 4
    assert said.splitlines()[0].startswith("no broker yet: Service not enabled. Install and start")
    assert "the Supervisor answers 502" in said.splitlines()[1]
    assert variables["MBUSD_MQTT__HOST"] == "core-mosquitto"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "choose a serial port"),
        ({"serial_port": "/dev/ttyUSB0", "network_port": "tcp://192.0.2.7:1"}, "exclude each other"),
    ],
)
def test_a_bus_without_a_port_or_with_two_is_named(tmp_path: Path, options: dict[str, str], why: str) -> None:
    with supervisor() as (url, asked):
        code, said, variables = start(tmp_path, url, options)
    assert (code, variables, asked) == (2, {}, [])
    assert why in said


@pytest.mark.parametrize("mqtt", ["", "mqtt: {base_topic: house}\n"])
def test_a_file_goes_before_the_options_and_gets_the_broker(tmp_path: Path, mqtt: str) -> None:
    with supervisor((200, {"data": BROKER})) as (url, _):
        code, said, variables = start(tmp_path, url, OPTIONS, f"{mqtt}buses: [{{port: /dev/ttyUSB1}}]\n")
    assert code == 0
    assert "the options are not looked at" in said
    assert variables["WORDS"] == f"run -c {tmp_path}/config.yaml"
    assert variables["MBUSD_MQTT__HOST"] == "core-mosquitto"
    assert not any(name.startswith("MBUSD_BUSES") for name in variables)


def test_a_file_with_a_broker_of_its_own_keeps_it(tmp_path: Path) -> None:
    with supervisor() as (url, asked):
        _, _, variables = start(tmp_path, url, OPTIONS, "mqtt: {host: 192.0.2.1}\nbuses: [{port: /dev/ttyUSB1}]\n")
    assert asked == []
    assert set(variables) == {"WORDS", "STATE_DIRECTORY"}


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    with supervisor() as (url, _):
        code, said, variables = start(tmp_path, url, OPTIONS, "buses: [\n")
    assert (code, variables) == (2, {})
    assert "config.yaml:" in said


def copied(dockerfile: Path) -> set[str]:
    """What a Dockerfile takes from its folder."""
    lines = re.findall(r"^COPY (?!--)(.*)$", dockerfile.read_text("utf-8"), re.MULTILINE)
    return {word for line in lines for word in line.split()[:-1]}


def test_the_folder_of_the_addon_holds_what_is_built_in_it(tmp_path: Path) -> None:
    said = subprocess.run(  # noqa: S603 - ourselves
        [str(ROOT / "scripts" / "addon"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    folder = Path(said.stdout.strip())
    assert copied(ADDON / "Dockerfile")
    for name in copied(ADDON / "Dockerfile") | {"config.yaml", "DOCS.md", "CHANGELOG.md", "translations/en.yaml"}:
        assert (folder / name).exists(), name
    assert not list(folder.rglob("__pycache__"))


def test_the_image_finds_what_it_copies_and_runs_as_nobody_else() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert copied(ROOT / "Dockerfile") <= kept
    assert all((ROOT / name).exists() for name in kept)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["mbusd"]
    assert "STATE_DIRECTORY=/var/lib/mbusd" in text


def test_the_compose_file_needs_no_configuration_file() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
    daemon = compose["services"]["mbusd"]
    values = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in daemon["environment"].items()}
    settings = config.parse("", "the environment", values)
    assert settings.mqtt.host in compose["services"]
    assert daemon["devices"][0].endswith(":" + settings.buses[0].port)
    assert settings.buses[0].scan_at_start == "both"
    assert daemon["volumes"] == ["mbusd:/var/lib/mbusd"]
    assert daemon["read_only"] is True
    assert daemon["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("service", ["mbusd", "simulator", "simulated"])
def test_no_container_of_ours_may_do_more_than_it_must(service: str) -> None:
    said = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))["services"][service]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in said["tmpfs"]  # noqa: S108 - of the container
    assert not said.keys() & {"privileged", "cap_add", "user", "network_mode", "pid", "ipc"}
    writable = [place for place in said.get("volumes", ()) if not place.endswith(":ro")]
    assert writable == (["mbusd:/var/lib/mbusd"] if service == "mbusd" else [])
    # a new volume gets the owner that its place has in the image
    assert "install -d -o mbusd -g mbusd /var/lib/mbusd" in (ROOT / "Dockerfile").read_text("utf-8")


def test_the_alternative_with_a_file_is_yaml_too() -> None:
    text = (ROOT / "docker-compose.yaml").read_text("utf-8")
    uncommented = re.sub(r"^      # ((?:- | {2})[a-z_]+:)", r"      \1", text, flags=re.MULTILINE)
    mounts = yaml.safe_load(uncommented)["services"]["mbusd"]["volumes"]
    assert mounts[1]["target"] == "/etc/mbusd/config.yaml"


def test_the_configuration_of_the_debian_package_is_right() -> None:
    settings = config.load(ROOT / "packaging" / "debian" / "config.yaml", {})
    assert settings.buses[0].scan_at_start == "both"


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_the_scripts_of_the_debian_package_are_shell(name: str) -> None:
    shell = shutil.which("sh") or "sh"
    subprocess.run([shell, "-n", str(ROOT / "packaging" / "debian" / name)], check=True)  # noqa: S603
