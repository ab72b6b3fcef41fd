"""By which address a meter that was found is read, and what is said of one that may not be there."""

import pytest

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.frames import LongFrame
from mbusd.mbus.telegram import decode
from mbusd.scanning.reach import address_of, answering, is_twin, remark, whole_of
from mbusd.scanning.survey import Finding, Survey

ONE = SecondaryAddress("123456782D2C0904")
TELEGRAM = decode(LongFrame(0x08, 6, 0x72, ONE.to_bytes() + bytes(4)))


def test_the_fabrication_number_goes_before_a_primary_address() -> None:
    """That one may be given to another meter; and by it both would have one name."""
    survey = Survey(alone={1, 2})
    survey.add_twin(Finding(ONE, 1, None, fabrication="00000017"))
    survey.add_twin(Finding(ONE, 2, None, fabrication="00000027"))
    ways = [address_of(one) for one in survey.findings]
    assert [str(way) for way in ways] == ["123456782D2C0904-00000017", "123456782D2C0904-00000027"]
    assert ways == [whole_of(one) for one in survey.findings]
    assert all(is_twin(one) for one in survey.findings)


@pytest.mark.parametrize(
    ("finding", "way"),
    [
        (Finding(ONE, 1, None, is_selectable=True), ONE),
        (Finding(ONE, 1, None), 1),
        (Finding(ONE, 1, None, is_alone=False), None),
        (Finding(None, 7, None, remark="acknowledges but sends no data"), 7),
    ],
)
def test_without_one_it_is_the_safest_there_is(finding: Finding, way: object) -> None:
    assert address_of(finding) == way
    assert not is_twin(finding)


@pytest.mark.parametrize("why", ["acknowledges but sends no data", "acknowledges but has no data now"])
def test_an_e5_behind_a_silent_address_may_be_its_late_answer(why: str) -> None:
    lone = Finding(None, 6, None, remark=why)
    assert remark(lone, ()) == f"{why}; unless that was the late answer of address 5: a longer timeout tells"
    for survey in (Survey(findings=[Finding(ONE, 5, None)]), Survey(crowded=[5]), Survey(misread=[5])):
        assert remark(lone, answering(survey)) == why
    assert remark(Finding(None, 0, None, remark=why), ()) == why


def test_a_telegram_is_no_late_e5() -> None:
    assert remark(Finding(None, 6, None, remark="sends no telegram that names it: short"), ()).endswith("short")
    assert remark(Finding(ONE, 6, TELEGRAM), ()) == ""
