"""Reads the configuration file and the environment, and says everything that is wrong with them, with path and line.

How YAML is read stands in configuration/strict_yaml.py, the shape itself in configuration/settings.py.
"""

import itertools
import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from mbusd.configuration.files import USUAL_FILE, FileError
from mbusd.configuration.settings import RESERVED_NAMES, Settings
from mbusd.configuration.strict_yaml import Document, Location, Problem, document, message, path_of, read
from mbusd.mbus.address import Address, SecondaryAddress, parse_address
from mbusd.mbus.errors import AddressError

ENVIRONMENT = "MBUSD_"
ConfigError = FileError


def load(path: Path, environment: Mapping[str, str]) -> Settings:
    """The settings in a YAML file, with `MBUSD_SECTION__KEY` of the environment in their place. Raises ConfigError."""
    return _settings(read(path), environment)


def find(path: Path | None, environment: Mapping[str, str]) -> tuple[Settings, str]:
    """The settings, and what messages call their source: that file, else the usual one, else the environment alone.

    Raises ConfigError.
    """
    if path is None and not USUAL_FILE.exists():
        if not any(name.startswith(f"{ENVIRONMENT}BUSES__") for name in environment):
            how = f"write it, name another with -c FILE, or set {ENVIRONMENT}BUSES__0__PORT in the environment"
            raise ConfigError([f"there is no {USUAL_FILE}: {how}"])
        return parse("", "the environment", environment), "the environment"
    path = path or USUAL_FILE
    return load(path, environment), str(path)


def parse(text: str, source: str, environment: Mapping[str, str]) -> Settings:
    """The settings in a YAML text; `source` is what messages call it. Raises ConfigError with every problem."""
    return _settings(document(text, source), environment)


def _settings(found: Document, environment: Mapping[str, str]) -> Settings:
    data = {} if found.data is None else found.data
    if not isinstance(data, dict):
        raise ConfigError([f"{found.source}:1: the file is a mapping: mqtt: …, buses: …"])
    problems = list(found.repeated_keys)
    from_environment, misplaced = _overlay(data, environment)
    problems += misplaced
    if data.get("buses") == []:
        problems.append((("buses",), "at least one is needed: a port"))
    problems += _twins(data)
    settings = None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems += [(detail["loc"], message(detail, Settings)) for detail in error.errors()]
    if settings is None or problems:
        ordered = sorted(problems, key=lambda problem: found.line(problem[0]))
        raise ConfigError([_sentence(found, from_environment, *problem) for problem in ordered])
    return settings


def public(settings: Settings) -> dict[str, typing.Any]:
    """The settings as plain data, secrets masked."""
    plain: dict[str, typing.Any] = json.loads(settings.model_dump_json(exclude_none=True))
    return plain


def _overlay(
    data: dict[typing.Any, typing.Any], environment: Mapping[str, str]
) -> tuple[dict[Location, str], list[Problem]]:
    """Put `MBUSD_A__B` into data["a"]["b"], numbers index lists; gives where from which variable, and the misfits."""
    variables = (name for name in environment if name.startswith(ENVIRONMENT) and name != ENVIRONMENT)
    places = {_location(variable): variable for variable in variables}
    ordered = sorted(places, key=lambda place: [(isinstance(part, str), part) for part in place])
    problems: list[Problem] = []
    for place in ordered:
        value = environment[places[place]]
        if not _is_text(places[place] + value):
            problems.append((place, "is not UTF-8 text"))
        elif not _put(data, place, value):
            problems.append((place, "has no place here; lists are numbered 0, 1, 2 … without a gap"))
    return places, problems


def _is_text(value: str) -> bool:
    """Whether no byte of it was undecodable (PEP 383)."""
    return not any("\udc80" <= letter <= "\udcff" for letter in value)


def _location(variable: str) -> Location:
    words = variable.removeprefix(ENVIRONMENT).lower().split("__")
    return tuple(int(word) if word.isdecimal() else word for word in words)


