"""What strangers may send, guided by coverage: nothing but the decoder's and the configuration's own errors may come.

    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install . atheris
    /tmp/fuzz/bin/python -m bench.fuzz telegrams -atheris_runs=1000000 -max_len=280

The first word names what is fuzzed: frames, telegrams, published, configuration, requests. The rest are options of
libFuzzer. It ends with the first finding, and writes the input that caused it into the working directory.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mbusd"]):
    from mbusd import config, document
    from mbusd.configuration.settings import Settings
    from mbusd.exact_json import JsonValue
    from mbusd.mbus.errors import DecodeError
    from mbusd.mbus.fetching import address_of
    from mbusd.mbus.frames import FrameReader, LongFrame, Noise, encode, parse
    from mbusd.mbus.telegram import Telegram, decode
    from mbusd.model import ReadingTaken
    from mbusd.normalise import reading
    from mbusd.profiles import Shelf, shipped
    from mbusd.sinks.publisher import Publisher
    from mbusd.sinks.topics import Topics


class Surprise(Exception):
    """A finding that raises nothing of its own."""


WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)
HEADER = bytes.fromhex("78563412 2D2C 08 04 2A 00 0000")
TELEGRAMS = (
    "72" + HEADER.hex() + "0406 6F000000 0413 B5010000 025A 1C07 046D 1E2C 913A 4406 01000000 426C 7F2C 0F 0102",
    "72" + HEADER.hex() + "0C78 87654321 0D78 03 434241 0DFD0F C4 123456 3B2A 050000 8E80 5003 112233445566 1F",
    "72" + HEADER.hex() + "8D04 8D 1E 0A 01 01 01 01 02 02 02 02 03 0DFD8E 0D E4 11 84 E5 40 13 02 FD17 0000"
    " 05 2E 0000C03F",
    "7A 01 00 0000 06 06 010203040506 076D 0C 22 11 D5 29 00 00 0A 5A 0F F0 04FD08 01000000",
    "73 78563412 0A 00 E9 7E 01000000 35010000",
    "71 10",
    "70 08",
)
REQUESTS = (
    'read {"meter": "flat_1", "force": true, "transaction": 1}',
    'scan {"bus": "cellar", "mode": "both", "cancel": false}',
    'interval {"meter": "flat_1", "interval": "10m"}',
    'set_address {"meter": "flat_1", "value": 5}',
    "decode 68 03 03 68 08 05 70 7D 16",
    "log_level debug",
)
CONFIGURATIONS = (
    """mqtt: {host: broker, username: u, tls: true}
buses: [{port: /dev/ttyUSB0, baudrate: 2400, meters: [{name: heat, address: 5, interval: 15m}]}]""",
    """buses:
  - port: tcp://10.0.0.9:10001
    discover: both
    meters:
      - name: flat_1
        address: 12345678
        schedule: "0 0 * * *"
        active: {when: "power > 0", interval: 10s}
        keys: {energy: {rename: heat, scale: 0.1}}
""",
    "homeassistant: {enabled: false}\nemoncms: {enabled: true, format: json}\nbuses: [{port: rfc2217://[::1]:4000}]",
)
_TOPICS = Topics()
_SHELF = Shelf(shipped())
_SETTINGS = Settings.model_validate({"buses": [{"port": "/dev/ttyUSB0"}]})


def frames(data: bytes) -> None:
    """However bytes are cut, they give the same frames, and none is lost."""
    at_once, by_pieces = FrameReader(), FrameReader()
    events = [*at_once.feed(data), *at_once.flush()]
    size = 1 + (data[0] if data else 0) % 7
    pieces = [event for begin in range(0, len(data), size) for event in by_pieces.feed(data[begin : begin + size])]
    pieces += by_pieces.flush()
    for found in (events, pieces):
        said = b"".join(event.data if isinstance(event, Noise) else encode(event) for event in found)
        _hold(said == data, f"{said.hex()} {data.hex()}")
    wanted = [event for event in events if not isinstance(event, Noise)]
    _hold(wanted == [event for event in pieces if not isinstance(event, Noise)], "cut otherwise, other frames")
    document.document(data)


def telegrams(data: bytes) -> None:
    """An answer with a right checksum and any content: a reading, whose document is JSON, or the decoder's error."""
    said = _decoded(data)
    if said is not None:
        profile = _SHELF.of(address_of(said.header) if said.header else None)
        taken = reading("meter", [said, said] if len(data) % 7 == 0 else [said], WHEN, profile=profile)
        document_of_it, *values = _TOPICS.of_reading(taken, ())
        _is_json(document_of_it.payload)
        for message in values:
            _hold(not set(message.topic) & set("+#\x00"), message.topic)


def published(data: bytes) -> None:
    """All that is said of such a reading, discovery included: JSON, and no template but our own."""
    said = _decoded(data)
    if said is None:
        return
    publisher = Publisher(_SETTINGS, "0", WHEN, {})
    list(publisher.learnt())
    for message in publisher.take(ReadingTaken(reading("meter", [said], WHEN))):
        _hold(not set(message.topic) & set("+#\x00"), message.topic)
        if message.payload.startswith("{") and not message.topic.startswith("mbusd/meter/"):  # a value may be any text
            _is_json(message.payload)
        if message.topic.startswith("homeassistant/"):
            _hold(not any(map(_is_template, _texts(json.loads(message.payload)))), message.payload)


def configuration(data: bytes) -> None:
    """Any text is settings or a ConfigError."""
    try:
        config.parse(data.decode("utf-8", "replace"), "fuzz", {})
    except config.ConfigError as error:
        _hold(bool(error.problems), "refused without a reason")


def requests(data: bytes) -> None:
    """Any request is understood or refused in words, and its answer is JSON."""
    name, _, payload = data.decode("utf-8", "replace").partition(" ")
    asked = _TOPICS.asked(f"mbusd/bridge/request/{name}", payload)
    _hold(asked is None or asked.command is not None or bool(asked.error), "refused without a reason")


def _decoded(data: bytes) -> Telegram | None:
    if not 1 <= len(data) <= 253:
        return None
    try:
        frame = parse(encode(LongFrame(0x08, 5, data[0], data[1:])))
        return decode(frame) if isinstance(frame, LongFrame) else None
    except DecodeError:
        return None


def _hold(is_true: bool, what: str) -> None:  # noqa: FBT001 - an assertion that -O does not take away
    if not is_true:
        raise Surprise(what)


def _is_json(payload: str) -> None:
    json.loads(payload, parse_constant=_no_json)


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


def _texts(node: JsonValue, key: str = "") -> Iterator[str]:
    """All texts in a discovery message but those that are templates of ours."""
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from _texts(inner, name)
    elif isinstance(node, list):
        for inner in node:
            yield from _texts(inner, key)
    elif isinstance(node, str) and not key.endswith(("template", "_tpl")):
        yield node


def _no_json(word: str) -> None:
    raise Surprise(f"{word} is no JSON")


def _seeds(name: str) -> list[bytes]:
    if name == "configuration":
        return [text.encode() for text in CONFIGURATIONS]
    if name == "requests":
        return [request.encode() for request in REQUESTS]
    plain = [bytes.fromhex(text) for text in TELEGRAMS]
    if name == "frames":
        return [encode(LongFrame(0x08, 5, one[0], one[1:])) for one in plain] + [b"\xe5", bytes.fromhex("105B055F16")]
    return plain


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (frames, telegrams, published, configuration, requests)
}


def main() -> None:
    """Fuzz what the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"python -m bench.fuzz {'|'.join(TARGETS)} [options of libFuzzer]")
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(_seeds(name)):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *sys.argv[2:], folder], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
