"""What a profile makes of a meter's telegrams: records and bits by name, the maker's block behind DIF 0F as records.

Bytes stay beside their meaning. Nothing here raises for what a meter sends: what does not fit is left out, or has no
value, and is told as a problem.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from mbusd.light import dataclass
from mbusd.mbus import values
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.named import UNNAMED, Named, without_collisions
from mbusd.mbus.profile import DataField, DataType, Profile, Rule, Show
from mbusd.mbus.records import DATA_FIELDS, Coding, Kind, Record, Value
from mbusd.mbus.telegram import Telegram
from mbusd.mbus.vif import RECORD_ERRORS

MAKER = "mfr_"  # how the tags of the maker's VIFEs begin
REPORTED = "the meter reports: "  # how the problem of a record begins that the meter itself calls bad
_NONE, _RESERVED = "none", "reserved"  # in RECORD_ERRORS


@dataclass(frozen=True, slots=True)
class Understanding:
    """The telegrams of one read-out with what a profile knows of them."""

    telegrams: tuple[Telegram, ...]
    shows: tuple[Show, ...]  # one for each record of all telegrams, in their order
    status: tuple[str, ...]  # of the headers, and of the bits by name that are set
    problems: tuple[str, ...] = ()


def understand(telegrams: Sequence[Telegram], profile: Profile | None) -> Understanding:
    """Name what the profile knows; without one everything stays as it is. Never raises."""
    if profile is None:
        sent = tuple(telegrams)
        words = [word for telegram in sent if telegram.header for word in telegram.header.status_words]
        normal: list[Show] = ["normal" for telegram in sent for _ in telegram.records]
        return Understanding(sent, tuple(normal), tuple(dict.fromkeys(words)))
    problems: list[str] = []
    groups = [_telegram(telegram, profile, problems) for telegram in telegrams]
    flat = iter(without_collisions([named for group in groups for named in group], problems))
    kept = [[named for named in (next(flat) for _ in group) if named is not None] for group in groups]
    understood = [
        replace(telegram, records=tuple(named.record for named in group))
        for telegram, group in zip(telegrams, kept, strict=True)
    ]
    everything = [named for group in kept for named in group]
    set_bits = (word for named in everything for word in named.words)
    status = dict.fromkeys((*_status(telegrams, profile), *set_bits))
    shows = tuple(named.naming.show for named in everything)
    return Understanding(tuple(understood), shows, tuple(status), tuple(dict.fromkeys(problems)))


def _status(telegrams: Sequence[Telegram], profile: Profile) -> Iterator[str]:
    for header in (telegram.header for telegram in telegrams if telegram.header):
        yield from profile.status_words(header.status, fixed=header.signature is None)


def _telegram(telegram: Telegram, profile: Profile, problems: list[str]) -> list[Named]:
    high_first = telegram.frame.ci == 0x76
    named = [understand_record(record, profile, high_first=high_first) for record in telegram.records]
    if telegram.manufacturer_data:
        named += _block(telegram.manufacturer_data, profile, problems)
    return named


def understand_record(sent: Record, profile: Profile | None, *, high_first: bool = False) -> Named:
    """One record as the profile has it, whatever stands beside it in its telegram."""
    if profile is None:
        return Named(sent, sent, UNNAMED)
    record, vib = _without_ignored(sent, profile)
    rule = next((rule for rule in profile.rules if rule.fits(record, vib)), None)
    modifiers = _modifiers(record, vib, profile, rule) if record.modifiers or rule is not None else ()
    if modifiers != record.modifiers:
        record = replace(record, modifiers=modifiers)
    if record.effect == "manufacturer" and not any(word.startswith(MAKER) for word in record.modifiers):
        record = replace(record, effect="")
    if rule is None:
        return Named(sent, record, UNNAMED)
    raw = sent.raw[::-1] if high_first else sent.raw
    return Named(sent, _named(record, raw, rule), rule.naming)


def _without_ignored(record: Record, profile: Profile) -> tuple[Record, bytes]:
    """The record without a last VIFE that is no part of what it is, and its VIB without it.

    Of these, the ones that the standard has for record errors say that there is no value (EN 13757-3 table 18).
    """
    vib = record.vib
    if len(vib) <= _proper(vib) or vib[-1] not in profile.ignored_vifes:
        return record, vib
    tag = f"{MAKER}{vib[-1]:02x}"
    if record.modifiers[-1:] == (tag,):
        record = replace(record, modifiers=record.modifiers[:-1])
        error = RECORD_ERRORS.get(vib[-1], _NONE)
        if error not in (_NONE, _RESERVED):
            record = replace(record, value=None, problem=REPORTED + error.replace("_", " "))
    return record, vib[:-1]


def _proper(vib: bytes) -> int:
    """How many bytes of a VIB are the VIF proper."""
    if vib[:1] == b"\xff":
        return 2
    return 3 if vib[:2] == b"\xfd\xfd" else 2 if vib[:1] in (b"\xfb", b"\xfd", b"\xef") else 1


def _modifiers(record: Record, vib: bytes, profile: Profile, rule: Rule | None) -> tuple[str, ...]:
    """The tags with the maker's VIFEs by name; a rule that names the quantity has no use for nameless ones."""
    names = {f"{MAKER}{code:02x}": name for code, name in profile.vifes}
    tags = list(record.modifiers)
    first = tags[:1] if vib[:1] and vib[0] & 0x7F == 0x7F else []  # behind VIF FF it is the VIF proper
    translated = [*first, *(names.get(tag, tag) for tag in tags[len(first) :])]
    if rule is not None and rule.naming.quantity is not None:
        translated = [tag for tag in translated if not tag.startswith(MAKER)]
    own = () if rule is None else rule.naming.modifiers
    return (*(tag for tag in translated if tag), *own)


