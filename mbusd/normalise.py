"""From telegrams to readings and alarms: public keys, units for people, zones; what nobody can use or see is left out.

The keys are a contract: topics, `unique_id`s and dashboards hang on them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from mbusd import model
from mbusd.mbus.alarms import AlarmAnswer
from mbusd.mbus.frames import LongFrame, encode
from mbusd.mbus.media import medium_name
from mbusd.mbus.profile import Profile, Show
from mbusd.mbus.records import Record
from mbusd.mbus.telegram import Header, Telegram, header_of
from mbusd.mbus.understanding import understand
from mbusd.values.measures import keys, measurement, problem_of
from mbusd.values.recognition import ENCRYPTED, forms_of

MOST_IDENTITIES = 1024  # of meters that are remembered

_ALARM = 0x71  # CI field of the alarm byte
_LONG = 0x72  # CI field of records behind a long header
_NOBODY = model.Identity("", "", None, None, "unknown", "F" * 16)


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
    draft = None if forms is None else forms.draft(telegrams)
    if draft is None:
        return reading_whole(meter, telegrams, taken_at, zone, identity, profile)
    who = _sender(telegrams, identity, profile)
    moment = taken_at if taken_at.tzinfo is UTC else taken_at.astimezone(UTC)
    return model.Reading.drafted(meter, who, moment, draft)


def reading_whole(
    meter: str,
    telegrams: Sequence[Telegram],
    taken_at: datetime,
    zone: tzinfo | None = None,
    identity: model.Identity | None = None,
    profile: Profile | None = None,
) -> model.Reading:
    """As `reading`, made record by record whatever was seen before."""
    known = understand(telegrams, profile)
    records = [record for telegram in known.telegrams for record in telegram.records]
    named = list(zip(keys(records), records, strict=True))
    return model.Reading(
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


def _sender(telegrams: Sequence[Telegram], identity: model.Identity | None, profile: Profile | None) -> model.Identity:
    """Who has sent the telegrams by their headers, else `identity`; what it measures is what its profile says."""
    medium = None if profile is None else profile.medium
    for telegram in telegrams:
        frame = telegram.frame
        if telegram.layout is not None and frame.ci == _LONG:
            return _identity(frame.data[:8], medium)
        found = identity_of(telegram.header) if telegram.header is not None else None
        if found is not None:
            return _measuring(found, medium)
    return _measuring(identity or _NOBODY, medium)


@lru_cache(maxsize=MOST_IDENTITIES)
def _identity(sender: bytes, medium: int | None) -> model.Identity:
    """Of the first eight bytes of a long header."""
    header = header_of(LongFrame(0x08, 0, _LONG, sender + bytes(4)))
    return _measuring((identity_of(header) if header is not None else None) or _NOBODY, medium)


def _measuring(identity: model.Identity, medium: int | None) -> model.Identity:
    return identity if medium is None else replace(identity, medium=medium, medium_name=medium_name(medium))


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
        item = measurement(key, record, show, zone)
        if item is not None:
            yield item


def _problems(telegrams: Sequence[Telegram], named: Sequence[tuple[str, Record]]) -> Iterator[str]:
    """For a person; the bytes of a secret are never told."""
    for telegram in telegrams:
        if telegram.encrypted:
            yield ENCRYPTED
        if telegram.error:
            yield str(telegram.error)
    for key, record in named:
        problem = problem_of(record)
        if problem is not None:
            yield f"{key} {problem}"
