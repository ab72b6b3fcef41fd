"""The broker's password: in no log, message, topic, error or list of processes, however it was given, or wrongly."""

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbusd import config
from mbusd.config import ConfigError
from tests.mosquitto import Mosquitto, ear, mosquitto, with_password
from tests.processes import Running, started

SECRET = "hunter2"
BUS = "buses: [{port: /dev/nothing, meters: [{name: heat, address: 5}]}]\n"


@pytest.mark.parametrize(
    "lines",
    [
        f"password: [{SECRET}, 2]",
        f"password: {{{SECRET}: 1}}",
        f"password: {{a: {SECRET}}}",
        f'password: "{SECRET}',
        f"password: [{SECRET}",
        f"password: %{SECRET}",
        f"password: *{SECRET}",
        f"password: !{SECRET} x",
        f"password: !<{SECRET}> x",
        f"password: !{SECRET}'s x",
        f"password: !!int {SECRET}",
        f"password: !!float {SECRET}",
        f"password: !!timestamp {SECRET}",
        f"password: @{SECRET}",
        f"password: - {SECRET}",
        f"password: {SECRET}: x",
        f"password: {SECRET}\n  password_file: /x",
        f"passwort: {SECRET}",
        f"password: {SECRET}\n  qos: 7",
        f"password_file: [{SECRET}]",
        f"host: mqtt://u:{SECRET}@broker",
        f"host: u:{SECRET}@broker",
        f'hosts: ["u:{SECRET}@broker:1883"]',
        f'hosts: ["mqtt://u:{SECRET}@broker"]',
        f"username: null\n  password: {SECRET}",
    ],
)
def test_what_is_wrong_with_a_configuration_is_said_without_it(lines: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        config.parse(
            f"{BUS}mqtt:\n  {'' if lines.startswith('username') else 'username: u'}\n  {lines}\n", "c.yaml", {}
        )
    assert wrong.value.problems
    assert SECRET not in str(wrong.value)


@pytest.mark.parametrize(
    "name", ["PASSWORD__0", "PASSWORDS", "PASSWORD__X", "HOSTS", "PORT", "TLS", "", "QOS", "RETAIN"]
)
def test_nor_with_the_environment(name: str) -> None:
    variable = f"MBUSD_MQTT__{name}" if name else "MBUSD_MQTT"
    with pytest.raises(ConfigError) as wrong:
        config.parse(f"{BUS}mqtt: {{username: u}}", "c.yaml", {variable: SECRET})
    assert SECRET not in str(wrong.value)


def test_not_even_where_it_is_no_text() -> None:
    with pytest.raises(ConfigError) as wrong:
        config.parse(f"{BUS}mqtt: {{username: u}}", "c.yaml", {"MBUSD_MQTT__PASSWORD": f"{SECRET}\udcff"})
    assert SECRET not in str(wrong.value)


def test_settings_that_are_shown_or_published_hide_it() -> None:
    settings = config.parse(f"{BUS}mqtt: {{username: u, password: {SECRET}}}", "c.yaml", {})
    assert settings.mqtt.read_password() == SECRET
    for shown in (repr(settings), str(settings.mqtt), json.dumps(config.public(settings)), settings.model_dump_json()):
        assert SECRET not in shown
    logging.getLogger().debug("%s", settings)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, *with_password(tmp_path, "mbusd", SECRET)) as one:
        yield one


def command_line(daemon: Running) -> str:
    """What a list of processes shows."""
    return Path(f"/proc/{daemon.process.pid}/cmdline").read_text("utf-8")


@pytest.mark.parametrize("way", ["file", "environment", "configuration"])
async def test_a_daemon_that_tells_all_does_not_tell_it(tmp_path: Path, broker: Mosquitto, way: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\nand more\n")
    given = {"file": f", password_file: {secret}", "configuration": f", password: {SECRET}"}.get(way, "")
    environment = {"MBUSD_MQTT__PASSWORD": SECRET} if way == "environment" else {}
    file = tmp_path / "config.yaml"
    mqtt = f"mqtt: {{host: 127.0.0.1, port: {broker.port}, username: mbusd{given}}}\n"
    file.write_text(f"log_level: debug\n{mqtt}{BUS}")
    async with (
        started("run", "-c", file, environment={"PYTHONASYNCIODEBUG": "1", **environment}) as daemon,
        ear(broker.port, username="mbusd", password=SECRET) as listener,
    ):
        info = json.loads(await listener.said("mbusd/bridge/info"))
        assert info["config"]["mqtt"]["username"] == "mbusd"
        await listener.say("mbusd/bridge/request/log_level", "debug")
        await listener.said("mbusd/bridge/response/log_level")
        file.write_text(f"{mqtt.replace('}', ', passwort: ' + SECRET + '}')}{BUS}")
        await listener.say("mbusd/bridge/request/reload", "")
        assert json.loads(await listener.said("mbusd/bridge/response/reload"))["status"] == "error"
        assert SECRET not in command_line(daemon)
        assert not [heard for heard in listener.heard if SECRET in heard.payload]
        daemon.process.send_signal(signal.SIGTERM)
        assert await daemon.ends() == 0
    assert daemon.said
    assert not [line for line in daemon.said if SECRET in line]


async def test_a_login_that_is_refused_is_told_without_it(tmp_path: Path, broker: Mosquitto) -> None:
    file = tmp_path / "config.yaml"
    mqtt = f"mqtt: {{host: 127.0.0.1, port: {broker.port}, username: mbusd, password: wrong-{SECRET}}}\n"
    file.write_text(f"log_level: debug\n{mqtt}{BUS}")
    async with started("run", "-c", file) as daemon:
        await daemon.says("refuses the login of mbusd")
        assert await daemon.ends(signal.SIGTERM) == 0
    assert not [line for line in daemon.said if SECRET in line]


async def test_check_and_schema_do_not_say_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"mqtt: {{username: u}}\n{BUS}")
    for command in (["check", "-c", file], ["schema"]):
        async with started(*command, environment={"MBUSD_MQTT__PASSWORD": SECRET}) as one:
            assert await one.ends() == 0
        assert one.said
        assert not [line for line in one.said if SECRET in line]
