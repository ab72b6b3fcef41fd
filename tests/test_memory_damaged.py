"""A state file that a failing disk has changed: whatever stands in it, the daemon starts, and reads its meters."""

import json
import time
from copy import deepcopy
from dataclasses import asdict, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbusd.configuration.settings import BusSettings
from mbusd.line.bus import Bus
from mbusd.line.transport import Port
from mbusd.memory import FILE, Memory
from mbusd.model import Measurement, Reading
from mbusd.poller import Poller
from mbusd.trust.plausibility import Counters
from tests.sinks.readings import HEAT

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NOW, WALL = 1000.0, datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
ENERGY = Measurement("energy", "energy", "number", Decimal("18.36"), "kWh", 2)
POWER = Measurement("power_maximum", "power", "number", 900, "W", 0, function="maximum")
READING = Reading("m5", HEAT, datetime.fromtimestamp(WALL, UTC), (), (ENERGY, POWER))
HOUSE = BusSettings.model_validate(
    {
        "name": "cellar",
        "port": "/dev/ttyNONE",
        "discover": "both",
        "meters": [{"name": "m5", "address": 5, "interval": "12h", "max_reads_per_day": 3, "timezone": "UTC"}],
    }
)
ABSURD_NUMBERS: list[Json] = [
    0,
    -1,
    10**17,
    -(10**30),
    10**400,
    0.5,
    1e308,
    -1e308,
    *map(float, ("nan", "inf", "-inf")),
]
ABSURD_TEXTS: list[Json] = ["", "x" * 1000, "\ud800", "\0", "NaN", "1E999", "9999-12-31", "0001-01-01T00:00:00+14:00"]
ABSURD_SHAPES: list[Json] = [None, True, [], {}, [[[]]], {"a": 1}, [{}], ["9999-12-31", 3], ["2026-11-20", -5]]
ABSURD = [*ABSURD_NUMBERS, *ABSURD_TEXTS, *ABSURD_SHAPES]


def sound_state() -> dict[str, Json]:
    """What a life has left that has found a meter, spent a budget, and believed counters."""
    counters = Counters()
    for seconds in (0.0, 10.0):
        assert counters.judge(READING, NOW + seconds).is_accepted
    found: list[Json] = [{"address": "7", "found_at": "2026-11-20T12:00:00+00:00", "identity": asdict(HEAT)}]
    with TemporaryDirectory() as folder:
        memory = Memory.load(Path(folder))
        memory.set_note("budgets of cellar", {"5": (date(2026, 11, 20), 2)})
        memory.set_note("counters of cellar", {"5": counters.noted(NOW + 10.0, WALL)})
        memory.save()
        state: dict[str, Json] = json.loads((Path(folder) / FILE).read_text())
    return state | {"buses": {"cellar": {"port": "/dev/ttyNONE", "scanned": "both", "meters": found}}}


def places(document: Json) -> list[tuple[str | int, ...]]:
    """Where anything stands."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [(key, *more) for key, value in inner for more in ((), *places(value))]


def put(document: Json, place: tuple[str | int, ...], value: Json) -> None:
    """Something else there, if the place is still there."""
    here = document
    for key in place[:-1]:
        if not (isinstance(here, dict) and key in here) and not (
            isinstance(here, list) and isinstance(key, int) and key < len(here)
        ):
            return
        here = here[key]  # type: ignore[index]  # each key fits what it is a key of: see above
    if isinstance(here, dict):
        here[str(place[-1])] = value
    elif isinstance(here, list) and isinstance(place[-1], int) and place[-1] < len(here):
        here[place[-1]] = value


def live(memory: Memory) -> None:
    """What a start, a poll and the end make of what is remembered."""
    memory.settle({"cellar": "/dev/ttyNONE"})
    poller = Poller(HOUSE, Bus(Port("/dev/ttyNONE")), lambda _: None, memory=memory)
    poller.tell_all()
    assert "m5" in poller.names
    for meter in poller.meters:
        meter.look(NOW, WALL)
        meter.refusal(WALL)
        meter.spend(WALL)
        if meter.counters is not None:
            for seconds in (60.0, 120.0):
                meter.counters.judge(READING, time.monotonic() + seconds)
            memory.set_note("counters of cellar", {"5": meter.counters.noted(time.monotonic(), WALL)})
    memory.save()


STATE = sound_state()
MANY_IN_ONE_LOG = (HealthCheck.function_scoped_fixture,)  # it is cleared


@settings(max_examples=300, deadline=None, suppress_health_check=MANY_IN_ONE_LOG)
@given(st.data())
def test_whatever_stands_in_the_state_file_the_daemon_starts_and_reads(
    caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    caplog.clear()
    state = deepcopy(STATE)
    for _ in range(data.draw(st.integers(1, 4))):
        put(state, data.draw(st.sampled_from(places(STATE))), deepcopy(data.draw(st.sampled_from(ABSURD))))
    with TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(json.dumps(state))
        live(Memory.load(Path(folder)))
        assert len(caplog.messages) <= 1, "a line for the file, however much of it is damaged"
        again = Memory.load(Path(folder))
        assert json.loads((Path(folder) / FILE).read_text())["version"] == 1
        live(again)


@settings(max_examples=100, deadline=None, suppress_health_check=MANY_IN_ONE_LOG)
@given(st.data())
def test_a_state_file_that_is_cut_or_overwritten_does_not_hinder_the_start(
    caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    caplog.clear()
    whole = json.dumps(STATE).encode()
    cut = data.draw(st.integers(0, len(whole)))
    rest = data.draw(st.sampled_from([b"", b"\0" * 512, b"[" * 5000, b"1" * 5000, b"NaN", b"\xff\xfe", whole[:100]]))
    with TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_bytes(whole[:cut] + rest + whole[cut + len(rest) :])
        live(Memory.load(Path(folder)))


@pytest.mark.parametrize("part", [part.name for part in fields(HEAT)])
def test_an_identity_without_one_of_its_parts_is_none(part: str, caplog: pytest.LogCaptureFixture) -> None:
    """A write that went wrong has spoilt its name."""
    text = json.dumps(STATE)
    before, identity, after = text.partition('"identity": ')
    assert f'"{part}":' in after
    with TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(before + identity + after.replace(f'"{part}":', f'"{part}?":'))
        live(Memory.load(Path(folder)))
    assert not caplog.messages


def test_what_is_sound_is_taken() -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(json.dumps(STATE))
        memory = Memory.load(Path(folder))
        poller = Poller(HOUSE, Bus(Port("/dev/ttyNONE")), lambda _: None, memory=memory)
    known, found = poller.meters
    assert known.budget is not None
    assert known.budget.spent == (date(2026, 11, 20), 2)
    assert known.counters is not None
    assert known.counters.is_known
    assert found.identity == HEAT
