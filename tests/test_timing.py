"""The times of the standard, and what answers teach about the way to the converter."""

import pytest

from mbusd.line.timing import FORGIVEN_AFTER, PROOFS, QUICK_SECONDS, USB_SECONDS, Arrival, Timing

CAUTION = 0.1


@pytest.mark.parametrize(
    ("baudrate", "window", "character", "select", "longest"),
    [(300, 1.150, 0.0367, 0.623, 9.570), (2400, 0.1875, 0.0046, 0.078, 1.196), (9600, 0.084, 0.0011, 0.019, 0.299)],
)
def test_the_times_of_the_standard(
    baudrate: int, window: float, character: float, select: float, longest: float
) -> None:
    timing = Timing.of(baudrate, CAUTION)
    assert timing.window == pytest.approx(window, abs=5e-4)
    assert timing.wire(1) == pytest.approx(character, abs=5e-5)
    assert timing.wire(17) == pytest.approx(select, abs=5e-4)
    assert timing.wire(261) == pytest.approx(longest, abs=1e-3)
    assert timing.settle >= 33 / baudrate
    assert timing.idle >= 11 / baudrate
    assert timing.gap >= max(33 / baudrate, 0.05)


def test_a_slow_meter_gets_the_window_that_the_owner_gives() -> None:
    assert Timing.of(2400, CAUTION, 5.0).window == 5.0


def at(lag: float, *, allowed: float = 0.2, size: int = 1, span: float = 0.0, pause: float = 0.0) -> Arrival:
    """A good answer behind a good one."""
    return Arrival(lag, allowed, size, span, pause, after_good=True)


TELEGRAM = at(0.035, size=50, span=0.22, pause=0.005)  # 50 bytes at the pace of 2400 Bd


@pytest.mark.parametrize("added", [0.0, 0.01, 0.04, 0.09, 0.3])
@pytest.mark.parametrize("begins", [0.0046, 0.0346, 0.08, 0.18])
@pytest.mark.parametrize("caution", [0.1, 0.4])
def test_what_the_way_adds_is_no_more_than_the_slack_whatever_meter_answered(
    added: float, begins: float, caution: float
) -> None:
    """The sum alone is seen: 50 ms may be a meter at once and a long way."""
    unknown = Timing.of(2400, caution)
    seen = unknown.after(at(begins + unknown.wire(1) + added, allowed=1.0))
    assert min(added, caution) <= seen.slack <= caution
    assert seen.latest(seen.window) >= seen.window + seen.wire(1) + min(added, caution)


def test_the_soonest_answer_shows_how_quick_the_way_is() -> None:
    timing = Timing.of(2400, CAUTION).after(at(0.12))
    assert timing.slack == CAUTION
    timing = timing.after(at(0.04)).after(at(0.12)).after(TELEGRAM)
    assert timing.slack == pytest.approx(0.035 - 22 / 2400 + QUICK_SECONDS)
    assert timing.after(at(0.01)).slack < 0.01


def test_a_way_that_is_uneven_inside_an_answer_is_so_between_answers() -> None:
    timing = Timing.of(2400, CAUTION).after(at(0.01, size=50, span=0.22, pause=0.02))
    assert timing.slack > 0.015
    assert Timing.of(2400, CAUTION).after(at(0.01)).slack >= USB_SECONDS  # as long as no long answer was seen


@pytest.mark.parametrize(
    "ambiguous",
    [
        Arrival(0.035, 0.2, after_silence=True),  # perhaps what the silent one owed
        Arrival(0.035, 0.2),
        Arrival(0.035, 0.2, is_due=False, after_good=True),
        Arrival(0.035, 0.2, is_frame=False, is_due=False, after_silence=True),
    ],
)
def test_what_may_be_another_answer_than_it_seems_bounds_nothing(ambiguous: Arrival) -> None:
    assert Timing.of(2400, CAUTION).after(ambiguous).after(ambiguous).slack == CAUTION


