"""Whatever hangs on the bus is found, nothing else, and with how many probes."""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.probe import Crowd, Probe, Silent
from mbusd.mbus.search import Search
from mbusd.simulation.simulator import Behaviour, SimulatedMeter, identity
from tests.mbus.searching import (
    KINDS,
    Clinging,
    Stuck,
    Unselectable,
    addresses,
    by_chance,
    meter,
    own,
    searched,
    sending,
)

HEAT = ("KAM", 9, 4)


def at_random(chance: Random, number: int) -> list[str]:
    return [f"{one:08}" for one in chance.sample(range(10**8), number)]


def in_a_row(chance: Random, number: int) -> list[str]:
    first = chance.randrange(10**7, 9 * 10**7)
    return [str(first + one) for one in range(number)]


def of_a_batch(chance: Random, number: int) -> list[str]:
    first = chance.randrange(10**7, 9 * 10**7)
    return [str(first + one) for one in chance.sample(range(2000), number)]


def three_batches(chance: Random, number: int) -> list[str]:
    return [one for _ in range(3) for one in of_a_batch(chance, -(-number // 3))]


POPULATIONS = (at_random, in_a_row, of_a_batch, three_batches)


def population(seed: int) -> list[SimulatedMeter]:
    """A bus as it may be: one maker or several, worn in or new, some with the identification of another."""
    chance = Random(seed)  # noqa: S311 - a population, no secret
    identifications = chance.choice(POPULATIONS)(chance, chance.choice((1, 2, 3, 5, 10, 20, 40)))
    kinds = chance.choice((KINDS, KINDS[:1]))
    there = {identity(one, *chance.choice(kinds)) for one in identifications}
    for _ in range(chance.choice((0, 0, 1, 3))):
        twin = chance.choice(sorted(there, key=str)).identification
        there.add(by_chance(chance, twin))
    if chance.random() < 0.2:
        twin = chance.choice(sorted(there, key=str)).identification
        letters = "".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3))
        there.add(identity(twin, letters, chance.randrange(255), chance.randrange(0x20)))
    is_new = chance.random() < 0.3
    return [meter(one, None if is_new else chance) for one in sorted(there, key=str)]


@pytest.mark.parametrize("part", range(4))
def test_everything_is_found_and_no_ghost(part: int) -> None:
    for seed in range(40 * part, 40 * part + 40):
        meters = population(seed)
        search = searched(meters)
        assert addresses(search) == own(meters), f"seed {seed}"
        assert not search.unresolved, f"seed {seed}"
        assert search.left == 0


@pytest.mark.parametrize("part", range(2))
def test_everything_is_found_where_meters_answer_out_of_step(part: int) -> None:
    """Some by a few bits, as meters of one make do; some by several bytes."""
    for seed in range(25 * part, 25 * part + 25):
        meters = population(seed)
        chance = Random(seed)  # noqa: S311
        for one in meters:
            one.delay = chance.choice((0.02, 0.0204, 0.0208, 0.03)) if seed % 2 else chance.uniform(0, 0.15)
        search = searched(meters, baudrate=2400)
        assert addresses(search) == own(meters), f"seed {seed}"
        assert not search.unresolved, f"seed {seed}"


@pytest.mark.parametrize("make", [at_random, in_a_row, three_batches])
def test_as_many_meters_as_there_are_addresses(make: Callable[[Random, int], list[str]]) -> None:
    chance = Random(250)  # noqa: S311
    meters = [meter(by_chance(chance, one), chance) for one in make(chance, 250)]
    search = searched(meters)
    assert addresses(search) == own(meters)
    assert search.probes < 1250


def answered(answer: Callable[[], Probe]) -> Search:
    """A search that gets these answers, whatever it asks."""
    search = Search()
    steps = search.steps()
    next(steps)
    with suppress(StopIteration):
        while search.probes < 5000:
            steps.send(answer())
    return search


def test_something_that_talks_whatever_is_asked_ends_the_search() -> None:
    search = answered(lambda: Crowd((b"\x00\xff",)))
    assert search.probes < 50
    assert search.left == 0
    (problem,) = search.unresolved
    assert "something unreadable" in problem.why


def test_noise_every_now_and_then_does_not_end_the_search_for_ever() -> None:
    chance = Random(3)  # noqa: S311
    search = answered(lambda: Crowd((b"\x00",)) if chance.random() < 0.5 else Silent())
    assert search.probes < 1000
    assert not search.found


def test_an_empty_bus_costs_one_probe_that_is_tried_twice() -> None:
    search = Search()
    steps = search.steps()
    assert next(steps).tries == 2
    assert searched([]).probes == 1


def test_two_new_meters_that_sound_like_one() -> None:
    """In step and with all values zero, what comes of both is to the bit the telegram of the one with number …78."""
    meters = [meter(identity(one, *HEAT)) for one in ("12345678", "12345679")]
    assert addresses(searched(meters)) == own(meters)


def test_a_row_of_new_meters_that_sound_like_one() -> None:
    meters = [meter(identity(f"3107507{one}", *HEAT)) for one in range(10)]
    assert addresses(searched(meters)) == own(meters)


def test_superposed_answers_that_pass_the_checksum_are_no_meter() -> None:
    """What comes of these two is a good telegram of 50750002, which does not exist."""
    meters = [sending("51774213", "EC 22"), sending("50752942", "04 B9")]
    assert addresses(searched(meters)) == own(meters)


@pytest.mark.parametrize("number", [2, 3])
def test_equal_identifications_are_told_apart_whatever_differs(number: int) -> None:
    chance = Random(number)  # noqa: S311
    for _ in range(40):
        makers = ["".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3)) for _ in range(2)]
        there = {
            identity("12345678", chance.choice(makers), chance.choice((0x0A, 0xE5)), chance.choice((4, 7, 0x1F)))
            for _ in range(number)
        }
        meters = [meter(one, chance) for one in sorted(there, key=str)]
        assert addresses(searched(meters)) == own(meters)


