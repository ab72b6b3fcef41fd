"""The nouns that the bus side and the sinks share. Nothing here knows M-Bus bytes or MQTT."""

from collections.abc import Callable, Container, Iterable
from dataclasses import field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

from mbusd.exact_json import JsonValue
from mbusd.light import dataclass

Value = int | Decimal | str | date | datetime | None
"""A measured number (exact), a text, a date, a moment; None = the meter says that it has no valid value."""

Kind = Literal["number", "text", "bits", "date", "datetime"]
Function = Literal["instantaneous", "maximum", "minimum", "error"]
Change = Literal["", "found", "silent", "back"]
Show = Literal["normal", "diagnostic", "disabled"]
Effect = Literal["", "as_number", "as_date", "as_duration", "unit", "pulse", "profile", "manufacturer"]
"""What a VIFE made of the quantity: a count, a moment or a duration of it, another unit, a pulse weight …"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a meter is, from its header. `version`, `manufacturer` are missing in the fixed data structure."""

    identification: str  # 8 digits
    manufacturer: str  # three letters, or "0x1234"; "" where not sent
    version: int | None
    medium: int | None
    medium_name: str  # "heat", "water" …
    address: str  # the secondary address, 16 digits; wildcards where a part was not sent


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of a reading under its public key, in the unit that people use."""

    key: str
    quantity: str
    kind: Kind
    value: Value
    unit: str | None  # "kWh", "m³", "°C" …
    decimals: int | None  # what the record's own resolution has in `unit`; None where it has none
    function: Function = "instantaneous"
    storage: int = 0
    tariff: int = 0
    subunit: int = 0
    modifiers: tuple[str, ...] = ()
    effect: Effect = ""
    show: Show = "normal"  # how a profile wants it shown
    is_relabelled: bool = False  # its owner says that it is another quantity than the meter says


class Draft(Protocol):
    """What a reading says while its values are no more than text, as long as nobody asks for more."""

    @property
    def form(self) -> object:
        """One object for all readings of which only the values differ: keys, units, kinds, status, problems stay."""

    def document(self, time: str, keys: Iterable[str]) -> str:
        """The reading as one JSON document, with every key of `keys`."""

    def texts(self, keys: Container[str] | None = None) -> Iterable[tuple[str, str]]:
        """Key and JSON text of each value; or of those under these keys alone."""

    @property
    def status(self) -> tuple[str, ...]: ...
    @property
    def measurements(self) -> tuple[Measurement, ...]: ...
    @property
    def problems(self) -> tuple[str, ...]: ...
    @property
    def telegrams(self) -> tuple[bytes, ...]: ...
    @property
    def model(self) -> str: ...
    @property
    def flags(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """All measurements of one meter at one moment; those of a `draft` are made when somebody looks at them."""

    meter: str
    identity: Identity
    taken_at: datetime  # aware, UTC
    status: tuple[str, ...]  # the header's status byte in words, empty = all is well
    measurements: tuple[Measurement, ...]
    problems: tuple[str, ...] = ()  # what could not be decoded, for a person
    telegrams: tuple[bytes, ...] = ()  # the frames it was made of
    model: str = ""  # in plain words, where a profile knows it
    flags: tuple[str, ...] = ()  # every word that `status` may hold besides those of the standard
    draft: Draft | None = field(default=None, init=False, compare=False, repr=False)  # no part of a `replace`d one

    @classmethod
    def drafted(cls, meter: str, identity: Identity, taken_at: datetime, draft: Draft) -> Self:
        """A reading that asks its draft for everything else as soon as somebody looks at it."""
        reading = cls.__new__(cls)
        _set_meter(reading, meter)
        _set_identity(reading, identity)
        _set_taken_at(reading, taken_at)
        _set_draft(reading, draft)
        return reading

    def called(self, meter: str, identity: Identity) -> "Reading":
        """The same values under another name; still a draft, if it is one."""
        if self.draft is None:
            return replace(self, meter=meter, identity=identity)
        return self.drafted(meter, identity, self.taken_at, self.draft)

    if not TYPE_CHECKING:  # what is not there yet; to type checkers it always is

        def __getattr__(self, name: str) -> object:
            if name not in _IN_DRAFTS:
                raise AttributeError(f"a Reading has no {name}")
            object.__setattr__(self, name, getattr(self.draft, name))
            return object.__getattribute__(self, name)


_IN_DRAFTS: Final = frozenset({"status", "measurements", "problems", "telegrams", "model", "flags"})
_set_meter, _set_identity, _set_taken_at, _set_draft = (  # three times as fast as by name, and frozen all the same
    Reading.__dict__[name].__set__ for name in ("meter", "identity", "taken_at", "draft")
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a meter answered when it was asked for alarms (REQ_UD1); what a bit means is its maker's."""

    meter: str
    taken_at: datetime  # aware, UTC
    code: int = 0  # the alarm byte; 0: nothing to say
    measurements: tuple[Measurement, ...] = ()  # of meters that answer with records instead of the byte
    telegram: bytes = b""  # the frame it was made of

    @property
    def bits(self) -> tuple[int, ...]:
        """The numbers of the bits that are set, from 0."""
        return tuple(bit for bit in range(self.code.bit_length()) if self.code >> bit & 1)

    @property
    def is_raised(self) -> bool:
        """Whether the meter has anything to say."""
        return bool(self.code or self.measurements)


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """What there is to say of a meter besides its values."""

    name: str
    bus: str
    address: str
    interval: str
    identity: Identity | None = None
    last_read: datetime | None = None
    failures: int = 0  # read-outs without an answer since the last good one
    online: bool | None = None  # None: not asked yet
    keys: tuple[tuple[str, str | None, str], ...] = ()  # key, unit, quantity
    has_alarms: bool = False  # it is asked for alarms, too
    implausible: int = 0  # read-outs since the start that were dropped: a counter in them that nothing confirmed


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """Counts since the start of the daemon; `utilisation` is the share of the time that the wire was in use."""

    read_outs: int = 0
    failures: int = 0
    requests: int = 0
    retries: int = 0
    timeouts: int = 0
    noise: int = 0
    reopened: int = 0
    utilisation: float = 0.0
    overload: bool = False  # the schedule asks for more than the wire can carry
    implausible: int = 0  # read-outs that were dropped: a counter in them that nothing confirmed


