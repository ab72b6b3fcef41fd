"""Scans over a long way: silent probes cost the window of the standard, and no meter is missed, however late."""

import time
from random import Random

import pytest

from mbusd.mbus.frames import Ack, LongFrame, Noise, encode
from mbusd.mbus.link import Conversation, Doubtful, Reply, Request, Silence, as_probe
from mbusd.mbus.master import req_ud2, snd_nke
from mbusd.mbus.search import ANY
from mbusd.scanning.scanner import Plan, Scanner, Survey
from mbusd.simulation.simulator import Fault, SimulatedMeter, identity
from tests.far import JudgedBus, Way, bus_far_away, leaping
from tests.mbus.searching import KINDS, meter

BIT = 1 / 2400
WINDOW = 330 * BIT + 0.05
LAST = WINDOW - 11 * BIT - 0.0005  # behind the 11 bit times that each meter waits: it begins at the end of its window
QUICK = 0.03
LATENCIES = [0.0, 0.03, 0.12, 0.35]
DELAYS = {"quick": [QUICK], "at the end of the window": [LAST], "both": [QUICK, LAST], "any": [0.0, 0.06, 0.11, 0.15]}
SHORT = 55 * BIT


def house(seed: int, number: int, delays: list[float], *, primary: bool) -> list[SimulatedMeter]:
    chance = Random(seed)  # noqa: S311 - simulates, keeps no secret
    numbers = chance.sample(range(251), number)
    meters = []
    for index in range(number):
        address = identity(f"{chance.randrange(10**8):08}", *KINDS[index % 6])
        made = meter(address, chance, primary=numbers[index] if primary else None)
        made.delay = chance.choice(delays)
        meters.append(made)
    return meters


def scanned(meters: list[SimulatedMeter], way: Way, plan: Plan, scheme: str = "tcp") -> tuple[Survey, JudgedBus, float]:
    """What a scan finds, the judge of the wire, and how many seconds it took."""
    judged = JudgedBus(meters, 2400)

    async def scan() -> tuple[Survey, JudgedBus, float]:
        bus = await bus_far_away(judged, way, scheme=scheme)
        began = time.monotonic()
        survey = await Scanner(bus.run, plan).scan()
        bus.close()
        return survey, judged, time.monotonic() - began

    return leaping(scan)


def names(survey: Survey) -> list[str]:
    return sorted(str(one.address) for one in survey.findings)


def own(meters: list[SimulatedMeter]) -> list[str]:
    return sorted(one.secondary.digits for one in meters)


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("delays", DELAYS.values(), ids=DELAYS)
@pytest.mark.parametrize("primary", [True, False], ids=["primary", "secondary"])
def test_nobody_is_missed_however_long_the_way(latency: float, delays: list[float], primary: bool) -> None:  # noqa: FBT001
    for seed in range(3):
        meters = house(seed, 12, delays, primary=primary)
        plan = Plan(primary=primary, mask=None if primary else ANY)
        survey, judged, _ = scanned(meters, Way(latency / 2, latency / 2), plan)
        assert names(survey) == own(meters)
        assert survey.remarks() == []
        if primary:
            assert {one.primary for one in survey.findings} == {one.primary for one in meters}
        assert judged.violations == []
        assert judged.early_requests == 0


@pytest.mark.parametrize("edge", [0, 1, 249, 250])
def test_a_late_answer_at_either_end_of_all_addresses(edge: int) -> None:
    there = meter(identity("12345678", "KAM", 9, 4), Random(1), primary=edge)  # noqa: S311
    there.delay = LAST
    survey, judged, _ = scanned([there], Way(0.06, 0.06), Plan())
    assert [one.primary for one in survey.findings] == [edge]
    assert judged.violations == []


@pytest.mark.parametrize(("scheme", "start"), [("tcp", 0.0), ("serial", 1.0)])
def test_silent_addresses_cost_no_more_than_the_window_of_the_standard(scheme: str, start: float) -> None:
    meters = house(7, 20, [QUICK], primary=True)
    survey, _, seconds = scanned(meters, Way(), Plan(), scheme)
    assert len(survey.findings) == 20
    silent = 231 * (SHORT + WINDOW)
    _, _, least = scanned([], Way(), Plan(), scheme)
    telegram = 39 * 11 * BIT
    hits = 20 * (27 * 11 * BIT + 3 * (QUICK + 22 * BIT) + 2 * 11 * BIT + telegram)
    assert seconds <= 1.05 * (silent + hits) + 0.5 + start  # to all meters, at first
    assert least <= 1.05 * 251 * (SHORT + WINDOW) + 1.5 + start  # nobody has shown how quick the way is


