"""Two meters that answer by turns at one address: whose readings are published, and what is said of it."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.frames import Frame, ShortFrame
from mbusd.model import BusTroubled, Identity
from mbusd.simulation.simulator import SimulatedMeter
from mbusd.trust.turns import DAY, Turns, patience_of
from tests.test_poller import Wiretap, asked, house, meter, named

OWNER, OTHER, THIRD = "00000005", "87654321", "13572468"


def address(identification: str) -> SecondaryAddress:
    return SecondaryAddress(identification + "EE4D0104")


def identity(identification: str) -> Identity:
    return Identity(identification, "SON", 1, 4, "heat", address(identification).digits)


def turns() -> Turns:
    return Turns(identity(OWNER), DAY, 0.0)


# ------------------------------------------------------------------------------------------------ who has an address


def test_a_stranger_who_stays_is_no_neighbour() -> None:
    one = turns()
    assert [one.hears(address(OTHER), at) for at in (1.0, 2.0)] == ["stranger", "stranger"]
    one.exchanged(identity(OTHER), 2.0)
    assert [one.hears(address(OTHER), at) for at in (3.0, 9 * DAY)] == ["own", "own"]
    assert not one.is_shared
    assert one.is_over


def test_whoever_is_back_after_an_exchange_has_the_address_and_the_other_is_known() -> None:
    one = turns()
    one.hears(address(OTHER), 1.0)
    one.exchanged(identity(OTHER), 1.0)
    assert one.hears(address(OWNER), 2.0) == "own"
    assert one.owner == identity(OWNER)
    assert one.is_shared
    assert one.hears(address(OTHER), 3.0) == "other"


def test_who_was_heard_before_the_owner_is_not_believed_as_an_exchange_afterwards() -> None:
    one = turns()
    assert [one.hears(address(who), 1.0) for who in (OTHER, OWNER)] == ["stranger", "own"]
    assert not one.is_shared  # one damaged telegram is no neighbour
    assert one.hears(address(OTHER), 2.0) == "other"
    assert one.is_shared


def test_a_neighbour_who_is_silent_for_a_day_is_forgotten() -> None:
    one = turns()
    for who in (OTHER, OWNER, OTHER):
        one.hears(address(who), 1.0)
    assert one.hears(address(OWNER), 2.0 + DAY) == "own"
    assert not one.is_shared
    assert one.is_over


def test_an_owner_who_is_silent_for_a_day_has_left_the_address_to_the_other() -> None:
    one = turns()
    for who in (OTHER, OWNER, OTHER):
        one.hears(address(who), 1.0)
    assert one.hears(address(OTHER), DAY) == "other"
    assert one.hears(address(OTHER), 2.0 + DAY) == "stranger"


def test_a_former_owner_who_is_back_after_a_day_is_another_exchange() -> None:
    one = turns()
    one.exchanged(identity(OTHER), 1.0)
    assert one.hears(address(OWNER), 2.0 + DAY) == "stranger"


def test_meters_that_are_read_rarely_are_remembered_for_longer() -> None:
    assert [patience_of(one) for one in (None, 60.0, DAY)] == [DAY, DAY, 3 * DAY]


def test_a_wire_that_makes_up_strangers_fills_no_memory_and_leaves_the_owner_alone() -> None:
    one = turns()
    for count in range(1000):
        assert one.hears(address(f"{count:08}" if count != 5 else THIRD), 1.0) == "stranger"
        assert one.hears(address(OWNER), 1.0) == "own"
    assert not one.is_shared


# ------------------------------------------------------------------------------------------------ on a bus


def follow(wire: Wiretap, order: str) -> None:
    """Who answers each read-out: A or B, who repeats himself when asked to; the last one goes on."""
    both = {letter: meter(5, identification=number) for letter, number in (("A", OWNER), ("B", OTHER))}
    waiting, last = list(order), list[Frame]()

    def turn(frame: Frame) -> None:
        if isinstance(frame, ShortFrame) and frame.control & 0x4F == 0x4B and last[-1:] != [frame]:
            letter = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            wire.meters[:] = [both[letter]]
        last.append(frame)

    wire.before = turn
    wire.meters[:] = [both[order[0]]]


@pytest.mark.parametrize(
    ("order", "published"),
    [
        ("ABBABBABA", [OWNER, OTHER, OWNER, None, OWNER, OWNER]),  # an exchange once, and never again
        ("ABABABBA", [OWNER, OWNER, OWNER, None, OWNER, OWNER]),
    ],
)
async def test_of_two_by_turns_only_the_first_keeps_the_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, order: str, published: Sequence[str | None]
) -> None:
    wire = Wiretap()
    follow(wire, order)
    async with house(wire, tmp_path, *named(5)) as (poller, seen):
        outcomes = [await asked(poller, "m5") for _ in published]
        assert [one.readings[0].identity.identification if one.readings else None for one in outcomes] == published
        assert len(seen.readings("m5")) == len(published) - 1
        (trouble,) = seen.of(BusTroubled)
    (refused,) = [one.error for one in outcomes if one.error]
    assert refused == f"m5: {OTHER}EE4D0104 answers, and {OWNER}EE4D0104 is the meter of this address".replace(
        "EE4D", address(OTHER).digits[8:12]
    )
    assert trouble.code == "several_meters"
    assert "address 5" in trouble.what
    assert "secondary address" in trouble.todo
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("several meters answer" in line for line in told) == 1
    assert len(told) == 1 + (OTHER in published)


async def test_by_secondary_address_a_neighbour_changes_nothing(tmp_path: Path) -> None:
    both: list[SimulatedMeter] = [meter(5, identification=OWNER), meter(5, identification=OTHER)]
    listed: list[dict[str, object]] = [{"name": f"m{one}", "address": one} for one in (OWNER, OTHER)]
    async with house(Wiretap(*both), tmp_path, *listed) as (poller, seen):
        for _ in range(3):
            for who in (OWNER, OTHER):
                (reading,) = (await asked(poller, f"m{who}")).readings
                assert reading.identity.identification == who
        assert not seen.of(BusTroubled)
