"""The command line: its words and options, and what each means. The work is in commands/."""

import argparse
import asyncio
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from mbusd import __version__, arguments, writes
from mbusd.commands import configuration, write
from mbusd.config import ConfigError
from mbusd.mbus.errors import MBusError
from mbusd.transport import TransportError

Work = Callable[[argparse.Namespace], int]
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 it failed, 2 wrong usage or bad configuration."""
    _never_stumble_over_characters()
    given = _parser().parse_args(words)
    try:
        return _run(given)
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


def _run(given: argparse.Namespace) -> int:
    """The command itself; what only people use (tables, simulator, demo) is not loaded by the daemon."""
    result: int = given.work(given)
    if sys.stdout is not None:
        sys.stdout.flush()
    return result


def _decode(given: argparse.Namespace) -> int:
    from mbusd.commands import decode  # noqa: PLC0415

    return decode.run(given.hex, as_json=given.json, explained=given.explain)


def _read(given: argparse.Namespace) -> int:
    from mbusd.commands import read  # noqa: PLC0415

    _log_to_stderr(verbose=given.verbose)
    question = read.Question(given.port, given.address, given.baudrate, given.timeout, given.retries)
    return asyncio.run(read.run(question, as_json=given.json))


def _simulate(given: argparse.Namespace) -> int:
    from mbusd.commands import simulate  # noqa: PLC0415

    _log_to_stderr(verbose=False)
    return asyncio.run(simulate.run(given.tcp, given.link, given.meters, given.baudrate))


def _demo(given: argparse.Namespace) -> int:
    from mbusd.commands import demo  # noqa: PLC0415

    return asyncio.run(demo.run(given.seconds))


def _scan(given: argparse.Namespace) -> int:
    from mbusd.commands import scan  # noqa: PLC0415

    _log_to_stderr(verbose=False)
    question = scan.Question(
        given.port,
        given.primary,
        given.secondary,
        given.baudrate,
        given.timeout,
        given.retries,
        resets=not given.no_reset,
        exhaustive=given.exhaustive,
    )
    return asyncio.run(scan.run(question, as_json=given.json, as_yaml=given.yaml))


def _sniff(given: argparse.Namespace) -> int:
    from mbusd.commands import sniff  # noqa: PLC0415

    _log_to_stderr(verbose=False)
    question = sniff.Question(given.port, given.second, given.baudrate, given.seconds)
    return asyncio.run(sniff.run(question, as_json=given.json))


def _line(given: argparse.Namespace) -> write.Line:
    _log_to_stderr(verbose=given.verbose)
    return write.Line(given.port, given.baudrate, given.timeout, given.retries)


def _set_address(given: argparse.Namespace) -> int:
    question = write.SetAddress(_line(given), given.old, given.new, given.lone)
    return asyncio.run(write.run_set_address(question, as_json=given.json))


def _set_baudrate(given: argparse.Namespace) -> int:
    question = write.SetBaudrate(_line(given), given.address, given.rate)
    return asyncio.run(write.run_set_baudrate(question, as_json=given.json))


def _set_clock(given: argparse.Namespace) -> int:
    question = write.SetClock(_line(given), given.address, given.time, given.standard_time)
    return asyncio.run(write.run_set_clock(question, as_json=given.json))


def _reset(given: argparse.Namespace) -> int:
    question = write.Reset(_line(given), given.address, given.subcode)
    return asyncio.run(write.run_reset(question, as_json=given.json))


def _set_identification(given: argparse.Namespace) -> int:
    question = write.SetIdentification(_line(given), given.address, given.new)
    return asyncio.run(write.run_set_identification(question, as_json=given.json))


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
    arguments.config(_command(commands, "run", lambda given: configuration.run(given.config), "the daemon"))
    arguments.config(_command(commands, "check", lambda given: configuration.check(given.config), "validate the file"))
    _command(commands, "schema", lambda _: configuration.schema(), "JSON Schema of the configuration")
    arguments.read(_command(commands, "read", _read, "one complete read-out of one meter"))
    arguments.decode(_command(commands, "decode", _decode, "decode telegrams given in hex; no bus needed"))
    arguments.scan(_command(commands, "scan", _scan, "find the meters of a bus"))
    arguments.sniff(_command(commands, "sniff", _sniff, "listen only: decode both directions of a tapped bus"))
    arguments.simulate(_command(commands, "simulate", _simulate, "a virtual bus of faithful meters on TCP or a pty"))
    arguments.demo(_command(commands, "demo", _demo, "simulated bus, embedded broker and daemon: no hardware needed"))
    _add_writes(commands)
    return parser


def _add_writes(commands: _Commands) -> None:
    command = _command(commands, "set-address", _set_address, "give a meter another primary address, and verify it")
    arguments.set_address(command, writes.target)
    arguments.set_baudrate(
        _command(commands, "set-baudrate", _set_baudrate, "give a meter another rate, and verify it")
    )
    arguments.set_clock(
        _command(commands, "set-clock", _set_clock, "set a meter's clock, and verify it"), writes.moment
    )
    command = _command(commands, "reset", _reset, "application reset, with or without a subcode")
    arguments.reset(command, writes.subcode)
    command = _command(commands, "set-id", _set_identification, "give a meter another secondary address, and verify it")
    arguments.set_identification(command, writes.secondary)


def _command(commands: _Commands, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(work=work)
    return command
