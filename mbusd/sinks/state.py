"""The state of a meter, one JSON document: time, status, and every value by its key. Pure."""

from collections.abc import Iterable
from datetime import datetime

from mbusd import exact_json
from mbusd.exact_json import JsonValue
from mbusd.model import Reading


def state(reading: Reading, keys: Iterable[str] = ()) -> str:
    """The document of a reading; every key of `keys` is there, null where it was not sent."""
    if reading.draft is not None:
        return reading.draft.document(utc(reading.taken_at), keys)
    values: dict[str, JsonValue] = {item.key: item.value for item in reading.measurements}
    document = {"time": utc(reading.taken_at), "status": list(reading.status), **dict.fromkeys(keys), **values}
    return exact_json.dumps(document)


def utc(moment: datetime) -> str:
    """A moment in UTC, to the second."""
    return f"{moment.isoformat()[:19]}Z"
