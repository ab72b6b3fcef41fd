"""One record to one measurement: its public key, value and unit for people; what nobody can use or see is left out.

The keys are a contract: topics, `unique_id`s and dashboards hang on them. Pure.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache

from mbusd import model
from mbusd.mbus.profile import Show
from mbusd.mbus.records import Record
from mbusd.mbus.vif import SECRET
from mbusd.values.user_units import in_user_unit

_COUNTERS = frozenset({"energy", "reactive_energy", "apparent_energy", "volume", "mass"})
_INTEGERS = frozenset({1, 2, 3, 4, 6, 7})  # data fields of the DIF
_PLAIN_TEXT = {"%RH": ("relative_humidity", "%"), "°C": ("temperature", "degC")}  # units that say what is measured
_UNKNOWN_UNIT = frozenset({"non_metric", "relative_deviation"})  # the table's unit is not the value's


def keys(records: Sequence[Record]) -> list[str]:
    """The public key of each record: what it is, never where it stood; `_2`, `_3` … for what is still equal."""
    taken: set[str] = set()
    result = []
    for record in records:
        base = base_key(record)
        key, occurrence = base, 1
        while key in taken:
            occurrence += 1
            key = f"{base}_{occurrence}"
        taken.add(key)
        result.append(key)
    return result


def base_key(record: Record) -> str:
    """The key of a record as the only one of its name; it does not hang on its data."""
    what = _understood(record).quantity, record.modifiers, record.function
    return _base_key_of(*what, record.storage, record.tariff, record.subunit)


@lru_cache(maxsize=1024)
def _base_key_of(
    quantity: str, modifiers: tuple[str, ...], function: str, storage: int, tariff: int, subunit: int
) -> str:
    words = [quantity, *modifiers]
    if function != "instantaneous":
        words.append(function)
    for name, number in (("tariff", tariff), ("subunit", subunit), ("storage", storage)):
        if number:
            words.append(f"{name}_{number}")
    return re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_") or "value"


def _understood(record: Record) -> Record:
    """A plain text unit that everybody understands makes the record one of a proper quantity."""
    if record.quantity != "plain_text_unit" or record.unit not in _PLAIN_TEXT:
        return record
    quantity, unit = _PLAIN_TEXT[record.unit]
    return replace(record, quantity=quantity, unit=unit)


def measurement(key: str, sent: Record, show: Show, zone: tzinfo | None) -> model.Measurement | None:
    """What a record measures; None of raw data and secrets."""
    record = _understood(sent)
    kind = record.kind
    if kind == "raw" or record.quantity in SECRET:
        return None
    value, unit, decimals = _user_value(record, zone)
    return model.Measurement(
        key=key,
        quantity=record.quantity,
        kind=kind,
        value=value,
        unit=unit,
        decimals=decimals,
        function=record.function,
        storage=record.storage,
        tariff=record.tariff,
        subunit=record.subunit,
        modifiers=record.modifiers,
        effect=record.effect,
        show=show,
    )


def _user_value(record: Record, zone: tzinfo | None) -> tuple[model.Value, str | None, int | None]:
    value = record.value
    if record.kind == "number":
        number = value if isinstance(value, int | Decimal) and not is_doubtful(record) else None
        if not _UNKNOWN_UNIT.isdisjoint(record.modifiers):
            return number, None, None
        return in_user_unit(number, record.quantity, record.unit, record.exponent)
    if isinstance(value, datetime) and zone is not None:
        return _in_zone(value, zone, summer_time=record.summer_time), None, None
    if isinstance(value, str):
        return value.strip(" \0\t\r\n") or None, None, None
    if record.kind == "bits" and isinstance(value, int):
        return f"{value:0{max(2, 2 * len(record.raw))}X}", None, None
    return (None if isinstance(value, bytes) else value), None, None


def is_doubtful(record: Record) -> bool:
    """A counter of all ones is -1 by type B; meters that send it mean "no value"."""
    return (
        record.quantity in _COUNTERS
        and not record.effect
        and (not record.dib or record.dib[0] & 0x0F in _INTEGERS)  # the fixed data structure has no DIB
        and set(record.raw) == {0xFF}
        and record.value is not None
    )


def _in_zone(moment: datetime, zone: tzinfo, *, summer_time: bool) -> datetime:
    """The hour that comes twice (or never) is told apart by the meter's summer time flag."""
    candidates = [moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    choose = max if summer_time else min
    return choose(candidates, key=lambda candidate: candidate.utcoffset() or timedelta(0))


def problem_of(record: Record) -> str | None:
    """What is wrong with a record, for a person; the bytes of a secret are never told."""
    if record.problem is None and not is_doubtful(record):
        return None
    if record.quantity in SECRET:
        return None
    what = record.problem or "a counter of -1 (all bits set) is taken for no value"
    return f"(DIB {record.dib.hex().upper()}, VIB {record.vib.hex().upper()}): {what}"
