"""The evidence for what can be wrong with a bus: each function looks for one thing in what came back, and quotes it.

It is physical where it can be: a collision only clears bits, since a space of any meter wins; it never sets one.
"""

from collections.abc import Sequence
from typing import Final

from mbusd.light import dataclass
from mbusd.mbus.frames import LONG, Ack, Frame, LongFrame, Nack, Noise, encode
from mbusd.mbus.observation import Look, Request, events_in, foreign_requests, is_due, is_request


@dataclass(frozen=True, slots=True)
class Case:
    """All observations, understood."""

    looks: tuple[Look, ...]
    own: frozenset[bytes]  # what this master said
    strays: tuple[bytes, ...]  # came though nobody was asked, or after the time of an answer, one piece each time
    idle: bytes  # came before anything was asked
    expected: int | None  # meters that must be among those who were asked; None in a scan: nobody knows
    is_all: bool  # and there are no others
    port_trouble: str  # why the port could not be opened or was lost

    @property
    def stray(self) -> bytes:
        return b"".join(self.strays)

    @property
    def bad(self) -> list[Look]:
        return [look for look in self.looks if look.is_bad]

    @property
    def has_good(self) -> bool:
        return any(look.is_good for look in self.looks)

    def by_address(self) -> dict[str, list[Look]]:
        groups: dict[str, list[Look]] = {}
        for look in self.looks:
            groups.setdefault(look.who, []).append(look)
        return groups


def port(fragment: str, case: Case) -> str | None:
    trouble = case.port_trouble
    return trouble.rstrip(".") if trouble and fragment in trouble else None


def unplugged(case: Case) -> str | None:
    """By what the kernel and pyserial say of a device that is gone; nothing is quoted, since that helps nobody."""
    return "" if any(words in case.port_trouble for words in _OF_DEVICES_GONE) else None


def break_when_idle(case: Case) -> str | None:
    return f"{len(case.stray)} times 00 while nobody was to speak" if set(case.stray) == {0} else None


def parity_replaced(case: Case) -> str | None:
    """Some drivers give each character with a wrong parity as 00: rows of 00 as long as the answers."""
    acks = [look.rest for look in case.looks if look.wants_ack and look.rest]
    telegrams = [look.rest for look in case.looks if look.wants_data and look.rest]
    fits = set(acks) == {b"\0"} and telegrams and all(len(rest) > 5 and set(rest) == {0} for rest in telegrams)
    return f"E5 arrives as 00, a telegram as {len(telegrams[0])} times 00" if fits else None


def break_when_asked(case: Case) -> str | None:
    zeros = [look for look in case.bad if len(look.rest) > 1 and set(look.rest) == {0}]
    if not zeros or len(zeros) < len(case.bad) or case.has_good:
        return None
    return f"{len(zeros[0].rest)} times 00 for an answer, address {zeros[0].who}"


def break_around(case: Case) -> str | None:
    """A meter is heard between 00 and 00: no answer begins so, nor do colliding ones, and each ends with 16."""
    heard = [look for look in case.looks if look.rest]
    spaced = [look for look in heard if _is_in_a_space(look.rest + look.after)]
    if not spaced or 2 * len(spaced) <= len(heard):
        return None
    return f"00 again and again around an answer: {_hex(spaced[-1].rest)}"


def _is_in_a_space(heard: bytes) -> bool:
    return heard.startswith(bytes(_BREAK_BEFORE)) or heard.endswith(bytes(_BREAK_BEHIND))


def another_master(case: Case) -> str | None:
    heard = [request for look in case.looks for request in (*look.foreign, *_foreign_in(look.after, case))]
    heard += _foreign_in(case.idle, case)
    return _hex(encode(heard[0])) if heard else None


def _foreign_in(heard: bytes, case: Case) -> list[Request]:
    return list(foreign_requests(events_in(heard), case.own))


def echo_only(case: Case) -> str | None:
    echoed = [look for look in case.looks if look.echoed]
    silent = echoed and not any(look.rest for look in case.looks)
    return f"{len(echoed)} of {len(case.looks)} came back" if silent else None


def noise_when_idle(case: Case) -> str | None:
    noisy = case.stray and not any(map(_is_answer, case.strays))
    if not noisy or (len(case.idle) < 3 and case.looks and all(look.is_good for look in case.looks)):
        return None
    return f"{len(case.stray)} bytes: {_hex(case.stray)}"


