"""How meters differ from the standard, as rows: who (manufacturer, version, medium) and how it wants to be asked.

Only what a maker's manual or several independent reports say stands here, and only what harms no other meter of that
maker. What a single user has seen, and what takes a choice, belongs into that user's configuration, which goes before
every row.
"""

from dataclasses import field, replace
from typing import Literal

from mbusd.light import dataclass
from mbusd.mbus.frames import LongFrame, ShortFrame

Nke = Literal["auto", "always", "never"]
"""When a read-out by primary address begins with SND_NKE: where the state of the link is unknown, always, or never."""


@dataclass(frozen=True, slots=True)
class Step:
    """One SND_UD: CI field and data. An application reset is CI 50 with no data or one subcode."""

    ci: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A whole frame that is sent as it stands, to whomever its A field means. From 255 nobody answers."""

    frame: ShortFrame | LongFrame


@dataclass(frozen=True, slots=True)
class Wake:
    """What rouses a sleeping interface before each request: `count` bytes of 55h, then a pause in seconds."""

    count: int
    pause: float


@dataclass(frozen=True, slots=True)
class Manner:
    """How each single request to a meter is made. None: as the bus does it."""

    window: float | None = None  # seconds from the end of transmission to the latest begin of the answer
    pause: float = 0.0  # seconds of silence before each request, at least
    wake: Wake | None = None
    baudrate: int | None = None  # the meter's own rate, where it is not the bus's
    shortest_window: float = 0.0  # seconds; what a row says of a slow meter never shortens the window of the bus


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a read-out of a meter consists of."""

    nke: Nke = "auto"
    before: tuple[Step | RawFrame, ...] = ()  # sent before the plain request
    is_plain: bool = True  # the plain REQ_UD2 is asked at all
    pages: tuple[Step | RawFrame, ...] = ()  # further requests, answered with data instead of E5, or by data after E5
    manner: Manner = field(default_factory=Manner)


@dataclass(frozen=True, slots=True)
class Quirk:
    """One row: the meters it is about, what is different, and who says so. None matches anything."""

    manufacturer: str
    version: int | None
    media: frozenset[int] | None
    source: str
    nke: Nke | None = None
    window: float | None = None
    rest: float | None = None  # seconds between two read-outs that the meter or its battery asks for
    advice: str = ""  # what a person should know


HEAT = frozenset({0x04, 0x0A, 0x0B, 0x0C, 0x0D})
ELECTRICITY = frozenset({0x02})

MULTICAL_302 = 0x30  # version

QUIRKS: tuple[Quirk, ...] = (
    Quirk("KAM", None, HEAT, "driver pages of Multical III, 401, 601, 801", window=1.0),
    Quirk(
        "KAM", MULTICAL_302, HEAT, "manual Multical 302, p. 64", rest=3600, advice="5 minutes halve its battery's life"
    ),
    Quirk("ABB", None, ELECTRICITY, "manual 2CMC48001M0201, p. 183", nke="always"),
    Quirk("ELS", None, HEAT, "manual F96 Plus, p. 17", rest=180, advice="on battery it refuses quicker read-outs"),
    Quirk("LSE", None, None, "A6V10816676", rest=1920, advice="it delivers data 5 or 45 times a day, by type"),
    Quirk("QDS", None, None, "A6V10816676", rest=1920, advice="it delivers data 5 or 45 times a day, by type"),
    Quirk("IST", None, HEAT, "sensonic 3", rest=4140, advice="its full telegram comes every 69 minutes only"),
    Quirk("LUG", None, HEAT, "maker's instructions T550", rest=600, advice="quicker read-outs want its D cell"),
    Quirk("EFE", None, None, "manual SensoStar 2, p. 9", advice="read-outs a day fall with the meters on the bus"),
    Quirk("MAD", None, HEAT, "manual microCLIMA, p. 9", advice="read-outs a day fall with the meters on the bus"),
    Quirk("SEN", None, HEAT, "manual PolluStat", rest=120, advice="on battery its values are renewed every 120 s"),
)


def for_meter(manufacturer: str, version: int | None, medium: int | None) -> tuple[Quirk, ...]:
    """The rows about a meter, in the order of the table."""
    return tuple(
        quirk
        for quirk in QUIRKS
        if quirk.manufacturer == manufacturer
        and quirk.version in (None, version)
        and (quirk.media is None or medium in quirk.media)
    )


def recipe_for(chosen: Recipe, quirks: tuple[Quirk, ...]) -> Recipe:
    """The recipe of a meter: what its owner chose, and what the rows say where the owner left the default."""
    manner = chosen.manner
    nke = chosen.nke
    for quirk in quirks:
        if nke == "auto" and quirk.nke is not None:
            nke = quirk.nke
        if manner.window is None and quirk.window is not None:
            manner = replace(manner, shortest_window=max(manner.shortest_window, quirk.window))
    return replace(chosen, nke=nke, manner=manner)
