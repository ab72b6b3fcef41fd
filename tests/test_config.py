"""The configuration file: what is wrong with it is said at once, all of it, with path and line, and without secrets."""

import json
import os
from pathlib import Path

import pytest
import yaml

from mbusd import config
from mbusd.commands.configuration import read_again
from mbusd.config import ConfigError
from mbusd.configuration import schema
from mbusd.configuration.settings import Settings
from mbusd.mbus.address import PrimaryAddress, SecondaryAddress
from tests.json_schema import accepts

SMALLEST = "buses: [{name: cellar, port: /dev/ttyUSB0}]"
WHOLE = """
log_level: debug
mqtt:
  host: broker.example
  port: 8883
  username: mbusd
  password: "hunter2"
  tls: {ca_file: /etc/ca.pem, cert_file: /etc/cert.pem, key_file: /etc/key.pem}
  client_id: cellar
  keepalive: 30
  qos: 0
  base_topic: house/mbus
  retain: false
  only_on_change: true
  values: false
  telegrams: true
homeassistant: {enabled: false, discovery_prefix: ha, status_topic: ha/birth}
buses:
  - name: cellar
    port: tcp://192.0.2.7:10001
    baudrate: 300
    timeout: 2s
    interval: 6h
    meters:
      - {name: heat_pump, address: 68, interval: 10s, offline_after: 5, timezone: Europe/Berlin}
      - {address: "01234567", interval: manual}
  - {name: attic, port: /dev/ttyUSB0, meters: []}
"""


def parsed(text: str, **environment: str) -> Settings:
    return config.parse(text, "file", environment)


def problems(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parsed(text, **environment)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_a_bus_is_all_that_is_needed() -> None:
    settings = parsed(SMALLEST)
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.base_topic) == ("localhost", None, "mbusd")
    assert (settings.buses[0].baudrate, settings.buses[0].interval, settings.buses[0].meters) == (2400, 3600, ())


def test_everything_that_can_be_said() -> None:
    settings = parsed(WHOLE)
    first, second = settings.buses[0].meters
    assert (first.address, first.interval, first.offline_after) == (PrimaryAddress(68), 10, 5)
    assert (second.address, second.interval) == (SecondaryAddress("01234567FFFFFFFF"), "manual")
    assert (settings.buses[0].timeout, settings.mqtt.qos, settings.homeassistant.status_topic) == (2, 0, "ha/birth")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["file:1: buses: is missing"]),
        ("- a", ["file:1: the file is a mapping: mqtt: …, buses: …"]),
        ("hello", ["file:1: the file is a mapping: mqtt: …, buses: …"]),
        ("buses: []", ["file:1: buses: at least one is needed: a port"]),
        ("buses:", ["file:1: buses: a list (- …) is needed here"]),
        ("\nbuses: {name: a}", ["file:2: buses: a list (- …) is needed here"]),
        ("buses:\n- a", ["file:2: buses[0]: a mapping (key: value) is needed here"]),
        ("buses:\n- name: a", ["file:2: buses[0].port: is missing"]),
        (
            f"{SMALLEST}\nprofiles: [{{manufacturer: XYZ}}]",
            ["file:2: profiles: must be the name of a folder with profile files (docs/profiles.md)"],
        ),
        (f"{SMALLEST}\nstate_dir: [x]", ["file:2: state_dir: the name of a file or folder is needed here"]),
        (f"{SMALLEST}\nmqtt: x", ["file:2: mqtt: a mapping (key: value) is needed here"]),
        (f"mqtt:\n  hots: a\n{SMALLEST}", ["file:2: mqtt.hots: is not known here; did you mean 'hosts'?"]),
        (f"homeasistant: {{}}\n{SMALLEST}", ["file:1: homeasistant: is not known here; did you mean 'homeassistant'?"]),
        (
            "buses:\n- name: a\n  port: /dev/x\n  meters:\n  - address: 1\n    intervall: 5s",
            ["file:6: buses[0].meters[0].intervall: is not known here; did you mean 'interval'?"],
        ),
        (
            f"{SMALLEST}\nxyz: 1",
            [
                (
                    "file:2: xyz: is not known here; "
                    "known: log_level, mqtt, homeassistant, emoncms, profiles, state_dir, buses"
                )
            ],
        ),
        (
            f"{SMALLEST}\nmqtt: {{tls: {{cafile: x}}}}",
            ["file:2: mqtt.tls.cafile: is not known here; did you mean 'ca_file'?"],
        ),
        (f"mqtt:\n  port: 1\n  port: 2\n{SMALLEST}", ["file:3: mqtt.port: stands there twice"]),
        (
            "buses: [{name: 12, port: /dev/x}]",
            ["file:1: buses[0].name: a text is needed here; put what looks like something else in quotes"],
        ),
        (f"1: 2\n{SMALLEST}", ["file:1: [1]: Keys should be strings"]),
    ],
)
def test_each_problem_with_its_line_and_path(text: str, said: list[str]) -> None:
    assert problems(text) == said


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = """
mqtt:
  qos: 7
  base_topic: a/#
buses:
  - name: a
    port: udp://x
    baudrate: 1234
    meters:
      - address: 300
      - name: bridge
        address: 12345678
        interval: never
      - {name: x/y}
  - name: a
    port: /dev/x
    meters: [{name: k, address: 5}, {name: k, address: "5"}]
log_level: loud
"""
    said = [line.split(": ")[:2] for line in problems(text)]
    assert said == [
        ["file:3", "mqtt.qos"],
        ["file:4", "mqtt.base_topic"],
        ["file:7", "buses[0].port"],
        ["file:8", "buses[0].baudrate"],
        ["file:10", "buses[0].meters[0].address"],
        ["file:11", "buses[0].meters[1].name"],
        ["file:12", "buses[0].meters[1].address"],
        ["file:13", "buses[0].meters[1].interval"],
        ["file:14", "buses[0].meters[2].name"],
        ["file:14", "buses[0].meters[2].address"],
        ["file:15", "buses[1].name"],
        ["file:17", "buses[1].meters[1].name"],
        ["file:17", "buses[1].meters[1].address"],
        ["file:18", "log_level"],
    ]


