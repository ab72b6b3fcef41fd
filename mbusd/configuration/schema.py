"""The JSON Schema of the configuration file, with the text that stands below each option in the source.

Only for the command that prints it: looking into the source at each start would cost the daemon time and memory.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent

from mbusd.configuration.key_settings import Section
from mbusd.configuration.settings import Settings
from mbusd.exact_json import JsonValue


def text() -> str:
    """The schema, to be printed."""
    schema: dict[str, JsonValue] = Settings.model_json_schema()
    parts = schema["$defs"]
    assert isinstance(parts, dict)  # noqa: S101 - it has sections
    for section in Section.__subclasses__():
        _describe(schema if section is Settings else parts[section.__name__], section)
    return json.dumps(schema, indent=2, ensure_ascii=False)


def _describe(part: JsonValue, section: type[Section]) -> None:
    options = part["properties"] if isinstance(part, dict) else None
    for name, told in _remarks(section):
        option = options[name] if isinstance(options, dict) else None
        if isinstance(options, dict) and isinstance(option, dict):
            options[name] = dict(sorted({**option, "description": told}.items()))


def _remarks(section: type[Section]) -> Iterator[tuple[str, str]]:
    """Each option that has a text below it."""
    body = ast.parse(dedent(inspect.getsource(section))).body[0]
    lines = body.body if isinstance(body, ast.ClassDef) else []
    for option, below in pairwise(lines):
        match option, below:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(told))):
                yield name, inspect.cleandoc(told)
