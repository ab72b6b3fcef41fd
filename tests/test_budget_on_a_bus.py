"""A battery's budget on a real wire: what is not asked any more, whoever wants it."""

from datetime import UTC, datetime
from pathlib import Path

from mbusd.model import ReadingTaken
from mbusd.simulation.simulator import Fault
from tests.test_meter import SNAPPY
from tests.test_poller import Wiretap, asked, house, meter, named


def budgeted(most: int, **more: object) -> dict[str, object]:
    return {"name": "m5", "address": 5, "max_reads_per_day": most, "timezone": "UTC", **more}


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


async def test_a_request_beyond_the_budget_is_refused_and_the_meter_left_alone(tmp_path: Path) -> None:
    day = today()
    wire = Wiretap(meter(5), meter(6))
    async with house(wire, tmp_path, budgeted(2), *named(6)) as (poller, _):
        for _ in range(2):
            assert (await asked(poller, "m5")).error is None
        heard = len(wire.heard)
        outcome = await asked(poller, "m5")
        assert day != today() or len(wire.heard) == heard
        everybody = await poller.read_all()
    if day == today():  # not over midnight
        assert outcome.error is not None
        assert outcome.error.startswith("m5: its budget of 2 read-outs a day is used up; it is full again at 00:00")
        assert [reading.meter for reading in everybody.readings] == ["m6"]
        assert list(everybody.failed) == ["m5"]


async def test_force_reads_it_all_the_same(tmp_path: Path) -> None:
    async with house(Wiretap(meter(5)), tmp_path, budgeted(1)) as (poller, _):
        for _ in range(3):
            assert (await poller.read("m5", is_forced=True)).readings


async def test_a_read_out_that_fails_has_cost_as_much(tmp_path: Path) -> None:
    day = today()
    deaf = meter(5)
    deaf.behaviour.deaf = True
    async with house(Wiretap(deaf), tmp_path, budgeted(2), window=SNAPPY) as (poller, _):
        for _ in range(2):
            assert "no answer" in str((await asked(poller, "m5")).error)
        deaf.behaviour.deaf = False
        outcome = await asked(poller, "m5")
    assert day != today() or "its budget of 2 read-outs a day is used up" in str(outcome.error)


async def test_a_second_look_at_a_stranger_costs_too(tmp_path: Path) -> None:
    day = today()
    first, second = meter(5), meter(5, identification="77777777")
    wire = Wiretap(first)
    async with house(wire, tmp_path, budgeted(2)) as (poller, seen):
        assert (await asked(poller, "m5")).readings
        wire.meters[:] = [second]
        outcome = await asked(poller, "m5")
        (taken,) = seen.of(ReadingTaken)
    assert taken.reading.identity.identification == "00000005"
    assert day != today() or "there is no second look to be sure: its budget" in str(outcome.error)


async def test_alarms_are_paid_from_the_same_budget(tmp_path: Path) -> None:
    day = today()
    wire = Wiretap(meter(5))
    async with house(wire, tmp_path, budgeted(30, alarms="1h")) as (poller, seen):
        await asked(poller, "m5")
        await seen.until(
            lambda: any(frame.control in (0x5A, 0x7A) for frame in wire.heard if hasattr(frame, "control"))
        )
        outcomes = [await asked(poller, "m5") for _ in range(29)]
    assert day != today() or [one.error is None for one in outcomes] == [True] * 28 + [False]


async def test_bytes_that_are_lost_on_the_way_are_no_second_read_out(tmp_path: Path) -> None:
    clumsy = meter(5)
    async with house(Wiretap(clumsy), tmp_path, budgeted(2), window=SNAPPY) as (poller, _):
        clumsy.faults.extend([Fault.DROP])
        assert (await asked(poller, "m5")).readings
        assert (await asked(poller, "m5")).readings
