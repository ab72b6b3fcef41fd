"""The scan of a bus: both ways of looking make one list, and it is there when the scan is cut short."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.frames import Frame
from mbusd.mbus.link import Conversation
from mbusd.mbus.search import ANY
from mbusd.scanning.scanner import Finding, Plan, Progress, Scanner, Survey
from mbusd.simulation.simulator import Answer, Moment, SimulatedBus, SimulatedMeter, identity
from tests.mbus.driving import talk
from tests.mbus.searching import KINDS, Unselectable, Wire, meter, sending

T = TypeVar("T")


class OnWire:
    """Runs conversations on a simulated wire; gives way to others before each, as a bus does."""

    def __init__(self, meters: Sequence[SimulatedMeter], lost: float = 0.0, seed: int = 0) -> None:
        chance = Random(seed)  # noqa: S311 - simulates, keeps no secret
        self.wire = Wire(SimulatedBus(list(meters)), lost=lost, chance=chance)
        self.conversations = 0

    async def __call__(self, conversation: Conversation[T]) -> T:
        await asyncio.sleep(0)
        self.conversations += 1
        return talk(conversation, self.wire)


def house(number: int = 6) -> list[SimulatedMeter]:
    """Every second meter has a primary address."""
    chance = Random(number)  # noqa: S311
    return [
        meter(
            identity(f"{chance.randrange(10**8):08}", *KINDS[index % 6]),
            chance,
            primary=None if index % 2 else 10 + index,
        )
        for index in range(number)
    ]


async def scanned(meters: Sequence[SimulatedMeter], plan: Plan) -> Survey:
    return await Scanner(OnWire(meters), plan).scan()


def everybody(survey: Survey) -> dict[str, int | None]:
    return {str(one.address): one.primary for one in survey.findings}


async def test_a_meter_that_is_found_both_ways_is_one() -> None:
    meters = house()
    survey = await scanned(meters, Plan(mask=ANY))
    assert len(survey.findings) == len(meters)
    assert everybody(survey) == {one.secondary.digits: one.primary for one in meters}
    assert survey.is_complete
    assert survey.remarks() == []
    assert all(one.is_selectable for one in survey.findings)


async def test_primary_addresses_only() -> None:
    meters = house()
    survey = await scanned(meters, Plan())
    assert everybody(survey) == {one.secondary.digits: one.primary for one in meters if one.primary is not None}


async def test_secondary_addresses_only_tell_the_primary_ones_too() -> None:
    meters = house()
    survey = await scanned(meters, Plan(primary=False, mask=ANY))
    assert everybody(survey) == {one.secondary.digits: one.primary for one in meters}


async def test_what_a_meter_is_read_by() -> None:
    deaf = Unselectable(identity("99999999", "KAM", 9, 4), lambda _: [b"\x01\x06\x01"], primary=77)
    survey = await scanned([*house(2), deaf], Plan(mask=ANY))
    safest = {str(one.address): one.safest for one in survey.findings}
    assert safest[deaf.secondary.digits] == 77
    assert all(isinstance(address, SecondaryAddress) or address == 77 for address in safest.values())
    assert Finding(SecondaryAddress("F" * 16), 3, None, is_selectable=True).safest == 3


async def test_several_new_meters_at_address_0_are_named_by_the_search() -> None:
    meters = [sending("51774213", "EC 22", primary=0), sending("50752942", "04 B9", primary=0)]
    survey = await scanned(meters, Plan(mask=ANY))
    assert everybody(survey) == {one.secondary.digits: 0 for one in meters}
    (remark,) = survey.remarks()
    assert remark.startswith("address 0: several meters answer: ")
    assert all(one.secondary.digits in remark for one in meters)


async def test_several_meters_at_one_address_are_a_remark() -> None:
    meters = [sending("30745142", "83 9D", primary=3), sending("93523045", "39 D7", primary=3)]
    survey = await scanned(meters, Plan())
    assert survey.findings == []
    (remark,) = survey.remarks()
    assert "address 3: several meters answer; a search by secondary addresses" in remark


async def test_progress_after_each_probe() -> None:
    steps: list[Progress] = []
    on_wire = OnWire(house())
    survey = await Scanner(on_wire, Plan(mask=ANY), steps.append).scan()
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert len([step for step in steps if step.found is not None]) == len(survey.findings)
    assert {step.found for step in steps if step.found} == set(survey.findings)
    assert steps[-1].left == 0
    assert steps[0].left >= 250
    assert survey.probes == on_wire.conversations


async def test_what_was_found_is_kept_when_the_scan_is_cut_short() -> None:
    meters = house(20)
    half = asyncio.Event()

    def tell(progress: Progress) -> None:
        if progress.done > 150:
            half.set()

    scanner = Scanner(OnWire(meters), Plan(mask=ANY), tell)
    task = asyncio.create_task(scanner.scan())
    await half.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 < len(scanner.survey.findings) < len(meters)
    assert not scanner.survey.is_complete


async def test_others_have_their_turn_between_two_probes() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    survey = await scanned(house(), Plan(mask=ANY))
    task.cancel()
    assert turns >= survey.probes - 1


async def test_a_dead_bus_ends_after_each_address_was_asked_once() -> None:
    survey = await scanned([], Plan(mask=ANY))
    assert survey.is_complete
    assert survey.findings == []
    assert survey.probes == 1 + 251 + 1 + 1  # hello, addresses, all by wildcards, good-bye


async def test_what_was_heard_is_kept_for_a_diagnosis() -> None:
    survey = await scanned([sending("11111111", "00 01", primary=1)], Plan())
    assert [bytes(one.heard)[:1] for one in survey.observations] == [b"\xe5", b"\x68", b"\xe5"]


async def test_a_meter_that_refuses_its_data_is_listed_by_its_address() -> None:
    class Refusing(Unselectable):
        __slots__ = ()

    refusing = Refusing(identity("12345678", "KAM", 9, 4), lambda _: [b""], primary=4)
    survey = await scanned([refusing], Plan())
    assert [one.safest for one in survey.findings] == [4]


def twins(fabrications: Sequence[str | None], primaries: Sequence[int | None]) -> list[SimulatedMeter]:
    """Meters that share all eight bytes of their secondary address, and one that does not."""
    chance = Random(3)  # noqa: S311
    address = identity("12345678", "KAM", 9, 4)
    alike = [
        meter(address, chance, primary=primary, fabrication=number)
        for number, primary in zip(fabrications, primaries, strict=True)
    ]
    return [*alike, meter(identity("87654321", "KAM", 9, 4), chance, primary=7)]


@pytest.mark.parametrize("primary", [True, False])
async def test_meters_that_only_their_fabrication_numbers_tell_apart_are_all_listed(primary: bool) -> None:  # noqa: FBT001
    survey = await scanned(twins(("00000017", "00000027"), (1, 1)), Plan(primary=primary, mask=ANY))
    alike = [one for one in survey.findings if one.fabrication is not None]
    assert [one.fabrication for one in alike] == ["00000017", "00000027"]
    assert [one.safest for one in alike] == [None, None]
    assert survey.crowded == [1]
    assert len(survey.findings) == 3


@pytest.mark.parametrize("numbers", [("00000017", "00000027"), (None, None)])
async def test_meters_with_one_secondary_address_are_read_by_their_primary_ones(numbers: Sequence[str | None]) -> None:
    for plan in (Plan(mask=ANY), Plan()):
        survey = await scanned(twins(numbers, (1, 2)), plan)
        assert {one.safest for one in survey.findings} == {1, 2, SecondaryAddress("876543212D2C0904")}


async def test_nobody_is_missed_where_answers_get_lost_once_that_is_noticed() -> None:
    """One answer in twenty: whoever was silent is called again, as often as the standard lets."""
    unnoticed = 0
    for seed in range(6):
        chance = Random(seed)  # noqa: S311
        meters = [meter(identity(f"{chance.randrange(10**8):08}", *KINDS[0]), chance) for _ in range(30)]
        on_wire = OnWire(meters, lost=0.05, seed=seed)
        survey = await Scanner(on_wire, Plan(primary=False, mask=ANY)).scan()
        assert set(everybody(survey)) <= {one.secondary.digits for one in meters}
        unnoticed += len(survey.findings) < len(meters)
    assert unnoticed == 0


async def test_a_converter_that_talks_whatever_is_asked_ends_the_scan() -> None:
    class Talking(SimulatedMeter):
        __slots__ = ()

        def answer(self, request: Frame, moment: Moment) -> Answer | None:
            del request, moment
            return Answer(b"login: ", 0.02)

    talking = Talking(identity("12345678", "KAM", 9, 4), lambda _: [b""])
    survey = await scanned([talking], Plan(mask=ANY))
    assert survey.is_complete
    assert survey.findings == []
    assert survey.probes < 100
    assert any("something unreadable answers" in one for one in survey.problems)
    assert survey.crowded == []


class Misheard(SimulatedMeter):
    """Behind a converter that reads E5 as FD."""

    __slots__ = ()

    def answer(self, request: Frame, moment: Moment) -> Answer | None:
        said = super().answer(request, moment)
        return replace(said, data=b"\xfd") if said is not None and said.data == b"\xe5" else said


async def test_an_answer_that_no_meters_can_send_is_not_taken_for_several() -> None:
    there = Misheard(identity("12345678", "KAM", 9, 4), lambda _: [b""], primary=5)
    survey = await scanned([there], Plan(mask=ANY))
    assert (survey.findings, survey.crowded) == ([], [])
    assert survey.probes < 251 + 20
    assert survey.remarks() == [
        "primary address 5: somebody answers, but what arrives is wrong",
        "no answer arrives as a meter sends it: the search was ended",
    ]