def test_twins_cost_less_where_the_bus_has_shown_what_they_are() -> None:
    chance = Random(1)  # noqa: S311
    others = [
        meter(identity(f"{one}", *kind), chance) for one, kind in zip(range(10**7, 10**7 + 6), KINDS, strict=True)
    ]
    twins = [meter(identity("76543210", maker, version, 4), chance) for maker, version, _ in KINDS[:2]]
    search = searched([*others, *twins])
    assert addresses(search) == own([*others, *twins])
    assert search.probes < 200


def test_the_same_address_twice_is_reported() -> None:
    chance = Random(2)  # noqa: S311
    address = identity("12345678", *HEAT)
    meters = [meter(address, chance), meter(address, chance), meter(identity("87654321", *HEAT), chance)]
    search = searched(meters)
    assert set(addresses(search)) <= set(own(meters))
    (problem,) = search.unresolved
    assert problem.selection.mask == address
    assert "same secondary address" in problem.why


def test_the_same_address_twice_is_told_apart_by_fabrication_number() -> None:
    chance = Random(3)  # noqa: S311
    address = identity("12345678", *HEAT)
    meters = [meter(address, chance, fabrication=one) for one in ("00000017", "00000027", "31415926")]
    search = searched(meters)
    assert addresses(search) == own(meters)
    assert {selection.fabrication for selection in search.found} == {"00000017", "00000027", "31415926"}
    assert not search.unresolved


@pytest.mark.parametrize("identification", ["1234567A", "A2345678", "12C45678", "EEEEEEEE"])
def test_a_lone_identification_with_a_hex_digit_is_found(identification: str) -> None:
    chance = Random(4)  # noqa: S311
    alone = [meter(identity(identification, *HEAT), chance)]
    assert addresses(searched(alone)) == own(alone)
    pair = [*alone, meter(identity("50000000", *HEAT), chance)]
    assert addresses(searched(pair)) == own(pair)


def test_hex_digits_among_many_are_found_by_an_exhaustive_search() -> None:
    for seed in range(20):
        chance = Random(seed)  # noqa: S311
        odd = list(f"{chance.randrange(10**8):08}")
        odd[chance.randrange(8)] = chance.choice("ABCDE")
        meters = [meter(identity(one, *HEAT), chance) for one in [*at_random(chance, 12), "".join(odd)]]
        assert addresses(searched(meters, Search(exhaustive=True))) == own(meters)


