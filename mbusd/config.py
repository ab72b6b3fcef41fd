"""Reads the configuration file and the environment, and says everything that is wrong with them, with path and line.

The only file that knows YAML. The shape itself stands in settings.py.
"""

import difflib
import itertools
import json
import typing
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.constructor import ConstructorError

from mbusd.settings import RESERVED_NAMES, Settings

ENVIRONMENT = "MBUSD_"
Location = tuple[int | str, ...]
Problem = tuple[Location, str]


class ConfigError(Exception):
    """Everything that is wrong with a configuration: one line a problem, with file, line and YAML path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: Path, environment: Mapping[str, str]) -> Settings:
    """The settings in a YAML file, with `MBUSD_SECTION__KEY` of the environment in their place. Raises ConfigError."""
    return parse(_read(path), str(path), environment)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError([f"{path}: {why}"]) from error


def parse(text: str, source: str, environment: Mapping[str, str]) -> Settings:
    """The settings in a YAML text; `source` is what messages call it. Raises ConfigError with every problem."""
    tree, data = _document(text, source)
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError([f"{source}:1: the file is a mapping: mqtt: …, buses: …"])
    try:
        problems = list(_repeated_keys(tree))
    except RecursionError as error:
        raise ConfigError([f"{source}: an alias stands inside of what it means"]) from error
    from_environment, misplaced = _overlay(data, environment)
    problems += misplaced
    if data.get("buses") == []:
        problems.append((("buses",), "at least one is needed: a name and a port"))
    problems += _twins(data)
    settings = None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems += [(detail["loc"], _message(detail)) for detail in error.errors()]
    if settings is None or problems:
        ordered = sorted(problems, key=lambda problem: _line(tree, problem[0]))
        raise ConfigError([_sentence(source, tree, from_environment, *problem) for problem in ordered])
    return settings


def read_yaml(path: Path) -> object:
    """The document in a YAML file that is not the configuration. Raises ConfigError."""
    return _document(_read(path), str(path))[1]


def schema() -> str:
    """JSON Schema of the configuration file."""
    return json.dumps(Settings.model_json_schema(), indent=2, ensure_ascii=False)


def public(settings: Settings) -> dict[str, typing.Any]:
    """The settings as plain data, secrets masked."""
    plain: dict[str, typing.Any] = json.loads(settings.model_dump_json(exclude_none=True))
    return plain


class _Loader(yaml.SafeLoader):
    """Says where a value stands that looks like a date or a number and is none (PyYAML lets ValueError through)."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> typing.Any:  # noqa: FBT001, FBT002 - PyYAML's
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise ConstructorError(None, None, f"{error}; put a text in quotes", node.start_mark) from error


def _document(text: str, source: str) -> tuple[yaml.Node | None, typing.Any]:
    """The text as nodes, which know their lines, and as plain data. Raises ConfigError."""
    try:
        return yaml.compose(text, _Loader), yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError([f"{source}{_yaml_trouble(error)}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{source}: the brackets are nested too deep"]) from error


def _yaml_trouble(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    said = filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))
    what = " ".join(said) or " ".join(str(error).split())
    return f":{mark.line + 1}: {what} (column {mark.column + 1})" if mark else f": {what}"


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


def _repeated_keys(node: yaml.Node | None, location: Location = ()) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            here = (*location, str(key.value))
            if key.value in seen:
                yield here, "stands there twice"
            seen.add(key.value)
            yield from _repeated_keys(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _repeated_keys(value, (*location, index))


def _twins(data: dict[typing.Any, typing.Any]) -> list[Problem]:
    """Names and addresses that must differ, and names that are the daemon's own."""
    problems: list[Problem] = []
    buses = list(_mappings(data.get("buses"), ("buses",)))
    meters = [(meter, place) for bus, here in buses for meter, place in _mappings(bus.get("meters"), (*here, "meters"))]
    problems += _repeated(buses, "name")
    problems += _repeated(buses, "port")
    problems += _repeated(meters, "name")
    for bus, here in buses:
        problems += _repeated(list(_mappings(bus.get("meters"), (*here, "meters"))), "address")
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
                yield (*place, key), f"'{value}' is taken already by {_path(known)}"


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(detail["loc"])
        case "missing":
            return "is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "a mapping (key: value) is needed here"
        case "tuple_type" | "list_type":
            return "a list (- …) is needed here"
        case "string_type":
            return "a text is needed here; put what looks like something else in quotes"
        case _:
            return detail["msg"].removeprefix("Value error, ")


def _unknown_key(location: Location) -> str:
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        if isinstance(part, str):
            model = _section(model.model_fields[part].annotation) or model
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"is not known here; did you mean '{near[0]}'?" if near else f"is not known here; known: {', '.join(known)}"


def _section(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, typing.get_args(annotation))), None)


def _sentence(source: str, tree: yaml.Node | None, variables: dict[Location, str], location: Location, why: str) -> str:
    variable = next((name for place, name in variables.items() if place[: len(location)] == location), None)
    if variable is not None and variables.get(location) == variable:
        return f"{variable} in the environment: {why}"
    return f"{source}:{_line(tree, location)}: {_path(location) or 'the file'}: {why}"


def _path(location: Location) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _line(node: yaml.Node | None, location: Location) -> int:
    """Line of the place, or of the nearest thing around it that stands in the file."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = [(node.value[part], node.value[part])]
        else:
            found = []
        if not found:
            break
        line = found[-1][0].start_mark.line + 1
        node = found[-1][1]
    return line