@dataclass(frozen=True, slots=True)
class ReadingTaken:
    reading: Reading


@dataclass(frozen=True, slots=True)
class MeterChanged:
    """A meter was read, failed, went silent (`change` "silent") or came back ("back")."""

    info: MeterInfo
    change: Change = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class MeterGone:
    """A meter is read no more: it left the configuration, or was forgotten."""

    info: MeterInfo


@dataclass(frozen=True, slots=True)
class BusChanged:
    bus: str
    up: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class AlarmTaken:
    """A meter was asked for alarms; `is_news`: it says something else than the last time."""

    alarm: Alarm
    identity: Identity | None = None
    is_news: bool = False


@dataclass(frozen=True, slots=True)
class BusTroubled:
    """What is wrong with a wire, in words; `code` None: nothing any more."""

    bus: str
    code: str | None
    what: str = ""
    todo: str = ""


@dataclass(frozen=True, slots=True)
class StatisticsTaken:
    bus: str
    statistics: BusStatistics


ScanState = Literal["running", "done", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class ScanChanged:
    """How a scan is getting on, or (`left` 0, `state` not "running") how it has ended."""

    bus: str
    state: ScanState
    done: int  # probes
    left: int  # probes, an estimate
    found: str | None = None  # the meter that the last probe has found
    why: str = ""


Event = ReadingTaken | AlarmTaken | MeterChanged | MeterGone | BusChanged | BusTroubled | StatisticsTaken | ScanChanged
Emit = Callable[[Event], None]
"""Whom the bus side tells what happens."""


@dataclass(frozen=True, slots=True)
class ReadNow:
    """Read one meter before anything that is scheduled; `is_forced`: also beyond its budget."""

    meter: str
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class ReadAll:
    """Read all meters once, before anything that is scheduled; `bus` None: of all buses."""

    bus: str | None = None


ScanMode = Literal["primary", "secondary", "both"]


@dataclass(frozen=True, slots=True)
class Scan:
    """Look for meters on one bus; `is_cancel` ends the one that runs. `bus` None: the only one there is."""

    bus: str | None = None
    mode: ScanMode = "both"
    is_cancel: bool = False


@dataclass(frozen=True, slots=True)
class FoundMeter:
    """A meter that a scan has found, and the address to read it by; None: it has none that is its own alone."""

    address: str | None
    primary: int | None
    identity: Identity | None
    remark: str = ""


ChangeName = Literal["set_address", "set_identification", "set_baudrate", "set_clock", "reset"]


@dataclass(frozen=True, slots=True)
class ChangeMeter:
    """Write to a meter; `value` is the new address, rate, time or subcode as whoever asks has written it."""

    meter: str
    what: ChangeName
    value: str | None = None


@dataclass(frozen=True, slots=True)
class SetInterval:
    """Read a meter, or those of a bus that have no interval of their own, as often until a restart or a reload."""

    interval: str  # as in the configuration
    meter: str | None = None
    bus: str | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """Read a meter no more that a scan has found."""

    meter: str


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode one telegram; no bus is needed."""

    hex: str


LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class SetLogLevel:
    """Tell more, or less, until a restart or a reload."""

    level: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again and do what has changed in it."""


Command = ReadNow | ReadAll | Scan | ChangeMeter | SetInterval | Forget | Decode | SetLogLevel | Reload


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command."""

    error: str | None = None
    readings: tuple[Reading, ...] = field(default=())
    failed: dict[str, str] = field(default_factory=dict)  # meter → why
    found: tuple[FoundMeter, ...] | None = None  # of a scan
    remarks: tuple[str, ...] = ()
    written: JsonValue = None  # what a write did, and what of it was verified
    data: JsonValue = None  # the answer itself, where it is a document
    took: float | None = None  # seconds
