"""The rows of meters that differ: whom they are about, that the owner's word goes before them, and what they are for.

Each row, and each recipe that the README names for a configuration, is tried on simulated meters that behave so.
"""

from collections.abc import Sequence

import pytest

from mbusd.mbus import quirks
from mbusd.mbus.address import Address, PrimaryAddress, manufacturer_code
from mbusd.mbus.errors import NoAnswer, Refused
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.link import ATTEMPTS
from mbusd.mbus.master import LinkState, ReadOut, req_ud2
from mbusd.mbus.quirks import QUIRKS, Manner, Quirk, Recipe, Step, Wake, for_meter, recipe_for
from mbusd.mbus.steps import step_of
from mbusd.simulation.simulator import Behaviour, Moment, SimulatedMeter, identity
from tests.mbus.clocked import Clocked

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


@pytest.mark.parametrize(
    ("manufacturer", "version", "medium"),
    [
        ("QDS", None, 0x07),
        ("LSE", None, 0x06),
        ("IST", None, 0x04),
        ("ELS", None, 0x04),
        ("LUG", None, 0x04),
        ("SEN", None, 0x04),
        ("KAM", 0x30, 0x0C),
    ],
)
def test_meters_that_want_rest_say_why(manufacturer: str, version: int | None, medium: int) -> None:
    row = for_meter(manufacturer, version, medium)[-1]
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


def test_no_row_makes_a_meter_do_more_than_wait_and_reset_its_link() -> None:
    """A row is about other meters of its maker, too, and about their batteries."""
    for quirk in QUIRKS:
        recipe = recipe_for(Recipe(), (quirk,))
        assert (recipe.before, recipe.is_plain, recipe.pages) == ((), True, ())
        assert recipe.manner == Manner(shortest_window=quirk.window or 0.0)
        assert quirk.nke != "always" or quirk.media == quirks.ELECTRICITY, "those live on the mains"


# ------------------------------------------------------------------------------------------- meters that behave so

AT_5 = PrimaryAddress(5)
HOUR, DAY = 3600.0, 86400.0


def row_for(manufacturer: str, version: int | None, medium: int) -> Quirk:
    """The last row about a meter, which is the closest."""
    return for_meter(manufacturer, version, medium)[-1]


def counting(moment: Moment) -> Sequence[bytes]:
    """What it measures is the time, in seconds."""
    return [b"\x04\x13" + int(moment.seconds).to_bytes(4, "little")]


def three(moment: Moment) -> Sequence[bytes]:
    """Three telegrams that differ; the first is `counting`."""
    return [*counting(moment), b"\x01\xfd\x17\x00", b"\x02\xfd\x48\xfc\x08"]


def shown(result: ReadOut) -> int:
    """The value of `counting`."""
    return int.from_bytes(result.telegrams[0].frame.data[14:18], "little")


def count(result: ReadOut) -> int:
    return len(result.telegrams)


def in_turn(on: Clocked, recipe: Recipe, every: float, times: int, address: Address = AT_5) -> list[ReadOut]:
    """Read a meter every so many seconds, and keep the state of its link between."""
    link, results = LinkState(), []
    for number in range(times):
        on.now = max(on.now, number * every)
        results.append(on.read(address, recipe, link))
        link = results[-1].link
    return results


@pytest.mark.parametrize("address", [AT_5, identity("12345678", "KAM", 8, 4)])
def test_kamstrup_a_first_request_that_only_wakes_and_a_slow_first_answer(address: Address) -> None:
    def requests(recipe: Recipe) -> int:
        behaviour = Behaviour(sleeps_after=600, starts_slowly=0.8)
        on = Clocked.of(SimulatedMeter(identity("12345678", "KAM", 8, 4), counting, 5, behaviour=behaviour))
        results = in_turn(on, recipe, HOUR, 5, address)
        assert [abs(shown(result) - number * HOUR) < 10 for number, result in enumerate(results)] == [True] * 5
        return len(on.sent)

    with_row = requests(recipe_for(Recipe(), for_meter("KAM", 8, 4)))
    assert with_row < requests(Recipe()), "without it, answers come when nobody waits for them any more"


