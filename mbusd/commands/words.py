"""The words of the command line and what each of them starts; their options are in arguments.py."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from mbusd import __version__, arguments
from mbusd.commands.output import WRONG, complain
from mbusd.printable import log_to

Work = Callable[[argparse.Namespace], int]
_Commands: TypeAlias = "argparse._SubParsersAction[arguments.Parser]"  # noqa: SLF001 - it has no other name


def run(words: Sequence[str] | None) -> int:
    """One command; it alone is loaded, which counts on a small computer. Raises SystemExit for wrong usage."""
    given = _parser().parse_args(words)
    result: int = given.work(given)
    return result


def _run(given: argparse.Namespace) -> int:
    from mbusd.commands import configuration  # noqa: PLC0415

    return configuration.run(given.config)


def _check(given: argparse.Namespace) -> int:
    from mbusd.commands import configuration  # noqa: PLC0415

    return configuration.check(given.config)


def _schema(_: argparse.Namespace) -> int:
    from mbusd.commands import configuration  # noqa: PLC0415

    return configuration.schema()


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

    _log_to_stderr(verbose=given.verbose)
    question = scan.Question(
        given.port,
        given.primary,
        given.secondary,
        given.baudrate,
        given.timeout,
        given.retries,
        resets=not given.no_nke,
        exhaustive=given.exhaustive,
    )
    return asyncio.run(scan.run(question, as_json=given.json, as_yaml=given.yaml))


def _sniff(given: argparse.Namespace) -> int:
    from mbusd.commands import sniff  # noqa: PLC0415

    _log_to_stderr(verbose=False)
    if given.second is not None and os.path.realpath(given.port) == os.path.realpath(given.second):
        complain(f"mbusd sniff: PORT and PORT2 are one and the same port: {given.port}")
        return WRONG
    question = sniff.Question(given.port, given.second, given.baudrate, given.seconds)
    return asyncio.run(sniff.run(question, as_json=given.json))


def _write(given: argparse.Namespace) -> int:
    from mbusd.commands import write  # noqa: PLC0415

    _log_to_stderr(verbose=given.verbose)
    return asyncio.run(write.run(given.command, given))


def _target(text: str) -> object:
    from mbusd import writes  # noqa: PLC0415

    return writes.target(text)


def _moment(text: str) -> object:
    from mbusd import writes  # noqa: PLC0415

    return writes.moment(text)


def _subcode(text: str) -> object:
    from mbusd import writes  # noqa: PLC0415

    return writes.subcode(text)


def _secondary(text: str) -> object:
    from mbusd import writes  # noqa: PLC0415

    return writes.secondary(text)


def _log_to_stderr(*, verbose: bool) -> None:
    log_to(sys.stderr, "%(message)s", logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _parser() -> arguments.Parser:
    parser = arguments.Parser(
        prog="mbusd",
        description="M-Bus (Meter-Bus, EN 13757) master: reads meters and publishes them to MQTT and Home Assistant.",
    )
    parser.add_argument("--version", action="version", version=f"mbusd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run, check = "read meters and publish them: the daemon", "say what is wrong with the configuration"
    arguments.config(_command(commands, "run", _run, run))
    arguments.config(_command(commands, "check", _check, check))
    _command(commands, "schema", _schema, "print the JSON Schema of the configuration")
    arguments.read(_command(commands, "read", _read, "read all telegrams of one meter"))
    arguments.decode(_command(commands, "decode", _decode, "decode telegrams given in hex"))
    arguments.scan(_command(commands, "scan", _scan, "find the meters of a bus"))
    arguments.sniff(_command(commands, "sniff", _sniff, "listen only: decode both directions of a tapped bus"))
    arguments.simulate(_command(commands, "simulate", _simulate, "serve a virtual bus on TCP or a pseudo terminal"))
    arguments.demo(_command(commands, "demo", _demo, "run simulated bus, broker and daemon, without hardware"))
    _add_writes(commands)
    return parser


def _add_writes(commands: _Commands) -> None:
    command = _command(commands, "set-address", _write, "give a meter another primary address, and verify it")
    arguments.set_address(command, _target)
    arguments.set_baudrate(_command(commands, "set-baudrate", _write, "give a meter another rate, and verify it"))
    arguments.set_clock(_command(commands, "set-clock", _write, "set a meter's clock, and verify it"), _moment)
    command = _command(commands, "reset", _write, "reset a meter's application, or select one by its subcode")
    arguments.reset(command, _subcode)
    command = _command(commands, "set-id", _write, "give a meter another secondary address, and verify it")
    arguments.set_identification(command, _secondary)


def _command(commands: _Commands, name: str, work: Work, text: str) -> arguments.Parser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(work=work)
    return command
