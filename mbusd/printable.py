"""Text from the bus, the broker, files and the network, as a log or a terminal may have it.

Whatever is no visible letter is shown as its escape: it moves no cursor, begins no line, turns no text round.
"""

import logging
import re
import sys
from types import TracebackType
from typing import IO

_ASTRAL = 0x10000
_PLAIN = re.compile(r"[ -~]*")


def printable(text: str) -> str:
    r"""The same in one line; control codes, line ends, bidirectional overrides and the like as `\u001b`.

    That is how JSON writes them: a JSON document is the same document afterwards.
    """
    if _PLAIN.fullmatch(text) or text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    if code < _ASTRAL:
        return _SHORT.get(letter) or f"\\u{code:04x}"
    high, low = divmod(code - _ASTRAL, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


class OneLine(logging.Formatter):
    """One message is one line, of visible letters only; the lines of a traceback are set in: none passes as one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        first, *more = super().format(record).split("\n")
        return "\n".join([first, *(f"    {printable(line)}" for line in more)])


def log_to(stream: IO[str], form: str, level: int | str) -> None:
    """All that the program has to say in its log, from now on, and the traceback that it ends with, should it."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(form))
    logging.basicConfig(level=level, handlers=[handler])
    sys.excepthook = _last_words


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("mbusd").critical("an error of mbusd's own ends it", exc_info=(kind, error, trace))
