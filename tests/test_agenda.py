"""What is next on a wire: requests first, then whoever has waited longest, and few changes of the rate."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from mbusd.configuration.settings import BusSettings
from mbusd.model import Identity, Outcome
from mbusd.polling.agenda import STARVED_SECONDS, STAY_SECONDS, Agenda
from mbusd.polling.meter import Meter

START = 1000.0
READ_OUT = 0.7  # seconds


def meters(*entries: dict[str, object], interval: object = "1h") -> list[Meter]:
    """One for each entry, addresses from 1 on, phases spread over the interval."""
    listed = [{"address": number, "name": f"m{number}", **entry} for number, entry in enumerate(entries, 1)]
    bus = BusSettings.model_validate({"name": "cellar", "port": "/dev/x", "interval": interval, "meters": listed})
    return [Meter.of(one, bus, START, index / len(listed)) for index, one in enumerate(bus.meters)]


def names(errands: Iterable[tuple[float, Meter]]) -> list[str]:
    return [meter.label for _, meter in errands]


def served(agenda: Agenda, until: float, *, seconds: float = READ_OUT) -> list[tuple[float, Meter]]:
    """Everything done from the start until then, and when it began; each takes some seconds and succeeds."""
    done: list[tuple[float, Meter]] = []
    now, rate = START, 2400
    while now < until:
        errand = agenda.next(now, rate, is_open=True)
        if errand is None:
            now += max(0.001, agenda.pause(now))
            continue
        done.append((now, errand.meter))
        now, rate = now + seconds, errand.meter.baudrate
        schedule = errand.meter.schedule if errand.task == "values" else errand.meter.alarms
        assert schedule is not None
        schedule.succeeded(now)
        agenda.answer(errand.meter, Outcome())
    return done


def switches(done: list[tuple[float, Meter]]) -> int:
    rates = [meter.baudrate for _, meter in done]
    return sum(before != after for before, after in pairwise(rates))


# ------------------------------------------------------------------------------------------------ fairness


def test_all_are_read_at_the_start_in_the_order_of_the_file() -> None:
    assert names(served(Agenda(meters({}, {}, {})), START + 3)) == ["m1", "m2", "m3"]


def test_a_manual_meter_is_never_next() -> None:
    agenda = Agenda(meters({"interval": "manual"}))
    assert agenda.next(START + 1e6, 2400, is_open=True) is None
    assert agenda.pause(START) == float("inf")


def test_nothing_is_next_on_a_closed_port_but_what_people_have_asked_for() -> None:
    async def asked() -> None:
        listed = meters({}, {})
        agenda = Agenda(listed)
        assert agenda.next(START, 2400, is_open=False) is None
        agenda.ask(listed[1], START)
        errand = agenda.next(START, 2400, is_open=False)
        assert errand is not None
        assert errand.meter is listed[1]

    asyncio.run(asked())


def test_alarms_have_their_own_time_and_their_fair_share() -> None:
    done = served(Agenda(meters({"alarms": "10s"}, {"interval": "10s"}, {"interval": "10s"})), START + 100)
    times = Counter(names(done))
    assert times["m1"] >= 10  # one read-out, the others are for alarms
    assert max(times.values()) - min(times.values()) <= 2


def test_a_meter_without_a_name_is_read_before_it_is_asked_for_alarms() -> None:
    (nameless,) = meters({"name": None, "alarms": "10s"})
    agenda = Agenda([nameless])
    first = agenda.next(START, 2400, is_open=True)
    assert first is not None
    assert first.task == "values"
    nameless.schedule.succeeded(START)
    assert agenda.next(START, 2400, is_open=True) is None
    assert agenda.pause(START) > 0
    nameless.recognise(Identity("00000005", "SON", 1, 2, "electricity", "00000005EE4D0102"))
    second = agenda.next(START, 2400, is_open=True)
    assert second is not None
    assert second.task == "alarms"


def test_a_manual_meter_is_asked_for_alarms_all_the_same() -> None:
    done = served(Agenda(meters({"alarms": "10s", "interval": "manual"})), START + 100)
    assert 10 <= len(done) <= 11


# ------------------------------------------------------------------------------------------------ requests of people


def test_whoever_gives_up_has_nothing_read() -> None:
    async def given_up() -> None:
        listed = meters({"interval": "manual"})
        agenda = Agenda(listed)
        agenda.ask(listed[0], START).cancel()
        assert agenda.next(START, 2400, is_open=True) is None
        agenda.ask(listed[0], START).cancel()
        agenda.ask(listed[0], START)
        assert agenda.next(START, 2400, is_open=True) is not None

    asyncio.run(given_up())


def test_requests_without_end_do_not_starve_what_is_due() -> None:
    async def flooded() -> None:
        listed = meters({"interval": "1s"}, {"interval": "1h"})
        agenda = Agenda(listed)
        now = START
        waits = []
        for _ in range(2000):
            agenda.ask(listed[0], now)
            errand = agenda.next(now, 2400, is_open=True)
            assert errand is not None
            now += 1.0
            errand.meter.schedule.succeeded(now)
            agenda.answer(errand.meter, Outcome())
            if errand.meter is listed[1]:
                waits.append(now - 1.0 - errand.since)
        assert waits
        assert STARVED_SECONDS < waits[0] <= STARVED_SECONDS + 2

    asyncio.run(flooded())


def test_when_nothing_is_done_any_more_all_are_told_so_also_who_comes_later() -> None:
    async def closed() -> None:
        listed = meters({}, {})
        agenda = Agenda(listed)
        before = agenda.ask(listed[0], START)
        agenda.close("mbusd stops")
        after = agenda.ask(listed[1], START)
        assert before.result() == Outcome(error="mbusd stops", failed={"m1": "mbusd stops"})
        assert after.result() == Outcome(error="mbusd stops", failed={"m2": "mbusd stops"})

    asyncio.run(closed())


# ------------------------------------------------------------------------------------------------ rates


def test_what_is_due_at_once_is_grouped_by_rate() -> None:
    mixed: list[dict[str, object]] = [{"baudrate": 300 if number % 2 else 2400} for number in range(20)]
    done = served(Agenda(meters(*mixed)), START + 20 * READ_OUT)
    assert len(done) == 20
    assert switches(done) == 1


def test_requests_are_grouped_by_rate_too() -> None:
    async def all_of_them() -> None:
        mixed: list[dict[str, object]] = [{"baudrate": 300 if number % 2 else 2400} for number in range(20)]
        listed = meters(*mixed, interval="manual")
        agenda = Agenda(listed)
        for one in listed:
            agenda.ask(one, START)
        done = served(agenda, START + 20 * READ_OUT)
        assert len(done) == 20
        assert switches(done) == 1

    asyncio.run(all_of_them())


def test_nobody_waits_long_for_the_rate_on_a_wire_that_has_always_something_to_do() -> None:
    """A hundred meters that are due all the time, and one at another rate."""
    slow: dict[str, object] = {"baudrate": 300, "interval": "5m"}
    listed = meters(*[{} for _ in range(100)], slow, interval="1s")
    agenda = Agenda(listed)
    waits = []
    now, rate = START, 2400
    while now < START + 3600:
        errand = agenda.next(now, rate, is_open=True)
        assert errand is not None
        if errand.meter is listed[-1]:
            waits.append(now - errand.since)
        now, rate = now + READ_OUT, errand.meter.baudrate
        errand.meter.schedule.succeeded(now)
    assert len(waits) == 12
    assert max(waits) <= STAY_SECONDS + READ_OUT


def test_three_rates_wait_no_longer_than_one_stay_for_each() -> None:
    entries: list[dict[str, object]] = [{"baudrate": rate} for rate in (300, 2400, 9600) for _ in range(60)]
    done = served(Agenda(meters(*entries, interval="1s")), START + 1800)
    for rate in (300, 2400, 9600):
        times = [when for when, meter in done if meter.baudrate == rate]
        assert max(after - before for before, after in pairwise(times)) <= 2 * (STAY_SECONDS + 2 * READ_OUT)
    assert switches(done) <= 1800 / STAY_SECONDS


def test_a_meter_that_is_always_due_does_not_keep_the_rate_for_itself() -> None:
    """While others wait for another rate each is read once."""
    greedy: dict[str, object] = {"baudrate": 300, "interval": "1s"}
    done = served(Agenda(meters({}, {}, {}, greedy, interval="1s")), START + 600)
    times = Counter(names(done))
    assert min(times.values()) >= 0.9 * max(times.values())
