"""A YAML file against its shape: everything that is wrong with it is said at once, with file, line and path.

The only file that knows YAML. Unknown keys are errors that name the nearest right key.
"""

import re
import typing
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.constructor import ConstructorError

from mbusd.configuration.files import FileError
from mbusd.light import dataclass

Location = tuple[int | str, ...]
Problem = tuple[Location, str]


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML text as plain data and as nodes, which know their lines; `source` is what messages call it."""

    source: str
    data: typing.Any
    tree: yaml.Node | None
    repeated_keys: tuple[Problem, ...] = ()  # that stand in one mapping twice

    def line(self, location: Location) -> int:
        """Line of a place, or of the nearest thing around it that stands in the file."""
        return _line(self.tree, location)

    def error(self, problems: Sequence[Problem]) -> FileError:
        """All problems, in the order of the lines."""
        placed = [(_place(place, self.data), why) for place, why in problems]
        ordered = sorted(placed, key=lambda problem: self.line(problem[0]))
        return FileError(
            [f"{self.source}:{self.line(place)}: {path_of(place) or 'the file'}: {why}" for place, why in ordered]
        )


def read(path: Path) -> Document:
    """The document in a file. Raises FileError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise FileError([f"{path}: {why}"]) from error
    return document(text, str(path))


def document(text: str, source: str) -> Document:
    """The document in a text. Raises FileError."""
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        repeated = _repeated_in(tree, source)  # before `<<` puts the keys of one mapping into another
        return Document(source, None if tree is None else loader.construct_document(tree), tree, repeated)
    except yaml.YAMLError as error:
        raise FileError([f"{source}{_yaml_trouble(error)}"]) from error
    except RecursionError as error:
        raise FileError([f"{source}: the brackets are nested too deep"]) from error


Shape = typing.TypeVar("Shape", bound=BaseModel)


def shaped(found: Document, shape: type[Shape]) -> Shape:
    """The document as `shape`. Raises FileError with every problem."""
    problems = list(found.repeated_keys)
    result = None
    try:
        result = shape.model_validate(found.data)
    except ValidationError as error:
        problems += [(detail["loc"], message(detail, shape)) for detail in error.errors()]
    if result is None or problems:
        raise found.error(problems)
    return result


_WORDS = {  # for pydantic's
    "missing": "is missing",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "a mapping (key: value) is needed here"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list (- …) is needed here"),
    "path_type": "the name of a file or folder is needed here",
    "string_type": "a text is needed here; put what looks like something else in quotes",
}


def message(detail: ErrorDetails, shape: type[BaseModel]) -> str:
    """What is wrong, in the words of somebody who writes such a file."""
    if detail["type"] == "extra_forbidden":
        return _unknown_key(detail["loc"], shape)
    return _WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")


def path_of(location: Location) -> str:
    """A place in the usual spelling: records[0].vib."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


class _Loader(yaml.SafeLoader):
    """Says where a value stands that looks like a date or a number and is none (PyYAML lets ValueError through)."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> typing.Any:  # noqa: FBT001, FBT002 - PyYAML's
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError) as error:  # of a tag that says what the text is not
            why = error if isinstance(error, ValueError) else f"no {node.tag.rpartition(':')[2]}"
            raise ConstructorError(None, None, f"{why}; put a text in quotes", node.start_mark) from error


LONGEST_LINE = 10_000
_QUOTED = re.compile(" ['\"].*['\"]", re.DOTALL)
"""What PyYAML repeats may be a password without quotes that begins with * or !: not where one stands."""


def _yaml_trouble(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    said = filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))
    what = " ".join(said) or " ".join(str(error).split())
    if mark and "pass" in (mark.get_snippet(0, LONGEST_LINE) or "").lower():
        what = _QUOTED.sub("", what)
    return f":{mark.line + 1}: {what} (column {mark.column + 1})" if mark else f": {what}"


def _repeated_in(tree: yaml.Node | None, source: str) -> tuple[Problem, ...]:
    try:
        return tuple(_repeated_keys(tree))
    except RecursionError as error:
        raise FileError([f"{source}: an alias stands inside of what it means"]) from error


def _repeated_keys(node: yaml.Node | None, location: Location = ()) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # it becomes no key of a mapping: that is said when it is to be one
            here = (*location, str(key.value))
            if key.value in seen:
                yield here, "stands there twice"
            seen.add(key.value)
            yield from _repeated_keys(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _repeated_keys(value, (*location, index))


def _place(location: Location, data: object) -> Location:
    """Where in the file it is: pydantic also names the alternatives of a union and the two sides of a mapping."""
    place: list[int | str] = []
    for part in location:
        if isinstance(data, dict):
            keys = {str(key): key for key in data}
            if str(part) not in keys:
                break
            data = data[keys[str(part)]]
        elif isinstance(data, list):
            if not isinstance(part, int) or part >= len(data):
                break
            data = data[part]
        else:
            break
        place.append(part)
    missing = location[len(place) : len(place) + 1]
    is_key = isinstance(data, dict) and missing and isinstance(missing[0], str) and missing == location[-1:]
    return (*place, *missing) if is_key and missing[0] != "[key]" else tuple(place)


def _unknown_key(location: Location, shape: type[BaseModel]) -> str:
    for part in location[:-1]:
        if isinstance(part, str) and part in shape.model_fields:
            shape = _section(shape.model_fields[part].annotation) or shape
    import difflib  # noqa: PLC0415 - a right file needs no guesses

    known = list(shape.model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"is not known here; did you mean '{near[0]}'?" if near else f"is not known here; known: {', '.join(known)}"


def _section(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, typing.get_args(annotation))), None)


def _line(node: yaml.Node | None, location: Location) -> int:
    line = 1 if node is None else node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = [(node.value[part], node.value[part])]
        else:
            found = []
        if not found:
            break
        line = found[-1][0].start_mark.line + 1
        node = found[-1][1]
    return line
