"""What a telegram says is no template for Home Assistant, wherever in a discovery message it comes to stand."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from mbusd.configuration.settings import Settings
from mbusd.exact_json import JsonValue
from mbusd.mbus.frames import LongFrame, encode, parse
from mbusd.mbus.telegram import decode
from mbusd.model import Reading, ReadingTaken
from mbusd.normalise import reading
from mbusd.sinks.inert import inert
from mbusd.sinks.publisher import Publisher

WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)
TEMPLATES = ("{{ 7*7 }}", "{% raw %}", "{# x #}", "{{{{", "{{% x", "{ {{x")


def _text(vib: str, text: str) -> bytes:
    return bytes.fromhex(f"0D {vib}") + bytes([len(text)]) + text.encode("latin-1")[::-1]


def said(text: str) -> Reading:
    """Of a meter that has this text as its fabrication number, in its versions, and as a unit."""
    unit = bytes.fromhex("04 7C") + bytes([len(text)]) + text.encode("latin-1")[::-1] + bytes.fromhex("01 00 00 00")
    texts = b"".join(_text(vib, text) for vib in ("78", "FD 0D", "FD 0E", "FD 0F", "FD 10", "FD 11"))
    header = bytes.fromhex("78 56 34 12 FF FF 08 04 2A 00 00 00")
    frame = parse(encode(LongFrame(0x08, 5, 0x72, header + texts + unit)))
    assert isinstance(frame, LongFrame)
    return reading("heat", [decode(frame)], WHEN)


def texts_of(node: JsonValue, key: str = "") -> Iterator[str]:
    """All that is no template of ours."""
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from texts_of(inner, name)
    elif isinstance(node, list):
        for inner in node:
            yield from texts_of(inner, key)
    elif isinstance(node, str) and not key.endswith("_tpl"):
        yield node


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_text_of_a_telegram_is_a_template_in_a_discovery_message(template: str) -> None:
    settings = Settings.model_validate({"buses": [{"port": "/dev/x", "meters": [{"name": "heat", "address": 5}]}]})
    publisher = Publisher(settings, "0", WHEN, {})
    list(publisher.learnt())
    messages = list(publisher.take(ReadingTaken(said(template))))
    discovery = [json.loads(one.payload) for one in messages if one.topic.startswith("homeassistant/")]
    assert discovery
    for document in discovery:
        assert not [text for text in texts_of(document) if any(sign in text for sign in ("{{", "{%", "{#"))]
    assert not [one.topic for one in messages if "{" in one.topic]
    values = {one.topic: one.payload for one in messages}
    assert values["mbusd/heat/customer_location"] == template  # the value itself is what the meter said


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_of_ours_stay(template: str) -> None:
    document: JsonValue = {"a": [template, {"val_tpl": template, "n": 1, "b": None}], "json_attr_tpl": template}
    taken = inert(document)
    assert isinstance(taken, dict)
    assert taken["json_attr_tpl"] == template
    assert not [text for text in texts_of(taken) if any(sign in text for sign in ("{{", "{%", "{#"))]
    assert inert({"name": "küche {x} }}", "ids": ["a"], "t": True}) == {"name": "küche {x} }}", "ids": ["a"], "t": True}
