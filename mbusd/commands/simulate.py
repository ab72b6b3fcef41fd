"""simulate: a virtual bus of faithful meters, on TCP, on a pseudo terminal, or both."""

import asyncio
import signal
from datetime import datetime
from pathlib import Path

from mbusd.commands.output import complain, say
from mbusd.configuration.files import FileError
from mbusd.configuration.strict_yaml import read
from mbusd.mbus.address import PrimaryAddress
from mbusd.simulation.meter_file import meters_from
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import SimulatedBus, SimulatedMeter
from mbusd.simulation.virtual_bus import Served, serve

DEFAULT_TCP = ("127.0.0.1", 10001)


async def run(tcp: tuple[str, int] | None, link: Path | None, file: Path | None, baudrate: int) -> int:
    """Serve until SIGTERM or SIGINT. Raises FileError for a bad meter file."""
    if tcp is None and link is None:
        tcp = DEFAULT_TCP
    began = datetime.now().astimezone().replace(tzinfo=None)  # meters' clocks know no zone
    bus = SimulatedBus(household(began) if file is None else _meters(file), began)
    task = asyncio.ensure_future(
        serve(bus, tcp=tcp, link=link, baudrate=baudrate, ready=lambda served: _tell(served, link, bus.meters))
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 0
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one of a host
        complain(f"mbusd: cannot serve: {error}")
    return 1


def _meters(file: Path) -> list[SimulatedMeter]:
    try:
        return meters_from(read(file).data)
    except ValueError as error:
        raise FileError([f"{file}: {error}"]) from error


def _tell(served: Served, link: Path | None, meters: list[SimulatedMeter]) -> None:
    if served.tcp is not None:
        host, port = served.tcp
        say(f"bus on tcp://{f'[{host}]' if ':' in host else host}:{port}")
    if link is not None:
        say(f"bus on {link}")
    for meter in meters:
        primary = "" if meter.primary is None else f"primary {PrimaryAddress(meter.primary)}, "
        rate = "" if meter.rate is None else f", {meter.rate} Bd"
        say(f"  {meter.name}: {primary}secondary {meter.secondary.digits}{rate}")
