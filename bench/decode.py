"""What a telegram costs from its bytes to the MQTT payload, beside other decoders: python -m bench.decode [--peers].

The answers of ../shared/telegrams, else the telegrams of the shipped profiles and the tests. Between two rounds the
values in them move, as those of meters do: integers, decimals, reals and clocks say something else each time. All are
timed round by round in turns, in processor time, each with the same bytes; the median of the rounds counts.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from bench.decode_peers import peers
from mbusd import normalise
from mbusd.configuration.profile_shapes import FileShape
from mbusd.configuration.strict_yaml import read, shaped
from mbusd.mbus.fetching import address_in
from mbusd.mbus.frames import LongFrame, encode, parse
from mbusd.mbus.heads import SHORT
from mbusd.mbus.layout import layouts_of
from mbusd.mbus.profile import Profile
from mbusd.mbus.records import Record
from mbusd.mbus.telegram import Telegram, decode, decode_whole
from mbusd.model import Reading
from mbusd.profiles import shelf_of
from mbusd.sinks.state import state
from mbusd.values import recognition

SHARED = Path(__file__).parents[2] / "shared" / "telegrams"
OWN = Path(__file__).parents[1] / "mbusd" / "profile_data"
ZONE = ZoneInfo("Europe/Berlin")
MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)
VERSIONS = 16  # of each telegram

Version = list[tuple[bytes, Profile | None]]


def answers() -> list[bytes]:
    """Real answers of meters where they are at hand, else the project's own."""
    if SHARED.exists():
        lines = map(json.loads, (SHARED / "telegrams.jsonl").read_text("utf-8").splitlines())
        return [bytes.fromhex(line["hex"]) for line in lines if (line["kind"], line["direction"]) == ("ok", "slave")]
    shapes = (shape for path in sorted(OWN.glob("*.yaml")) for shape in shaped(read(path), FileShape).profiles)
    return [data for shape in shapes if shape.test is not None for data in shape.test.telegram]


def moved(frame: bytes, chance: random.Random) -> bytes:
    """The same telegram with other values; whatever has none, or is text or a date, stays."""
    long = _long(frame)
    decode(long)
    said = decode(long)
    if said.layout is None or said.layout.outline is None or long.ci == 0x76:
        return frame
    data = bytearray(long.data)
    for (start, end), record in zip(said.layout.outline.spans, said.records, strict=True):
        data[start:end] = _other(record, chance)
    return encode(LongFrame(long.control, long.address, long.ci, bytes(data)))


def _long(frame: bytes) -> LongFrame:
    long = parse(frame)
    if not isinstance(long, LongFrame):
        raise TypeError(f"this is no answer with data: {frame.hex()}")
    return long


