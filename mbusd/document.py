"""One telegram as the JSON document of `mbusd decode --json`: the bytes and what they say, side by side."""

import re
from collections.abc import Sequence
from datetime import datetime

from mbusd.exact_json import JsonValue
from mbusd.mbus import telegram
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import Frame, LongFrame, ShortFrame, parse
from mbusd.mbus.media import medium_name
from mbusd.mbus.records import Record
from mbusd.mbus.telegram import Header, Telegram
from mbusd.values.measures import keys

_BETWEEN = re.compile(r"[\s:,;_-]+|0[xX]")
_TYPE_F = 4  # bytes of a date and time without seconds


def document(frame_bytes: bytes) -> dict[str, JsonValue]:
    """The document of one frame; a bad one has `error`, with the records before the trouble still listed.

    E5, A2 and short frames are good frames that say nothing: no error, no header, no records, `ci` null (and control
    and address too, where the frame has none).
    """
    try:
        frame = parse(frame_bytes)
    except DecodeError as error:
        return _empty(None) | {"error": _error(error)}
    if not isinstance(frame, LongFrame):
        return _empty(frame)
    try:
        return _telegram(telegram.decode(frame))
    except DecodeError as error:
        return _empty(frame) | {"error": _error(error)}


def document_of(text: str) -> dict[str, JsonValue]:
    """The document of one frame in hex, however its bytes are set apart."""
    try:
        return document(bytes_of(text))
    except DecodeError as error:
        return refusal(error)


def bytes_of(text: str) -> bytes:
    """The bytes that are written in hex. Raises DecodeError."""
    digits = _BETWEEN.sub("", text)
    try:
        return bytes.fromhex(digits)
    except ValueError:
        wrong = next((i for i, digit in enumerate(digits) if digit not in "0123456789abcdefABCDEF"), None)
        if wrong is None:
            raise DecodeError("hex", f"{len(digits)} hex digits are no whole bytes", len(digits) // 2) from None
        raise DecodeError("hex", f"'{digits[wrong]}' is no hex digit", wrong // 2) from None


def _empty(frame: Frame | None) -> dict[str, JsonValue]:
    return {
        "error": None,
        "frame": None if frame is None else _frame(frame),
        "header": None,
        "records": [],
        "manufacturer_data": None,
        "more_records_follow": False,
        "encrypted": False,
    }


def _telegram(said: Telegram) -> dict[str, JsonValue]:
    return {
        "error": None if said.error is None else _error(said.error),
        "frame": _frame(said.frame),
        "header": None if said.header is None else _header(said.header),
        "records": [_record(key, record) for key, record in zip(keys(said.records), said.records, strict=True)],
        "manufacturer_data": None if said.manufacturer_data is None else _hex(said.manufacturer_data),
        "more_records_follow": said.more_follows,
        "encrypted": said.encrypted,
    }


def _error(error: DecodeError) -> dict[str, JsonValue]:
    return {
        "code": error.code,
        "message": error.message,
        "offset": error.offset,
        "application_error": error.application_error,
    }


def _frame(frame: Frame) -> dict[str, JsonValue]:
    match frame:
        case LongFrame(control, address, ci):
            return {"control": control, "address": address, "ci": ci}
        case ShortFrame(control, address):
            return {"control": control, "address": address, "ci": None}
        case _:
            return {"control": None, "address": None, "ci": None}


def _header(header: Header) -> dict[str, JsonValue]:
    return {
        "manufacturer": header.manufacturer,
        "id": header.identification,
        "version": header.version,
        "medium": header.medium,
        "medium_name": None if header.medium is None else medium_name(header.medium),
        "access_number": header.access_number,
        "status": header.status,
        "signature": header.signature,
    }


def _record(key: str, record: Record) -> dict[str, JsonValue]:
    return {
        "function": record.function,
        "storage": record.storage,
        "tariff": record.tariff,
        "subunit": record.subunit,
        "quantity": record.quantity,
        "unit": record.unit or None,
        "value": _value(record),
        "modifiers": list(record.modifiers),
        "key": key,
        "dib": _hex(record.dib),
        "vib": _hex(record.vib),
        "raw": _hex(record.raw),
        "problem": record.problem,
    }


def _value(record: Record) -> JsonValue:
    value = record.value
    if isinstance(value, bytes):
        return _hex(value)
    if isinstance(value, datetime) and len(record.raw) == _TYPE_F:
        return value.isoformat(timespec="minutes")
    return value


def _hex(data: bytes) -> str:
    return data.hex().upper()


def merged(telegrams: Sequence[Telegram]) -> dict[str, JsonValue]:
    """One read-out in the same form: the first telegram's frame and header, all records under one set of keys."""
    records = [record for said in telegrams for record in said.records]
    rest = b"".join(said.manufacturer_data or b"" for said in telegrams)
    return _telegram(telegrams[0]) | {
        "error": next((_error(said.error) for said in telegrams if said.error), None),
        "records": [_record(key, record) for key, record in zip(keys(records), records, strict=True)],
        "manufacturer_data": _hex(rest) or None,
        "more_records_follow": telegrams[-1].more_follows,
    }


def refusal(error: DecodeError) -> dict[str, JsonValue]:
    """The document of something that is not even bytes."""
    return _empty(None) | {"error": _error(error)}