def test_a_third_of_the_same_identification_and_of_an_odd_kind_is_found_by_an_exhaustive_search() -> None:
    chance = Random(6)  # noqa: S311
    kinds = (HEAT, ("SEN", 14, 7), ("XQZ", 0x7E, 0x3B))
    meters = [meter(identity("12345678", *kind), chance) for kind in kinds]
    meters += [meter(identity(f"8765432{one}", *kind), chance) for one, kind in enumerate(kinds[:2])]
    assert addresses(searched(meters, Search(exhaustive=True))) == own(meters)


def test_three_of_the_same_identification_are_found_without_being_asked_for() -> None:
    """In step: what comes from all of them shows that there is one more than two."""
    chance = Random(8)  # noqa: S311
    for third in (("ABB", 0x62, 4), ("KAM", 9, 0x37), ("KAM", 0x7D, 4), ("XQZ", 0x7E, 0x3B)):
        meters = [meter(identity("12345678", *kind), chance) for kind in (HEAT, ("KAM", 0x21, 4), third)]
        meters += [meter(identity(one, *HEAT), chance) for one in at_random(chance, 6)]
        assert addresses(searched(meters)) == own(meters)


def test_a_third_of_a_manufacturer_that_is_on_no_list_is_found() -> None:
    """Two differ in the version alone: by their manufacturer they are two, and seem to be all."""
    chance = Random(43)  # noqa: S311
    kinds = (("ELS", 33, 3), ("ELS", 0xEA, 3), ("XQZ", 33, 3))
    meters = [meter(identity("62080028", *kind), chance) for kind in kinds]
    meters += [meter(identity(one, *HEAT), chance) for one in at_random(chance, 6)]
    search = searched(meters)
    assert addresses(search) == own(meters)


def test_versions_are_gone_through_no_further_than_to_the_last_that_answers() -> None:
    """Nothing but the version tells these apart: a wildcard there means all 256 of them."""
    chance = Random(8)  # noqa: S311
    twins = [meter(identity("12345678", "KAM", version, 4), chance) for version in (9, 0x21, 0x63)]
    others = [meter(identity(one, *HEAT), chance) for one in at_random(chance, 6)]
    short, exhaustive = searched([*twins, *others]), searched([*twins, *others], Search(exhaustive=True))
    assert addresses(short) == addresses(exhaustive) == own([*twins, *others])
    assert short.doubtful_identifications == []
    assert short.probes < 0x63 + 120 < 256 < exhaustive.probes


def test_where_a_third_may_hide_that_is_said() -> None:
    """Out of step, nothing shows how many there are."""
    chance = Random(9)  # noqa: S311
    meters = [meter(identity("12345678", "KAM", version, 4), chance) for version in (9, 0x21)]
    for number, one in enumerate(meters):
        one.delay = 0.03 + number * 0.0013
    search = searched(meters, baudrate=2400)
    assert addresses(search) == own(meters)
    assert search.doubtful_identifications == ["12345678"]


def test_meters_that_sleep_are_found() -> None:
    for seed in range(20):
        chance = Random(seed)  # noqa: S311
        meters = [
            meter(identity(one, *HEAT), chance, behaviour=Behaviour(sleeps_after=3.0)) for one in at_random(chance, 7)
        ]
        assert addresses(searched(meters)) == own(meters)


def test_a_meter_that_knows_no_selection_disturbs_nobody() -> None:
    chance = Random(7)  # noqa: S311
    meters = [meter(identity(one, *HEAT), chance) for one in at_random(chance, 5)]
    deaf = Unselectable(identity("99999999", *HEAT), lambda _: [b""], primary=9)
    assert addresses(searched([*meters, deaf])) == own(meters)