def _other(record: Record, chance: random.Random) -> bytes:
    """Data of another value of about the same size."""
    raw, coding = bytearray(record.raw), record.dib[0] & 0x0F
    if record.problem is not None or not raw:
        return bytes(raw)
    if record.kind == "datetime" and len(raw) == 4:
        raw[0] = raw[0] & 0xC0 | chance.randrange(60)
    elif record.kind == "number" and coding in (0x09, 0x0A, 0x0B, 0x0C, 0x0E):
        for at in range(max(1, len(raw) - 1)):
            raw[at] = int(f"{chance.randrange(100):02}", 16)
    elif record.kind == "number" and coding == 0x05:
        raw[:2] = chance.randbytes(2)
    elif record.kind == "number" and coding != 0x0D:
        for at in range(max(1, len(raw) // 2)):
            raw[at] = chance.randrange(1, 0x7F)
    return bytes(raw)


def versions(frames: Sequence[bytes]) -> list[Version]:
    """All telegrams as often as there are versions, each with the profile of its meter."""
    shelf, _ = shelf_of(None)
    chance = random.Random(1)  # noqa: S311 - values, not secrets
    profiles = [shelf.of(address_in(decode_whole(_long(frame)))) for frame in frames]
    told = [[frame, *(moved(frame, chance) for _ in range(VERSIONS - 1))] for frame in frames]
    return [[(told[at][number], profiles[at]) for at in range(len(frames))] for number in range(VERSIONS)]


def payload(frame: bytes, profile: Profile | None) -> str:
    """The daemon's way from bytes to payload."""
    return state(normalise.reading("meter", (decode(_long(frame)),), MOMENT, ZONE, None, profile))


def payload_whole(frame: bytes, profile: Profile | None) -> str:
    """The same record by record."""
    return state(normalise.reading_whole("meter", (decode_whole(_long(frame)),), MOMENT, ZONE, None, profile))


def first_of_each(version: Version) -> Version:
    """One telegram of each layout."""
    unlike: dict[object, tuple[bytes, Profile | None]] = {}
    for frame, profile in version:
        said = decode(_long(frame))
        unlike.setdefault(said.layout or frame, (frame, profile))
    return list(unlike.values())


def forget_layouts() -> None:
    """As if no meter had been heard before; what bytes mean is known."""
    layouts_of.cache_clear()
    recognition.forget()


def forget_everything() -> None:
    """As in a process that has just started."""
    forget_layouts()
    SHORT.clear()
    for name, module in list(sys.modules.items()):
        if name.startswith("mbusd."):
            for thing in vars(module).values():
                if hasattr(thing, "cache_clear"):
                    thing.cache_clear()


def heard_once(version: Version, forget: Callable[[], None]) -> None:
    """As if each of these telegrams had been heard once, and nothing else since `forget`."""
    forget()
    for frame, profile in version:
        payload(frame, profile)


@dataclass(slots=True)
class Case:
    """One way to measure: `work` on every telegram of a round, `before` it `prepare`."""

    name: str
    work: Callable[[bytes, Profile | None], object]
    told: Sequence[Version]
    prepare: Callable[[], None] = lambda: None

    def turn(self) -> float:
        """Processor seconds a telegram."""
        self.prepare()
        work = self.work
        begun = time.process_time()
        for version in self.told:
            for frame, profile in version:
                work(frame, profile)
        return (time.process_time() - begun) / sum(map(len, self.told))


def stages(told: Sequence[Version]) -> Iterator[tuple[str, float]]:
    """Where the time of a known layout goes, microseconds a telegram."""
    frames = [frame for version in told for frame, _ in version]
    profiles = [profile for version in told for _, profile in version]
    longs = [_long(frame) for frame in frames]
    said = [decode(long) for long in longs]
    readings = [_read(one, profile) for one, profile in zip(said, profiles, strict=True)]
    count = len(frames)
    yield "bytes to frame: lengths, checksum", _median(lambda: [parse(frame) for frame in frames], count)
    yield "frame to telegram: which layout", _median(lambda: [decode(long) for long in longs], count)
    reads = _median(lambda: [_read(one, profile) for one, profile in zip(said, profiles, strict=True)], count)
    yield "telegram to reading: which form, the values", reads
    yield "reading to payload", _median(lambda: [state(one) for one in readings], count)


def _read(said: Telegram, profile: Profile | None) -> Reading:
    return normalise.reading("meter", (said,), MOMENT, ZONE, None, profile)


def _median(work: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(20):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times) / count * 1e6


def measure(rounds: int, folder: Path | None) -> None:
    """Print the tables."""
    frames = answers()
    told = versions(frames)
    learn(told)
    first = [first_of_each(told[0])]
    known = [
        Case("mbusd, layout known, values moved", payload, told),
        Case("mbusd, layout known, the same again", payload, told[:1] * VERSIONS),
    ]
    others = [
        Case("mbusd, layout first seen", payload, first, forget_layouts),
        Case("mbusd, its second telegram", payload, first, lambda: heard_once(first[0], forget_layouts)),
        Case("mbusd, first seen by a new process", payload, first, forget_everything),
        Case("mbusd, its second telegram there", payload, first, lambda: heard_once(first[0], forget_everything)),
        Case("mbusd, record by record", payload_whole, told[:2]),
    ]
    size, total = statistics.mean(map(len, frames)), len(frames) * len(told)
    print(f"{len(frames)} answers of {size:.0f} bytes, {len(first[0])} layouts; {rounds} rounds, µs a telegram\n")
    times: dict[str, list[float]] = {case.name: [] for case in (*known, *others)}
    decoded: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "telegrams"
        path.write_text("".join(" ".join(frame.hex() for frame, _ in version) + "\n" for version in told), "utf-8")
        strangers = list(peers(folder, path)) if folder is not None else []
        for number in range(rounds):
            learn(told)
            for case in (*known, *(others if number % 4 == 0 else ())):
                times[case.name].append(case.turn() * 1e6)
            for peer in strangers:
                times.setdefault(peer.name, []).append(peer.turn() / total * 1e6)
                decoded[peer.name] = peer.decoded * len(frames) // total
        for peer in strangers:
            peer.stop()
    _table(times, decoded, len(frames))
    learn(told)
    print("\n| a known layout | µs |\n|---|--:|")
    for name, taken in stages(told):
        print(f"| {name} | {taken:.2f} |")


def learn(told: Sequence[Version]) -> None:
    """Hear all telegrams, and see that both ways say the same of them."""
    for version in (told[0], told[0], *told):
        for frame, profile in version:
            if payload(frame, profile) != payload_whole(frame, profile):
                raise SystemExit(f"the two ways differ for {frame.hex()}")


def _table(times: dict[str, list[float]], decoded: dict[str, int], count: int) -> None:
    c = next((name for name in times if name.startswith("libmbus")), None)
    print("| | median | least | ÷ libmbus | decoded |\n|---|--:|--:|--:|--:|")
    for name, taken in times.items():
        median = statistics.median(taken)
        ratio = "" if c is None else f"{median / statistics.median(times[c]):.2f}"
        print(f"| {name} | {median:.1f} | {min(taken):.1f} | {ratio} | {decoded.get(name, count)} of {count} |")


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--peers", nargs="?", type=Path, const=Path(tempfile.gettempdir()) / "mbusd-bench-peers",
                       metavar="FOLDER", help="with other decoders, which are fetched into this folder")  # fmt: skip
    words.add_argument("--rounds", type=int, default=20)
    given = words.parse_args()
    measure(given.rounds, given.peers)
