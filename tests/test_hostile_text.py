"""Meters, requests and files that want to write on the terminal or into the log: commands and daemon as processes."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from mbusd.mbus.frames import LongFrame, encode
from mbusd.simulation.meter_file import meter_from
from mbusd.simulation.simulator import SimulatedBus
from mbusd.simulation.virtual_bus import opened
from tests.mosquitto import Mosquitto, ear, mosquitto
from tests.processes import clean_environment, started

LETTERS = (
    b"[/][red]:warning:",  # what tables of the library rich would take for a colour
    b"[link=http://x.y]z[/link]",
    b"a\x1b[2J\x1b]0;x\x07b",
    b"a\rb\nERROR: c",
    b"ab\x08\x08\x7f",
    b"\x9b31m\x85x\xad",
    b"{{ 7 * 7 }}{% raw %}",
)
"""As ISO 8859-1, which the standard has for texts."""
MAKERS = (b"\xff\xff", b"\xfb\x73", b"\x00\x00", b"\x7b\x6f")  # [, ], \, ^ and _ in the place of letters


def _text(vib: str, letters: bytes) -> bytes:
    """A record of variable length."""
    return bytes.fromhex(f"0D {vib}") + bytes([len(letters)]) + letters[::-1]


def _with_unit(letters: bytes) -> bytes:
    """A number whose unit is plain text."""
    return bytes.fromhex("04 7C") + bytes([len(letters)]) + letters[::-1] + bytes.fromhex("01 00 00 00")


RECORDS = [
    _text("78", LETTERS[0]),
    *(_text("FD 10", letters) for letters in LETTERS),
    _with_unit(LETTERS[1]),
    _with_unit(LETTERS[3]),
]
"""Fabrication number, locations of the customer, and units."""
SHOWN = [letters.decode("latin-1") for letters in LETTERS if letters.decode("latin-1").isprintable()]


def telegram(maker: bytes) -> str:
    header = bytes.fromhex("78 56 34 12") + maker + bytes.fromhex("08 04 2A 00 00 00")
    return encode(LongFrame(0x08, 5, 0x72, header + b"".join(RECORDS))).hex()


def on_a_terminal(words: Sequence[object]) -> tuple[int, str]:
    """Exit code of a command, and all that it writes on its terminal."""
    ours, theirs = pty.openpty()
    heard = bytearray()

    def hear() -> None:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:
                return
            heard.extend(data)

    listening = threading.Thread(target=hear)
    listening.start()
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "mbusd", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=clean_environment() | {"TERM": "dumb", "COLUMNS": "160", "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
        timeout=60,
        check=False,
    )
    os.close(theirs)
    listening.join()
    os.close(ours)
    return done.returncode, heard.decode()


def is_harmless(said: str) -> bool:
    """Nothing but visible letters and ends of lines (on a terminal, CR LF)."""
    return all(line.isprintable() for line in said.replace("\r\n", "\n").split("\n"))


@pytest.mark.parametrize("form", ["--explain", "--json", ""])
def test_decode_writes_no_control_codes(form: str) -> None:
    words = ["decode", *filter(None, [form]), *map(telegram, MAKERS)]
    code, said = on_a_terminal(words)
    assert (code, is_harmless(said), "Traceback" in said) == (0, True, False)
    assert said.count("12345678") == len(MAKERS)
    for text in SHOWN:  # brackets and colons are only brackets and colons
        assert said.count(text[:4]) >= len(MAKERS)


@pytest.mark.parametrize("words", ["zz\x1b[2J", "\u202e", "68\x9b\n", "\x07"])
def test_decode_of_what_is_no_hex_does_not_repeat_it_as_it_is(words: str) -> None:
    code, said = on_a_terminal(["decode", words])
    assert code == 1
    assert is_harmless(said)
    assert "(hex)" in said


@asynccontextmanager
async def wired() -> AsyncIterator[str]:
    """The port of a bus with one such meter."""
    meter = meter_from(
        {
            "address": 5,
            "identification": "12345678",
            "manufacturer": "KAM",
            "medium": 4,
            "records": [record.hex(" ") for record in RECORDS],
        }
    )
    bus = SimulatedBus([meter], datetime(2026, 11, 20, 12))  # noqa: DTZ001 - a meter's clock has no zone
    async with opened(bus, tcp=("127.0.0.1", 0), baudrate=38400) as served:
        assert served.tcp is not None
        yield f"tcp://127.0.0.1:{served.tcp[1]}"


@pytest.mark.parametrize("form", ["", "--json", "--verbose"])
async def test_read_writes_no_control_codes(form: str) -> None:
    async with wired() as port:
        words = ["read", port, "5", "--baudrate", "38400", *filter(None, [form])]
        code, said = await asyncio.to_thread(on_a_terminal, words)
    assert (code, is_harmless(said), "Traceback" in said) == (0, True, False)
    assert all(text[:4] in said for text in SHOWN)


@pytest.mark.parametrize("form", ["", "--json", "--yaml"])
async def test_scan_writes_no_control_codes(form: str) -> None:
    async with wired() as port:
        words = ["scan", port, "--secondary", "1234567F", "--baudrate", "38400", *filter(None, [form])]
        code, said = await asyncio.to_thread(on_a_terminal, words)
        shown = said.replace("\x1b[?25h", "").replace(
            "\x1b[?25l", ""
        )  # of a bar: the cursor is hidden, and shown again
        assert code == 0
        assert "12345678" in shown
        assert is_harmless(shown)


def test_a_bad_file_is_told_without_its_control_codes(tmp_path: Path) -> None:
    file = tmp_path / "c\x1b[2J.yaml"
    file.write_text('buses: [{port: /dev/x, name: "a\\e[31mb/\\u202e"}]\n"m\\eqtt\\n": 1\n', "utf-8")
    for command in ("check", "run"):
        code, said = on_a_terminal([command, "-c", file])
        assert code == 2
        assert is_harmless(said)
        assert len(said.splitlines()) == 2


def test_so_are_files_of_meters_and_profiles(tmp_path: Path) -> None:
    file = tmp_path / "meters.yaml"
    file.write_text('meters: [{address: 5, "na\\eme\\n": "x\\a"}]')
    code, said = on_a_terminal(["simulate", "--meters", file])
    assert (code != 0, is_harmless(said)) == (True, True)
    (tmp_path / "p\x1b.yaml").write_text('"\\e[2J\\nERROR": 1')
    config = tmp_path / "c.yaml"
    config.write_text(f"profiles: {tmp_path}\nbuses: [{{port: /dev/x}}]")
    code, said = on_a_terminal(["check", "-c", config])
    assert (code, is_harmless(said)) == (2, True)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as one:
        yield one


async def test_the_log_of_the_daemon_has_a_line_a_message_whatever_is_asked(tmp_path: Path, broker: Mosquitto) -> None:
    hostile = "\x1b]0;x\x07\n<3>ERROR: all is lost\r\u202e\x9b2J\u2028\x00\udc9b"
    file = tmp_path / "config.yaml"
    async with wired() as port:
        file.write_text(
            f"log_level: debug\nmqtt: {{host: 127.0.0.1, port: {broker.port}, telegrams: true}}\n"
            f"buses: [{{port: '{port}', baudrate: 38400, meters: [{{name: heat, address: 5}}]}}]\n"
        )
        async with started("run", "-c", file) as daemon, ear(broker.port) as listener:
            await listener.said("mbusd/heat")
            for number, command in enumerate(("read", "forget", "decode", "log_level", "scan", "interval", "explode")):
                payload = {"meter": hostile, "bus": hostile, "hex": hostile, "level": hostile, hostile: hostile}
                for name in list(payload):
                    said = json.dumps({name: hostile, "interval": hostile, "transaction": number})
                    await listener.say(f"mbusd/bridge/request/{command}", said)
            await listener.say("mbusd/bridge/request/read", hostile.replace("\udc9b", "").replace("\x00", ""))
            await listener.say("mbusd/\u202eheat/get", "")
            await listener.say("homeassistant/device/mbusd_x/config", hostile.replace("\udc9b", ""))
            await daemon.says("request failed", 20)
            await listener.say("mbusd/bridge/request/read", "heat")
            assert await daemon.ends(signal.SIGTERM) == 0
    assert all(line.isprintable() for line in daemon.said)
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    assert all(line.split()[2] in levels for line in daemon.said), daemon.said
    assert not [line for line in daemon.said if line.startswith(("ERROR: all", "<3>"))]
    assert [line for line in daemon.said if "all is lost" in line]
