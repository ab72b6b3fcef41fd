"""Meters with the same identification, told apart: by medium, manufacturer, version, and by fabrication number.

Selections know wildcards for whole bytes only there (EN 13757-3 cl. 11.3), so values are gone through (twins.py): first
whether anybody on the bus has them, which is asked once for all. The enhanced selection (cl. 11.4) adds the fabrication
number, digit by digit, for meters that share all eight bytes.
"""

from collections.abc import Generator, Iterator

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.asking import Answered, Asker, Open, Step, Steps
from mbusd.mbus.fetching import fabrication_in
from mbusd.mbus.findings import Findings, put
from mbusd.mbus.probe import Crowd, Meter, Mute, Selection, Silent
from mbusd.mbus.split import DIGITS
from mbusd.mbus.together import accounts_for, shows_another
from mbusd.mbus.twins import MAKER, Part, free_parts, tiers

_DECIMAL = "0123456789"


class Apart:
    """Tells meters of one identification apart, on the bus that `root` is the mask of.

    `exhaustive`: goes through all values, however unlikely.
    """

    def __init__(self, asker: Asker, findings: Findings, root: str, *, exhaustive: bool) -> None:
        self._asker = asker
        self._findings = findings
        self._root = root
        self._absent: dict[str, bool] = {}  # whether nobody at all answers to these masks
        self._exhaustive = exhaustive
        self._accounts: dict[tuple[str, int], tuple[bool, bool]] = {}

    def tell_apart(self, twins: Open) -> Steps:
        """Find all meters behind a mask with a whole identification."""
        mask = twins.mask
        if isinstance(twins.answer, Mute):
            self._take_nameless(mask, twins.answer)
            return
        if self._asker.stuck is not None:
            self._findings.give_up(mask, f"{self._asker.stuck} answers as well, whoever is selected")
            return
        alike = [*(one.mask.digits for one in self._findings.meters), *_headers(twins, mask)]
        for part in free_parts(mask):
            for turn, (is_due, values) in enumerate(tiers(part, alike)):
                if turn and (yield from self._is_enough(mask, is_due=is_due)):
                    break
                yield from self._go_through(mask, part, values, is_due=is_due)
            if self._findings.count(mask) > 1 and (part != MAKER or (yield from self._is_enough(mask, is_due=False))):
                return  # a manufacturer may be on no list
            probe = yield from self._asker.ask(mask, tries=2)
            if not isinstance(probe, Crowd):
                return
        yield from self.tell_apart_by_fabrication(mask)

    def _is_enough(self, mask: str, *, is_due: bool) -> Generator[Step, Answered, bool]:
        """Whether those who were found behind a mask are all, or nothing shows one more and it is not due to ask."""
        if self._exhaustive or self._findings.count(mask) < 2:
            return False
        are_all, are_more = yield from self._account(mask)
        if not (are_all or is_due or are_more):
            self._findings.doubt_whether_all(mask)
        return are_all or not (is_due or are_more)

    def _go_through(self, mask: str, part: Part, values: list[str], *, is_due: bool) -> Steps:
        """Ask for each value; for the unlikely ones no longer than it takes to find all who answer."""
        for value in values:
            if (yield from self._is_absent(part, value)):
                continue
            found = part.put(mask, value)
            probe = yield from self._asker.ask(found)
            if isinstance(probe, Crowd | Mute):
                yield from self.tell_apart(Open(found, probe))
            if not (is_due or self._exhaustive or isinstance(probe, Silent)) and self._findings.count(mask) > 1:
                are_all, _ = yield from self._account(mask)
                if are_all:
                    return

    def _is_absent(self, part: Part, value: str) -> Generator[Step, Answered, bool]:
        """Whether no meter of the whole bus has this value."""
        if any(part.of(one.mask.digits) == value for one in self._findings.meters):
            return False
        everybody = part.put(self._root, value)
        if everybody not in self._absent:
            probe = yield from self._asker.ask(everybody, reads=False)
            self._absent[everybody] = isinstance(probe, Silent)
        return self._absent[everybody]

    def _account(self, mask: str) -> Generator[Step, Answered, tuple[bool, bool]]:
        """Whether what comes from all behind this mask shows that all are found; and whether, that one is not."""
        key = (mask, len(self._findings.behind(mask)))
        if key not in self._accounts:
            probe = yield from self._asker.ask(mask)
            found = set(self._findings.behind(mask))
            members = [meter for one, meter in self._findings.meters.items() if one in found]
            others = [meter for one, meter in self._findings.meters.items() if one not in found]
            heard = probe.heard if isinstance(probe, Crowd) else ()
            self._accounts[key] = (
                any(accounts_for(members, one, others) for one in heard),
                any(shows_another(members, one) for one in heard),
            )
        return self._accounts[key]

    def _take_nameless(self, mask: str, answer: Mute) -> None:
        """A meter that says nothing, or not who it is: the mask that it answers to is its name."""
        if answer.telegram is None:
            self._findings.give_up(mask, answer.why)
        else:
            address = SecondaryAddress(mask)
            self._findings.note(Selection(address), Meter(answer.telegram, address), mask)

    def tell_apart_by_fabrication(self, mask: str) -> Steps:
        """The same eight bytes twice: some meters know the enhanced selection by fabrication number."""
        before = len(self._findings.meters)
        anything = "F" * DIGITS
        probe = yield from self._asker.ask(mask, fabrication=anything)
        if not isinstance(probe, Silent) and not (yield from self._is_named(mask, anything, probe)):
            yield from self._split_fabrication(mask, anything, DIGITS - 1)
        if len(self._findings.meters) < before + 2:
            why = "several meters have this same secondary address: give one of them another identification"
            self._findings.give_up(mask, why)

    def _split_fabrication(self, mask: str, fabrication: str, position: int) -> Steps:
        crowds: list[str] = []
        for value in _DECIMAL:
            part = put(fabrication, position, value)
            probe = yield from self._asker.ask(mask, fabrication=part)
            if not isinstance(probe, Silent) and not (yield from self._is_named(mask, part, probe)):
                crowds.append(part)
        if len(crowds) == len(_DECIMAL) or position == 0:  # they do not look at the number
            return
        for part in crowds:
            yield from self._split_fabrication(mask, part, position - 1)

    def _is_named(self, mask: str, fabrication: str, probe: Answered) -> Generator[Step, Answered, bool]:
        """Whether one meter answers that tells its own fabrication number, and answers to that alone."""
        if not isinstance(probe, Meter) or "F" not in fabrication:
            return isinstance(probe, Meter)
        number = fabrication_in(probe.telegram)
        if number is None or any(wanted not in ("F", own) for wanted, own in zip(fabrication, number, strict=True)):
            return False
        return isinstance((yield from self._asker.ask(mask, fabrication=number)), Meter)


def _headers(crowd: Open, mask: str) -> Iterator[str]:
    """Addresses in garbled telegrams: of meters that send the same header, it is readable even so."""
    for heard in crowd.answer.heard if isinstance(crowd.answer, Crowd) else ():
        if heard[:1] == b"\x68" and heard[3:4] == b"\x68" and heard[6:7] == b"\x72" and len(heard) >= 15:
            address = SecondaryAddress.from_bytes(heard[7:15])
            if address.identification == mask[:DIGITS]:
                yield address.digits
