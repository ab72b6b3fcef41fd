"""What a command (SND_UD, CI 51) asks of a simulated meter, and when it takes effect. Pure (EN 13757-3 cl. 8)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

HIGHEST_ADDRESS = 250


@dataclass(frozen=True, slots=True)
class NewAddress:
    """`01 7A n`: the primary address."""

    number: int


@dataclass(frozen=True, slots=True)
class NewIdentification:
    """`0C 79` with four bytes, or `07 79` with all eight of the secondary address, as they stand in a header."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NewClock:
    """`04 6D`, `06 6D` or `02 6C` (types F, I, G): what the clock is to show."""

    shown: datetime


@dataclass(frozen=True, slots=True)
class Nothing:
    """A record that the meter acknowledges and has no use for."""


@dataclass(frozen=True, slots=True)
class Impossible:
    """A record that the meter knows, with a value that it cannot have."""


Wish = NewAddress | NewIdentification | NewClock | Nothing | Impossible


def wish(data: bytes, shown: datetime) -> Wish:
    """What the first record asks; `shown` is what the meter's clock shows now."""
    body = data[2:]
    match data[:2]:
        case b"\x01\x7a":
            return NewAddress(body[0]) if len(body) == 1 and body[0] <= HIGHEST_ADDRESS else Impossible()
        case b"\x0c\x79" if len(body) == 4 and body.hex().isdecimal():
            return NewIdentification(body)
        case b"\x07\x79" if len(body) == 8 and body[:4].hex().isdecimal():
            return NewIdentification(body)
        case b"\x0c\x79" | b"\x07\x79":
            return Impossible()
    clock = _clock(data[:2], body, shown)
    return Nothing() if clock is None else NewClock(clock)


def _clock(head: bytes, body: bytes, shown: datetime) -> datetime | None:
    """The time that a record sets, None where it is none."""
    second, minute, hour = 0, shown.minute, shown.hour
    if head == b"\x04\x6d" and len(body) == 4 and not body[0] & 0x80:
        minute, hour, day = body[0] & 0x3F, body[1] & 0x1F, body[2:]
    elif head == b"\x06\x6d" and len(body) == 6 and not body[1] & 0x80:
        second, minute, hour, day = body[0] & 0x3F, body[1] & 0x3F, body[2] & 0x1F, body[3:5]
    elif head == b"\x02\x6c" and len(body) == 2:
        second, day = shown.second, body
    else:
        return None
    year = day[0] >> 5 | (day[1] >> 4) << 3
    if year > 99:
        return None
    try:
        return datetime(2000 + year, day[1] & 0x0F, day[0] & 0x1F, hour, minute, second, tzinfo=shown.tzinfo)
    except ValueError:
        return None


@dataclass(slots=True)
class Stores:
    """Commands that were acknowledged, each with the second at which it takes effect."""

    _waiting: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def put(self, seconds: float, after: float, effect: Callable[[], None]) -> None:
        """A command that came at `seconds` takes effect so long after it, 0 at once."""
        self._waiting.append((seconds + after, effect))
        self.take_effect(seconds)

    def take_effect(self, seconds: float) -> None:
        """Do what is due."""
        due = [effect for at, effect in self._waiting if at <= seconds]
        self._waiting = [(at, effect) for at, effect in self._waiting if at > seconds]
        for effect in due:
            effect()
