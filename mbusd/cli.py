"""The command line: its words and options, and what each means. The work is in commands/."""

import argparse
import asyncio
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from mbusd import __version__
from mbusd.commands import configuration
from mbusd.config import ConfigError
from mbusd.mbus.address import Address, parse_address
from mbusd.mbus.errors import MBusError
from mbusd.settings import BAUDRATES, seconds
from mbusd.transport import TransportError, check_port

T = TypeVar("T")
Work = Callable[[argparse.Namespace], int]
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name

DEFAULT_CONFIG = Path("/etc/mbusd/config.yaml")
DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 it failed, 2 wrong usage or bad configuration."""
    _never_stumble_over_characters()
    arguments = _parser().parse_args(words)
    try:
        return _run(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG
    except (MBusError, TransportError) as error:
        print(f"mbusd: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # stdin or stdout: a disk that is full, or nobody at all (`mbusd decode | head`)
        if not isinstance(error, BrokenPipeError):
            print(f"mbusd: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or what is left in the buffer fails once more at the exit
        return FAILED


def _never_stumble_over_characters() -> None:
    """Bytes that are no text, and letters that the terminal cannot show, are replaced: they end no command."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _run(arguments: argparse.Namespace) -> int:
    """The command itself; what only people use (tables, simulator, demo) is not loaded by the daemon."""
    result: int = arguments.work(arguments)
    if sys.stdout is not None:
        sys.stdout.flush()
    return result


def _decode(arguments: argparse.Namespace) -> int:
    from mbusd.commands import decode  # noqa: PLC0415

    return decode.run(arguments.hex, as_json=arguments.json, explained=arguments.explain)


def _read(arguments: argparse.Namespace) -> int:
    from mbusd.commands import read  # noqa: PLC0415

    _log_to_stderr(verbose=arguments.verbose)
    question = read.Question(
        arguments.port, arguments.address, arguments.baudrate, arguments.timeout, arguments.retries
    )
    return asyncio.run(read.run(question, as_json=arguments.json))


def _simulate(arguments: argparse.Namespace) -> int:
    from mbusd.commands import simulate  # noqa: PLC0415

    _log_to_stderr(verbose=False)
    return asyncio.run(simulate.run(arguments.tcp, arguments.link, arguments.meters, arguments.baudrate))


def _demo(arguments: argparse.Namespace) -> int:
    from mbusd.commands import demo  # noqa: PLC0415

    return asyncio.run(demo.run(arguments.seconds))


def _log_to_stderr(*, verbose: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mbusd",
        description="M-Bus (Meter-Bus, EN 13757) master: reads meters and publishes them to MQTT and Home Assistant.",
    )
    parser.add_argument("--version", action="version", version=f"mbusd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_config(_command(commands, "run", lambda given: configuration.run(given.config), "the daemon"))
    _add_config(
        _command(commands, "check", lambda given: configuration.check(given.config), "validate the configuration")
    )
    _command(commands, "schema", lambda _: configuration.schema(), "JSON Schema of the configuration")
    _add_read(_command(commands, "read", _read, "one complete read-out of one meter"))
    _add_decode(_command(commands, "decode", _decode, "decode telegrams given in hex; no bus needed"))
    _add_simulate(_command(commands, "simulate", _simulate, "a virtual bus of faithful meters on TCP or a pty"))
    demo = _command(commands, "demo", _demo, "simulated bus, embedded broker and daemon: all without hardware")
    demo.add_argument("--seconds", type=_seconds, help="end after this time; exit 0 only if readings arrived")
    return parser


def _command(commands: _Commands, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(work=work)
    return command


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("-c", "--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")


def _add_read(command: argparse.ArgumentParser) -> None:
    command.add_argument("port", type=_port, metavar="PORT", help="/dev/ttyUSB0 or tcp://HOST:PORT")
    command.add_argument("address", type=_address, metavar="ADDRESS", help="0..250, or 8 or 16 digits")
    _add_baudrate(command)
    command.add_argument("--timeout", type=_seconds, help="latest begin of an answer; default: 330 bits + 50 ms")
    command.add_argument("--retries", type=int, choices=range(3), default=2, help="repetitions, default %(default)s")
    command.add_argument("--json", action="store_true", help="JSON instead of a table")
    command.add_argument("-v", "--verbose", action="store_true", help="show every frame in hex")


def _add_decode(command: argparse.ArgumentParser) -> None:
    command.add_argument("hex", nargs="*", metavar="HEX", help="telegrams; without any, one per line from stdin")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document a line")
    form.add_argument("--explain", action="store_true", help="say what every byte is")


def _add_simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tcp", metavar="HOST:PORT", type=_host_and_port, help="serve the bus on this TCP port")
    command.add_argument("--link", metavar="PATH", type=Path, help="serve the bus on a pseudo terminal linked here")
    command.add_argument("--meters", metavar="FILE", type=Path, help="YAML file of meters; default: a house of six")
    _add_baudrate(command)


def _add_baudrate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--baudrate", type=int, choices=BAUDRATES, default=2400, metavar="BD", help="default 2400")


def _port(text: str) -> str:
    return _usage(check_port, text)


def _address(text: str) -> Address:
    return _usage(parse_address, text)


def _seconds(text: str) -> float:
    return _usage(seconds, text)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _usage(parse: Callable[[str], T], text: str) -> T:
    """What `parse` makes of the word; its ValueError becomes a sentence of the usage error."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
