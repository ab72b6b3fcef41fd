"""decode: telegrams in hex, from arguments or line by line from stdin, as tables, JSON, or explained byte by byte."""

import sys
from collections.abc import Iterable, Iterator, Sequence

from mbusd import exact_json
from mbusd.commands.output import complain, say
from mbusd.commands.tables import PlainConsole, header_line, record_table
from mbusd.document import bytes_of, document, refusal
from mbusd.exact_json import JsonValue
from mbusd.explain import explain
from mbusd.mbus.errors import DecodeError


def run(words: Sequence[str], *, as_json: bool, explained: bool) -> int:
    """Decode everything; 0, or without `as_json` 1 if any telegram was bad."""
    console = PlainConsole(soft_wrap=True)
    bad = 0
    for text in _telegrams(words):
        try:
            data = bytes_of(text)
        except DecodeError as error:
            said = refusal(error)
        else:
            said = document(data)
            if explained:
                _explain(data)
        if as_json:
            say(exact_json.dumps(said))
        elif not explained or not isinstance(said["frame"], dict):
            _show(console, text, said)
        bad += said["error"] is not None
    return 0 if as_json or not bad else 1


def _telegrams(words: Sequence[str]) -> Iterator[str]:
    """A telegram an argument, or one in all where each argument is a byte; a line of stdin where there is none."""
    if words and all(len(word) <= 2 for word in words):
        words = ["".join(words)]
    lines: Iterable[str] = words or sys.stdin or ()  # None where stdin is closed
    return (line.strip() for line in lines if line.strip())


def _explain(data: bytes) -> None:
    for offset, piece, words in explain(data):
        say(f"{offset:4}  {piece.hex(' ').upper():<36} {words}")
    say()


def _show(console: PlainConsole, text: str, said: dict[str, JsonValue]) -> None:
    error = said["error"]
    if isinstance(error, dict):
        where = "" if error["offset"] is None else f" at byte {error['offset']}"
        complain(f"mbusd: {text[:60]}{'…' * (len(text) > 60)}: {error['message']}{where} ({error['code']})")
        if said["header"] is None and not said["records"]:
            return
    console.print(header_line(said))
    records = said["records"]
    if isinstance(records, list) and records:
        console.print(record_table(records))
