"""What is concluded from all meters found: an address that two of them have is nobody's."""

from mbusd.mbus.address import SecondaryAddress
from mbusd.scanning.survey import Finding, Survey, at_all_rates

ONE, OTHER = SecondaryAddress("123456782D2C0904"), SecondaryAddress("876543212D2C0904")


def found(address: SecondaryAddress = ONE, primary: int | None = 1, *, is_selectable: bool = True) -> Finding:
    return Finding(address, primary, None, is_selectable)


def test_two_with_one_secondary_address_are_read_by_their_primary_ones() -> None:
    survey = Survey(alone={1, 2})
    survey.add(found(primary=1))
    survey.add(found(primary=2))
    assert [one.safest for one in survey.findings] == [1, 2]
    assert all("same secondary address" in one.remark for one in survey.findings)
    assert survey.crowded == []


def test_two_that_share_both_addresses_cannot_be_read() -> None:
    survey = Survey()
    for number in ("00000017", "00000027", "00000037"):
        survey.add_twin(Finding(ONE, 1, None, fabrication=number))
    assert [one.fabrication for one in survey.findings] == ["00000017", "00000027", "00000037"]
    assert [one.safest for one in survey.findings] == [None, None, None]
    assert survey.crowded == [1]
    (remark,) = survey.remarks()
    assert "fabrication number 00000017" in remark


def test_who_was_taken_for_both_twins_is_gone() -> None:
    survey = Survey()
    survey.merge(found(primary=0))  # the primary addresses 1 and 2, superposed
    survey.add_twin(Finding(ONE, 1, None, fabrication="00000017"))
    survey.add_twin(Finding(ONE, 2, None, fabrication="00000027"))
    assert [(one.primary, one.safest) for one in survey.findings] == [(1, 1), (2, 2)]


def test_a_twin_without_a_fabrication_number_stays() -> None:
    survey = Survey(alone={1, 2})
    survey.add(found(primary=1))
    survey.add(found(primary=2))
    survey.add_twin(Finding(ONE, 1, None, fabrication="00000017"))
    assert [(one.primary, one.fabrication) for one in survey.findings] == [(2, None), (1, "00000017")]
    assert [one.safest for one in survey.findings] == [2, 1]


def test_a_primary_address_out_of_a_telegram_of_several_is_not_believed() -> None:
    survey = Survey()
    survey.merge(found(primary=0))
    survey.note_twins(ONE)
    assert [one.safest for one in survey.findings] == [None]


def test_a_crowded_address_is_listed_once_and_nobody_is_read_by_it() -> None:
    survey = Survey()
    survey.add(found(ONE, 1, is_selectable=False))
    survey.note_crowd(1)
    survey.note_crowd(1)
    survey.merge(found(OTHER, 1))
    assert survey.crowded == [1]
    assert {one.address: one.safest for one in survey.findings} == {OTHER: OTHER}


def test_scans_at_several_rates_are_one() -> None:
    """Who answers at several rates is read at the bus's."""
    slow, quick = Survey(is_complete=True, probes=3), Survey(is_complete=True, probes=4)
    slow.add(found(ONE, 1))
    for one in (found(OTHER, 2), found(ONE, 1), Finding(None, 7, None)):
        quick.add(one)
    slow.problems.append("noise")
    rate, whole = at_all_rates([(2400, slow), (9600, quick)])
    assert (rate, whole.probes, whole.is_complete) == (9600, 7, True)
    assert [(one.primary, one.baudrate) for one in whole.findings] == [(2, None), (1, None), (7, None)]
    assert whole.remarks() == ["at 2400 Bd: noise"]
    rate, whole = at_all_rates([(2400, slow), (9600, Survey(findings=[found(OTHER, 1)]))])
    assert (rate, whole.is_complete) == (2400, False)
    assert [(one.primary, one.baudrate) for one in whole.findings] == [(1, None), (1, 9600)]
