"""From telegrams to readings and alarms: public keys, units for people, zones; what nobody can use or see is left out.

The keys are a contract: topics, `unique_id`s and dashboards hang on them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal

from mbusd import model
from mbusd.mbus.alarms import AlarmAnswer
from mbusd.mbus.frames import encode
from mbusd.mbus.media import medium_name
from mbusd.mbus.profile import Profile, Show
from mbusd.mbus.records import Record
from mbusd.mbus.telegram import Header, Telegram
from mbusd.mbus.understanding import understand
from mbusd.mbus.vif import SECRET
from mbusd.units import to_user

_COUNTERS = frozenset({"energy", "reactive_energy", "apparent_energy", "volume", "mass"})
_INTEGERS = frozenset({1, 2, 3, 4, 6, 7})  # data fields of the DIF
_PLAIN_TEXT = {"%RH": ("relative_humidity", "%"), "°C": ("temperature", "degC")}  # units that say what is measured
_UNKNOWN_UNIT = frozenset({"non_metric", "relative_deviation"})  # the table's unit is not the value's
_ALARM = 0x71  # CI field of the alarm byte
_NOBODY = model.Identity("", "", None, None, "unknown", "F" * 16)


def keys(records: Sequence[Record]) -> list[str]:
    """The public key of each record: what it is, never where it stood; `_2`, `_3` … for what is still equal."""
    taken: set[str] = set()
    result = []
    for record in records:
        base = _base_key(record)
        key, occurrence = base, 1
        while key in taken:
            occurrence += 1
            key = f"{base}_{occurrence}"
        taken.add(key)
        result.append(key)
    return result


def _base_key(record: Record) -> str:
    words = [_understood(record).quantity, *record.modifiers]
    if record.function != "instantaneous":
        words.append(record.function)
    for name, number in (("tariff", record.tariff), ("subunit", record.subunit), ("storage", record.storage)):
        if number:
            words.append(f"{name}_{number}")
    return re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_") or "value"


def _understood(record: Record) -> Record:
    """A plain text unit that everybody understands makes the record one of a proper quantity."""
    if record.quantity != "plain_text_unit" or record.unit not in _PLAIN_TEXT:
        return record
    quantity, unit = _PLAIN_TEXT[record.unit]
    return replace(record, quantity=quantity, unit=unit)


def identity_of(header: Header) -> model.Identity | None:
    """Who sent it; None for a short header. Parts that were not sent are wildcards in the address."""
    if header.identification is None:
        return None
    code = 0xFFFF if header.manufacturer_code is None else header.manufacturer_code
    version, medium = (0xFF if part is None else part for part in (header.version, header.medium))
    return model.Identity(
        identification=header.identification,
        manufacturer=header.manufacturer or "",
        version=header.version,
        medium=header.medium,
        medium_name="unknown" if header.medium is None else medium_name(header.medium),
        address=f"{header.identification}{code.to_bytes(2, 'little').hex()}{version:02x}{medium:02x}".upper(),
    )


def reading(
    meter: str,
    telegrams: Sequence[Telegram],
    taken_at: datetime,
    zone: tzinfo | None = None,
    identity: model.Identity | None = None,
    profile: Profile | None = None,
) -> model.Reading:
    """All telegrams of one read-out as one reading.

    `zone` is that of the meter's clock; without it, its times stay naive. `identity` stands in where no header says
    who answered (CI 78, 7A). `profile`: what is known of such meters.
    """
    known = understand(telegrams, profile)
    records = [record for telegram in known.telegrams for record in telegram.records]
    named = list(zip(keys(records), records, strict=True))
    headers = [telegram.header for telegram in telegrams if telegram.header]
    return model.Reading(
        meter=meter,
        identity=_measuring(next(filter(None, map(identity_of, headers)), identity or _NOBODY), profile),
        taken_at=taken_at.astimezone(UTC),
        status=known.status,
        measurements=tuple(_measurements(named, known.shows, zone)),
        problems=(*known.problems, *_problems(known.telegrams, named)),
        telegrams=tuple(encode(telegram.frame) for telegram in telegrams),
        model="" if profile is None else profile.name,
        flags=() if profile is None else profile.words,
    )


def _measuring(identity: model.Identity, profile: Profile | None) -> model.Identity:
    """What the meter measures by its profile, whatever its header says."""
    if profile is None or profile.medium is None:
        return identity
    return replace(identity, medium=profile.medium, medium_name=medium_name(profile.medium))


def alarm_of(
    meter: str,
    answer: AlarmAnswer,
    taken_at: datetime,
    zone: tzinfo | None = None,
    identity: model.Identity | None = None,
) -> model.Alarm:
    """What a meter said when it was asked for alarms; one without a name goes by its secondary address.

    `zone` and `identity` as for a reading.
    """
    telegram = answer.telegram
    moment = taken_at.astimezone(UTC)
    said = identity_of(telegram.header) if telegram is not None and telegram.header is not None else None
    who = said or identity
    name = meter or (who.address if who is not None else "")
    if telegram is None:
        return model.Alarm(name, moment)
    frame = encode(telegram.frame)
    if telegram.frame.ci == _ALARM:
        return model.Alarm(name, moment, int.from_bytes(telegram.frame.data, "little"), telegram=frame)
    named = list(zip(keys(telegram.records), telegram.records, strict=True))
    shows = understand([telegram], None).shows
    return model.Alarm(name, moment, measurements=tuple(_measurements(named, shows, zone)), telegram=frame)


def _measurements(
    named: Sequence[tuple[str, Record]], shows: Sequence[Show], zone: tzinfo | None
) -> Iterator[model.Measurement]:
    for (key, sent), show in zip(named, shows, strict=True):
        record = _understood(sent)
        kind = record.kind
        if kind == "raw" or record.quantity in SECRET:
            continue
        value, unit, decimals = _user_value(record, zone)
        yield model.Measurement(
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
        number = value if isinstance(value, int | Decimal) and not _is_doubtful(record) else None
        if not _UNKNOWN_UNIT.isdisjoint(record.modifiers):
            return number, None, None
        user = to_user(number, record.quantity, record.unit, record.exponent)
        return user.value, user.unit, user.decimals
    if isinstance(value, datetime) and zone is not None:
        return _in_zone(value, zone, summer_time=record.summer_time), None, None
    if isinstance(value, str):
        return value.strip(" \0\t\r\n") or None, None, None
    if record.kind == "bits" and isinstance(value, int):
        return f"{value:0{max(2, 2 * len(record.raw))}X}", None, None
    return (None if isinstance(value, bytes) else value), None, None


def _is_doubtful(record: Record) -> bool:
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


def _problems(telegrams: Sequence[Telegram], named: Sequence[tuple[str, Record]]) -> Iterator[str]:
    """For a person; the bytes of a secret are never told."""
    for telegram in telegrams:
        if telegram.encrypted:
            yield "the telegram is encrypted: it has no readable values"
        if telegram.error:
            yield str(telegram.error)
    for key, record in named:
        if record.quantity in SECRET:
            continue
        where = f"{key} (DIB {record.dib.hex().upper()}, VIB {record.vib.hex().upper()})"
        if record.problem:
            yield f"{where}: {record.problem}"
        elif _is_doubtful(record):
            yield f"{where}: a counter of -1 (all bits set) is taken for no value"
