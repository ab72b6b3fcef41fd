"""The options of each command, and how their words are read."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mbusd.configuration.durations import seconds, window
from mbusd.configuration.files import USUAL_FILE
from mbusd.line.transport import BAUDRATES, check_port
from mbusd.mbus.address import TEST, Address, PrimaryAddress, SecondaryAddress, parse_address
from mbusd.printable import printable

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)} ({self.prog} --help says more)\n")


def config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help=f"default: {USUAL_FILE} if it is there, else only MBUSD_… in the environment",
    )


def read(command: argparse.ArgumentParser) -> None:
    meter(command, worded(_to_read))
    line(command, "JSON instead of a table")


def decode(command: argparse.ArgumentParser) -> None:
    command.add_argument("hex", nargs="*", metavar="HEX", help="telegrams; without any, one per line from stdin")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document a line")
    form.add_argument("--explain", action="store_true", help="say what every byte is")


def simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tcp", metavar="HOST:PORT", type=worded(_host_and_port), help="serve it on this TCP port")
    command.add_argument("--link", metavar="PATH", type=Path, help="serve it on a pseudo terminal linked here")
    command.add_argument("--meters", metavar="FILE", type=Path, help="YAML file of meters; default: a house of six")
    _baudrate(command, "rate of its wire in Bd")


def meter(command: argparse.ArgumentParser, address: Callable[[str], object]) -> None:
    """One meter on one bus."""
    port(command)
    command.add_argument("address", type=address, metavar="ADDRESS", help="0..250, or 8 or 16 digits")


def port(command: argparse.ArgumentParser) -> None:
    """The bus."""
    command.add_argument("port", type=_port, metavar="PORT", help="/dev/ttyUSB0, tcp://HOST:PORT, rfc2217://HOST:PORT")


def line(command: argparse.ArgumentParser, json: str = "JSON instead of text", rate: str = "of the bus") -> None:
    """How the bus is spoken to, and how the result is shown."""
    _baudrate(command, rate)
    _patience(command, retries=2, of="a request without answer")
    command.add_argument("--json", action="store_true", help=json)
    _verbose(command)


def scan(command: argparse.ArgumentParser) -> None:
    port(command)
    command.add_argument("--primary", action="store_true", help="look at the addresses 0..250")
    command.add_argument(
        "--secondary",
        nargs="?",
        const=SecondaryAddress("F" * 16),
        type=worded(_mask),
        metavar="MASK",
        help="search by secondary address; F in the mask is any digit. Default: both",
    )
    command.add_argument(
        "--baudrate", type=worded(_rate), default=2400, metavar="BD", help="of the bus; auto tries all; default: 2400"
    )
    _patience(command, retries=0, of="a silent probe, for meters that sleep")
    command.add_argument("--no-nke", action="store_true", help="ask for data at once: for meters that ignore SND_NKE")
    command.add_argument("--exhaustive", action="store_true", help="where meters share an identification: try all")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON instead of a table")
    form.add_argument("--yaml", action="store_true", help="a ready `buses:` block")
    _verbose(command)


def sniff(command: argparse.ArgumentParser) -> None:
    port(command)
    command.add_argument("second", type=_port, nargs="?", metavar="PORT2", help="second adapter: the meters' current")
    _baudrate(command, "of the bus")
    command.add_argument("--seconds", type=duration, metavar="N", help="end after this time; default: at Ctrl-C")
    command.add_argument("--json", action="store_true", help="one JSON document an exchange")


def set_address(command: argparse.ArgumentParser, target: Callable[[str], object]) -> None:
    port(command)
    command.add_argument("old", type=worded(target), metavar="OLD", help="0..250, 8 or 16 digits, 254 with --lone")
    command.add_argument("new", type=worded(_new_address), metavar="NEW", help="1..250")
    command.add_argument("--lone", action="store_true", help="OLD is 254: the meter is the only one on the bus")
    line(command)


def set_baudrate(command: argparse.ArgumentParser) -> None:
    meter(command, worded(_exact))
    command.add_argument("rate", type=int, choices=BAUDRATES, metavar="RATE", help="the new one in Bd, 300 to 38400")
    line(command, rate="that the meter has now")


def set_clock(command: argparse.ArgumentParser, moment: Callable[[str], object]) -> None:
    meter(command, worded(_exact))
    command.add_argument(
        "time", type=worded(moment), nargs="?", metavar="TIME", help="2025-03-30T14:05, or its date alone; default: now"
    )
    command.add_argument(
        "--type",
        type=str.upper,
        choices=("F", "I", "G"),
        help="F: to the minute, I: to the second, G: the date alone; default: that of the meter's own clock",
    )
    command.add_argument("--zone", type=worded(_zone), help="of the meter's clock; default: this computer's")
    command.add_argument("--standard-time", action="store_true", help="for meters that know no summer time")
    line(command)


def reset(command: argparse.ArgumentParser, subcode: Callable[[str], object]) -> None:
    meter(command, worded(_exact))
    command.add_argument(
        "subcode", type=worded(subcode), nargs="?", metavar="SUBCODE", help="two hex digits; default: none at all"
    )
    line(command)


def set_identification(command: argparse.ArgumentParser, secondary: Callable[[str], object]) -> None:
    meter(command, worded(_exact))
    command.add_argument("new", type=worded(secondary), metavar="NEW", help="8 or 16 digits")
    line(command)


def demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=duration, metavar="N", help="end after this time; default: at Ctrl-C")


def _patience(command: argparse.ArgumentParser, retries: int, of: str) -> None:
    command.add_argument(
        "--timeout",
        type=worded(window),
        metavar="N",
        help="seconds to the begin of an answer; default: 330 bits + 50 ms",
    )
    command.add_argument(
        "--retries", type=int, choices=range(3), default=retries, help=f"repetitions of {of}; default: %(default)s"
    )


def _verbose(command: argparse.ArgumentParser) -> None:
    command.add_argument("-v", "--verbose", action="store_true", help="show every frame in hex")


def _mask(text: str) -> SecondaryAddress:
    if set(text.upper()) <= set("0123456789ABCDEF") and len(text) not in (8, 16):
        raise ValueError(f"'{text}' has {len(text)} digits: a mask has 8 or 16, F for any digit (12345FFF)")
    address = parse_address(text)
    if isinstance(address, PrimaryAddress):
        raise ValueError(f"'{text}' is a primary address; a mask has 8 or 16 digits, F for any")  # noqa: TRY004
    return address


def _exact(text: str) -> Address:
    """An address for a write."""
    address = parse_address(text)
    if isinstance(address, SecondaryAddress) and not address.is_exact:
        raise ValueError(f"{text} may be several meters: a write wants an identification without wildcards")
    return address


def _rate(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text not in map(str, BAUDRATES):
        raise ValueError(f"'{text}' is no rate: auto, {', '.join(map(str, BAUDRATES))} are")
    return int(text)


def _new_address(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"'{text}' is no primary address: 1..250 are")
    number = PrimaryAddress(int(text)).number
    if number == 0:
        raise ValueError("0 is the address of meters from the factory, where the next one will be: give 1..250")
    return number


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"'{text}' is no time zone of this computer; Europe/Berlin would be one") from error


def _baudrate(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--baudrate", type=int, choices=BAUDRATES, default=2400, metavar="BD", help=f"{what}; default: %(default)s"
    )


def _port(text: str) -> str:
    return worded(check_port)(text)


def duration(text: str) -> float:
    """Seconds from `30s`, `5m` or a number."""
    return worded(seconds)(text)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"'{text}' is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _to_read(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        whoever = "; one meter alone on the wires: FFFFFFFF" if text.strip() == str(TEST) else ""
        raise ValueError(f"{error}{whoever}") from error


def worded(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The same reader of a word, whose ValueError becomes a sentence of the usage error."""

    def read_word(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_word