def test_a_meter_that_clings_to_its_selection_hides_nobody() -> None:
    for seed in range(20):
        chance = Random(seed)  # noqa: S311
        meters = [meter(identity(one, *HEAT), chance) for one in at_random(chance, 6)]
        clinging = Clinging(identity("24681357", *HEAT), lambda _: [b"\x01\x06\x2a"])
        assert addresses(searched([*meters, clinging])) == own([*meters, clinging])


def test_a_meter_that_answers_for_everybody_is_found_and_named() -> None:
    chance = Random(8)  # noqa: S311
    others = [meter(identity(one, *HEAT), chance) for one in ("11111111", "92929292")]
    stuck = Stuck(identity("24681357", *HEAT), lambda _: [b"\x01\x06\x2a"])
    search = searched([*others, stuck])
    assert set(addresses(search)) <= set(own([*others, stuck]))
    assert stuck.secondary.digits in addresses(search)
    assert {problem.selection.mask.identification for problem in search.unresolved} == {"11111111", "92929292"}
    assert all("24681357" in problem.why for problem in search.unresolved)


def test_a_mask_keeps_the_search_to_its_part_of_the_bus() -> None:
    chance = Random(9)  # noqa: S311
    meters = [meter(identity(f"{group}{one:07}", *HEAT), chance) for group in (1, 2) for one in range(4)]
    search = searched(meters, Search(SecondaryAddress("1FFFFFFFFFFFFFFF")))
    assert addresses(search) == own(meters[:4])


def test_water_meters_only() -> None:
    chance = Random(10)  # noqa: S311
    meters = [meter(identity(f"{one:08}", *kind), chance) for one, kind in enumerate(KINDS)]
    search = searched(meters, Search(SecondaryAddress("FFFFFFFFFFFFFF07")))
    assert addresses(search) == own([one for one in meters if one.secondary.digits.endswith("07")])


@pytest.mark.parametrize("make", [at_random, of_a_batch, three_batches])
def test_known_meters_save_probes_and_hide_nobody(make: object) -> None:
    assert callable(make)
    ours, uninformed = 0, 0
    for seed in range(5):
        chance = Random(seed)  # noqa: S311
        meters = [meter(by_chance(chance, one), chance) for one in make(chance, 30)]
        uninformed += searched(meters).probes
        search = searched(meters, Search(known=[one.secondary for one in meters[:25]]))
        assert addresses(search) == own(meters)
        ours += search.probes
    assert ours < 0.9 * uninformed


def test_who_is_said_to_be_there_but_is_not_costs_only_time() -> None:
    chance = Random(12)  # noqa: S311
    meters = [meter(identity(one, *HEAT), chance) for one in at_random(chance, 8)]
    absent = [identity(one, *HEAT) for one in at_random(chance, 5)]
    search = searched(meters, Search(known=[*absent, meters[0].secondary]))
    assert addresses(search) == own(meters)
    assert not search.unresolved


def decimal_tree(identifications: list[str], prefix: str = "") -> int:
    """How many probes the search takes that fixes digit by digit from the left."""
    if len(identifications) < 2:
        return 1
    parts = (prefix + value for value in "0123456789")
    return 1 + sum(decimal_tree([one for one in identifications if one.startswith(part)], part) for part in parts)


@pytest.mark.parametrize(
    ("make", "number", "share"),
    [
        (at_random, 10, 1.0),
        (at_random, 20, 0.95),
        (at_random, 60, 0.95),
        (in_a_row, 5, 0.4),
        (in_a_row, 20, 0.5),
        (in_a_row, 60, 0.65),
        (of_a_batch, 10, 0.5),
        (of_a_batch, 20, 0.7),
        (of_a_batch, 60, 0.8),
        (three_batches, 10, 0.35),
        (three_batches, 20, 0.45),
        (three_batches, 60, 0.7),
    ],
)
def test_probes_beside_those_of_the_plain_decimal_tree(make: object, number: int, share: float) -> None:
    assert callable(make)
    ours, plain = 0, 0
    for seed in range(5):
        chance = Random(seed)  # noqa: S311
        there: list[str] = make(chance, number)
        ours += searched([meter(identity(one, *HEAT), chance) for one in there]).probes
        plain += decimal_tree(there)
    assert ours <= share * plain
