"""The state of a meter, one JSON document: time, status, and every value by its key. Pure.

A time that cannot be right is null: the clock of the machine was not set when the meter was read.
"""

from collections.abc import Iterable
from datetime import datetime

from mbusd import clock, exact_json
from mbusd.exact_json import JsonValue
from mbusd.model import Reading


def state(reading: Reading, keys: Iterable[str] = ()) -> str:
    """The document of a reading; every key of `keys` is there, null where it was not sent."""
    time = utc(reading.taken_at)
    if reading.draft is not None and time is not None:
        return reading.draft.document(time, keys)
    values: dict[str, JsonValue] = {item.key: item.value for item in reading.measurements}
    document = {"time": time, "status": list(reading.status), **dict.fromkeys(keys), **values}
    return exact_json.dumps(document)


def utc(moment: datetime) -> str | None:
    """A moment in UTC, to the second; None where the clock showed what cannot be."""
    return f"{moment.isoformat()[:19]}Z" if clock.is_set(moment) else None
