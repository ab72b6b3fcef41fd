"""What people copy is right: config.example.yaml, the README's blocks and commands, the unit, the compose file."""

import configparser
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from mbusd import config
from mbusd.cli import main
from mbusd.configuration.key_settings import KeysSettings
from mbusd.configuration.pace_settings import ActiveSettings
from mbusd.configuration.settings import (
    BusSettings,
    EmoncmsSettings,
    HomeAssistantSettings,
    MeterSettings,
    MqttSettings,
    Settings,
    TlsSettings,
    WakeSettings,
)
from mbusd.line.transport import check_port
from mbusd.simulation.meters import household

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLE = (ROOT / "config.example.yaml").read_text("utf-8")
UNCOMMENTED = re.sub(r"^( *)#( *[a-z_]+:)", r"\1\2", EXAMPLE, flags=re.MULTILINE)
ALTERNATIVES = re.compile(r"^ *(?:password|host): .*\n", re.MULTILINE)  # password_file and hosts stand for them
SYSTEMD_ENOUGH = 2.0  # "OK"; unprotected is 9.6
COMMANDS = (
    *("run", "check", "schema", "scan", "read", "decode", "simulate", "sniff", "demo"),
    *("set-address", "set-baudrate", "set-clock", "reset"),
)

SECTIONS: dict[type[BaseModel], tuple[str | int, ...]] = {
    Settings: (),
    MqttSettings: ("mqtt",),
    TlsSettings: ("mqtt", "tls"),
    HomeAssistantSettings: ("homeassistant",),
    EmoncmsSettings: ("emoncms",),
    BusSettings: ("buses", 0),
    MeterSettings: ("buses", 0, "meters", 0),
    WakeSettings: ("buses", 0, "meters", 0, "wake"),
    KeysSettings: ("buses", 0, "meters", 0, "keys"),
    ActiveSettings: ("buses", 0, "meters", 0, "active"),
}
OFF = (TlsSettings, WakeSettings, ActiveSettings)  # sections that are not there where you do not write them


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def at(tree: object, place: tuple[str | int, ...]) -> Mapping[str, object]:
    """The mapping at a place of a YAML document; empty where there is none."""
    for part in place:
        if isinstance(tree, list) and isinstance(part, int):
            tree = tree[part]
        else:
            tree = tree.get(part, {}) if isinstance(tree, dict) else {}
    return tree if isinstance(tree, dict) else {}


def options() -> list[tuple[type[BaseModel], str]]:
    return [(model, name) for model in SECTIONS for name in model.model_fields]


