"""What the data behind one head, or in one field of a maker's block, are to people: key, measurement, way to JSON text.

A meaning is learnt from the first valid data, as mbus/records.py, mbus/understanding.py and measures.py make a
measurement of them, and serves all telegrams with such a record from then on. A new VIF needs nothing here. Pure.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo
from functools import lru_cache

from mbusd import exact_json
from mbusd.light import dataclass
from mbusd.mbus.heads import Head
from mbusd.mbus.named import Named, origin_of, what_of
from mbusd.mbus.profile import Profile
from mbusd.mbus.records import record_of
from mbusd.mbus.understanding import understand_field, understand_record
from mbusd.model import Measurement
from mbusd.values import value_texts
from mbusd.values.measures import base_key, measurement, problem_of
from mbusd.values.slots import Scaled, Text, Unusual, text_of
from mbusd.values.ways import Samples, way_of

MOST_MEANINGS = 2048  # of a process
MOST_SAID = 512  # data that have no valid value, or more than that
MOST_PLACES = 256  # zones and profiles together


class Place:
    """What meanings hang on besides the bytes: the zone of the meter's clock, the profile, the order of the bytes."""

    __slots__ = ("flags", "model", "profile", "zone")

    def __init__(self, zone: tzinfo | None) -> None:
        self.zone = zone
        self.profile: Profile | None = None
        self.flags: tuple[str, ...] = ()
        self.model = ""

    def take(self, profile: Profile | None) -> None:
        """Keep the profile, so that its id stays its own."""
        self.profile = profile
        if profile is not None:
            self.flags, self.model = profile.words, profile.name


def place_of(zone: tzinfo | None, profile: Profile | None) -> Place:
    """The one place of a zone and a profile."""
    place = _place(zone, id(profile))
    if place.profile is not profile:
        place.take(profile)
    return place


@lru_cache(maxsize=MOST_PLACES)
def _place(zone: tzinfo | None, profile: int) -> Place:
    del profile
    return Place(zone)


class Meaning:
    """What all data of one kind have in common. `text` makes JSON of data, and raises Unusual where that is not all.

    `key`: "" until any data have come. `item`: with any value, None until valid data have come. `is_hidden`: nobody is
    to see it. `what`, `identity`: the name that a profile gives, and of which record; two of one name are to be one.
    """

    __slots__ = ("_head", "_is_high_first", "_items", "_met", "_named", "_place", "_sample", "_way", "identity",
                 "is_hidden", "item", "key", "text", "what")  # fmt: skip

    def __init__(
        self,
        named: Callable[[bytes], Named],
        place: Place,
        head: Head | None = None,
        *,
        is_high_first: bool = False,
    ) -> None:
        self._named, self._place, self._head, self._is_high_first = named, place, head, is_high_first
        self.key = self.what = self.identity = ""
        self.is_hidden = False
        self.item: Measurement | None = None
        self._items: dict[str, Measurement] = {}
        self._sample = b""
        self._met: Said | None = None
        self._way: Scaled | Text | None = None
        self.text: Text = self._first

    def meet(self, raw: bytes) -> None:
        """Learn from the first data what does not hang on them: the key, and what a profile makes of the record."""
        self._met = self.read(raw)
        named = self._met.named
        if self._place.profile is not None:
            self.what = repr(what_of(named.record))
            self.identity = f"{self.what} {origin_of(named)!r}"

    def _first(self, raw: bytes) -> str:
        """The text of the first data that are valid."""
        met, self._met = self._met, None
        said = met if met is not None and met.named.record.raw == raw else _said(self, raw)
        item = said.item
        self.is_hidden = item is None and said.problem is None
        if item is None or item.value is None or said.problem is not None:
            raise Unusual
        self.item, self._sample = item, raw
        self.text = value_texts.remembered(self.slow)
        if said.named.naming.bits and item.kind == "bits":
            self.text = self._way = _refused
            raise Unusual
        return exact_json.dumps(item.value)

    @property
    def way(self) -> Scaled | Text:
        """How data become a value, as quick as may be; what is not sure to be right is not taken."""
        if self._way is None:
            self._way = self._learnt()
        return self._way

    def _learnt(self) -> Scaled | Text:
        said, raw = self.read(self._sample), self._sample
        right = self.slow(raw)
        samples = Samples(said.named, said.item or _NOTHING, self._head, self._is_high_first, self.look, self._measured)
        way, text = way_of(samples, self.slow)
        if right != _tried(text, raw) or right != _tried(text_of(way), raw):
            return self.text
        self.text = text
        return way

    def slow(self, raw: bytes) -> str:
        """The text of data as their record has it. Raises Unusual."""
        return exact_json.dumps(self.look(raw).value)

    def look(self, raw: bytes) -> Measurement:
        """The measurement of data. Raises Unusual where they have no valid value."""
        found = self._measured(self._named(raw))
        if found is None or found.value is None or self.item is None or found.kind != self.item.kind:
            raise Unusual
        return found

    def called(self, key: str) -> Measurement:
        """The measurement with any value, under this key."""
        item = self.item or _NOTHING
        if key == self.key:
            return item
        if key not in self._items:
            self._items[key] = replace(item, key=key)
        return self._items[key]

    def said(self, raw: bytes) -> "Said":
        """Everything that data say."""
        return _said(self, raw)

    def _measured(self, named: Named) -> Measurement | None:
        return measurement(self.key, named.record, named.naming.show, self._place.zone)

    def read(self, raw: bytes) -> "Said":
        """Everything that data say, whatever was said before."""
        named = self._named(raw)
        self.key = base_key(named.record)
        return Said(named, self._measured(named), problem_of(named.record), tuple(named.words))


@dataclass(frozen=True, slots=True)
class Said:
    """Everything that one record says: its measurement, what is wrong with it, words of the status."""

    named: Named
    item: Measurement | None
    problem: str | None
    words: tuple[str, ...]


_NOTHING = Measurement("", "", "number", None, None, None)


@lru_cache(maxsize=MOST_SAID)
def _said(meaning: Meaning, raw: bytes) -> Said:
    return meaning.read(raw)


def _tried(text: Text, raw: bytes) -> str | None:
    try:
        return text(raw)
    except Unusual:
        return None


def _refused(_: bytes) -> str:
    raise Unusual


@lru_cache(maxsize=MOST_MEANINGS)
def of_head(head: Head, place: Place, high_first: bool) -> Meaning:  # noqa: FBT001 - an lru_cache is quicker by position
    """The meaning of a head."""
    profile = place.profile

    def named(raw: bytes) -> Named:
        return understand_record(record_of(head, raw, high_byte_first=high_first), profile, high_first=high_first)

    return Meaning(named, place, head, is_high_first=high_first)


@lru_cache(maxsize=MOST_MEANINGS)
def of_field(place: Place, layout: int, number: int) -> Meaning:
    """The meaning of a field of a profile's layout of the maker's block, both by their numbers."""
    profile = place.profile
    if profile is None:
        raise ValueError("without a profile nothing is known of the maker's block")
    item = profile.data[layout].fields[number]
    return Meaning(lambda raw: understand_field(item, raw), place)
