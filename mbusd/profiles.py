"""Profiles of makers' meters out of YAML files: those that are shipped and those in a user's folder.

A profile that carries a telegram is tried on it before anybody relies on it. What is shipped is read when the first
meter of its maker has answered: most houses have meters of one or two makers.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mbusd import normalise
from mbusd.configuration.files import FileError
from mbusd.configuration.strict_yaml import Document, Location, Problem, read, shaped
from mbusd.mbus import telegram
from mbusd.mbus.address import SecondaryAddress, manufacturer_letters
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame, parse
from mbusd.mbus.profile import Profile, merged, profiles_for
from mbusd.mbus.telegram import Telegram
from mbusd.mbus.understanding import Understanding, understand

if TYPE_CHECKING:
    from mbusd.configuration.profile_shapes import TrialShape

_SHIPPED = Path(__file__).parent / "profile_data"
_MAKER = re.compile(r"^ *-? *manufacturer: *([A-Z]{3})\b", re.MULTILINE)
_LATER = datetime(2000, 1, 1, tzinfo=UTC)  # a reading needs a moment; what a test says does not hang on it


class Shelf:
    """Profiles that may be wanted, with those that are shipped if `has_shipped`; the one of a meter by its address."""

    def __init__(self, profiles: Sequence[Profile] = (), *, has_shipped: bool = False) -> None:
        self._profiles = tuple(profiles)
        self._has_shipped = has_shipped
        self._taken: dict[str, Profile | None] = {}

    def __eq__(self, other: object) -> bool:
        mine = self._profiles, self._has_shipped
        return isinstance(other, Shelf) and mine == (other._profiles, other._has_shipped)

    def __hash__(self) -> int:
        return hash((self._profiles, self._has_shipped))

    def of(self, address: SecondaryAddress | None) -> Profile | None:
        """What is known of the meter with this address; None where nothing is, or it has not said who it is."""
        if address is None:
            return None
        kind = address.digits[8:]
        if kind not in self._taken:
            maker, version, medium = address.to_bytes()[4:6], address.to_bytes()[6], address.to_bytes()[7]
            letters = manufacturer_letters(int.from_bytes(maker, "little"))
            shipped = _shipped_of(letters) if self._has_shipped else ()
            self._taken[kind] = merged(profiles_for((*self._profiles, *shipped), letters, version, medium))
        return self._taken[kind]


def shipped() -> tuple[Profile, ...]:
    """The profiles that come with the program. Raises FileError: a broken one is our own mistake."""
    return tuple(profile for path in _files(_SHIPPED) for profile in load(path))


@lru_cache(maxsize=256)
def _shipped_of(manufacturer: str) -> tuple[Profile, ...]:
    """Those that are shipped and about meters of this maker."""
    paths = [path for path in _files(_SHIPPED) if manufacturer in _MAKER.findall(path.read_text("utf-8"))]
    return tuple(profile for path in paths for profile in load(path))


def shelf_of(own: Path | None) -> tuple[Shelf, tuple[str, ...]]:
    """What is shipped and, before it, what stands in a user's own folder; and what is wrong with files there."""
    good, problems = ((), ()) if own is None else in_folder(own)
    return Shelf(good, has_shipped=True), problems


def in_folder(folder: Path) -> tuple[tuple[Profile, ...], tuple[str, ...]]:
    """A user's own profiles, and what is wrong with the files that are left out for it."""
    good: list[Profile] = []
    problems: list[str] = []
    if not folder.is_dir():
        return (), (f"{folder}: is no folder; profiles are *.yaml files in one",)
    for path in _files(folder):
        try:
            good += load(path, is_own=True)
        except FileError as error:
            problems += error.problems
    return tuple(good), tuple(problems)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())


def load(path: Path, *, is_own: bool = False) -> tuple[Profile, ...]:
    """The profiles of one file, each tried on its own telegram. Raises FileError with everything that is wrong."""
    from mbusd.configuration.profile_shapes import FileShape  # noqa: PLC0415 - the shapes take longer to build than all the rest

    found = read(path)
    shapes = shaped(found, FileShape).profiles
    profiles = []
    problems: list[Problem] = []
    for index, shape in enumerate(shapes):
        here: Location = ("profiles", index)
        profile = shape.profile(f"{path.name}:{found.line(here)}", is_own=is_own)
        problems += _overlaps(found, profile, here)
        if shape.test is not None:
            problems += _failures(profile, shape.test, (*here, "test"))
        profiles.append(profile)
    if problems:
        raise found.error(problems)
    return tuple(profiles)


def _overlaps(found: Document, profile: Profile, here: Location) -> Iterator[Problem]:
    rules = profile.rules
    for index, rule in enumerate(rules):
        for earlier in range(index):
            if rule.overlaps(rules[earlier]):
                line = found.line((*here, "records", earlier))
                yield (
                    (*here, "records", index),
                    f"a record can fit this and the rule in line {line}: which one is meant?",
                )


def _failures(profile: Profile, test: "TrialShape", here: Location) -> Iterator[Problem]:
    """What a profile's own telegram says otherwise than its author expects."""
    telegrams = []
    for index, data in enumerate(test.telegram):
        try:
            telegrams.append(_telegram(data, profile))
        except DecodeError as error:
            yield (*here, "telegram", index), str(error)
    if len(telegrams) != len(test.telegram):
        return
    understood = understand(telegrams, profile)
    for problem in understood.problems:
        yield (*here, "telegram"), problem
    values = _values(understood)
    for key, expected in test.says.items():
        came = values.get(key)
        if came is None:
            yield (*here, "says", key), f"the telegram has no {key}; it has {', '.join(sorted(values))}"
        elif came != _plain(expected):
            yield (*here, "says", key), f"{_plain(expected)} is expected, {came} came"
    if tuple(sorted(test.status)) != tuple(sorted(understood.status)):
        came = ", ".join(understood.status) or "nothing"
        yield (*here, "status"), f"{', '.join(test.status) or 'nothing'} is expected, {came} came"


def _telegram(data: bytes, profile: Profile) -> Telegram:
    """The telegram in a frame. Raises DecodeError, too, where it is of a meter that the profile is not about."""
    frame = parse(data)
    if not isinstance(frame, LongFrame):
        raise DecodeError("no_telegram", "this frame carries no telegram")
    said = telegram.decode(frame)
    header = said.header
    if header is None:
        raise DecodeError("wrong_meter", "this telegram does not say whose it is")
    if not profile.fits(header.manufacturer or "", header.version, header.medium):
        who = f"{header.manufacturer}, version {header.version}, medium {header.medium}"
        raise DecodeError("wrong_meter", f"the profile is not about {who}")
    return said


def _values(understood: Understanding) -> dict[str, str]:
    """What the telegrams say, as users see it."""
    reading = normalise.reading("test", understood.telegrams, _LATER)
    return {measurement.key: _plain(measurement.value) for measurement in reading.measurements}


def _plain(value: object) -> str:
    """A value as text, numbers without needless zeros."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float() | Decimal():
            return format(Decimal(str(value)).normalize(), "f")
        case date():
            return value.isoformat()
        case _:
            return str(value)