def sections_of(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and all that it is made of."""
    inner = re.findall(r"\b(\w+Settings)\b", " ".join(str(field.annotation) for field in model.model_fields.values()))
    known = {section.__name__: section for section in SECTIONS}
    return {model}.union(*(sections_of(known[name]) for name in inner))


def test_every_section_is_looked_at() -> None:
    assert sections_of(Settings) == set(SECTIONS)


def test_the_example_is_all_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(ROOT / "config.example.yaml")]) == 0
    assert "all right" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "name"), options(), ids=lambda value: getattr(value, "__name__", value))
def test_the_example_shows_every_option_with_its_default(model: type[BaseModel], name: str) -> None:
    field = model.model_fields[name]
    text = UNCOMMENTED if model in OFF else EXAMPLE
    shown = at(yaml.safe_load(text), SECTIONS[model])
    needs_an_example = field.is_required() or field.annotation in SECTIONS or name == "meters"
    if needs_an_example or (model in (MeterSettings, BusSettings) and name == "name"):
        assert shown[name] is not None
    elif field.default is None:
        assert model in OFF or name not in shown, "it has no value of its own: write an example, commented out"
        assert at(yaml.safe_load(UNCOMMENTED), SECTIONS[model]).get(name) is not None
    else:
        assert name in shown
        assert getattr(section(text, model), name) == field.default


def section(text: str, model: type[BaseModel]) -> object:
    """The part of the settings in a YAML text that a model is for."""
    found: object = config.parse(ALTERNATIVES.sub("", text), "config.example.yaml", {})
    for part in SECTIONS[model]:
        found = found[part] if isinstance(found, tuple) and isinstance(part, int) else getattr(found, str(part))
    return found


def test_what_the_example_leaves_out_is_right_too() -> None:
    settings = config.parse(ALTERNATIVES.sub("", UNCOMMENTED), "uncommented", {})
    assert settings.mqtt.tls is not None
    assert settings.buses[0].meters[0].interval == 10
    assert ALTERNATIVES.search(UNCOMMENTED)


def test_the_yaml_of_the_readme_is_a_configuration() -> None:
    assert blocks("yaml")
    for block in blocks("yaml"):
        assert config.parse(block, "README.md", {}).buses[0].meters


def test_the_commands_of_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert {"scripts/demo", "scripts/test"} <= set(lines)
    offered = help_text(capsys)
    for line in lines:
        words = line.partition("#")[0].split()
        assert not words[0].startswith("scripts/") or (ROOT / words[0]).stat().st_mode & 0o111
        assert words[0] != ".venv/bin/mbusd" or words[1] in offered
    for file in re.findall(r"\]\(([^:)]+)\)", README) + re.findall(r"scripts/venv (\S+)", README):
        assert (ROOT / file).is_file()


def test_what_the_readme_calls_missing_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    missing = README.partition("## Not there yet")[2].partition("## ")[0]
    offered = help_text(capsys)
    for command in COMMANDS:
        assert (f"`{command}`" in missing) == (command not in offered), command
    for command in offered:
        assert f"`{command}`" in README or f"`mbusd {command}" in README, command
    assert ("rfc2217://" in missing) == (not is_port("rfc2217://192.0.2.7:2217"))
    assert ("emoncms" in missing) == ("emoncms" not in Settings.model_fields)


def help_text(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The commands that there are."""
    with pytest.raises(SystemExit):
        main(["--help"])
    return set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE))


def is_port(name: str) -> bool:
    try:
        check_port(name)
    except ValueError:
        return False
    return True


def test_the_service_runs_the_daemon() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    unit.read(ROOT / "systemd" / "mbusd.service", "utf-8")
    service = unit["Service"]
    program, *words = service["ExecStart"].split()
    assert (program, words) == ("/opt/mbusd/bin/mbusd", ["run", "-c", "/etc/mbusd/config.yaml"])
    assert service["Type"] == "notify"
    assert service["RestartPreventExitStatus"] == "2"


def test_the_service_is_well_locked() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    said = subprocess.run(  # noqa: S603
        [program, "security", "--offline=yes", "--no-pager", str(ROOT / "systemd" / "mbusd.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"Overall exposure level.*: (\d+\.\d)", said.stdout)
    if level is None:
        pytest.skip(f"systemd-analyze cannot do this here: {said.stderr.strip()}")
    assert float(level[1]) <= SYSTEMD_ENOUGH


def test_the_compose_file_fits_together() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
    services = compose["services"]
    settings = config.load(ROOT / "docker" / "simulated.yaml", services["simulated"]["environment"])
    assert settings.mqtt.host in services
    assert settings.buses[0].port == "tcp://simulator:" + services["simulator"]["command"][2].rpartition(":")[2]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            made_by_the_user = source == "./config.yaml"
            assert made_by_the_user or source in compose["volumes"] or (ROOT / source).is_file()


def test_the_simulated_configuration_names_the_meters_of_the_simulator() -> None:
    house = household(datetime(2026, 1, 1, 12, 0))  # noqa: DTZ001 - meters' clocks know no zone
    known = {meter.name: {str(meter.primary), meter.secondary.digits[:8]} for meter in house}
    meters = config.load(ROOT / "docker" / "simulated.yaml", {}).buses[0].meters
    assert {meter.name for meter in meters} == set(known)
    assert all(str(meter.address)[:8] in known[meter.name or ""] for meter in meters)