def test_two_unreadable_answers_are_as_good_as_one_that_can_be_read() -> None:
    """Where many answer at once nothing else is heard for long; one alone may be noise."""
    jumble = Arrival(0.035, 0.2, is_frame=False, is_due=False)
    noise = Arrival(0.012, 0.2, is_frame=False, is_due=False)
    unknown = Timing.of(2400, CAUTION)
    assert unknown.after(jumble).slack == CAUTION
    assert unknown.after(jumble).after(noise).slack == unknown.after(jumble).after(jumble).slack < 0.05


def test_after_a_doubt_an_answer_that_is_certain_is_needed() -> None:
    timing = Timing.of(2400, CAUTION).after(at(0.035)).after_doubt()
    assert timing.slack == CAUTION
    assert timing.after(at(0.035)).slack < CAUTION


def test_after_a_late_answer_all_caution_comes_back_until_many_were_prompt() -> None:
    timing = Timing.of(2400, CAUTION).after(at(0.035)).after_late_answer()
    for _ in range(FORGIVEN_AFTER - 1):
        timing = timing.after(at(0.035))
        assert timing.slack == CAUTION
    timing = timing.after(at(0.035))
    assert timing.slack < CAUTION
    assert not timing.is_late


def test_a_way_that_is_late_again_and_again_is_trusted_ever_later() -> None:
    timing = Timing.of(2400, CAUTION)
    needed = []
    for _ in range(4):
        timing = timing.after_late_answer().after_late_answer()
        answers = 0
        while timing.is_late:
            timing, answers = timing.after(at(0.035)), answers + 1
        needed.append(answers)
    assert needed == [FORGIVEN_AFTER * factor for factor in (1, 2, 4, 8)]


def test_answers_in_the_second_half_of_the_window_forgive_nothing() -> None:
    timing = Timing.of(2400, CAUTION).after_late_answer()
    for _ in range(3 * FORGIVEN_AFTER):
        timing = timing.after(at(0.12))
    assert timing.is_late


@pytest.mark.parametrize(
    "late",
    [
        Arrival(0.25, 0.2),
        Arrival(0.035, 0.2, is_due=False, after_silence=True),  # another meter's
        Arrival(-0.01, 0.2, after_silence=True),  # the E5 that the silent one owed
        Arrival(-0.01, 0.2, is_frame=False, is_due=False, after_silence=True),
    ],
)
def test_what_shows_that_the_way_is_slow(late: Arrival) -> None:
    assert Timing.of(2400, CAUTION).after(at(0.035)).after(late).is_late


@pytest.mark.parametrize(
    "other",
    [
        Arrival(0.035, 0.2, is_due=False, after_good=True),  # two meters at one address, a meter that speaks oddly
        Arrival(-0.01, 0.2, is_frame=False, is_due=False, after_good=True),  # noise
        Arrival(0.035, 0.2, after_silence=True),
    ],
)
def test_what_shows_nothing_of_the_kind(other: Arrival) -> None:
    assert not Timing.of(2400, CAUTION).after(at(0.035)).after(other).is_late


def test_a_wire_that_is_quicker_than_its_rate_is_not_late() -> None:
    """Behind a transparent converter the rate may be any: answers come before the request could be over."""
    soon = Arrival(-0.01, 0.2, after_silence=True)
    timing = Timing.of(2400, CAUTION).after(soon)
    assert timing.is_late
    for _ in range(PROOFS):
        timing = timing.after(at(-0.01))
    assert timing.is_quicker
    assert not timing.is_late
    assert timing.after(soon).slack < 0.02
    assert timing.after(Arrival(-0.01, 0.2, is_due=False, after_silence=True)).is_late


def test_one_answer_too_soon_is_no_proof() -> None:
    timing = Timing.of(2400, CAUTION).after(at(-0.01))
    assert timing.after(Arrival(-0.01, 0.2, after_silence=True)).is_late


# ------------------------------------------------------------------------------------------------ pauses


