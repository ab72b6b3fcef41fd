"""Texts of meters in what Home Assistant is told: where one looks like a template, it is taken apart. Pure.

Home Assistant renders only what is called a template; whoever comes after it may not know that.
"""

import re
from collections.abc import Mapping

from mbusd.exact_json import JsonValue

_OPENS = re.compile(r"\{(?=[{%#])")


def inert(node: JsonValue, key: str = "") -> JsonValue:
    """The same, without the beginnings of templates in any text that is not one of our templates."""
    if isinstance(node, str):
        return node if key.endswith(("_tpl", "template")) else _OPENS.sub("{ ", node)
    if isinstance(node, Mapping):
        return {name: inert(inner, name) for name, inner in node.items()}
    return [inert(inner, key) for inner in node] if isinstance(node, list | tuple) else node