def test_names_and_addresses_that_must_differ() -> None:
    two = "buses:\n- {name: a, port: /dev/x, meters: [{name: m, address: 5}]}\n"
    assert parsed(f"{two}- {{name: b, port: /dev/y, meters: [{{name: n, address: 5}}]}}")
    assert problems(f"{two}- {{name: b, port: /dev/x, meters: [{{name: m, address: 6}}]}}") == [
        "file:3: buses[1].port: '/dev/x' is taken already by buses[0]",
        "file:3: buses[1].meters[0].name: 'm' is taken already by buses[0].meters[0]",
    ]


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (
            "'12345678'",
            "'123456782D2C0807'",
            "'123456782D2C0807' and buses[0].meters[0].address select each other's meter",
        ),
        ("'123456782D2C0807'", "'12345678'", "'12345678' and buses[0].meters[0].address select each other's meter"),
        ("'12345678FFFF0807'", "'123456782D2CFF07'", "select each other's meter: give both all 16 digits"),
        ("5", "'05'", "'05' is taken already by buses[0].meters[0]"),
        ("'1234567A'", "'1234567a'", "'1234567a' is taken already by buses[0].meters[0]"),
    ],
)
def test_addresses_that_mean_one_meter_or_may_select_one_anothers(one: str, other: str, why: str) -> None:
    (said,) = problems(f"buses:\n- name: a\n  port: /dev/x\n  meters:\n  - address: {one}\n  - address: {other}")
    assert said.startswith("file:6: buses[0].meters[1].address: ")
    assert why in said


def test_twins_are_told_apart_by_the_rest_of_their_addresses() -> None:
    meters = "[{address: '123456782D2C0807'}, {address: '123456782D2C0804'}, {address: '12345679'}]"
    assert parsed(f"buses: [{{name: a, port: /dev/x, meters: {meters}}}]")


def test_a_recipe_that_writes_is_refused_where_it_stands() -> None:
    (said,) = problems(
        "buses:\n- name: a\n  port: /dev/x\n  meters:\n  - address: 1\n    before: ['50', '51 01 7A 05']"
    )
    assert said.startswith("file:6: buses[0].meters[0].before[1]: ")
    assert "`mbusd set-address` does that" in said


