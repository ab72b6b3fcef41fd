"""Which form a reading has: learnt from the readings of the same layouts, zone and profile that came before. Pure.

One who has a form saves all the rest; whatever is not sure to be the same every time makes no form.
"""

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from functools import lru_cache

from mbusd import exact_json
from mbusd.exact_json import JsonValue
from mbusd.form import Constant, Form
from mbusd.lesson import Lesson, Source, look_of
from mbusd.mbus.layout import Layout, Span
from mbusd.mbus.profile import Profile
from mbusd.mbus.telegram import Telegram
from mbusd.model import Measurement
from mbusd.slots import Slot
from mbusd.ways import way_of

MOST_MEMORIES = 1024  # of layouts in a zone, by a profile
MOST_FORMS = 8  # of one layout: with and without the values that are missing now and then
MOST_LESSONS = 64  # of one layout, at first; where no form lasts, they come rarely
RARELY = 16  # readings a lesson

_RESERVED = frozenset({"time", "status"})  # keys of the document itself
_STATUS = {0x72: (9, 10), 0x76: (9, 10), 0x7A: (1, 2)}  # where the status byte stands, by CI field


class Forms:
    """The forms that readings of the same layouts have had, the latest first."""

    __slots__ = ("_misses", "known", "profile")

    def __init__(self) -> None:
        self.known: list[Form] = []
        self.profile: Profile | None = None
        self._misses = 0

    def learn(self, lesson: Lesson) -> None:
        """Take note of a reading that has none of the forms."""
        self._misses += 1
        if self._misses > MOST_LESSONS and self._misses % RARELY:
            return
        form = _form(lesson)
        if form is not None and _is_true(form, lesson):
            self.known.insert(0, form)
            del self.known[MOST_FORMS:]


def forms_of(telegrams: Sequence[Telegram], zone: tzinfo | None, profile: Profile | None) -> Forms | None:
    """Where the forms are kept of readings like this one; None where a telegram has no known layout."""
    layouts = tuple([telegram.layout for telegram in telegrams])
    if None in layouts:
        return None
    forms = _forms_of(layouts, zone, id(profile))
    forms.profile = profile  # which keeps its id its own
    return forms


def forget() -> None:
    """No form is known any more."""
    _forms_of.cache_clear()


@lru_cache(maxsize=MOST_MEMORIES)
def _forms_of(layouts: tuple[Layout | None, ...], zone: tzinfo | None, profile: int) -> Forms:
    del layouts, zone, profile
    return Forms()


def _is_true(form: Form, lesson: Lesson) -> bool:
    """Whether a form says of its own reading what the records say."""
    found = form.values(lesson.telegrams)
    if found is None:
        return False
    taken = lesson.taken
    said: dict[str, JsonValue] = {item.key: item.value for item in taken.measurements}
    return form.document("", found, ()) == exact_json.dumps({"time": "", "status": list(taken.status), **said})


def _form(lesson: Lesson) -> Form | None:
    """The form of a reading; None where it may hang on more than layouts and values."""
    taken, profile = lesson.taken, lesson.profile
    if lesson.known.problems or any(item.key in _RESERVED for item in taken.measurements):
        return None
    seen = {item.key: item for item in taken.measurements}
    slots: list[Slot] = []
    frozen = [[*_status(telegram), *_beginning(telegram, profile)] for telegram in lesson.telegrams]
    for one in _sources(lesson):
        item = seen.get(one.key)
        text = _constant(one, item, profile)
        if text is not None:
            frozen[one.telegram].append(one.span)
        if item is not None:
            look = look_of(one, item, lesson)
            way = way_of(one, item, lesson, look) if text is None else text
            slots.append(Slot(item, way, look, one.telegram, *one.span))
    constant = Constant(taken.status, taken.problems, taken.model, taken.flags)
    return Form(slots, lesson.telegrams, frozen, constant)


def _status(telegram: Telegram) -> Iterator[Span]:
    """Its status byte."""
    if telegram.frame.ci in _STATUS:
        yield _STATUS[telegram.frame.ci]


def _beginning(telegram: Telegram, profile: Profile | None) -> Iterator[Span]:
    """The bytes by which a profile tells one layout of the maker's block from another."""
    block = telegram.manufacturer_data
    if profile is not None and block:
        start = len(telegram.frame.data) - len(block)
        yield start, start + min(len(block), max((len(layout.starts) for layout in profile.data), default=0))


def _sources(lesson: Lesson) -> Iterator[Source]:
    keys, shows = iter(lesson.keys), iter(lesson.known.shows)
    for at, (telegram, understood) in enumerate(zip(lesson.telegrams, lesson.known.telegrams, strict=True)):
        spans = (*(() if telegram.layout is None else telegram.layout.spans), *_fields(telegram, lesson.profile))
        sent = (*telegram.records, *(None for _ in understood.records[len(telegram.records) :]))
        for number, (span, one, record) in enumerate(zip(spans, sent, understood.records, strict=True)):
            yield Source(at, span, one, record, next(keys), next(shows), number)


def _fields(telegram: Telegram, profile: Profile | None) -> Iterator[Span]:
    """Where the fields stand that a profile finds in the maker's block."""
    block = telegram.manufacturer_data
    if profile is None or not block:
        return
    start = len(telegram.frame.data) - len(block)
    layout = next((layout for layout in profile.data if layout.fits(block)), None)
    for item in () if layout is None else layout.fields:
        yield start + item.offset, start + item.offset + item.length


def _constant(one: Source, item: Measurement | None, profile: Profile | None) -> str | None:
    """The JSON text of data that say more than a value: none, and why; or bits that a profile calls by name."""
    has_names = profile is not None and any(rule.naming.bits for rule in profile.rules)
    if item is None:
        return "" if one.record.problem else None
    is_more = one.record.problem is not None or item.value is None or (item.kind == "bits" and has_names)
    return exact_json.dumps(item.value) if is_more else None
