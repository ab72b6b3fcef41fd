"""Profiles: whom they are about, what they make of the status byte, and which rules get in each other's way."""

import pytest

from mbusd.mbus.profile import (
    Naming,
    Profile,
    Rule,
    Span,
    Status,
    merged,
    profiles_for,
    spans_meet,
    vib_fits,
    within,
)


def profile(
    name: str = "model",
    versions: tuple[Span, ...] | None = None,
    media: frozenset[int] | None = None,
    *,
    is_own: bool = False,
) -> Profile:
    return Profile("KAM", name, "a test", versions, media, is_own=is_own)


def rule(*vibs: str, subunits: tuple[Span, ...] | None = None, quantity: str = "power") -> Rule:
    return Rule(vibs, Naming(quantity=quantity), subunits=subunits)


@pytest.mark.parametrize(
    ("version", "medium", "fits"),
    [(0x35, 4, True), (0x34, 4, False), (0x36, 4, True), (0x35, 6, False), (None, 4, False), (0x35, None, False)],
)
def test_a_profile_is_about_its_versions_and_media(version: int | None, medium: int | None, fits: bool) -> None:  # noqa: FBT001 - a parameter of the test
    family = profile(versions=((0x35, 0x36),), media=frozenset({4}))
    assert family.fits("KAM", version, medium) is fits
    assert not family.fits("ABB", version, medium)


def test_what_a_profile_does_not_say_matches_anything() -> None:
    assert profile().fits("KAM", None, None)


def test_the_users_profiles_come_first_then_the_closest_cut() -> None:
    anything, version = profile("anything"), profile("version", versions=((1, 9),))
    medium, own = profile("medium", media=frozenset({4})), profile("own", is_own=True)
    found = profiles_for([anything, medium, version, own, profile("no", versions=((10, 10),))], "KAM", 2, 4)
    assert [item.name for item in found] == ["own", "version", "medium", "anything"]


def test_no_profile_is_none() -> None:
    assert profiles_for([profile()], "ABB", 1, 2) == ()
    assert merged(()) is None


def test_of_several_profiles_the_earlier_one_goes_before() -> None:
    own = Profile(
        "KAM", "mine", "me", status=Status(((5, "mine"),)), vifes=((1, "first"),), rules=(rule("FF 07"),), is_own=True
    )
    theirs = Profile(
        "KAM",
        "theirs",
        "them",
        status=Status(((5, "theirs"), (6, "sixth")), frozenset({7}), frozenset({0x88})),
        ignored_vifes=frozenset({0}),
        vifes=((1, "l1"), (2, "l2")),
        rules=(rule("FF 08"),),
        medium=4,
    )
    both = merged((own, theirs))
    assert both is not None
    assert both.name == "mine"
    assert both.status == Status(((5, "mine"), (6, "sixth")), frozenset({7}), frozenset({0x88}))
    assert dict(both.vifes) == {1: "first", 2: "l2"}
    assert both.rules == (*own.rules, *theirs.rules)
    assert both.ignored_vifes == {0}
    assert both.medium == 4


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0x00, ()),
        (0x27, ()),  # usual
        (0x2F, ("abnormal_condition", "power_low", "permanent_error", "leakage")),
        (0x80, ()),  # ignored
        (0x20, ("leakage",)),
        (0x10, ("burst",)),
        (0xC4, ("power_low", "manufacturer_bit_6")),
    ],
)
def test_the_status_byte_in_the_makers_words(status: int, words: tuple[str, ...]) -> None:
    family = Profile("KAM", "m", "s", status=Status(((4, "burst"), (5, "leakage")), frozenset({7}), frozenset({0x27})))
    assert family.status_words(status) == words


def test_the_first_two_bits_are_no_code_in_the_fixed_structure() -> None:
    assert Profile("KAM", "m", "s").status_words(0x03, fixed=True) == ()


def test_all_words_of_a_profile_are_known_before_one_of_them_comes() -> None:
    bits = Rule(("FD17",), Naming(kind="bits", bits=((0, "dry"), (3, "burst"))))
    family = Profile("KAM", "m", "s", status=Status(((5, "burst"), (7, "sealed")), frozenset({7})), rules=(bits,))
    assert family.words == ("burst", "dry")


@pytest.mark.parametrize(
    ("pattern", "vib", "fits"),
    [
        ("FF07", "FF07", True),
        ("FF07", "FF87", True),  # the extension bit of the last byte tells nothing
        ("FF07", "7F07", False),  # of the others it does
        ("FF07", "FF08", False),
        ("FF07", "FF0701", False),
        ("84FF0?", "84FF03", True),
        ("84FF0?", "84FF13", False),
        ("?4", "74", True),
        ("??", "", False),
    ],
)
def test_a_pattern_of_a_vib(pattern: str, vib: str, fits: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert vib_fits(pattern, bytes.fromhex(vib)) is fits


def test_runs_of_numbers() -> None:
    assert within(3, ((1, 2), (3, 4)))
    assert not within(5, ((1, 2), (3, 4)))
    assert within(5, None)
    assert spans_meet(((1, 4),), ((4, 6),))
    assert not spans_meet(((1, 3),), ((4, 6),))
    assert spans_meet(None, ((4, 6),))


def test_rules_that_can_be_about_the_same_record_overlap() -> None:
    assert rule("FF0?").overlaps(rule("FD17", "FF07"))
    assert not rule("FF07").overlaps(rule("FF08"))
    assert not rule("FF07", subunits=((1, 1),)).overlaps(rule("FF07", subunits=((2, 3),)))
    assert rule("FF07", subunits=((1, 2),)).overlaps(rule("FF07"))
    instantaneous = Rule(("FF07",), Naming(), functions=frozenset({"instantaneous"}))
    maximum = Rule(("FF07",), Naming(), functions=frozenset({"maximum"}))
    assert not instantaneous.overlaps(maximum)