@pytest.mark.parametrize("scheme", ["tcp", "serial"])
def test_a_jumble_with_a_readable_head_is_over_with_its_last_byte(scheme: str) -> None:
    """33 bit times after it the meters listen again (EN 13757-2 cl. 5.5); what the way adds is known by then."""
    alone, *both = [meter(identity(f"1234567{n}", *KINDS[0]), Random(n), primary=5 + (n > 0)) for n in range(3)]  # noqa: S311
    both[1].faults.append(Fault.GARBLE)
    both[1].delay = both[0].delay = QUICK
    judged = JudgedBus([alone, *both], 2400)

    async def work() -> tuple[float, float]:
        bus = await bus_far_away(judged, Way(), scheme=scheme)
        await bus.run(_read(5))
        reply = await bus.run(_read(6))
        began = bus.last_request_at
        await bus.run(_read(5))
        bus.close()
        assert isinstance(reply, Noise)
        return bus.last_request_at - began, SHORT + QUICK + len(reply.data) * 11 * BIT + 33 * BIT

    took, least = leaping(work)
    assert least <= took <= least + 0.02
    assert judged.violations == []


def test_what_looks_like_the_telegram_of_one_may_be_of_several_while_meters_are_looked_for() -> None:
    """Superposed answers may pass the checksum: then 33 bit times are due; after a read-out of a known meter, 11."""
    alone = meter(identity("12345678", *KINDS[0]), Random(1), primary=5)  # noqa: S311
    alone.delay = QUICK

    async def work() -> list[float]:
        bus = await bus_far_away(JudgedBus([alone], 2400), Way(), scheme="serial")
        rests, size = [], 0
        for conversation in (_read(5), _read(5), as_probe(_read(5), is_hasty=False), _read(5)):
            began = bus.last_request_at
            reply = await bus.run(conversation)
            rests.append(bus.last_request_at - began - SHORT - QUICK - (size + 1) * 11 * BIT)
            assert isinstance(reply, LongFrame)
            size = len(encode(reply))
        bus.close()
        return [rest / BIT for rest in rests[2:]]

    after_read_out, after_probe = leaping(work)
    assert 22 <= after_read_out < 33 <= after_probe < 44


def test_who_polls_in_the_middle_of_a_scan_waits_for_what_is_owed() -> None:
    """The late answer to a hasty probe is nobody else's; the scan is told of it with its next probe."""
    late = meter(identity("12345678", "KAM", 9, 4), Random(1), primary=5)  # noqa: S311
    late.delay = LAST
    polled = meter(identity("87654321", "KAM", 9, 4), Random(2), primary=9)  # noqa: S311
    judged = JudgedBus([late, polled], 2400)

    def probe(number: int, *, hasty: bool) -> Conversation[Reply]:
        return as_probe(_asked(number), is_hasty=hasty)

    async def work() -> list[Reply]:
        bus = await bus_far_away(judged, Way(0.06, 0.06))
        replies = [await bus.run(probe(5, hasty=True)), await bus.run(_asked(9)), await bus.run(probe(6, hasty=True))]
        bus.close()
        return replies

    assert leaping(work) == [Silence(), Ack(), Doubtful(b"", 1)]
    assert judged.violations == []


def _asked(number: int) -> Conversation[Reply]:
    return (yield Request(snd_nke(number)))


def _read(number: int) -> Conversation[Reply]:
    return (yield Request(req_ud2(number, fcb=True)))


def test_a_late_answer_to_the_last_step_of_a_search() -> None:
    """No other step shows it: the good-bye does."""
    numbers = {"55705259": 0.03, "15098679": 0.003, "63562690": LAST}
    meters = [meter(identity(number, "KAM", 9, 4), Random(number)) for number in numbers]  # noqa: S311
    for made, delay in zip(meters, numbers.values(), strict=True):
        made.delay = delay
    for latency in (0.0, 0.06, 0.08, 0.1):
        survey, judged, _ = scanned(meters, Way(latency / 2, latency / 2), Plan(primary=False, mask=ANY))
        assert names(survey) == own(meters)
        assert judged.violations == []


@pytest.mark.parametrize("seed", range(4))
def test_a_random_byte_now_and_then_does_not_keep_a_search_from_its_end(seed: int) -> None:
    chance = Random(seed)  # noqa: S311
    meters = house(seed, 6, [QUICK, LAST], primary=False)
    way = Way(noise=lambda: (chance.uniform(0.3, 2.0), chance.randbytes(1)))
    survey, _, seconds = scanned(meters, way, Plan(primary=False, mask=ANY), "serial")
    assert set(names(survey)) <= set(own(meters))
    assert len(survey.findings) >= len(meters) - 1
    assert seconds < 180


@pytest.mark.parametrize("plan", [Plan(), Plan(primary=False, mask=ANY), Plan(mask=ANY)])
def test_babble_that_begins_in_the_middle_ends_the_scan_with_a_diagnosis(plan: Plan) -> None:

    def babble() -> tuple[float, bytes]:
        return (1005.0 - time.monotonic(), b"xyzzy") if time.monotonic() < 1004.9 else (0.02, b"xyzzy")

    survey, _, seconds = scanned(house(1, 6, [QUICK], primary=True), Way(noise=babble), plan)
    assert seconds < 30
    assert any("something unreadable answers that no meter sends" in one for one in survey.problems)
