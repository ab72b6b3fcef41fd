"""The command line as a user types it: exit codes, one clear line for each mistake, never a traceback."""

import asyncio
import fcntl
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mbusd import __version__
from mbusd.cli import main
from mbusd.mbus.frames import encode
from tests.json_schema import accepts
from tests.mosquitto import free_port
from tests.processes import clean_environment, started
from tests.telegram_samples import frame
from tests.wires import PATIENCE, terminal

GOOD = encode(frame("04 06 0A 00 00 00 04 14 10 01 00 00 02 5A B7 00")).hex(" ").upper()
BAD = "68 03 03 68 08 05 72 00 16"
MULTICAL = {"energy": 10, "volume": 2.72, "on_time": 2423, "flow_temperature": 18.36, "return_temperature": 18.16}
MULTICAL |= {"temperature_difference": 0.2, "power": 0, "power_maximum": 4700, "volume_flow": 0}


def run(*words: object) -> int:
    """The exit code of a command in this process; a traceback would end the test."""
    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def shell(words: Sequence[object], given: str | bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command as a process of its own."""
    return subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "mbusd", *map(str, words)],
        input=given.encode() if isinstance(given, str) else given,
        capture_output=True,
        timeout=60,
        check=False,
        env=clean_environment() | environment,
    )


@contextmanager
def listening() -> Iterator[int]:
    """A TCP port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def opened(device: str) -> Iterator[int]:
    """A device that somebody has open."""
    descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def documents(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def errors(out: str) -> list[str | None]:
    said = [document["error"] for document in documents(out)]
    return [error["code"] if isinstance(error, dict) else None for error in said]


def test_decode_as_json_from_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decode", "--json", GOOD) == 0
    (document,) = documents(capsys.readouterr().out)
    assert document["frame"] == {"control": 8, "address": 5, "ci": 0x72}
    records = document["records"]
    assert isinstance(records, list)
    assert [(record["key"], record["value"], record["unit"]) for record in records] == [
        ("energy", 10000, "Wh"),
        ("volume", 2.72, "m3"),
        ("flow_temperature", 18.3, "degC"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        [GOOD.replace(" ", "")],
        [GOOD.lower()],
        GOOD.split(),
        [GOOD.replace(" ", ":")],
        [GOOD.replace(" ", ", 0x")],
        ["  " + GOOD.replace(" ", "-") + "\n"],
    ],
    ids=["digits", "small", "words", "colons", "0x", "dashes"],
)
def test_hex_as_people_paste_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decode", "--json", *words) == 0
    assert errors(capsys.readouterr().out) == [None]


def test_several_telegrams_as_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decode", "--json", GOOD, BAD, "E5") == 0
    assert errors(capsys.readouterr().out) == [None, "checksum", None]


def test_decode_of_stdin_says_a_document_for_each_line_that_is_not_empty() -> None:
    lines = [GOOD, "", BAD, "   ", "zz", "E5", "6", "16", GOOD[:41], "\u00fc", GOOD]
    done = shell(["decode", "--json"], "\n".join(lines))
    assert (done.returncode, done.stderr) == (0, b"")
    assert errors(done.stdout.decode()) == [None, "checksum", "hex", None, "hex", "start", "length", "hex", None]


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_bytes_that_are_no_text_are_a_bad_telegram_not_an_end(encoding: str) -> None:
    done = shell(["decode", "--json"], b"\xff\xfe\x00\n\x00\nE5\r\n" + GOOD.encode(), PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert errors(done.stdout.decode(encoding.partition(":")[0])) == ["hex", "hex", None, None]


def test_without_json_a_bad_telegram_is_an_error_on_stderr() -> None:
    done = shell(["decode"], f"{GOOD}\n{BAD}\n")
    assert done.returncode == 1
    assert b"energy" in done.stdout
    assert b"10000" in done.stdout
    assert done.stderr.decode().count("\n") == 1
    assert done.stderr.decode().startswith(f"mbusd: {BAD}: ")
    assert "(checksum)" in done.stderr.decode()
    assert shell(["decode"], GOOD).returncode == 0


def test_nothing_to_decode_is_nothing_wrong() -> None:
    for words in (["decode"], ["decode", "--json"]):
        done = shell(words, "\n\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_explain_says_what_every_byte_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decode", "--explain", GOOD) == 0
    out = capsys.readouterr().out
    pieces = [line[6:42].split() for line in out.splitlines() if line.strip()]
    assert " ".join(byte for piece in pieces for byte in piece) == GOOD
    assert run("decode", "--explain", BAD) == 1
    assert run("decode", "--explain", "zz") == 1


def test_json_and_explain_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("decode", "--json", "--explain", "E5") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_trouble() -> None:
    lines = f"{GOOD}\n" * 3000
    for words in ("decode --json", "decode"):
        done = subprocess.run(  # noqa: S602 - a pipe as a user types it
            f"{shlex.quote(sys.executable)} -m mbusd {words} | head -n 1",
            shell=True,
            input=lines.encode(),
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.count(b"\n") == 1
        assert done.stderr == b""


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mbusd", "schema"], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["mbusd: No space left on device"]


def test_a_closed_stdin_and_stdout_are_no_trouble() -> None:
    for words in ("decode --json <&-", "schema >&-"):
        done = subprocess.run(  # noqa: S602 - as a user types it
            f"{shlex.quote(sys.executable)} -m mbusd {words}", shell=True, capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("buses: [{name: a, port: /dev/x, meters: [{address: 5}, {address: 6}]}]")
    assert run("check", "-c", file) == 0
    assert capsys.readouterr().out == f"{file}: all right; 1 bus(es), 2 meter(s), broker localhost:1883\n"
    file.write_text("mqtt: {hots: x}\nbuses: []")
    assert run("check", "--config", file) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"{file}:1: mqtt.hots: is not known here; did you mean 'hosts'?",
        f"{file}:2: buses: at least one is needed: a port",
    ]


def test_the_environment_counts_for_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    assert run("check", "-c", file) == 2
    monkeypatch.setenv("MBUSD_BUSES__0__NAME", "a")
    monkeypatch.setenv("MBUSD_BUSES__0__PORT", "tcp://h:1")
    assert run("check", "-c", file) == 0


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert accepts(schema, {"buses": [{"name": "a", "port": "/dev/x"}]})
    assert not accepts(schema, {"buses": []})


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"mbusd {__version__}\n"
    assert run("--help") == 0
    commands = re.findall(r"^    ([a-z][a-z-]*)", capsys.readouterr().out, re.MULTILINE)
    assert {"run", "read", "scan", "sniff", "set-address", "set-baudrate", "set-clock", "reset"} < set(commands)
    for command in commands:
        assert run(command, "--help") == 0
        usage, what, *_ = capsys.readouterr().out.split("\n\n")
        assert usage.startswith(f"usage: mbusd {command}")
        assert re.fullmatch(r"[A-Z].*\.", what), "one line says what it does"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("", 2, "the following arguments are required: COMMAND"),
        ("explode", 2, "invalid choice: 'explode'"),
        ("run -c {folder}/missing", 2, "{folder}/missing: No such file or directory"),
        ("run -c {folder}", 2, "{folder}: Is a directory"),
        ("run -c {folder}/binary", 2, "{folder}/binary: is not UTF-8 text"),
        ("check -c {folder}/missing", 2, "{folder}/missing: No such file or directory"),
        (
            "check",
            2,
            "there is no /etc/mbusd/config.yaml: write it, name another with -c FILE, or set MBUSD_BUSES__0__PORT",
        ),
        ("read {folder}/tty 5", 1, "mbusd: {folder}/tty: there is no such device; is the converter plugged in?"),
        ("read {folder} 5", 1, "mbusd: {folder}: "),
        ("read /dev/null 5", 1, "mbusd: /dev/null: "),
        ("read tcp://127.0.0.1:{closed} 5", 1, "mbusd: tcp://127.0.0.1:{closed}: "),
        ("read tcp://nowhere.invalid:5 5", 1, "mbusd: tcp://nowhere.invalid:5: "),
        ("read tcp://host 5", 2, "is not tcp://HOST:PORT"),
        ("read http://host:1 5", 2, "http:// is not known"),
        ("read /dev/x 251", 2, "251 is no primary address: a meter has 0..250"),
        ("read /dev/x 254", 2, "(251..255 have other uses); one meter alone on the wires: FFFFFFFF"),
        ("read /dev/x -- -1", 2, "'-1' is no address"),
        ("read /dev/x 1234567", 2, "'1234567' is no address"),
        ("read /dev/x 5 --baudrate 1000", 2, "invalid choice"),
        ("read /dev/x 5 --timeout soon", 2, "'soon' is no duration"),
        ("read /dev/x 5 --timeout nan", 2, "'nan' is no duration"),
        ("read /dev/x 5 --timeout inf", 2, "'inf' is no duration"),
        ("read /dev/x 5 --timeout 1e300", 2, "'1e300' is no duration"),
        ("read /dev/x 5 --timeout=-1", 2, "'-1' is no duration"),
        ("read /dev/x 5 --baudrate 99999999999999999999", 2, "invalid choice"),
        ("read /dev/x 123456789", 2, "'123456789' is no address"),
        ("read /dev/x ''", 2, "'' is no address"),
        ("read '' 5", 2, "a port is /dev/"),
        ("scan /dev/x --secondary 12", 2, "'12' has 2 digits: a mask has 8 or 16, F for any digit"),
        ("scan /dev/x --baudrate ²", 2, "'²' is no rate"),
        ("sniff /dev/x --seconds nan", 2, "'nan' is no duration"),
        ("sniff {folder}/bad.yaml {folder}/../{name}/bad.yaml", 2, "PORT and PORT2 are one and the same port"),
        ("set-address /dev/x 5 0", 2, "0 is the address of meters from the factory"),
        ("set-address /dev/x 5 251", 2, "251 is no primary address"),
        ("set-address /dev/x 5 ²", 2, "'²' is no primary address"),
        ("set-address /dev/x 255 5", 2, "255 is no primary address"),
        ("set-address /dev/x 254 5", 2, "254 is every meter on the bus"),
        ("set-address /dev/x 1234567F 5", 2, "1234567F may be several meters"),
        ("set-clock /dev/x 1234567F", 2, "1234567F may be several meters"),
        ("set-clock /dev/x 254", 2, "254 is no primary address"),
        ("set-clock /dev/x 5 25:00", 2, "'25:00' is no time"),
        ("set-clock /dev/x 5 2025-03-30 --type I", 2, "type I has a time of day"),
        ("set-clock /dev/x 5 --zone Europe/Atlantis", 2, "'Europe/Atlantis' is no time zone of this computer"),
        ("set-baudrate /dev/x 5 1000", 2, "invalid choice"),
        ("set-baudrate tcp://127.0.0.1:{closed} 5 300", 2, "a transparent TCP converter keeps its own rate"),
        ("set-id /dev/x 5 1234567F", 2, "'1234567F' cannot be written"),
        ("set-id /dev/x 5 6", 2, "'6' is a primary address"),
        ("reset /dev/x 5 XYZ", 2, "'XYZ' is no subcode"),
        ("read /dev/x 5 --retries many", 2, "argument --retries"),
        ("simulate --tcp nowhere", 2, "'nowhere' is not HOST:PORT"),
        ("simulate --tcp 127.0.0.1:99999", 2, "is not HOST:PORT"),
        ("simulate --tcp a..b:1", 1, "mbusd: cannot serve: "),
        ("simulate --tcp nowhere.invalid:1", 1, "mbusd: cannot serve: "),
        ("simulate --tcp 127.0.0.1:{taken}", 1, "mbusd: cannot serve: "),
        ("simulate --link {folder}/binary", 1, "exists and is no symbolic link"),
        ("simulate --link {folder}/no/where", 1, "mbusd: cannot serve: "),
        ("simulate --meters {folder}/missing", 2, "{folder}/missing: No such file or directory"),
        ("simulate --meters {folder}/binary", 2, "{folder}/binary: is not UTF-8 text"),
        ("simulate --meters {folder}/bad.yaml", 2, "{folder}/bad.yaml: "),
        ("demo --seconds never", 2, "'never' is no duration"),
        ("demo --seconds -1", 2, "'-1' is no duration"),
    ],
)
def test_a_mistake_is_one_clear_line(
    words: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "bad.yaml").write_text("meters: [{identification: 5}]")
    names = {"folder": tmp_path, "name": tmp_path.name, "closed": free_port()}
    with listening() as names["taken"]:
        assert run(*shlex.split(words.format(**names))) == code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith(" ")]
    assert len(lines) == 1, captured.err
    assert said.format(**names) in lines[0]
    assert captured.out == ""


def test_a_port_that_another_program_holds_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal() as tty, opened(tty.device) as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for words in ("read {} 5", "scan {}", "sniff {}", "set-address {} 5 6", "set-baudrate {} 5 300"):
            assert run(*words.format(tty.device).split()) == 1
            held = f"mbusd: {tty.device}: another program has this port open. End that program (fuser -v {tty.device} "
            assert capsys.readouterr().err == f"{held}names it); one master at a time can have the bus\n"


INTERRUPTED = [
    *("read {} 5", "scan {}", "scan {} --baudrate auto", "set-address {} 5 6", "set-baudrate {} 5 300"),
    *("set-clock {} 5", "reset {} 5", "set-id {} 5 12345678"),
]


@pytest.mark.parametrize("words", INTERRUPTED)
async def test_ctrl_c_ends_a_command_at_once_and_without_a_traceback(words: str) -> None:
    with terminal() as tty, opened(tty.device):
        async with started(*words.format(tty.device).split(), "--timeout", str(PATIENCE)) as command:
            asked, _, _ = await asyncio.to_thread(select.select, [tty.end], [], [], PATIENCE)
            assert asked
            assert await command.ends(signal.SIGINT) == 130
            assert not [line for line in command.said if "Traceback" in line]


def test_ctrl_c_while_it_is_loaded_is_ctrl_c_too() -> None:
    code = "import sys, mbusd.cli\nclass Hit:\n def find_spec(*_):\n  raise KeyboardInterrupt\n"
    code += "sys.meta_path.insert(0, Hit())\nsys.exit(mbusd.cli.main(['schema']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (130, b"")


@pytest.mark.parametrize("words", ["schema", "decode E5", "scan {} --secondary --timeout 0.01"])
def test_nobody_to_read_what_is_printed(words: str) -> None:
    with terminal() as tty:
        line = f"{shlex.quote(sys.executable)} -m mbusd {words.format(tty.device)} >&-"
        done = subprocess.run(line, shell=True, capture_output=True, timeout=60, check=False)  # noqa: S602 - ours
    assert b"Traceback" not in done.stderr
    assert done.returncode == (1 if "scan" in words else 0)


OF_FEW_DAEMONS = {
    *("rich", "amqtt", "argparse", "difflib", "sqlite3", "unicodedata"),
    *("encodings.idna", "pydantic.type_adapter", "pydantic.dataclasses"),
    *("mbusd.simulation.simulator", "mbusd.commands.words", "mbusd.arguments", "mbusd.line.rfc2217"),
    *("mbusd.mbus.diagnosis", "mbusd.mbus.evidence", "mbusd.scanning.scanner", "mbusd.writes", "mbusd.changes"),
    *("mbusd.sinks.emoncms", "mbusd.sinks.stream", "mbusd.spool", "mbusd.configuration.profile_shapes"),
}


def test_the_daemon_carries_only_what_it_needs() -> None:
    code = "import sys, mbusd.commands.start, mbusd.commands.configuration, mbusd.app; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)  # noqa: S603
    assert OF_FEW_DAEMONS & set(done.stdout.decode().split()) == set()


@pytest.mark.parametrize("words", [["run", "-c"], ["run", "--config"]])
def test_the_daemon_starts_without_the_parser_of_all_commands(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    code = f"import sys, mbusd.cli\nprint(mbusd.cli.main({[*words, str(file)]}), 'argparse' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)  # noqa: S603
    assert done.stdout == b"2 False\n"
    assert done.stderr.decode() == f"{file}: No such file or directory\n"


async def test_read() -> None:
    port = free_port()
    async with started("simulate", "--tcp", f"127.0.0.1:{port}", "--baudrate", 38400) as bus:
        await bus.says("room: primary 0")
        wire = (f"tcp://127.0.0.1:{port}", "--baudrate", "38400")
        done = await asyncio.to_thread(shell, ["read", *wire, "68", "--json"])
        assert (done.returncode, done.stderr) == (0, b"")
        (document,) = documents(done.stdout.decode())
        values, units = document["values"], document["units"]
        assert isinstance(values, dict)
        assert isinstance(units, dict)
        assert {key: values[key] for key in MULTICAL} == MULTICAL
        assert (values["volume_flow_maximum"], units["volume_flow_maximum"]) == (1.39, "m³/h")
        assert (document["secondary_address"], document["error"]) == ("681044022D2C0904", None)
        done = await asyncio.to_thread(shell, ["read", *wire, "21436587"])
        assert done.returncode == 0
        assert "m³" in done.stdout.decode()
        done = await asyncio.to_thread(shell, ["read", *wire, "9", "--retries", "0"])
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode().startswith(f"mbusd: {wire[0]}: address 9 at 38400 Bd: ")
        assert await bus.ends(signal.SIGINT) == 0


async def test_the_demo_shows_readings_and_ends_with_ctrl_c() -> None:
    async with started("demo") as demo:
        await demo.says("mbusd/heat_pump {")
        assert await demo.ends(signal.SIGINT) == 0
        await demo.says("readings of ")
        assert not [line for line in demo.said if "Traceback" in line or "never" in line]


def test_the_demo_without_its_broker_says_where_it_comes_from() -> None:
    code = "import sys, mbusd.cli\nsys.modules['amqtt'] = None\nsys.exit(mbusd.cli.main(['demo', '--seconds', '1']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (1, b"")
    ways = b"scripts/demo brings it; with pipx: pipx inject mbusd amqtt; with uv: uv tool install --with amqtt ."
    assert ways in done.stderr


async def test_the_demo_ends_by_itself() -> None:
    async with started("demo", "--seconds", "0") as demo:
        assert await demo.ends() == 1
        await demo.says("readings of 0 of 6 meters arrived; missing: ")
        assert not [line for line in demo.said if "Traceback" in line]
