"""Who may do what at the broker: the rules of docs/brokers.md suffice, and rules that are in the way are told."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiomqtt
import pytest

from mbusd.sinks.topics import Message
from tests.mosquitto import Ear, Mosquitto, ear, mosquitto
from tests.processes import started
from tests.sinks.clients import WILL, Client, Journal, journal

__all__ = ("journal",)  # a fixture

PAGE = Path(__file__).parents[2] / "docs" / "brokers.md"
EVERYTHING = "user admin\ntopic readwrite #\n"
USERS = ("mbusd", "homeassistant", "display", "admin")


def rules() -> str:
    """The block of the page that is for mosquitto's acl_file."""
    return next(block for block in PAGE.read_text("utf-8").split("```text\n") if block.startswith("user")).split("```")[
        0
    ]


@contextmanager
def ruled(folder: Path, text: str) -> Iterator[Mosquitto]:
    """A broker with these rules, for users whose password is their name, and an admin who may do everything."""
    acl, passwords = folder / "acl", folder / "passwords"
    acl.write_text(f"{text}\n{EVERYTHING}")
    acl.chmod(0o700)
    passwords.write_text("".join(f"{user}:{user}\n" for user in USERS))
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)  # noqa: S603, S607 - encrypts it in place
    options = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
    with mosquitto(folder, *options) as broker:
        yield broker


def configuration(folder: Path, broker: Mosquitto, port: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(f"""
mqtt: {{host: 127.0.0.1, port: {broker.port}, username: mbusd, password: mbusd}}
emoncms: {{enabled: true}}
buses:
  - {{name: cellar, port: {port}, baudrate: 38400, interval: 1h, meters: [{{name: heat_pump, address: 68}}]}}
""")
    return file


def announcements(listener: Ear) -> int:
    return sum(one.topic.startswith("homeassistant/device/") for one in listener.heard)


async def test_the_rules_of_the_page_are_enough_for_everything_that_mbusd_does(tmp_path: Path) -> None:
    link = tmp_path / "ttyMBUS"
    with ruled(tmp_path, rules()) as broker:
        async with (
            started("simulate", "--link", link, "--baudrate", 38400) as bus,
            ear(broker.port, username="admin", password="admin") as admin,
            aiomqtt.Client("127.0.0.1", broker.port, username="homeassistant", password="homeassistant") as home,
        ):
            await bus.says("heat_pump: primary 68")
            async with started("run", "-c", configuration(tmp_path, broker, str(link))) as daemon:
                await admin.said("mbusd/heat_pump")
                await admin.until(lambda ear: any(topic.startswith("emon/") for topic in ear.last))
                await admin.until(lambda ear: announcements(ear) > 0)
                await home.publish("mbusd/bridge/request/read", json.dumps({"meter": "heat_pump"}), qos=1)
                await admin.said("mbusd/bridge/response/read")
                before = announcements(admin)
                await home.publish("homeassistant/status", "online", qos=1)
                await admin.until(lambda ear: announcements(ear) > before)
                read = len(admin.payloads("mbusd/heat_pump"))
                await home.publish("mbusd/heat_pump/get", "", qos=1)
                await admin.until(lambda ear: len(ear.payloads("mbusd/heat_pump")) > read)
                await admin.say(WILL.topic, "offline", retain=True)
                await admin.until_last(WILL.topic, "online")
                assert not [line for line in daemon.said if "WARNING the broker" in line]


@pytest.mark.parametrize("line", [line for line in rules().splitlines() if line.startswith("topic")])
def test_rules_are_of_the_usual_topics(line: str) -> None:
    _, access, topic = line.split()
    assert access in ("read", "write", "readwrite")
    assert topic.split("/")[0] in ("mbusd", "homeassistant", "emon")


async def test_others_may_not_do_what_they_need_not(tmp_path: Path) -> None:
    with ruled(tmp_path, rules()) as broker:
        async with (
            ear(broker.port, username="admin", password="admin") as admin,
            ear(broker.port, "mbusd/#", username="display", password="display") as display,
            ear(broker.port, username="mbusd", password="mbusd") as ours,
        ):
            await ours.say("other/topic", "1")
            await ours.say("homeassistant/light/x/config", "1")
            await display.say("mbusd/bridge/request/read_all", "")
            await display.say("mbusd/heat_pump", "forged")
            await admin.say("secret", "1")
            await admin.say("mbusd/bridge/info", "1")
            await admin.say("mbusd/heat_pump", "1")
            await admin.say("mbusd/bridge/state", "end")
            await ours.until_last("mbusd/bridge/state", "end")
            await admin.until_last("mbusd/bridge/state", "end")
            await display.until_last("mbusd/heat_pump", "1")
            assert set(admin.last) == {"secret", "mbusd/bridge/info", "mbusd/heat_pump", "mbusd/bridge/state"}
            assert set(display.last) == {"mbusd/heat_pump"}
            assert set(ours.last) == {"mbusd/bridge/state"}


@pytest.mark.parametrize("rule", ["topic read mbusd/#", "topic write mbusd/#"])
async def test_rules_that_are_in_the_way_are_told(
    tmp_path: Path, rule: str, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """Be it that we may not write, or not read: mosquitto says neither."""
    with ruled(tmp_path, f"user mbusd\n{rule}\n") as broker:
        client = Client(
            broker.port, subscriptions=("mbusd/+/state",), given={"echo": 0.2}, username="mbusd", password="mbusd"
        )
        async with client.running():
            client.say(Message(WILL.topic, "online"))
            await journal.until("has acknowledged what we published on mbusd/bridge/state, but does not pass it on")
    assert len(journal.warnings) == 1
    assert "Traceback" not in caplog.text


async def test_where_rules_let_us_nothing_is_told(tmp_path: Path, journal: Journal) -> None:
    with ruled(tmp_path, "user mbusd\ntopic readwrite mbusd/#\n") as broker:
        client = Client(
            broker.port,
            subscriptions=("mbusd/+/state", "mbusd/+/alarm"),
            given={"echo": 0.0},
            username="mbusd",
            password="mbusd",
        )
        async with client.running():
            client.say(Message(WILL.topic, "online"))
            await client.receives(1)
            await journal.until("connected")
    assert journal.warnings == []
