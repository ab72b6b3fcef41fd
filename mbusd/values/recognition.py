"""Which form a reading has: that of one before, or a new one, put together of the meanings of its records. Pure.

The way of a telegram that is known: mbus/layout.py (which bytes stay), form.py (its document), slots.py (where its
values stand). Of a new one: this room, from meaning.py (one record), ways.py and value_texts.py (its data to text).
Whatever is not sure to be the same every time makes no form, and goes record by record.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import tzinfo
from functools import lru_cache

from mbusd import exact_json
from mbusd.mbus.layout import Layout
from mbusd.mbus.profile import Profile
from mbusd.mbus.records import Span
from mbusd.mbus.status import status_words
from mbusd.mbus.telegram import Telegram
from mbusd.values.form import Constant, Filled, Form, Sketch
from mbusd.values.meaning import MOST_PLACES, Meaning, Place, of_field, of_head, place_of
from mbusd.values.slots import Found, Unusual

MOST_MEMORIES = 512  # of layouts in a zone, by a profile
MOST_FORMS = 8  # of one layout: with and without the values that are missing now and then
MOST_LESSONS = 64  # of one layout, at first; where no form lasts, they come rarely
RARELY = 16  # readings a lesson

ENCRYPTED = "the telegram is encrypted: it has no readable values"

_RESERVED = frozenset({"time", "status"})  # keys of the document itself
_STATUS = {0x72: 9, 0x76: 9, 0x7A: 1}  # where the status byte stands, by CI field
_HIGH_FIRST = 0x76


class Forms:
    """The forms that readings of the same layouts have had, the latest first."""

    __slots__ = ("_misses", "known", "place")

    def __init__(self) -> None:
        self.known: list[Form] = []
        self.place: Place | None = None
        self._misses = 0

    def draft(self, telegrams: Sequence[Telegram]) -> Filled | Sketch | None:
        """What telegrams of these layouts say; None where that takes more than their records one by one."""
        for form in self.known:
            values = form.values(telegrams)
            if values is not None:
                return Filled(form, values, telegrams)
        drawn = None if self.place is None else _Draught(telegrams, self.place).sketch()
        if drawn is None:
            return None
        self._misses += 1
        if self._misses <= MOST_LESSONS or self._misses % RARELY == 0:
            self.known.insert(0, drawn.form)
            del self.known[MOST_FORMS:]
        return drawn


def forms_of(telegrams: Sequence[Telegram], zone: tzinfo | None, profile: Profile | None) -> Forms | None:
    """Where the forms are kept of readings like this one; None where a telegram has no known layout."""
    if len(telegrams) == 1:
        layout = telegrams[0].layout
        if layout is None:
            return None
        forms = _forms_of(layout, zone, id(profile))
    else:
        layouts = tuple([telegram.layout for telegram in telegrams])
        if None in layouts:
            return None
        forms = _forms_of(layouts, zone, id(profile))
    if forms.place is None:
        forms.place = place_of(zone, profile)  # it keeps the profile, and so its id
    return forms


def forget() -> None:
    """No form is known any more."""
    _forms_of.cache_clear()


@lru_cache(maxsize=MOST_MEMORIES)
def _forms_of(layouts: Layout | tuple[Layout | None, ...], zone: tzinfo | None, profile: int) -> Forms:
    del layouts, zone, profile
    return Forms()


@lru_cache(maxsize=MOST_PLACES)
def _usual(place: Place) -> Constant:
    """What readings have in common with which nothing is the matter."""
    return Constant((), (), place.model, place.flags)


class _Draught:
    """A form in the making, from telegrams that have none yet."""

    def __init__(self, telegrams: Sequence[Telegram], place: Place) -> None:
        self._telegrams, self._place = telegrams, place
        self._found: list[Found] = []
        self._keys: list[str] = []
        self._texts: list[str] = []
        self._frozen: list[list[Span]] = []
        self._status: list[str] = []
        self._problems: list[str] = []
        self._taken: set[str] = set()
        self._origins: dict[str, str] = {}

    def sketch(self) -> Sketch | None:
        """The reading, with the form that it has; None where records must be seen together."""
        for telegram in self._telegrams:
            self._begin(telegram)
        for at, telegram in enumerate(self._telegrams):
            if not self._take(telegram.frame.data, self._meanings(telegram), at):
                return None
        if not _RESERVED.isdisjoint(self._taken):
            return None
        constant = _usual(self._place)
        if self._status or self._problems:
            constant = replace(constant, status=tuple(dict.fromkeys(self._status)), problems=tuple(self._problems))
        form = Form(self._found, self._telegrams, self._frozen, constant)
        return Sketch(form, self._keys, self._texts, self._telegrams)

    def _begin(self, telegram: Telegram) -> None:
        """The status byte."""
        frame, profile = telegram.frame, self._place.profile
        at = _STATUS.get(frame.ci)
        self._frozen.append([] if at is None else [(at, at + 1)])
        if at is not None and frame.data[at]:
            status = frame.data[at]
            self._status += status_words(status) if profile is None else profile.status_words(status)
        if telegram.encrypted:
            self._problems.append(ENCRYPTED)

    def _meanings(self, telegram: Telegram) -> list[tuple[Meaning, int, int]]:
        """What each record means, and from where to where its data stand."""
        said = None if telegram.layout is None else telegram.layout.outline
        if said is None:
            return []
        place, is_high = self._place, telegram.frame.ci == _HIGH_FIRST
        heads = zip(said.heads, said.spans, strict=True)
        meanings = [(of_head(head, place, is_high), start, end) for head, (start, end) in heads]
        if said.maker is not None and place.profile is not None:
            meanings += self._fields(telegram.frame.data, said.maker, place.profile)
        return meanings

    def _fields(self, data: bytes, maker: int, profile: Profile) -> Iterator[tuple[Meaning, int, int]]:
        """The fields that a profile finds in the maker's block, by which bytes it tells one layout from another."""
        block = data[maker:]
        length = min(len(block), max((len(layout.starts) for layout in profile.data), default=0))
        self._frozen[-1].append((maker, maker + length))
        number = next((at for at, layout in enumerate(profile.data) if layout.fits(block)), None)
        for at, item in enumerate(() if number is None or not block else profile.data[number].fields):
            start = maker + item.offset
            yield of_field(self._place, number or 0, at), start, start + item.length

    def _is_alone(self, meaning: Meaning) -> bool:
        """Whether no other record has the same name by its profile, but not of itself."""
        return self._origins.setdefault(meaning.what, meaning.identity) == meaning.identity

    def _take(self, data: bytes, meanings: Iterable[tuple[Meaning, int, int]], at: int) -> bool:
        """Find the values of a telegram; False where records must be seen together."""
        taken, length = self._taken, len(data)
        for meaning, start, end in meanings:
            if end > length:
                return False
            raw = data[start:end]
            if not meaning.key:
                meaning.meet(raw)
            if meaning.what and not self._is_alone(meaning):
                return False
            key = meaning.key
            if key in taken:
                key = self._numbered(key)
            taken.add(key)
            if meaning.is_hidden:
                continue
            try:
                text = meaning.text(raw)
            except Unusual:
                self._freeze(meaning, raw, key, start, at)
                continue
            self._keys.append(key)
            self._texts.append(text)
            self._found.append((key, meaning, start, end, at, None, ""))
        return True

    def _numbered(self, key: str) -> str:
        """The key with the first number that is free."""
        occurrence = 2
        while f"{key}_{occurrence}" in self._taken:
            occurrence += 1
        return f"{key}_{occurrence}"

    def _freeze(self, meaning: Meaning, raw: bytes, key: str, start: int, at: int) -> None:
        """Data that say more than a value: none, and why; or bits that a profile calls by name."""
        if meaning.is_hidden:
            return
        said, end = meaning.said(raw), start + len(raw)
        self._frozen[at].append((start, end))
        self._status += said.words
        if said.problem is not None:
            self._problems.append(f"{key} {said.problem}")
        if said.item is not None:
            item = said.item if key == meaning.key else replace(said.item, key=key)
            text = exact_json.dumps(item.value)
            self._keys.append(key)
            self._texts.append(text)
            self._found.append((key, meaning, start, end, at, item, text))
