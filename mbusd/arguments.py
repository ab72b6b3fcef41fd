"""The options of each command, and how their words are read."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from mbusd.mbus.address import Address, PrimaryAddress, SecondaryAddress, parse_address
from mbusd.settings import BAUDRATES, seconds
from mbusd.transport import check_port

T = TypeVar("T")

DEFAULT_CONFIG = Path("/etc/mbusd/config.yaml")


def config(command: argparse.ArgumentParser) -> None:
    command.add_argument("-c", "--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")


def read(command: argparse.ArgumentParser) -> None:
    meter(command)
    line(command)


def decode(command: argparse.ArgumentParser) -> None:
    command.add_argument("hex", nargs="*", metavar="HEX", help="telegrams; without any, one per line from stdin")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document a line")
    form.add_argument("--explain", action="store_true", help="say what every byte is")


def simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tcp", metavar="HOST:PORT", type=_host_and_port, help="serve the bus on this TCP port")
    command.add_argument("--link", metavar="PATH", type=Path, help="serve the bus on a pseudo terminal linked here")
    command.add_argument("--meters", metavar="FILE", type=Path, help="YAML file of meters; default: a house of six")
    _baudrate(command)


def meter(command: argparse.ArgumentParser) -> None:
    """One meter on one bus."""
    port(command)
    command.add_argument("address", type=_address, metavar="ADDRESS", help="0..250, or 8 or 16 digits")


def port(command: argparse.ArgumentParser) -> None:
    """The bus."""
    command.add_argument("port", type=_port, metavar="PORT", help="/dev/ttyUSB0, tcp://HOST:PORT, rfc2217://HOST:PORT")


def line(command: argparse.ArgumentParser) -> None:
    """How the bus is spoken to, and how the result is shown."""
    _baudrate(command)
    command.add_argument("--timeout", type=duration, help="latest begin of an answer; default: 330 bits + 50 ms")
    command.add_argument("--retries", type=int, choices=range(3), default=2, help="repetitions, default %(default)s")
    command.add_argument("--json", action="store_true", help="JSON instead of a table")
    command.add_argument("-v", "--verbose", action="store_true", help="show every frame in hex")


def scan(command: argparse.ArgumentParser) -> None:
    port(command)
    command.add_argument("--primary", action="store_true", help="look at the addresses 0..250")
    command.add_argument(
        "--secondary",
        nargs="?",
        const=SecondaryAddress("F" * 16),
        type=worded(_mask),
        metavar="MASK",
        help="search by secondary addresses; F is a wildcard. Default: both",
    )
    command.add_argument("--baudrate", type=worded(_rate), default=2400, metavar="BD", help="default 2400; auto tries")
    command.add_argument("--timeout", type=duration, help="latest begin of an answer; default: 330 bits + 50 ms")
    command.add_argument("--retries", type=int, choices=range(3), default=0, help="of silent probes, for sleepers")
    command.add_argument("--no-reset", action="store_true", help="REQ_UD2 at once, for meters that ignore SND_NKE")
    command.add_argument("--exhaustive", action="store_true", help="where meters share an identification: try all")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON instead of a table")
    form.add_argument("--yaml", action="store_true", help="a ready `buses:` block")


def sniff(command: argparse.ArgumentParser) -> None:
    port(command)
    command.add_argument("second", type=_port, nargs="?", metavar="PORT2", help="second adapter: the meters' current")
    _baudrate(command)
    command.add_argument("--seconds", type=duration, help="end after this time; default: until Ctrl-C")
    command.add_argument("--json", action="store_true", help="one JSON document an exchange")


def set_address(command: argparse.ArgumentParser, target: Callable[[str], object]) -> None:
    port(command)
    command.add_argument("old", type=worded(target), metavar="OLD", help="0..250, 8 or 16 digits, 254 with --lone")
    command.add_argument("new", type=worded(_number), metavar="NEW", help="1..250")
    command.add_argument("--lone", action="store_true", help="OLD is 254, the only meter on the bus")
    line(command)


def set_baudrate(command: argparse.ArgumentParser) -> None:
    meter(command)
    command.add_argument("rate", type=int, choices=BAUDRATES, metavar="RATE", help="300 … 38400")
    line(command)


def set_clock(command: argparse.ArgumentParser, moment: Callable[[str], object]) -> None:
    meter(command)
    command.add_argument("time", type=worded(moment), nargs="?", metavar="TIME", help="local time; default: now")
    command.add_argument("--standard-time", action="store_true", help="for meters that know no summer time")
    line(command)


def reset(command: argparse.ArgumentParser, subcode: Callable[[str], object]) -> None:
    meter(command)
    command.add_argument("subcode", type=worded(subcode), nargs="?", metavar="SUBCODE", help="two hex digits")
    line(command)


def set_identification(command: argparse.ArgumentParser, secondary: Callable[[str], object]) -> None:
    meter(command)
    command.add_argument("new", type=worded(secondary), metavar="NEW", help="8 or 16 digits")
    line(command)


def demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=duration, help="end after this time; exit 0 only if readings arrived")


def _mask(text: str) -> SecondaryAddress:
    address = parse_address(text)
    if isinstance(address, PrimaryAddress):
        raise ValueError(f"'{text}' is a primary address; a mask has 8 or 16 digits, F for any")  # noqa: TRY004
    return address


def _rate(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) not in BAUDRATES:
        raise ValueError(f"'{text}' is no rate: auto, {', '.join(map(str, BAUDRATES))} are")
    return int(text)


def _number(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"'{text}' is no primary address: 1..250 are")
    return PrimaryAddress(int(text)).number


def _baudrate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--baudrate", type=int, choices=BAUDRATES, default=2400, metavar="BD", help="default 2400")


def _port(text: str) -> str:
    return worded(check_port)(text)


def _address(text: str) -> Address:
    return worded(parse_address)(text)


def duration(text: str) -> float:
    """Seconds from `30s`, `5m` or a number."""
    return worded(seconds)(text)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def worded(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The same reader of a word, whose ValueError becomes a sentence of the usage error."""

    def read_word(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_word
