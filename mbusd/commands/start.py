"""Starts the command that the words of the command line ask for, and says what was wrong where it fails."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mbusd.commands.output import FAILED, WRONG, complain
from mbusd.configuration.files import FileError
from mbusd.line.transport import TransportError
from mbusd.mbus.errors import MBusError
from mbusd.mbus.verdict import Observations, Verdict


def run(words: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 it failed, 2 wrong usage or bad configuration.

    Raises KeyboardInterrupt, and SystemExit for wrong usage.
    """
    _never_stumble_over_streams()
    try:
        return _work(sys.argv[1:] if words is None else words)
    except FileError as error:
        for problem in error.problems:
            complain(problem)
        return WRONG
    except TransportError as error:
        complain(f"mbusd: {_told(error)}")
        return FAILED
    except MBusError as error:
        complain(f"mbusd: {error}")
        return FAILED
    except OSError as error:  # stdin or stdout: a disk that is full, or nobody at all (`mbusd decode | head`)
        if not isinstance(error, BrokenPipeError):
            complain(f"mbusd: {error.strerror or error}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or what is left in the buffer fails once more at the exit
        return FAILED


def _told(error: TransportError) -> str:
    """What to do about a port that somebody else holds, or that is gone; other reasons say it themselves."""
    from mbusd.mbus.diagnosis import diagnose  # noqa: PLC0415 - of those that end so

    verdict = diagnose(Observations(port_trouble=error.why))
    match verdict:
        case Verdict("port_in_use"):
            return f"{error}. {verdict.todo.replace('PORT', error.port)}"
        case Verdict("port_lost"):
            return f"{error.port}: {verdict}"
    return str(error)


def _never_stumble_over_streams() -> None:
    """Bytes that are no text, letters that the terminal cannot show, streams that were closed: they end no command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process lives
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _work(words: Sequence[str]) -> int:
    """The parser of all commands is half a megabyte: the daemon, which would carry it for years, does without."""
    match list(words):
        case ["run"]:
            return _daemon(None)
        case ["run", "-c" | "--config", str(file)] if not file.startswith("-"):
            return _daemon(Path(file))
    from mbusd.commands import words as line  # noqa: PLC0415

    result = line.run(words)
    sys.stdout.flush()
    return result


def _daemon(file: Path | None) -> int:
    from mbusd.commands import configuration  # noqa: PLC0415 - as each command

    return configuration.run(file)
