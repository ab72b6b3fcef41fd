"""What was overheard, told: each exchange as lines for people or as a JSON document, and at the end who was heard."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from mbusd import exact_json
from mbusd.commands.output import say
from mbusd.commands.tables import header_line, plain
from mbusd.document import document
from mbusd.exact_json import JsonValue
from mbusd.line.transport import Port
from mbusd.mbus.diagnosis import diagnose
from mbusd.mbus.exchanges import Direction, Exchange, Heard, MeterSeen, Outcome, name_of
from mbusd.mbus.frames import Ack, LongFrame, Nack, Noise, ShortFrame, encode
from mbusd.mbus.link import describe
from mbusd.mbus.observation import Observation
from mbusd.mbus.tap import Tap
from mbusd.mbus.telegram import Telegram
from mbusd.mbus.verdict import Observations
from mbusd.normalise import reading

MOST_VALUES = 8  # of a telegram on one line
MOST_EXCHANGES = 200  # the last ones, for the diagnosis
_ERRORS: tuple[Outcome, ...] = ("silent", "unreadable", "collision", "unexpected", "unasked", "noise")
_UNREADABLE: dict[Direction | None, str] = {
    "master": "unreadable request",
    "meter": "unreadable bytes of a meter",
    None: "unreadable bytes",
}
_SIGNS: dict[Direction | None, str] = {"master": ">", "meter": "<", None: "?"}


class Teller:
    """Exchanges on stdout, as lines for people or as documents; keeps the last ones for the diagnosis."""

    def __init__(self, *, as_json: bool) -> None:
        self.recent: deque[Exchange] = deque(maxlen=MOST_EXCHANGES)
        self.counts: Counter[Outcome] = Counter()
        self._as_json = as_json
        self._offset = time.time() - time.monotonic()

    def show(self, exchanges: Iterable[Exchange]) -> None:
        """Print them at once: who watches wants to see them come."""
        for exchange in exchanges:
            self.recent.append(exchange)
            self.counts[exchange.outcome] += 1
            lines = [exact_json.dumps(self._document(exchange))] if self._as_json else self._lines(exchange)
            for line in lines:
                say(line)

    def _when(self, at: float) -> datetime:
        moment = datetime.fromtimestamp(at + self._offset, UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def _lines(self, exchange: Exchange) -> Iterator[str]:
        heard = [(one, _said(exchange, one)) for one in exchange.answers]
        if exchange.request and exchange.frame:
            again = f" (repetition {exchange.repetition})" * bool(exchange.repetition)
            heard.insert(0, (exchange.request, f"> {name_of(exchange.frame)}{again}"))
        for one, words in heard:
            yield f"{self._when(one.begin).astimezone():%H:%M:%S.%f}"[:-3] + f" {words}"
        if exchange.outcome == "silent":
            yield f"{'':12} < (silence)"
        for remark in exchange.remarks:
            yield f"{'':12} ! {remark}"

    def _document(self, exchange: Exchange) -> dict[str, JsonValue]:
        frame, latency = exchange.frame, exchange.latency
        asked = None if frame is None else {"hex": _hex(encode(frame)), "name": name_of(frame), **_fields(frame)}
        return {
            "time": self._when(exchange.begin),
            "outcome": exchange.outcome,
            "meter": exchange.meter,
            "request": asked,
            "fcb": exchange.fcb,
            "repetition": exchange.repetition,
            "latency": None if latency is None else round(latency, 4),
            "access_number": exchange.access_number,
            "answers": [
                {"time": self._when(one.begin), "hex": _hex(one.data), "document": document(one.data)}
                for one in exchange.answers
            ],
            "remarks": list(exchange.remarks),
        }


def _fields(frame: ShortFrame | LongFrame) -> dict[str, JsonValue]:
    ci = frame.ci if isinstance(frame, LongFrame) else None
    return {"control": frame.control, "address": frame.address, "ci": ci}


def _said(exchange: Exchange, heard: Heard) -> str:
    """An answer in words, with its direction: who sent it and the values that count most."""
    match heard.event:
        case Ack():
            return "< E5"
        case Nack():
            return "< A2"
        case Noise():
            words = describe(heard.event)
            if exchange.request is None or heard.sender == "master":
                words = words.replace("unreadable answer", _UNREADABLE[heard.sender])
            return f"{_SIGNS[heard.sender]} {words}"
        case frame if exchange.telegram is None or exchange.telegram.frame != frame:
            return f"< {_hex(heard.data)}" + f": {exchange.problem}" * bool(exchange.problem)
        case _:
            return f"< {header_line(document(heard.data))}: {_values(exchange.telegram)}"


def _values(telegram: Telegram) -> str:
    taken = reading("", [telegram], datetime.now(UTC)).measurements
    words = [f"{item.key} {plain(item.value)} {item.unit or ''}".strip() for item in taken if item.value is not None]
    return ", ".join(words[:MOST_VALUES]) + f" and {len(words) - MOST_VALUES} more" * (len(words) > MOST_VALUES)


def summary(tap: Tap, teller: Teller, port: Port) -> Iterator[str]:
    """Who was seen how often, what went wrong, and what that may be."""
    meters, counts = tap.meters(), teller.counts
    yield f"{counts.total()} exchanges, {len(meters)} addresses" + "".join(
        f", {counts[outcome]} {outcome}" for outcome in _ERRORS if counts[outcome]
    )
    for meter in meters:
        yield f"  {_meter_line(meter)}"
    trouble = _trouble(tap, teller, port)
    if trouble:
        yield trouble


def _meter_line(meter: MeterSeen) -> str:
    identity = meter.identity
    who = meter.meter if identity is None or identity.digits == meter.meter else f"{meter.meter} ({identity.digits})"
    often = "" if meter.interval is None else f", every {meter.interval:.1f} s"
    errors = [(meter.repetitions, "repetitions"), (meter.silent, "silent"), (meter.unreadable, "unreadable")]
    told = "".join(f", {number} {name}" for number, name in errors if number)
    return f"{who}: {meter.read_outs} read-outs{often}, {meter.requests} requests{told}"


def _trouble(tap: Tap, teller: Teller, port: Port) -> str | None:
    """What is odd about the tap itself, else about the bus."""
    recent, counts = teller.recent, teller.counts
    asked = any(exchange.request for exchange in recent)
    answered = any(not isinstance(one.event, Noise) for exchange in recent for one in exchange.answers)
    if not recent:
        return "nothing was heard: is the adapter connected to the bus, and does a master ask?"
    if not asked and not answered:
        return _unreadable(b"".join(one.data for exchange in recent for one in exchange.answers), port.baudrate)
    if 2 * tap.crossed > counts.total():
        return "the two ports are swapped: the first is to hear the master (voltage), the second the meters (current)"
    if not answered:
        return "only requests were heard: either no meter answers, or the meters' current needs a second adapter"
    if not asked:
        return "only answers were heard: the master's voltage needs an adapter of its own"
    observed = [_observed(exchange) for exchange in recent if exchange.frame]
    verdict = diagnose(Observations(observed, sets_rate=port.sets_rate))
    return None if verdict is None else f"diagnosis: {verdict}"


def _unreadable(heard: bytes, baudrate: int) -> str:
    if set(heard) == {0}:
        return f"diagnosis: {diagnose(Observations(idle=heard))}"
    return f"nothing readable in {len(heard)} bytes: is {baudrate} Bd the rate of this bus, and the port 8E1?"


def _observed(exchange: Exchange) -> Observation:
    assert exchange.frame is not None  # noqa: S101 - only such are handed over
    return Observation(exchange.frame, b"".join(one.data for one in exchange.answers))


def _hex(data: bytes) -> str:
    return data.hex().upper()
