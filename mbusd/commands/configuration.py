"""run, check and schema: the commands that live on the configuration file."""

import asyncio
import gc
import logging
import os
import sys
from pathlib import Path

from mbusd import config
from mbusd.commands.output import say
from mbusd.configuration.settings import Settings
from mbusd.printable import log_to
from mbusd.profiles import shelf_of

_FOREIGN = ("asyncio", "paho")


def run(path: Path | None) -> int:
    """The daemon, until SIGTERM or SIGINT; without a path the usual file, if it is there, or only the environment."""
    from mbusd.app import serve  # noqa: PLC0415 - the daemon itself; to check a file needs none

    settings, _ = config.find(path, os.environ)
    under_systemd = "JOURNAL_STREAM" in os.environ  # the journal knows the time
    form = "%(levelname)s: %(message)s" if under_systemd else "%(asctime)s %(levelname)-7s %(message)s"
    log_to(sys.stderr, form, settings.log_level.upper())
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(logging.WARNING)
    gc.freeze()  # all modules: looking through them for garbage takes 30 ms each time, in which nothing is read
    asyncio.run(serve(settings, lambda: read_again(path)))
    return 0


def read_again(path: Path | None) -> Settings:
    """The settings as they are by now. What is no file might keep us waiting for ever, and everybody with us.

    Raises ConfigError.
    """
    if path is not None and path.exists() and not path.is_file():
        raise config.ConfigError([f"{path}: this is no file"])
    return config.find(path, os.environ)[0]


def check(path: Path | None) -> int:
    """Whether the file is right; ConfigError tells every problem."""
    settings, source = config.find(path, os.environ)
    _, problems = shelf_of(settings.profiles)
    if problems:
        raise config.ConfigError(list(problems))
    meters = sum(len(bus.meters) for bus in settings.buses)
    brokers = ", ".join(map(str, settings.mqtt.addresses))
    say(f"{source}: all right; {len(settings.buses)} bus(es), {meters} meter(s), broker {brokers}")
    return 0


def schema() -> int:
    """The JSON Schema on stdout."""
    from mbusd.configuration.schema import text  # noqa: PLC0415 - it looks into the source, which takes its time

    print(text())
    return 0
