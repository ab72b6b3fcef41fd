"""The rows of meters that differ: whom they are about, and that the owner's word goes before them."""

import pytest

from mbusd.mbus import quirks
from mbusd.mbus.address import manufacturer_code
from mbusd.mbus.quirks import QUIRKS, Manner, Quirk, Recipe, Step, Wake, for_meter, recipe_for

SLOW = Quirk("XYZ", None, None, "a manual", window=1.0)
RESET = Quirk("XYZ", None, None, "a manual", nke="always")


@pytest.mark.parametrize("medium", [0x04, 0x0A, 0x0B, 0x0C, 0x0D])
def test_heat_meters_of_kamstrup_are_slow(medium: int) -> None:
    """They sleep; the driver pages of Multical III to 801 ask for 500 to 1000 ms."""
    recipe = recipe_for(Recipe(), for_meter("KAM", 0x09, medium))
    assert recipe.manner.shortest_window == 1.0


@pytest.mark.parametrize(("manufacturer", "medium"), [("KAM", 0x02), ("KAM", 0x16), ("EMH", 0x04), ("", 0x04)])
def test_other_meters_are_not(manufacturer: str, medium: int) -> None:
    assert recipe_for(Recipe(), for_meter(manufacturer, 0x09, medium)) == Recipe()


def test_electricity_meters_of_abb_want_a_reset_before_each_read_out() -> None:
    assert recipe_for(Recipe(), for_meter("ABB", 0x20, 0x02)).nke == "always"
    assert recipe_for(Recipe(), for_meter("ABB", 0x20, 0x04)).nke == "auto"


@pytest.mark.parametrize(("manufacturer", "medium"), [("QDS", 0x07), ("LSE", 0x06), ("IST", 0x04), ("ELS", 0x04)])
def test_meters_that_want_rest_say_why(manufacturer: str, medium: int) -> None:
    (row,) = for_meter(manufacturer, None, medium)
    assert row.rest is not None
    assert row.advice
    assert row.source
    assert recipe_for(Recipe(), (row,)) == Recipe()  # an advice changes nothing


def test_a_meter_without_a_medium_is_none_of_a_certain_medium() -> None:
    assert for_meter("KAM", None, None) == ()


def test_a_row_may_be_about_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Quirk("XYZ", 0x09, None, "a manual", window=2.0)
    monkeypatch.setattr(quirks, "QUIRKS", (row, SLOW))
    assert for_meter("XYZ", 0x09, 0x04) == (row, SLOW)
    assert for_meter("XYZ", 0x0A, 0x04) == (SLOW,)
    assert for_meter("XYZ", None, 0x04) == (SLOW,)


def test_what_the_owner_chose_goes_before_every_row() -> None:
    chosen = Recipe(
        nke="never",
        before=(Step(0x50),),
        is_plain=False,
        pages=(Step(0xB1),),
        manner=Manner(0.3, 0.2, Wake(528, 0.1), 300),
    )
    assert recipe_for(chosen, (SLOW, RESET)) == chosen


def test_several_rows_add_up_and_the_longest_window_holds() -> None:
    recipe = recipe_for(Recipe(), (SLOW, RESET, Quirk("XYZ", None, None, "another", window=0.4)))
    assert recipe == Recipe(nke="always", manner=Manner(shortest_window=1.0))


def test_every_row_names_a_maker_and_a_source() -> None:
    for quirk in QUIRKS:
        assert manufacturer_code(quirk.manufacturer)
        assert quirk.source
        assert quirk.nke or quirk.window or quirk.advice