@pytest.mark.parametrize("name", ["bridge", "bus"])
def test_topics_of_the_daemons_own_are_no_names_of_meters(name: str) -> None:
    said = problems(f"buses: [{{name: a, port: /dev/x, meters: [{{name: {name}, address: 1}}]}}]")
    assert said == [f"file:1: buses[0].meters[0].name: '{name}' is a topic of the daemon's own"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "file:1: while parsing a flow node expected the node content, but found '<stream end>' (column 5)"),
        ("a:\n\t- b", "file:2: while scanning for the next token found character '\\t' that cannot start any token"),
        ("a: b: c", "file:1: mapping values are not allowed here (column 5)"),
        ("a: !secret x", "file:1: could not determine a constructor for the tag '!secret' (column 4)"),
        ("a: 1\n---\nb: 2", "file:2: expected a single document in the stream but found another document"),
        ("a: 2026-99-99", "file:1: month must be in 1..12; put a text in quotes (column 4)"),
        ("\na: 0x_", "file:2: invalid literal for int() with base 16: ''; put a text in quotes (column 4)"),
        ("a: *b", "file:1: found undefined alias 'b' (column 4)"),
        ("a\0: b", "file: unacceptable character #x0000: special characters are not allowed in"),
        ("buses: &a [*a]", "file: an alias stands inside of what it means"),
        ("[" * 5000, "file: the brackets are nested too deep"),
        ("? [a, b]\n: c", "file:1: while constructing a mapping found unhashable key (column 3)"),
    ],
)
def test_what_is_no_yaml_is_one_line(text: str, said: str) -> None:
    (line,) = problems(text)
    assert line.startswith(said)
    assert "\n" not in line


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, why in ((tmp_path / "missing", "No such file"), (tmp_path, "directory"), (binary, "is not UTF-8 text")):
        with pytest.raises(ConfigError, match=why) as caught:
            config.load(path, {})
        assert caught.value.problems[0].startswith(f"{path}: ")


def test_a_reload_does_not_wait_for_a_pipe_that_stands_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("buses: [{port: /dev/x}]")
    assert read_again(path).buses[0].port == "/dev/x"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=f"{path}: this is no file"):
        read_again(path)


def test_the_environment_stands_in_for_the_file() -> None:
    settings = parsed(
        "mqtt: {host: a, tls: true, username: u}\nbuses: [{name: cellar, port: /dev/x, meters: [{address: 1}]}]",
        MBUSD_MQTT__HOST="b",
        MBUSD_MQTT__PASSWORD="hunter2",
        MBUSD_MQTT__QOS="2",
        MBUSD_MQTT__RETAIN="false",
        MBUSD_MQTT__TLS__CA_FILE="/etc/ca.pem",
        MBUSD_BUSES__0__PORT="/dev/y",
        MBUSD_BUSES__0__METERS__0__ADDRESS="01234567",
        MBUSD_BUSES__0__METERS__1__ADDRESS="7",
        MBUSD_LOG_LEVEL="warning",
        MBUSDX_MQTT__HOST="not ours",
        MBUSD_="not ours",
        PATH="/bin",
    )
    mqtt, bus = settings.mqtt, settings.buses[0]
    assert (mqtt.host, mqtt.read_password(), mqtt.qos, mqtt.retain) == ("b", "hunter2", 2, False)
    assert mqtt.tls is not None
    assert mqtt.tls.ca_file == Path("/etc/ca.pem")
    assert (bus.name, bus.port, settings.log_level) == ("cellar", "/dev/y", "warning")
    assert [str(meter.address) for meter in bus.meters] == ["01234567", "7"]


def test_a_whole_configuration_from_the_environment_alone() -> None:
    meters = {f"MBUSD_BUSES__0__METERS__{index}__ADDRESS": str(index + 1) for index in range(12)}
    settings = parsed("", MBUSD_BUSES__0__NAME="cellar", MBUSD_BUSES__0__PORT="tcp://h:1", **meters)
    assert [str(meter.address) for meter in settings.buses[0].meters] == [str(number) for number in range(1, 13)]


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("MBUSD_MQTT__PORT", "x", "Input should be a valid integer, unable to parse string as an integer"),
        ("MBUSD_MQTT__PROT", "1", "is not known here; did you mean 'port'?"),
        ("MBUSD_MQTT", "x", "a mapping (key: value) is needed here"),
        (
            "MBUSD_NOTHING",
            "x",
            "is not known here; known: log_level, mqtt, homeassistant, emoncms, profiles, state_dir, buses",
        ),
        ("MBUSD_BUSES__0__NAME", "a/b", "'a/b' cannot be part of a topic: no / + # and no control characters"),
        ("MBUSD_BUSES__7__NAME", "a", "has no place here; lists are numbered 0, 1, 2 … without a gap"),
        ("MBUSD_BUSES__0__NAME__X", "a", "has no place here; lists are numbered 0, 1, 2 … without a gap"),
        ("MBUSD_MQTT__USERNAME", "\udcff", "is not UTF-8 text"),
    ],
)
def test_what_is_wrong_in_the_environment_names_the_variable(variable: str, value: str, why: str) -> None:
    assert problems(SMALLEST, **{variable: value}) == [f"{variable} in the environment: {why}"]