def _is_answer(heard: bytes) -> bool:
    """A frame is there, and no E5 among many other bytes: in noise every 256th byte is one."""
    noise = sum(len(event.data) for event in events_in(heard) if isinstance(event, Noise))
    frames = _frames(heard)
    return bool(frames) and (noise < _MUCH or any(not isinstance(frame, Ack | Nack) for frame in frames))


def late(case: Case) -> str | None:
    """An answer behind its time, to the next request: of another meter, of another kind, or to nobody."""
    before: Look | None = None
    asked: set[int] = set()  # for data
    for look in case.looks:
        told = _late_to(look, before, asked)
        if told:
            return told
        if look.wants_data:
            asked.add(look.request.address)
        before = look
    return None


def _late_to(look: Look, before: Look | None, asked: set[int]) -> str | None:
    for frame in look.frames:
        if isinstance(frame, LongFrame) and frame.address in asked and not is_due(frame, look.request):
            return f"address {frame.address} answers when {look.who} is asked{' for E5' * look.wants_ack}"
    if look.frames == (Ack(),) and look.wants_data and before and before.wants_ack and not before.rest:
        return f"E5 of address {before.who} comes when its data are asked for"
    if not look.rest and any(not isinstance(event, Noise) and not is_request(event) for event in events_in(look.after)):
        return f"the answer of address {look.who} comes when nobody waits for it any more"
    return None


def other_rate(case: Case) -> str | None:
    """Nothing can be read from anybody, and what comes instead of E5 is E5 in other bit times."""
    if case.has_good:
        return None
    hints = [(look, _e5_elsewhere(look.rest)) for look in case.bad if look.wants_ack]
    hint = next(((look, text) for look, text in hints if text), None)
    if hint:
        return f"E5 arrives as {_hex(hint[0].rest)}, as {hint[1]}"
    impossible = [look for look in case.bad if not look.may_collide]
    if len(impossible) < 2 or 2 * len(impossible) < len(case.bad):
        return None
    firsts = sorted({look.rest[:1] for look in impossible})
    return f"answers begin with {', '.join(map(_hex, firsts))}, which neither one meter nor several can send"


def other_format(case: Case) -> str | None:
    for look in case.bad:
        if look.wants_ack and look.rest in _E5_FORMATS:
            return f"E5 arrives as {_hex(look.rest)}: {_E5_FORMATS[look.rest]}"
        if look.wants_data and _is_without_parity(look.rest):
            return f"a telegram begins with {_hex(look.rest[:4])}: the receiver knows no parity bit"
    return None


def _is_without_parity(rest: bytes) -> bool:
    """8N1: a parity bit 0 of L is taken for the next start bit, its stop bit, the start bit and L again for data."""
    return (
        len(rest) > 3
        and rest[0] == LONG
        and rest[1].bit_count() % 2 == 0
        and rest[2] == (rest[1] << 2 | 1) & 0xFF
        and rest[3] in (0x84, 0x85, 0x42, 0xA1)  # the rest of the second L, into the second 68
    )


def parity_alone(case: Case) -> str | None:
    """Bytes that are right, all of them, each with a wrong parity bit: neither noise nor a collision does that."""
    spoilt = [look for look in case.looks if look.broken and len(look.broken) == len(look.rest)]
    right = [look for look in spoilt if any(is_due(frame, look.request) for frame in _frames(look.rest))]
    return f"{_hex(right[0].rest)}" if len(right) > 1 and not case.has_good else None


def parity_errors(case: Case) -> str | None:
    """Of most answers. Meters that answer at once make them, too: what a search brings, or one address, is no proof."""
    heard = [look for look in case.looks if look.rest and not look.is_search]
    spoilt = [look for look in heard if look.broken]
    is_one_meter = case.is_all and case.expected == 1
    if len(spoilt) < _MUCH or 2 * len(spoilt) < len(heard):
        return None
    if len({look.who for look in spoilt}) < 2 and not is_one_meter:
        return None
    return f"{len(spoilt)} of {len(heard)} answers, at last {_hex(spoilt[-1].rest)}"


def _frames(heard: bytes) -> list[Frame]:
    return [event for event in events_in(heard) if not isinstance(event, Noise)]


def levels(case: Case) -> str | None:
    """One and the same wrong byte for E5, from a meter that is alone or whose telegrams are good."""
    for who, looks in case.by_address().items():
        acks = [look.rest for look in looks if look.wants_ack and look.rest]
        is_steady = len(acks) > 1 and len(set(acks)) == 1 and len(acks[0]) == 1 and acks[0] != b"\xe5"
        if is_steady and (case.expected == 1 or any(look.is_good and look.wants_data for look in looks)):
            return f"address {who} always answers {_hex(acks[0])} for E5"
    return None


