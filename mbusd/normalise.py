"""From telegrams to readings and alarms: public keys, units for people, zones; what nobody can use or see is left out.

The keys are a contract: topics, `unique_id`s and dashboards hang on them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache, partial

from mbusd import model
from mbusd.form import Filled
from mbusd.lesson import Lesson
from mbusd.mbus.alarms import AlarmAnswer
from mbusd.mbus.frames import LongFrame, encode
from mbusd.mbus.media import medium_name
from mbusd.mbus.profile import Profile, Show
from mbusd.mbus.records import Record
from mbusd.mbus.telegram import Header, Telegram, header_of
from mbusd.mbus.understanding import understand
from mbusd.mbus.vif import SECRET
from mbusd.recognition import forms_of
from mbusd.user_units import in_user_unit

_COUNTERS = frozenset({"energy", "reactive_energy", "apparent_energy", "volume", "mass"})
_INTEGERS = frozenset({1, 2, 3, 4, 6, 7})  # data fields of the DIF
_PLAIN_TEXT = {"%RH": ("relative_humidity", "%"), "°C": ("temperature", "degC")}  # units that say what is measured
_UNKNOWN_UNIT = frozenset({"non_metric", "relative_deviation"})  # the table's unit is not the value's
_ALARM = 0x71  # CI field of the alarm byte
_LONG = 0x72  # CI field of records behind a long header
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
    what = _understood(record).quantity, record.modifiers, record.function
    return _base_key_of(*what, record.storage, record.tariff, record.subunit)


@lru_cache(maxsize=4096)
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
    forms = forms_of(telegrams, zone, profile)
    if forms is not None:
        for form in forms.known:
            values = form.values(telegrams)
            if values is not None:
                who = _sender(telegrams, identity, profile)
                moment = taken_at if taken_at.tzinfo is UTC else taken_at.astimezone(UTC)
                return model.Reading.drafted(meter, who, moment, Filled(form, values, telegrams))
    lesson = _whole(meter, telegrams, taken_at, zone, identity, profile)
    if forms is not None:
        forms.learn(lesson)
    return lesson.taken


def reading_whole(
    meter: str,
    telegrams: Sequence[Telegram],
    taken_at: datetime,
    zone: tzinfo | None = None,
    identity: model.Identity | None = None,
    profile: Profile | None = None,
) -> model.Reading:
    """As `reading`, made record by record whatever was seen before."""
    return _whole(meter, telegrams, taken_at, zone, identity, profile).taken


def _whole(
    meter: str,
    telegrams: Sequence[Telegram],
    taken_at: datetime,
    zone: tzinfo | None,
    identity: model.Identity | None,
    profile: Profile | None,
) -> Lesson:
    known = understand(telegrams, profile)
    records = [record for telegram in known.telegrams for record in telegram.records]
    named = list(zip(keys(records), records, strict=True))
    taken = model.Reading(
        meter=meter,
        identity=_sender(telegrams, identity, profile),
        taken_at=taken_at.astimezone(UTC),
        status=known.status,
        measurements=tuple(_measurements(named, known.shows, zone)),
        problems=(*known.problems, *_problems(known.telegrams, named)),
        telegrams=tuple(encode(telegram.frame) for telegram in telegrams),
        model="" if profile is None else profile.name,
        flags=() if profile is None else profile.words,
    )
    measure = partial(_measurement, zone=zone)
    return Lesson(telegrams, known, [key for key, _ in named], taken, profile, measure)


def _sender(telegrams: Sequence[Telegram], identity: model.Identity | None, profile: Profile | None) -> model.Identity:
    """Who has sent the telegrams by their headers, else `identity`."""
    for telegram in telegrams:
        frame = telegram.frame
        if telegram.layout is not None and frame.ci == _LONG:
            return _measuring(_identity(frame.data[:8]), profile)
        found = identity_of(telegram.header) if telegram.header is not None else None
        if found is not None:
            return _measuring(found, profile)
    return _measuring(identity or _NOBODY, profile)


@lru_cache(maxsize=4096)
def _identity(sender: bytes) -> model.Identity:
    """Of the first eight bytes of a long header."""
    header = header_of(LongFrame(0x08, 0, _LONG, sender + bytes(4)))
    return (identity_of(header) if header is not None else None) or _NOBODY


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
    for (key, record), show in zip(named, shows, strict=True):
        measurement = _measurement(key, record, show, zone)
        if measurement is not None:
            yield measurement


def _measurement(key: str, sent: Record, show: Show, zone: tzinfo | None) -> model.Measurement | None:
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
        number = value if isinstance(value, int | Decimal) and not _is_doubtful(record) else None
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