@pytest.mark.parametrize(
    "text",
    [
        "mqtt: {username: u, password: hunter2, qos: 9, pasword: hunter2}",
        "mqtt: {password: hunter2}",
        "mqtt: {username: u, password: [hunter2]}",
        "mqtt: {username: u, password: {hunter2: hunter2}}",
        "mqtt: {username: u, password: hunter2, password_file: x}",
        "mqtt: {username: u, password: hunter2}\nmqtt: {password: hunter2}",
        "mqtt:\n  username: u\n  password: hunter2: x",
        "mqtt: {password: hunter2",
    ],
)
def test_no_message_shows_a_secret(text: str) -> None:
    assert "hunter2" not in "\n".join(problems(f"{SMALLEST}\n{text}"))
    assert "hunter2" not in "\n".join(problems(SMALLEST, MBUSD_MQTT__PASSWORD="hunter2"))


def test_the_public_settings_show_no_secret(tmp_path: Path) -> None:
    public = json.dumps(config.public(parsed(WHOLE)))
    assert "hunter2" not in public
    assert '"username": "mbusd"' in public
    assert config.public(parsed(SMALLEST))["buses"][0] == {
        "name": "cellar",
        "port": "/dev/ttyUSB0",
        "baudrate": 2400,
        "echo": "auto",
        "dtr": True,
        "rts": True,
        "serve_writes": False,
        "interval": 3600,
        "plausibility": True,
        "meters": [],
    }
    file = tmp_path / "secret"
    file.write_text("hunter2")
    from_file = parsed(f"{SMALLEST}\nmqtt: {{username: u, password_file: {file}}}")
    assert from_file.mqtt.read_password() == "hunter2"
    assert "hunter2" not in json.dumps(config.public(from_file))


def test_the_schema_accepts_what_load_accepts_and_refuses_what_it_cannot_know() -> None:
    known = json.loads(schema.text())
    for text in (
        SMALLEST,
        WHOLE,
        f"{SMALLEST}\nmqtt: {{tls: true, password: null}}",
        f"{SMALLEST}\nmqtt: {{tls: {{}}}}",
    ):
        assert parsed(text)
        assert accepts(known, yaml.safe_load(text)), text
    for text in (
        "{}",
        "buses: []",
        "buses: [{name: a}]",
        f"{SMALLEST}\nmqtt: {{hots: a}}",
        f"{SMALLEST}\nmqtt: {{qos: 3}}",
        f"{SMALLEST}\nmqtt: {{port: 0}}",
        "buses: [{name: a, port: /dev/x, meters: [{address: 251}]}]",
        "buses: [{name: a, port: /dev/x, interval: often}]",
        "buses: [{name: 7, port: /dev/x}]",
    ):
        assert problems(text)
        assert not accepts(known, yaml.safe_load(text)), text


def test_the_environment_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "USUAL_FILE", tmp_path / "config.yaml")
    environment = {"MBUSD_BUSES__0__PORT": "tcp://192.0.2.1:10001", "MBUSD_MQTT__HOST": "192.0.2.2"}
    settings, source = config.find(None, environment)
    assert source == "the environment"
    assert (settings.mqtt.host, settings.buses[0].name, settings.buses[0].port) == (
        "192.0.2.2",
        "mbus",
        "tcp://192.0.2.1:10001",
    )
    with pytest.raises(config.ConfigError, match="MBUSD_BUSES__0__PORT in the environment"):
        config.find(None, {})
    (tmp_path / "config.yaml").write_text("mqtt: {host: a}\nbuses: [{port: /dev/x}]")
    assert config.find(None, {})[0].mqtt.host == "a"
    with pytest.raises(config.ConfigError, match="No such file"):
        config.find(tmp_path / "missing", environment)


def test_several_buses_need_names() -> None:
    assert problems("buses:\n- port: /dev/x\n- {name: a, port: /dev/y}") == [
        "file:2: buses[0].name: there are several buses: each needs one"
    ]