def test_abb_begins_with_its_first_telegram_only_after_a_reset() -> None:
    """Several telegrams, the last again and again until SND_NKE; a repeated one carries new values."""

    def requests(recipe: Recipe) -> int:
        behaviour = Behaviour(goes_round=False, renewal="repetition")
        on = Clocked.of(SimulatedMeter(identity("12345678", "ABB", 0x20, 2), three, 5, behaviour=behaviour))
        for number, result in enumerate(in_turn(on, recipe, 60, 10)):
            assert count(result) == 3
            assert abs(shown(result) - 60 * number) < 5
        return len(on.sent)

    assert requests(recipe_for(Recipe(), for_meter("ABB", 0x20, 2))) == 10 * 4
    assert requests(Recipe()) > 10 * 4


def test_elster_f96_on_battery_refuses_what_comes_too_soon() -> None:
    row = row_for("ELS", None, 4)
    assert row.rest == 180
    for refusal in ("error", "status"):
        behaviour = Behaviour(pauses={0: 180.0}, refusal=refusal)
        on = Clocked.of(SimulatedMeter(identity("12345678", "ELS", 1, 4), counting, 5, behaviour=behaviour))
        assert len(in_turn(on, Recipe(), row.rest + 1, 20)) == 20
        on.now += 60
        asked = len(on.sent)
        with pytest.raises(Refused) as refused:
            on.read(AT_5, Recipe(nke="always"))
        assert refused.value.code == 0x09, "whoever hears it asks less often"
        assert len(on.sent) == asked + 2, "and a refusal is not asked again"


@pytest.mark.parametrize("manufacturer", ["LSE", "QDS"])
def test_siemens_and_qundis_45_times_a_day(manufacturer: str) -> None:
    def read(every: float) -> int:
        behaviour = Behaviour(read_outs_a_day=45, refusal="acknowledgement")
        on = Clocked.of(SimulatedMeter(identity("12345678", manufacturer, 1, 7), counting, 5, behaviour=behaviour))
        return len(in_turn(on, Recipe(), every, int(3 * DAY / every)))

    rest = row_for(manufacturer, None, 7).rest
    assert rest is not None
    assert read(rest) == 135
    with pytest.raises(NoAnswer, match="only E5 where data are due"):
        read(rest / 2)


def test_ista_sensonic_its_full_telegram_and_its_short_one() -> None:
    row = row_for("IST", None, 4)
    assert row.rest is not None
    short = Recipe(before=(step_of(b"\x50\x50"),))

    def sensonic() -> Clocked:
        behaviour = Behaviour(pauses={0: 69 * 60.0, 0x50: 300.0}, refusal="acknowledgement")
        one = SimulatedMeter(identity("12345678", "IST", 1, 4), three, 5, behaviour=behaviour)
        one.applications = {0x50: counting}
        return Clocked.of(one)

    assert [count(result) for result in in_turn(sensonic(), Recipe(), row.rest, 5)] == [3] * 5
    with pytest.raises(NoAnswer):
        in_turn(sensonic(), Recipe(), 300, 2)
    for number, result in enumerate(in_turn(sensonic(), short, 301, 20)):
        assert count(result) == 1
        assert abs(shown(result) - 301 * number) < 5


@pytest.mark.parametrize(("manufacturer", "medium"), [("EFE", 4), ("EFE", 7), ("MAD", 4)])
def test_engelmann_counts_each_telegram_so_the_link_is_reset_once(manufacturer: str, medium: int) -> None:
    """485 read-outs a day with 20 meters on the bus, by primary address and without SND_NKE."""
    assert row_for(manufacturer, None, medium).advice
    behaviour = Behaviour(read_outs_a_day=485)
    on = Clocked.of(SimulatedMeter(identity("12345678", manufacturer, 1, medium), counting, 5, behaviour=behaviour))
    assert len(in_turn(on, recipe_for(Recipe(), for_meter(manufacturer, 1, medium)), 900, 2 * 96)) == 192
    assert on.resets() == 1
    assert len(on.sent) == 1 + 192


