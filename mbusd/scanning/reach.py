"""By which address a meter that a scan has found is read from then on, and whether it is there at all. Pure.

The fabrication number goes before all else where it is known: the search has selected the meter by it, alone, though
others share its secondary address, and whoever reads by it is told when another one answers (EN 13757-3 cl. 11.4).
"""

from collections.abc import Collection
from dataclasses import replace

from mbusd.mbus.address import SecondaryAddress
from mbusd.scanning.survey import Finding, Survey


def address_of(finding: Finding) -> SecondaryAddress | int | None:
    """The address to read it by; None where every one that it has may be another meter's, too."""
    return whole_of(finding) if finding.fabrication is not None else finding.safest


def whole_of(finding: Finding) -> SecondaryAddress | None:
    """Its secondary address, with the fabrication number where only that tells it from another."""
    if finding.address is None or finding.fabrication is None:
        return finding.address
    return replace(finding.address, fabrication=finding.fabrication)


def is_twin(finding: Finding) -> bool:
    """Whether another meter has the same secondary address, so that this one cannot be called by it."""
    return finding.address is not None and not finding.is_selectable and bool(finding.remark)


def answering(survey: Survey) -> set[int | None]:
    """The primary addresses that anybody has answered."""
    return {*(one.primary for one in survey.findings), *survey.crowded, *survey.misread}


def _doubt(finding: Finding, answered: Collection[int | None]) -> str:
    """Why it may be no meter: an E5 that comes late, from the address below, looks as if this one had said it."""
    is_e5 = finding.telegram is None and finding.remark.startswith("acknowledges")
    if not is_e5 or not finding.primary or finding.primary - 1 in answered:
        return ""
    return f"unless that was the late answer of address {finding.primary - 1}: a longer timeout tells"


def remark(finding: Finding, answered: Collection[int | None]) -> str:
    """What a person should know of it; "" for nothing."""
    return "; ".join(filter(None, (finding.remark, _doubt(finding, answered))))
