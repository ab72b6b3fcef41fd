"""The form of a meter's readings: what stays from one to the next, and how the bytes that move become its JSON.

A form is learnt from a reading that was made record by record, and holds only where it gives the same document. Bytes
that have no valid value, or say more than their value, belong to what stays: other bytes there do not fit the form.
Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter

from mbusd import exact_json
from mbusd.exact_json import quoted
from mbusd.mbus.frames import encode
from mbusd.mbus.telegram import Telegram
from mbusd.model import Measurement, Value
from mbusd.slots import TINY, Part, Scaled, Slot, Unusual, shown

MOST_TEMPLATES = 8  # lists of keys that a document is asked for


@dataclass(frozen=True, slots=True)
class Constant:
    """What all readings of one form have in common besides their keys."""

    status: tuple[str, ...]
    problems: tuple[str, ...]
    model: str
    flags: tuple[str, ...]


class Form:
    """One form; two are the same only if they are one object. `slots` in the order of the measurements.

    `frozen`: the bytes of each telegram's data that stay, besides those of its layout.
    """

    __slots__ = ("_columns", "_first", "_frozen", "_parts", "_templates", "constant", "slots")

    def __init__(
        self,
        slots: Sequence[Slot],
        telegrams: Sequence[Telegram],
        frozen: Sequence[Iterable[tuple[int, int]]],
        constant: Constant,
    ) -> None:
        self.slots = slots
        self.constant = constant
        self._first: Sequence[tuple[Telegram, Iterable[tuple[int, int]]]] = list(zip(telegrams, frozen, strict=True))
        self._frozen: Sequence[tuple[int, int]] = ()
        self._parts: Sequence[Part] = ()
        self._columns: Sequence[int | None] = ()
        self._templates: dict[tuple[str, ...], _Template] = {}

    def _settle(self) -> None:
        """All that only the second reading of a form needs."""
        for slot in self.slots:
            slot.settle()
        self._frozen = [_mask(telegram, spans) for telegram, spans in self._first]
        self._parts = [
            Part((slot for slot in self.slots if slot.telegram == at), len(telegram.frame.data))
            for at, (telegram, _) in enumerate(self._first)
        ]
        columns = {id(slot): at for at, slot in enumerate(slot for part in self._parts for slot in part.slots)}
        self._columns = [columns.get(id(slot)) for slot in self.slots]
        self._first = ()

    def values(self, telegrams: Sequence[Telegram]) -> "list[float | str] | None":
        """What stands in the slots of telegrams of the right layouts; None if these do not have this form."""
        if self._first:
            self._settle()
        if len(telegrams) != 1:
            return self._of_many(telegrams)
        (telegram,), ((mask, skeleton),) = telegrams, self._frozen
        if telegram.whole & mask != skeleton:
            return None
        try:
            return self._parts[0].take(telegram.frame.data)
        except Unusual:
            return None

    def _of_many(self, telegrams: Sequence[Telegram]) -> "list[float | str] | None":
        if any(one.whole & mask != skeleton for one, (mask, skeleton) in zip(telegrams, self._frozen, strict=True)):
            return None
        parts = zip(self._parts, telegrams, strict=True)
        try:
            return [value for part, telegram in parts for value in part.take(telegram.frame.data)]
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

    def texts(self, values: Sequence[float | str]) -> Iterator[tuple[str, str]]:
        """Key and JSON text of each value."""
        for slot, column in zip(self.slots, self._columns, strict=True):
            if column is None:
                yield slot.item.key, str(slot.way)
            else:
                value = values[column]
                yield slot.item.key, shown(value, slot.way)

    def measurements(self, values: Sequence[float | str], telegrams: Sequence[Telegram]) -> Iterator[Measurement]:
        """The measurements of these values, and of the telegrams that they stand in."""
        return self.read([text for _, text in self.texts(values)], telegrams)

    def read(self, texts: Iterable[str], telegrams: Sequence[Telegram]) -> Iterator[Measurement]:
        """The measurements of slots with these texts."""
        for slot, text in zip(self.slots, texts, strict=True):
            if isinstance(slot.way, str):
                yield slot.item
            elif slot.item.kind == "number":
                yield _valued(slot.item, _number(text))
            else:
                found = slot.source.look(telegrams[slot.telegram].frame.data[slot.start : slot.end])
                yield _valued(slot.item, found.value)

    def _template(self, keys: tuple[str, ...]) -> "_Template":
        there = dict(
            zip((slot.item.key for slot in self.slots), zip(self.slots, self._columns, strict=True), strict=True)
        )
        pieces = ['{"time": "%s", "status": ' + _escaped(exact_json.dumps(self.constant.status))]
        columns = [0]
        for key in dict.fromkeys((*keys, *there)):
            slot, column = there.get(key, (None, None))
            said = "null" if slot is None else _escaped(str(slot.way))
            if slot is not None and column is not None:
                columns.append(column + 1)
                said = _gap(slot.way) if isinstance(slot.way, Scaled) else "%s"
            pieces.append(f", {_escaped(quoted(key))}: {said}")
        text = "".join((*pieces, "}"))
        has_tiny = any(isinstance(slot.way, Scaled) and slot.way.places > _PLACES for slot in self.slots)
        return text, itemgetter(*columns), text.count(TINY) if has_tiny else -1


def _gap(way: Scaled) -> str:
    """Where a number is to stand, without needless zeros."""
    return "%d" if way.places == 0 else f"%.{way.digits}g"


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


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


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

    def texts(self) -> Iterator[tuple[str, str]]:
        """Key and JSON text of each value."""
        return self.form.texts(self._values)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return tuple(self.form.measurements(self._values, self._said))


class Sketch(_OfForm):
    """The first reading of a form: its texts were made one by one."""

    __slots__ = ("_texts",)

    def __init__(self, form: Form, texts: Sequence[str], said: Sequence[Telegram]) -> None:
        self.form, self._texts, self._said = form, texts, said

    def document(self, time: str, keys: Iterable[str]) -> str:
        """The reading as one JSON document, with every key of `keys`."""
        return self.form.told(time, keys, self.texts())

    def texts(self) -> Iterator[tuple[str, str]]:
        """Key and JSON text of each value."""
        return zip((slot.item.key for slot in self.form.slots), self._texts, strict=True)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return tuple(self.form.read(self._texts, self._said))