def test_pollustat_on_battery_has_new_values_as_often_as_its_row_says() -> None:
    rest = row_for("SEN", None, 4).rest
    assert rest == 120

    def read(every: float) -> list[int]:
        def pages(moment: Moment) -> Sequence[bytes]:
            return counting(Moment(moment.seconds // 120, moment.clock))

        on = Clocked.of(SimulatedMeter(identity("12345678", "SEN", 1, 4), pages, 5))
        return [shown(result) for result in in_turn(on, Recipe(), every, 6)]

    assert read(rest) == [0, 1, 2, 3, 4, 5]
    assert read(60) == [0, 0, 1, 1, 2, 2], "the same values again are no error: the access number moves"


# ------------------------------------------------------------------------- recipes that an owner may want to write


def test_supercal_531_shows_old_values_until_an_application_reset() -> None:
    def wrong(recipe: Recipe) -> int:
        behaviour = Behaviour(renewal="reset")
        on = Clocked.of(SimulatedMeter(identity("12345678", "SON", 13, 4), three, 5, behaviour=behaviour))
        results = in_turn(on, recipe, HOUR, 6)
        assert {count(result) for result in results} == {3}
        return sum(abs(shown(result) - HOUR * number) > 10 for number, result in enumerate(results))

    assert wrong(Recipe(before=(step_of(b"\x50"),))) == 0
    assert wrong(Recipe()) == 5


EASTRON = identity("12345678", "PAD", 1, 2)


@pytest.mark.parametrize("page", ["B1", "68 03 03 68 53 05 B1 09 16"])
@pytest.mark.parametrize("address", [AT_5, EASTRON])
def test_eastron_sends_its_instantaneous_values_for_ci_b1(page: str, address: Address) -> None:
    volts = bytes.fromhex("02 FD 48 FC 08")
    one = SimulatedMeter(EASTRON, counting, 5, maker_pages={0xB1: lambda _: [volts]})
    recipe = Recipe(pages=(step_of(bytes.fromhex(page)),))
    results = in_turn(Clocked.of(one), recipe, 60, 4, address)
    assert [count(result) for result in results] == [2] * 4
    assert [result.telegrams[1].frame.data[12:] for result in results] == [volts] * 4
    only = in_turn(Clocked.of(one), Recipe(is_plain=False, pages=recipe.pages), 60, 3, address)
    assert [result.telegrams[0].frame.data[12:] for result in only] == [volts] * 3
    assert [count(result) for result in only] == [1] * 3


SHARKY = identity("12345678", "HYD", 0x20, 4)


@pytest.mark.parametrize("address", [AT_5, SHARKY])
def test_sharky_a_pause_between_requests_and_the_values_of_application_50(address: Address) -> None:
    """A second request right after an answer is not heard; some values come after an application select only."""

    def requests(pause: float) -> int:
        one = SimulatedMeter(SHARKY, counting, 5, behaviour=Behaviour(rests_for=0.3))
        one.applications = {0x50: lambda _: [bytes.fromhex("02 5A C2 02")]}
        recipe = Recipe(before=(step_of(b"\x50\x00"),), pages=(step_of(b"\x50\x50"),), manner=Manner(pause=pause))
        on = Clocked.of(one)
        for number, result in enumerate(in_turn(on, recipe, HOUR, 4, address)):
            assert abs(shown(result) - HOUR * number) < 20
            assert [telegram.frame.data[12] for telegram in result.telegrams] == [0x04, 0x02]
        return len(on.sent)

    in_one_go = requests(0.3)
    assert in_one_go < requests(0.0) <= ATTEMPTS * in_one_go


@pytest.mark.parametrize("asked_before", range(6))
def test_whoever_asked_before_a_read_out_begins_with_the_first_telegram(asked_before: int) -> None:
    """Supercal, C5-IUF, PolluStat E, IME: a telegram of the middle first, or one for ever, if the FCB is wrong."""
    on = Clocked.of(SimulatedMeter(identity("12345678", "SON", 13, 4), three, 5))
    for number in range(asked_before):
        on.bus.answers(req_ud2(5, fcb=number % 2 == 1), on.now)
    for _ in range(2):
        result = on.read(AT_5, Recipe())
        assert [telegram.frame.data[12] for telegram in result.telegrams] == [0x04, 0x01, 0x02]


def test_badger_modmag_takes_a_new_address_a_day_later() -> None:
    """It acknowledges at once; until then it is read where it was, and whoever looks at once sees nothing changed."""
    one = SimulatedMeter(identity("12345678", "BMI", 1, 7), counting, 5, behaviour=Behaviour(stores_after=DAY))
    on = Clocked.of(one)
    on.bus.answers(LongFrame(0x53, 5, 0x51, b"\x01\x7a\x09"), on.now)
    assert count(on.read(AT_5, Recipe())) == 1
    on.now = DAY + 1
    with pytest.raises(NoAnswer):
        on.read(AT_5, Recipe())
    assert count(on.read(PrimaryAddress(9), Recipe())) == 1


def test_padpuls_with_its_write_protection_shown_in_its_status_is_read() -> None:
    one = SimulatedMeter(identity("12345678", "REL", 0x41, 7), counting, 5, status=0x80)
    (result,) = in_turn(Clocked.of(one), Recipe(), HOUR, 1)
    assert shown(result) == 0
