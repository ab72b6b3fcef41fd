"""The form of a meter's readings: what stays from one to the next, and how the bytes that move become its JSON.

A form is learnt from a reading that was made record by record, and holds only where it gives the same document. Bytes
that have no valid value, or say more than their value, belong to what stays: other bytes there do not fit the form.
Pure.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from decimal import Decimal
from operator import itemgetter

from mbusd import exact_json
from mbusd.exact_json import quoted
from mbusd.light import dataclass
from mbusd.mbus.frames import encode
from mbusd.mbus.telegram import Telegram
from mbusd.model import Measurement, Value
from mbusd.values.slots import TINY, Found, Part, Scaled, Text, Unusual, gap_of, shown

MOST_TEMPLATES = 8  # lists of keys that a document is asked for


@dataclass(frozen=True, slots=True)
class Constant:
    """What all readings of one form have in common besides their keys."""

    status: tuple[str, ...]
    problems: tuple[str, ...]
    model: str
    flags: tuple[str, ...]


class Form:
    """One form; two are the same only if they are one object. What was `found`, in the order of the measurements.

    `frozen`: the bytes of each telegram's data that stay, besides those of its layout.
    """

    __slots__ = ("_columns", "_first", "_found", "_parts", "_templates", "_ways", "constant")

    def __init__(
        self,
        found: Sequence[Found],
        telegrams: Sequence[Telegram],
        frozen: Sequence[Iterable[tuple[int, int]]],
        constant: Constant,
    ) -> None:
        self.constant = constant
        self._found = found
        self._first: tuple[Sequence[Telegram], Sequence[Iterable[tuple[int, int]]]] | None = telegrams, frozen
        self._ways: Sequence[Scaled | Text | str] = ()
        self._parts: Sequence[tuple[int, int, Part]] = ()
        self._columns: Sequence[int | None] = ()
        self._templates: dict[tuple[str, ...], _Template] = {}

    def _settle(self) -> None:
        """All that only the second reading of a form needs."""
        if self._first is None:
            return
        telegrams, frozen = self._first
        self._first = None
        self._ways = [text if item is not None else source.way for _, source, _, _, _, item, text in self._found]
        gaps = [(start, end, way) for (_, _, start, end, _, _, _), way in zip(self._found, self._ways, strict=True)]
        columns: list[int | None] = [None] * len(gaps)
        parts, taken = [], 0
        for at, (telegram, spans) in enumerate(zip(telegrams, frozen, strict=True)):
            here = [number for number, found in enumerate(self._found) if found[4] == at]
            part = Part([gaps[number] for number in here], len(telegram.frame.data))
            for column, number in enumerate(part.order, taken):
                columns[here[number]] = column
            taken += len(part.order)
            parts.append((*_mask(telegram, spans), part))
        self._parts, self._columns = parts, columns

    def values(self, telegrams: Sequence[Telegram]) -> "list[float | str] | None":
        """What stands in the slots of telegrams of the right layouts; None if these do not have this form."""
        if self._first is not None:
            self._settle()
        if len(telegrams) != 1:
            return self._of_many(telegrams)
        mask, skeleton, part = self._parts[0]
        telegram = telegrams[0]
        if telegram.whole & mask != skeleton:
            return None
        try:
            return part.take(telegram.frame.data)
        except Unusual:
            return None

    def _of_many(self, telegrams: Sequence[Telegram]) -> "list[float | str] | None":
        both = list(zip(telegrams, self._parts, strict=True))
        if any(telegram.whole & mask != skeleton for telegram, (mask, skeleton, _) in both):
            return None
        try:
            return [value for telegram, (_, _, part) in both for value in part.take(telegram.frame.data)]
        except Unusual:
            return None

    def document(self, time: str, values: Sequence[float | str], keys: Iterable[str]) -> str:
        """One JSON document: time, status, then `keys` and all values by key."""
        wanted = keys if isinstance(keys, tuple) else tuple(keys)
        template = self._templates.get(wanted)
        if template is None:
            template = self._template(wanted)
            if len(self._templates) >= MOST_TEMPLATES:
                self._templates.clear()
            self._templates[wanted] = template
        text, columns, tiny = template
        document = text % columns((time, *values))
        if tiny >= 0 and document.count(TINY) != tiny:  # perhaps a number with an exponent
            return self.told(time, wanted, self.texts(values))
        return document

    def told(self, time: str, keys: Iterable[str], texts: Iterable[tuple[str, str]]) -> str:
        """The document of values that are texts already."""
        if keys:
            texts = (dict.fromkeys(keys, "null") | dict(texts)).items()
        status = exact_json.dumps(self.constant.status) if self.constant.status else "[]"
        told = "".join([f", {quoted(key)}: {text}" for key, text in texts])
        return f'{{"time": "{time}", "status": {status}{told}}}'

    def texts(self, values: Sequence[float | str], keys: Container[str] | None = None) -> Iterator[tuple[str, str]]:
        """Key and JSON text of each value; or of those under these keys alone."""
        for found, way, column in zip(self._found, self._ways, self._columns, strict=True):
            if keys is None or found[0] in keys:
                yield found[0], str(way) if column is None else shown(values[column], way)

    def measurements(self, values: Sequence[float | str], telegrams: Sequence[Telegram]) -> Iterator[Measurement]:
        """The measurements of these values, and of the telegrams that they stand in."""
        return self.read([text for _, text in self.texts(values)], telegrams)

    def read(self, texts: Iterable[str], telegrams: Sequence[Telegram]) -> Iterator[Measurement]:
        """The measurements with these texts."""
        for (key, source, start, end, at, constant, _), text in zip(self._found, texts, strict=True):
            if constant is not None:
                yield constant
            elif (item := source.called(key)).kind == "number":
                yield _valued(item, _number(text))
            else:
                yield _valued(item, source.look(telegrams[at].frame.data[start:end]).value)

    def _template(self, keys: tuple[str, ...]) -> "_Template":
        both = zip(self._found, self._ways, self._columns, strict=True)
        there = {found[0]: (way, column) for found, way, column in both}
        text = ['{"time": "%s", "status": ' + exact_json.dumps(self.constant.status).replace("%", "%%")]
        columns = [0]
        for key in dict.fromkeys((*keys, *there)) if keys else there:
            way, column = there.get(key, ("null", None))
            if column is not None:
                columns.append(column + 1)
            text.append(f", {quoted(key.replace('%', '%%'))}: {gap_of(way)}")
        text.append("}")
        whole = "".join(text)
        has_tiny = any(isinstance(way, Scaled) and way.places > _PLACES for way, _ in there.values())
        in_order = columns == list(range(len(columns)))
        return whole, tuple if in_order else itemgetter(*columns), whole.count(TINY) if has_tiny else -1


_Template = tuple[str, Callable[[tuple[float | str, ...]], object], int]
"""A document with gaps, what to put there of time and values, and how often it says TINY; -1: it never matters."""
_PLACES = 4  # with which no number is as small


def _number(text: str) -> int | Decimal:
    return Decimal(text) if "." in text else int(text)


def _valued(item: Measurement, value: Value) -> Measurement:
    """The same with another value; `replace` takes three times as long."""
    return Measurement(
        item.key,
        item.quantity,
        item.kind,
        value,
        item.unit,
        item.decimals,
        item.function,
        item.storage,
        item.tariff,
        item.subunit,
        item.modifiers,
        item.effect,
        item.show,
    )


def _mask(telegram: Telegram, spans: Iterable[tuple[int, int]]) -> tuple[int, int]:
    staying = bytearray(len(telegram.frame.data))
    for start, end in spans:
        staying[start:end] = b"\xff" * (end - start)
    mask = int.from_bytes(staying, "little")
    return mask, telegram.whole & mask


class _OfForm:
    """What all readings of a form have in common."""

    __slots__ = ("_said", "form")

    def __init__(self, form: Form, said: Sequence[Telegram]) -> None:
        self.form = form
        self._said = said

    @property
    def telegrams(self) -> tuple[bytes, ...]:
        return tuple(encode(telegram.frame) for telegram in self._said)

    @property
    def status(self) -> tuple[str, ...]:
        return self.form.constant.status

    @property
    def problems(self) -> tuple[str, ...]:
        return self.form.constant.problems

    @property
    def model(self) -> str:
        return self.form.constant.model

    @property
    def flags(self) -> tuple[str, ...]:
        return self.form.constant.flags


class Filled(_OfForm):
    """A form with the values of one reading."""

    __slots__ = ("_values",)

    def __init__(self, form: Form, values: Sequence[float | str], said: Sequence[Telegram]) -> None:
        self.form, self._values, self._said = form, values, said

    def document(self, time: str, keys: Iterable[str]) -> str:
        """The reading as one JSON document, with every key of `keys`."""
        return self.form.document(time, self._values, keys)

    def texts(self, keys: Container[str] | None = None) -> Iterator[tuple[str, str]]:
        """Key and JSON text of each value; or of those under these keys alone."""
        return self.form.texts(self._values, keys)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return tuple(self.form.measurements(self._values, self._said))


class Sketch(_OfForm):
    """The first reading of a form: its texts were made one by one."""

    __slots__ = ("_keys", "_texts")

    def __init__(self, form: Form, keys: Sequence[str], texts: Sequence[str], said: Sequence[Telegram]) -> None:
        self.form, self._keys, self._texts, self._said = form, keys, texts, said

    def document(self, time: str, keys: Iterable[str]) -> str:
        """The reading as one JSON document, with every key of `keys`."""
        return self.form.told(time, keys, self.texts())

    def texts(self, keys: Container[str] | None = None) -> Iterator[tuple[str, str]]:
        """Key and JSON text of each value; or of those under these keys alone."""
        both = zip(self._keys, self._texts, strict=True)
        return both if keys is None else ((key, text) for key, text in both if key in keys)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return tuple(self.form.read(self._texts, self._said))