def test_the_pause_inside_a_frame_keeps_all_caution() -> None:
    """Converters cut an answer anywhere, however quick they are."""
    timing = Timing.of(2400, CAUTION)
    assert timing.after(TELEGRAM).gap == timing.gap


def test_noise_is_given_up_as_soon_as_good_answers_show() -> None:
    timing = Timing.of(2400, CAUTION)
    assert timing.lull == timing.gap
    assert timing.lull > timing.after(at(0.035)).lull > 0.05 + 0.02  # a single E5 has no pauses
    assert 2 * USB_SECONDS < timing.after(TELEGRAM).lull < 0.05
    assert Timing.of(300, CAUTION).after(at(0.035, size=50, span=1.8, pause=0.04)).lull > 33 / 300


def test_a_pause_that_was_seen_once_is_allowed_for_ever() -> None:
    timing = Timing.of(2400, 0.4).after(at(0.035, size=50, span=0.6, pause=0.2)).after(TELEGRAM)
    assert timing.lull > 0.4
    assert timing.after_pause(0.6).gap > 1.2
    assert timing.after_pause(3600).gap < 5


# ------------------------------------------------------------------------------------------------ held answers


def test_a_converter_that_collects_answers_is_given_the_time_of_the_longest() -> None:
    """150 bytes at 2400 Bd: 0.69 s pass before their first one is handed on."""
    timing = Timing.of(2400, 0.4)
    assert timing.held(data=True) == 0
    timing = timing.after(at(0.73, allowed=0.8, size=150))
    assert timing.held(data=True) == timing.wire(261)
    assert timing.held(data=False) == 0
    assert timing.slack < 0.05  # it is quick, but for that
    assert timing.after(at(0.035, size=150, span=0.68)).held(data=True) == 0


def test_a_telegram_that_came_at_once_after_its_window_was_held() -> None:
    timing = Timing.of(2400, 0.4)
    assert timing.after_late_answer(Arrival(0, 0, size=150)).is_held
    assert not timing.after_late_answer(Arrival(0, 0, size=150, span=0.68)).is_held
    assert not timing.after_late_answer(Arrival(0, 0)).is_held


def test_a_quicker_wire_is_not_taken_for_one_that_holds_answers() -> None:
    timing = Timing.of(2400, 0.4)
    for _ in range(PROOFS):
        timing = timing.after(at(-0.01, size=150))
    assert timing.after(at(-0.01, size=150)).held(data=True) == 0


def test_a_hasty_request_leaves_room_for_an_e5_at_the_end_of_the_window_and_the_idle_time_behind_it() -> None:
    for baudrate in (300, 2400, 9600):
        timing = Timing.of(baudrate, 0.4)
        assert timing.hasty >= timing.window + 22 * timing.bit
        assert timing.hasty < timing.latest(timing.window)
    assert Timing.of(2400, 0.4).hasty <= 1.05 * (330 / 2400 + 0.05)


def test_where_each_byte_is_seen_at_once_a_hasty_request_follows_what_could_have_begun() -> None:
    """Bytes that come in pieces, by a USB chip's timer or a UART's FIFO, hide an E5 that has ended."""
    local, far = (Timing.of(2400, CAUTION, is_local=one).after(TELEGRAM) for one in (True, False))
    in_pieces = local.after(at(0.035, size=150, span=0.68, pause=0.036))
    assert local.window + 11 * local.bit < local.hasty < local.window + 11 * local.bit + 0.002
    assert far.hasty >= far.window + 22 * far.bit
    assert in_pieces.hasty >= in_pieces.window + 22 * in_pieces.bit


def test_answers_that_are_known_to_arrive_late_are_waited_for_in_haste_too() -> None:
    known = Timing.of(2400, 0.4).after(Arrival(lag=0.3, allowed=0.6, after_good=True))
    assert 0.3 < known.hasty < known.latest(known.window)


def test_no_haste_waits_longer_than_all_caution() -> None:
    known = Timing.of(2400, 0.1).after(Arrival(lag=0.29, allowed=0.6, after_good=True))
    assert known.hasty <= known.latest(known.window)
