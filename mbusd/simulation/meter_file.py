"""Simulated meters from plain mappings, as a meter file has them (`mbusd simulate --meters FILE`).

Who reads the file and in which format is not known here. meters.example.yaml shows every key.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import get_args

from mbusd.mbus.address import HIGHEST_PRIMARY, SecondaryAddress
from mbusd.mbus.errors import AddressError
from mbusd.simulation.behaviour import RATES, AlarmMemory, Behaviour, FcbMemory, Pages, Refusal, Renewal, Writes
from mbusd.simulation.faults import Fault
from mbusd.simulation.meter_fields import Fields, mapping
from mbusd.simulation.meter_records import records_of, telegrams_of
from mbusd.simulation.simulator import SimulatedMeter, identity
from mbusd.simulation.values import pages

_CONTENT = ("records", "telegrams")
_APPLICATION_KEYS = frozenset((*_CONTENT, "least_pause"))
_IDENTITY_KEYS = ("name", "address", "identification", "manufacturer", "version", "medium", "fabrication_number")
_FLAGS = ("deaf", "answers_nke", "endless", "goes_round")
_SECONDS = (
    *("sleeps_after", "starts_slowly", "rests_for", "late_by", "pauses_inside"),
    *("stores_after", "falls_back_after", "least_pause"),
)
_WORDS = ("renewal", "fcb", "alarm_fcb", "writes", "refusal")
_OTHERS = ("status", "delay", "seed", "faults", "rate", "rates", "read_outs_a_day", "alarm", "class_1", "bit_errors")
METER_KEYS = frozenset(
    (*_IDENTITY_KEYS, *_CONTENT, *_FLAGS, *_SECONDS, *_WORDS, *_OTHERS, "applications", "maker_pages")
)
"""All that can be said of a meter."""

_APPLICATIONS = (0x01, 0xFF)  # subcodes; 00 is the default
_MAKER_CODES = (0xA0, 0xB7)  # CI fields


def meters_from(document: object) -> list[SimulatedMeter]:
    """The meters of a file: a list of mappings, or a mapping with the one key `meters`. Raises ValueError."""
    if isinstance(document, Mapping):
        Fields("file", document).only(frozenset(("meters",)))
        document = document.get("meters")
    if not isinstance(document, list) or not document:
        raise ValueError("meters: a list of meters is wanted, here is none")
    return [meter_from(entry, f"meters[{index}]") for index, entry in enumerate(document)]


def meter_from(entry: object, where: str = "meter") -> SimulatedMeter:
    """A meter from a mapping. Raises ValueError that names the key and what is allowed there.

    Wanted: `identification`, `manufacturer`, `medium`, and `records` or `telegrams` (a list of lists of records). What
    `applications` and `maker_pages` send stands below their code in the same form; how the meter deviates from the
    rules has the names of `Behaviour`.
    """
    fields = Fields(where, mapping(where, entry))
    fields.only(METER_KEYS)
    identification = fields.digits("identification")
    if identification is None:
        raise ValueError(f"{where}.identification: is missing; 8 digits in quotes are wanted")
    try:
        secondary = identity(
            identification,
            fields.text("manufacturer"),
            fields.whole("version", 0, 254, 1),
            fields.whole("medium", 0, 254),
        )
    except AddressError as error:
        raise ValueError(f"{where}.manufacturer: {error}") from error
    try:
        return _meter(fields, secondary)
    except ValueError as error:
        raise error if str(error).startswith(where) else ValueError(f"{where}: {error}") from error


def _meter(fields: Fields, secondary: SecondaryAddress) -> SimulatedMeter:
    applications = list(fields.by_code("applications", *_APPLICATIONS)) if fields.has("applications") else []
    maker_pages = list(fields.by_code("maker_pages", *_MAKER_CODES)) if fields.has("maker_pages") else []
    for _, page in maker_pages:
        page.only(frozenset(("records",)))
    return SimulatedMeter(
        secondary,
        pages(*telegrams_of(fields)),
        primary=fields.whole("address", 0, HIGHEST_PRIMARY) if fields.has("address") else None,
        name=fields.text("name", secondary.digits[:8]),
        fabrication=fields.digits("fabrication_number"),
        status=fields.whole("status", 0, 255, 0),
        delay=fields.seconds("delay", 0.02),
        behaviour=_behaviour(fields, applications),
        faults=deque(_faults(fields)),
        seed=fields.whole("seed", 0, 2**31, 0),
        rate=fields.rate("rate") if fields.has("rate") else None,
        rates=_rates(fields),
        applications=_pages_by_code(applications),
        maker_pages=_pages_by_code(maker_pages),
        alarm=fields.whole("alarm", 0, 255) if fields.has("alarm") else None,
        class_1=pages(records_of(fields, "class_1")) if fields.has("class_1") else None,
    )


def _pages_by_code(codes: Iterable[tuple[int, Fields]]) -> dict[int, Pages]:
    return {code: pages(*telegrams_of(fields)) for code, fields in codes}


def _rates(fields: Fields) -> tuple[int, ...]:
    """What the meter can be switched to: what it lists, its own rate at the least, else every rate of the M-Bus."""
    if not fields.has("rates"):
        return RATES
    rates = tuple(fields.rates("rates"))
    if fields.rate("rate") not in rates:
        raise ValueError(f"{fields.where}.rates: the meter's own rate, {fields.rate('rate')} Bd, is missing")
    return rates


def _behaviour(fields: Fields, applications: list[tuple[int, Fields]]) -> Behaviour:
    usual = Behaviour()
    pauses = {0: fields.seconds("least_pause")} if fields.has("least_pause") else {}
    for code, application in applications:
        application.only(_APPLICATION_KEYS)
        if application.has("least_pause"):
            pauses[code] = application.seconds("least_pause")
    return Behaviour(
        deaf=fields.flag("deaf", default=usual.deaf),
        answers_nke=fields.flag("answers_nke", default=usual.answers_nke),
        endless=fields.flag("endless", default=usual.endless),
        goes_round=fields.flag("goes_round", default=usual.goes_round),
        renewal=fields.choice("renewal", get_args(Renewal), usual.renewal),
        sleeps_after=fields.seconds("sleeps_after") if fields.has("sleeps_after") else None,
        starts_slowly=fields.seconds("starts_slowly", usual.starts_slowly),
        rests_for=fields.seconds("rests_for", usual.rests_for),
        late_by=fields.seconds("late_by", usual.late_by),
        pauses_inside=fields.seconds("pauses_inside", usual.pauses_inside),
        bit_errors=_bit_errors(fields, usual.bit_errors),
        fcb=fields.choice("fcb", get_args(FcbMemory), usual.fcb),
        alarm_fcb=fields.choice("alarm_fcb", get_args(AlarmMemory), usual.alarm_fcb),
        writes=fields.choice("writes", get_args(Writes), usual.writes),
        stores_after=fields.seconds("stores_after", usual.stores_after),
        falls_back_after=fields.seconds("falls_back_after") if fields.has("falls_back_after") else None,
        pauses=pauses,
        read_outs_a_day=fields.whole("read_outs_a_day", 0, 86400) if fields.has("read_outs_a_day") else None,
        refusal=fields.choice("refusal", get_args(Refusal), usual.refusal),
    )


def _bit_errors(fields: Fields, usual: float) -> float:
    rate = fields.number("bit_errors", usual)
    if not 0 <= rate < 1:
        raise ValueError(f"{fields.where}.bit_errors: {rate} is no probability: 0 (none) to less than 1")
    return float(rate)


def _faults(fields: Fields) -> list[Fault]:
    names = {fault.name.lower(): fault for fault in Fault}
    faults = fields.entries("faults") if fields.has("faults") else []
    unknown = [name for name in faults if str(name) not in names]
    if unknown:
        raise ValueError(f"{fields.where}.faults: '{unknown[0]}' is unknown; allowed: {', '.join(names)}")
    return [names[str(name)] for name in faults]
