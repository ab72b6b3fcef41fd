"""Text of strangers in a log and on a terminal: visible letters only, a message is one line, JSON the same JSON."""

import json
import logging
import sys
from io import StringIO

import pytest

from mbusd.commands.output import complain, say
from mbusd.printable import OneLine, log_to, printable

CODES = {
    "escape": "\x1b]0;owned\x07",
    "csi": "\x9b31m",
    "return": "good\rbad",
    "line": "one\nERROR: two",
    "backspace": "ab\x08\x08cd",
    "delete": "\x7f",
    "override": "\u202egnp.exe\u202c",
    "isolate": "\u2066x\u2069",
    "mark": "\u200f\u061c",
    "next line": "\x85",
    "separators": "\u2028\u2029",
    "invisible": "\u200b\ufeff",
    "tags": "\U000e0041\U000e007f",
    "surrogate": "\udc9b",
    "null": "\x00",
}


@pytest.mark.parametrize("text", CODES.values(), ids=CODES)
def test_what_moves_a_cursor_or_turns_text_round_is_shown_as_its_escape(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "\\" in shown
    assert printable(json.dumps(text, ensure_ascii=False)).isprintable()
    assert json.loads(printable(json.dumps({text: text}, ensure_ascii=False))) == {text: text}


@pytest.mark.parametrize(
    "text", ["", "heat 21.5 °C", "küche", "電気", "m³ · …", "a\\b", "[/red] {{ x }}", "\U0001f525"]
)
def test_visible_letters_stay(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("text", CODES.values(), ids=CODES)
def test_a_log_message_is_one_line(text: str) -> None:
    record = logging.LogRecord("mbusd", logging.INFO, "x.py", 1, "%s: heard %r %s", (text, text, text), None)
    said = OneLine("%(levelname)s: %(message)s").format(record)
    assert said.isprintable()
    assert said.startswith("INFO: ")


def test_no_line_of_a_traceback_passes_as_a_message() -> None:
    error = ValueError("\x1b[2J\nERROR: all is lost\r\x85INFO: or not")
    record = logging.LogRecord("mbusd", logging.ERROR, "x.py", 1, "oh", (), (ValueError, error, None))
    first, *more = OneLine("%(levelname)s: %(message)s").format(record).split("\n")
    assert first == "ERROR: oh"
    assert more
    assert all(line.startswith("    ") and line.isprintable() for line in more)
    assert any("all is lost" in line for line in more)


def test_the_error_that_ends_the_program_goes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream = logging.getLogger(), StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(root, "level", root.level)
    log_to(stream, "%(levelname)s: %(message)s", "INFO")
    error = RuntimeError("a\x1bb\nERROR: c")
    sys.excepthook(RuntimeError, error, None)
    first, *more = stream.getvalue().splitlines()
    assert first == "CRITICAL: an error of mbusd's own ends it"
    assert all(line.startswith("    ") and line.isprintable() for line in more)


def test_a_line_that_is_printed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for text in CODES.values():
        say(text)
        complain(text)
    said = capsys.readouterr()
    for stream in (said.out, said.err):
        lines = stream.split("\n")[:-1]
        assert len(lines) == len(CODES)
        assert all(line.isprintable() for line in lines)