def _put(node: typing.Any, location: Location, value: str) -> bool:
    """Whether there was a place for the value. `key: true` becomes a mapping where more is said of the key."""
    for here, after in itertools.pairwise(location):
        empty: typing.Any = [] if isinstance(after, int) else {}
        if isinstance(node, list) and isinstance(here, int) and here == len(node):
            node.append(empty)
        elif isinstance(node, dict) and (node.get(here) is None or node[here] is True):
            node[here] = empty
        try:
            node = node[here]
        except (LookupError, TypeError):
            return False
    last = location[-1]
    if isinstance(node, list) and isinstance(last, int) and last <= len(node):
        node[last : last + 1] = [value]
        return True
    if isinstance(node, dict):
        node[last] = value
        return True
    return False


def _twins(data: dict[typing.Any, typing.Any]) -> list[Problem]:
    """Names and addresses that must differ, and names that are the daemon's own."""
    problems: list[Problem] = []
    buses = list(_mappings(data.get("buses"), ("buses",)))
    meters = [(meter, place) for bus, here in buses for meter, place in _mappings(bus.get("meters"), (*here, "meters"))]
    problems += _repeated(buses, "name")
    problems += [
        ((*here, "name"), "there are several buses: each needs one")
        for bus, here in buses[len(buses) == 1 :]
        if bus.get("name") is None
    ]
    problems += _repeated(buses, "port")
    problems += _repeated(meters, "name")
    for bus, here in buses:
        problems += _overlapping(list(_mappings(bus.get("meters"), (*here, "meters"))))
    for meter, place in meters:
        if meter.get("name") in RESERVED_NAMES:
            problems.append(((*place, "name"), f"'{meter['name']}' is a topic of the daemon's own"))
    return problems


def _mappings(node: object, here: Location) -> Iterator[tuple[dict[typing.Any, typing.Any], Location]]:
    for index, item in enumerate(node if isinstance(node, list) else []):
        if isinstance(item, dict):
            yield item, (*here, index)


def _repeated(items: list[tuple[dict[typing.Any, typing.Any], Location]], key: str) -> Iterator[Problem]:
    first: dict[str, Location] = {}
    for item, place in items:
        value = item.get(key)
        if isinstance(value, str | int):
            known = first.setdefault(str(value), place)
            if known != place:
                yield (*place, key), f"'{value}' is taken already by {path_of(known)}"


def _overlapping(meters: list[tuple[dict[typing.Any, typing.Any], Location]]) -> Iterator[Problem]:
    """Addresses on one bus that mean one meter, or that may select one another's."""
    there: dict[Address, Location] = {}
    alike: dict[str, list[SecondaryAddress]] = {}  # by their identification, which has no wildcards
    for meter, place in meters:
        try:
            address = parse_address(meter.get("address", ""))
        except AddressError:
            continue  # is said where its shape is looked at
        here = (*place, "address")
        group = alike.setdefault(address.identification, []) if isinstance(address, SecondaryAddress) else []
        close = next(
            (other for other in group if isinstance(address, SecondaryAddress) and other.matches(address)), None
        )
        if address in there:
            yield here, f"'{meter['address']}' is taken already by {path_of(there[address])}"
        elif close is not None:
            where = path_of(there[close])
            yield here, f"'{meter['address']}' and {where} select each other's meter: give both all 16 digits"
        there.setdefault(address, here)
        if isinstance(address, SecondaryAddress):
            group.append(address)


def _sentence(found: Document, variables: dict[Location, str], location: Location, why: str) -> str:
    variable = next((name for place, name in variables.items() if place[: len(location)] == location), None)
    if variable is not None and variables.get(location) == variable:
        return f"{variable} in the environment: {why}"
    return f"{found.source}:{found.line(location)}: {path_of(location) or 'the file'}: {why}"