def several_meters(case: Case) -> str | None:
    for who, looks in case.by_address().items():
        told = _several_at(who, [look for look in looks if case.expected == 1 or not look.is_search])
        if told:
            return told
    return None


def unreadable(case: Case) -> str | None:
    """Bytes came and no data that can be read; nothing more is certain. In a search that is no fault."""
    if any(look.is_good and look.wants_data for look in case.looks):
        return None
    last = next((look.rest for look in reversed(case.bad) if case.expected == 1 or not look.is_search), b"")
    return f"{len(last)} bytes: {_hex(last)}" if last else None


def _several_at(who: str, looks: Sequence[Look]) -> str | None:
    good = [look for look in looks if look.is_good]
    identities = {identity for look in good for identity in _identities(look)}
    if len(identities) > 1:
        return f"address {who} answers with {len(identities)} identities"
    more = [look for look in good if look.has_more]
    if more and 2 * len(more) >= len(good):
        is_twice = more[0].rest + more[0].after == _TWO_ACKS
        return f"address {who}: {'E5 twice' if is_twice else 'bytes behind a good answer'}"
    for kind in (True, False):
        of_kind = [look for look in looks if look.wants_data is kind]
        bad = [look for look in of_kind if look.is_bad]
        if bad and all(look.may_collide for look in bad) and not any(look.is_good for look in of_kind):
            size = max(len(look.rest) for look in bad)
            return f"address {who}: unreadable answer of {size} byte{'s' * (size != 1)}: {_hex(bad[-1].rest)}"
    return None


def _identities(look: Look) -> list[bytes]:
    return [frame.data[:8] for frame in look.frames if isinstance(frame, LongFrame) and frame.ci == 0x72]


def _all_silent(case: Case) -> list[str]:
    silent = case.looks and not case.stray and not any(look.rest for look in case.looks)
    return list(case.by_address()) if silent else []


def only_meter_silent(case: Case) -> str | None:
    """Whoever else could be heard is not there: it may be the meter, and as well the bus."""
    addresses = _all_silent(case)
    return addresses[0] if addresses and case.is_all and case.expected == 1 else None


def one_asked_silent(case: Case) -> str | None:
    addresses = _all_silent(case)
    return addresses[0] if len(addresses) == 1 else None


def bus_silent(case: Case) -> str | None:
    addresses = _all_silent(case)
    return str(len(addresses)) if len(addresses) > 1 else None


def one_among_good(case: Case) -> str | None:
    groups = case.by_address()
    silent = [who for who, looks in groups.items() if not any(look.rest for look in looks)]
    if case.expected is None or not silent or not case.has_good:
        return None
    return f"address {', '.join(silent)}" if len(silent) < 6 else f"{len(silent)} of {len(groups)} addresses"


def _hex(data: bytes) -> str:
    return data[:8].hex(" ").upper() + " …" * (len(data) > 8)


def _e5_elsewhere(rest: bytes) -> str | None:
    return next((text for head, most, text in _E5_ELSEWHERE if rest.startswith(head) and len(rest) <= most), None)


_E5_ELSEWHERE: Final = (  # E5 with its parity bit, sampled in other bit times: how it begins, bytes at most, what it is
    (b"\xfc", 1, "from meters at twice the rate set here"),
    (b"\xfd", 1, "from meters at a higher rate than is set here"),
    (b"\xfe", 1, "from meters at a higher rate than is set here"),
    (b"\xff", 1, "from meters at a higher rate than is set here"),
    (b"\x66", 2, "from meters at half the rate set here"),
    (b"\x78\x80", 3, "from meters at a quarter of the rate set here"),
    (b"\x78\x1e", 3, "from meters at a quarter of the rate set here"),
    (b"\x80\x80\x00", 4, "from meters at an eighth of the rate set here"),
)
_E5_FORMATS: Final = {
    b"\x65": "only 7 bits of it are taken for data",
    b"\xff\x00\xe5": "the port marks wrong parity with FF 00",
}
_OF_DEVICES_GONE: Final = ("readiness to read but returned no data", "Input/output error", "No such device or address")
_BREAK_BEFORE: Final = 4  # bytes
_BREAK_BEHIND: Final = 8  # the end of a telegram that was cut short may be some 00, too
_MUCH: Final = 3  # bytes of noise, or answers with parity errors: fewer may be chance
_TWO_ACKS: Final = b"\xe5\xe5"
