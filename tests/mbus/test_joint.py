"""When one probe stands for the same part of several crowds."""

from mbusd.mbus.joint import Chance, Level, common, divided, is_worthwhile
from mbusd.mbus.split import Population

TAIL = "F" * 8


def masks(*identifications: str) -> list[str]:
    return [one + TAIL for one in identifications]


def test_the_narrowest_mask_that_holds_all() -> None:
    assert common(masks("1FFFFFF5", "4FFFFFF5", "7FFFFFF5")) == "FFFFFFF5" + TAIL
    assert common(masks("12FFFFF5")) == "12FFFFF5" + TAIL


def test_groups_have_one_digit_more_in_common() -> None:
    assert divided(masks("1FFFFF35", "4FFFFF35", "4FFFFF25")) == [masks("1FFFFF35"), masks("4FFFFF35", "4FFFFF25")]


def test_a_value_that_nobody_has_is_asked_for_once() -> None:
    """Twenty meters known, all with a 3 at the fourth place: a 7 there is likely nobody's."""
    population = Population()
    for number in range(20):
        population.add(f"1003{number * 57:04}")
    parts = masks(*(f"FFF7FFF{one}" for one in range(10)))
    nobody = Chance.of(population, common(parts), 3, meters=20)
    everybody = Chance.of(population, "FFF3FFFF" + TAIL, 3, meters=20)
    assert nobody.none > 0.8
    assert everybody.none < 0.01
    assert is_worthwhile(parts, nobody, known=0)
    assert not is_worthwhile(parts, everybody, known=0)


def test_a_mask_with_two_known_meters_is_a_crowd_already() -> None:
    assert not is_worthwhile(masks("1FFFFFF5", "4FFFFFF5"), Chance(0.99, 0.01), known=2)


def test_nobody_is_read_where_there_are_certainly_several() -> None:
    thick, thin = Level(), Level()
    assert not Level().is_crowded
    thick.add_resolved(6)
    thick.add_resolved(5)
    thin.add_resolved(2)
    thin.single = 5
    assert thick.is_crowded
    assert not thin.is_crowded
    assert thick.size == 5.5


def test_the_share_of_single_meters_tells_how_many_a_crowd_has() -> None:
    assert 2.2 <= Level(single=8, crowded=2).size < 2.6
    assert 4 < Level(single=0, crowded=10).size < 8