def _named(record: Record, raw: bytes, rule: Rule) -> Record:
    naming, place = rule.naming, rule.place
    kind = naming.kind or ("number" if record.kind == "raw" and naming.quantity else record.kind)
    was_error = record.function == "error" and place.function not in (None, "error")
    record = replace(
        record,
        quantity=naming.quantity or record.quantity,
        unit=naming.unit or record.unit,
        function=place.function or record.function,
        storage=record.storage if place.storage is None else place.storage,
        tariff=record.tariff if place.tariff is None else place.tariff,
        subunit=record.subunit if place.subunit is None else place.subunit,
    )
    if was_error:
        return replace(record, kind=kind, value=None, problem="the meter says that the value is not valid")
    if record.problem is not None and record.problem.startswith(REPORTED):
        return replace(record, kind=kind, value=None)
    if kind == record.kind and naming.factor is None:
        return record
    coding, size = DATA_FIELDS[record.dib[0] & 0x0F] if record.dib else ("none", 0)
    if coding != "lvar" and size != len(raw):
        return replace(record, kind=kind, value=None, problem=f"{len(raw)} bytes are not what its DIF announces")
    data_type: DataType | None = _TYPES.get((coding, kind))
    if data_type == "int" and not naming.signed:
        data_type = "uint"
    return _with_value(record, raw, data_type, kind, naming.factor)


def _with_value(record: Record, raw: bytes, data_type: DataType | None, kind: Kind, factor: Decimal | None) -> Record:
    """The record with what its bytes say: exact, or no value and why."""
    convert, sizes = _CONVERSIONS[data_type] if data_type else (None, range(0))
    if convert is None or len(raw) not in sizes:
        problem = f"{len(raw)} bytes of this coding are no {kind}"
        return replace(record, kind=kind, value=None, exponent=None, problem=problem)
    try:
        value = convert(raw)
    except DecodeError as error:
        return replace(record, kind=kind, value=None, problem=error.message)
    if value is None:
        return replace(record, kind=kind, value=None, exponent=None, problem="control characters in a text")
    exponent = None
    if kind == "number" and isinstance(value, int | Decimal):
        value = values.scaled(value, 0, factor, None)
        exponent = None if data_type == "real" else _resolution(factor)
    return replace(record, kind=kind, value=value, exponent=exponent, problem=None)


def _resolution(factor: Decimal | None) -> int:
    """The power of ten of the last digit of an integer times `factor`."""
    return 0 if factor is None else int(factor.normalize().as_tuple().exponent)


_TYPES: Final[dict[tuple[Coding, Kind], DataType]] = {
    ("integer", "number"): "int",
    ("bcd", "number"): "bcd",
    ("real", "number"): "real",
    ("lvar", "text"): "text",
    ("integer", "text"): "text",
    ("bcd", "text"): "digits",
    ("integer", "bits"): "bits",
    ("integer", "date"): "date",
    ("integer", "datetime"): "datetime",
}
"""How data that a DIF codes in some way are read as a kind of value."""
_Conversion = tuple[Callable[[bytes], Value], range]
_CONVERSIONS: Final[dict[DataType, _Conversion]] = {
    "int": (values.signed, range(1, 9)),
    "uint": (values.unsigned, range(1, 9)),
    "bcd": (values.bcd, range(1, 9)),
    "real": (values.real, range(4, 5)),
    "bits": (values.bits, range(1, 9)),
    "text": (values.text, range(1, 256)),
    "digits": (values.identifier, range(1, 9)),
    "date": (values.date_g, range(2, 3)),
    "datetime": (lambda raw: values.datetime_f(raw) if len(raw) == 4 else values.datetime_i(raw), range(4, 7, 2)),
}
"""How the bytes of a type are read, and how many there may be."""
KINDS: Final[dict[DataType, Kind]] = {
    "int": "number",
    "uint": "number",
    "bcd": "number",
    "real": "number",
    "bits": "bits",
    "text": "text",
    "digits": "text",
    "date": "date",
    "datetime": "datetime",
}


def _block(block: bytes, profile: Profile, problems: list[str]) -> Iterator[Named]:
    """The fields of the first layout that fits the maker's block."""
    layout = next((layout for layout in profile.data if layout.fits(block)), None)
    for item in () if layout is None else layout.fields:
        raw = block[item.offset : item.offset + item.length]
        if len(raw) < item.length:
            where = f"bytes {item.offset} to {item.offset + item.length - 1} of the maker's data"
            problems.append(f"{item.naming.quantity}: {where} are not there, {len(block)} bytes were sent")
        else:
            yield understand_field(item, raw)


def understand_field(item: DataField, raw: bytes) -> Named:
    """One field of the maker's block, all of whose bytes are there."""
    naming = item.naming
    bare = Record(
        function="instantaneous",
        storage=0,
        tariff=0,
        subunit=0,
        quantity=naming.quantity or "manufacturer_specific",
        unit=naming.unit,
        kind="raw",
        value=None,
        exponent=None,
        modifiers=naming.modifiers,
        effect="",
        dib=b"",
        vib=b"",
        raw=raw,
    )
    return Named(None, _with_value(bare, raw, item.type, KINDS[item.type], naming.factor), naming)
