"""Tables for people: what a telegram or a read-out says."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mbusd import exact_json
from mbusd.exact_json import JsonValue
from mbusd.model import Reading
from mbusd.printable import printable


class PlainConsole(Console):
    """Where tables and bars are shown; any text is only a text: brackets and colons in it have no meaning."""

    def __init__(self, *, on_stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=on_stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """The visible letters of a text. Of all that rich shows, only a bar's own columns do not pass here."""
        return super().render_str(printable(text), **options)


def header_line(document: Mapping[str, JsonValue]) -> str:
    """Who sent a telegram, in one line."""
    header = document["header"]
    if not isinstance(header, Mapping):
        return "no header"
    parts = [f"{header['manufacturer'] or '?'} {header['id'] or '?'}"]
    parts += [f"{name} {header[name]}" for name in ("version", "access_number", "status") if header[name] is not None]
    if header["medium_name"]:
        parts.insert(1, str(header["medium_name"]))
    parts += ["encrypted"] * bool(document["encrypted"]) + ["more follow"] * bool(document["more_records_follow"])
    return " · ".join(part.replace("_", " ") for part in parts)


def record_table(records: Iterable[JsonValue]) -> Table:
    """Key, value, unit and the bytes of each record."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, side in (("key", "left"), ("value", "right"), ("unit", "left"), ("DIB", "left"), ("VIB", "left")):
        table.add_column(title, justify="right" if side == "right" else "left", no_wrap=title == "key")
    table.add_column("remark")
    for record in records:
        if isinstance(record, Mapping):
            value = plain(record["value"])
            cells = [plain(record[name]) for name in ("unit", "dib", "vib", "problem")]
            table.add_row(plain(record["key"]), value, *cells)
    return table


def reading_table(reading: Reading) -> Table:
    """Key, value and unit of each measurement, in the units that people use."""
    identity = reading.identity
    title = f"{identity.manufacturer} {identity.identification} · {identity.medium_name} · {identity.address}"
    if reading.status:
        title += f" · {', '.join(reading.status)}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for name in ("key", "value", "unit"):
        table.add_column(name, justify="right" if name == "value" else "left", no_wrap=name == "key")
    for item in reading.measurements:
        table.add_row(item.key, plain(item.value), item.unit or "")
    return table


def plain(value: JsonValue) -> str:
    """A value as text, nothing where there is none."""
    if value is None:
        return ""
    return value if isinstance(value, str) else exact_json.dumps(value).strip('"')
