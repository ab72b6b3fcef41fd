"""Writes against lists of replies, and against simulated meters that obey, pretend, refuse, store late, lose an E5."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

import pytest

from mbusd.mbus.address import Address, PrimaryAddress, SecondaryAddress, parse_address
from mbusd.mbus.aiming import LoneMeter, Target, WriteRefused
from mbusd.mbus.clocks import HOURLY, NO_TIME, ClockType, LocalClock, clock_record, is_near_the_hour, set_clock
from mbusd.mbus.errors import AddressError, DecodeError, NoAnswer
from mbusd.mbus.frames import Ack, LongFrame, Nack, Noise, encode, parse
from mbusd.mbus.link import Conversation, Reply, Request, Silence, data, exchange
from mbusd.mbus.master import req_ud2
from mbusd.mbus.observation import Observation
from mbusd.mbus.rates import RATE_CI, Plan, set_baudrate
from mbusd.mbus.sighting import LOOKS, alone, only
from mbusd.mbus.writing import application_reset, set_address, set_identification
from mbusd.mbus.written import Written
from mbusd.simulation.simulator import Behaviour, FcbMemory, Moment, SimulatedBus, SimulatedMeter, Writes
from tests.mbus.driving import Script, reply, talk, telegram_of

T = TypeVar("T")
E5, SILENCE = Ack(), Silence()
METER, OTHER = "123456782D2C0804", "876543212D2C0804"
TELEGRAM = reply("68 15 15 68 08 00 72 78 56 34 12 2D 2C 08 04 06 00 00 00 04 06 E7 91 00 00 7B 16")
TELEGRAM_AT_5 = reply("68 15 15 68 08 05 72 78 56 34 12 2D 2C 08 04 07 00 00 00 04 06 E7 91 00 00 81 16")
NOON = datetime(2025, 3, 30, 12, 20, 10)  # noqa: DTZ001 (a meter's clock has no zone)
STEP = 0.3  # seconds of one exchange


def records(moment: Moment) -> Sequence[bytes]:
    """Energy, and the clock as type F, which cuts the seconds off."""
    clock = clock_record(moment.clock, "F")
    return [b"\x04\x06\xe7\x91\x00\x00" + clock]


def with_seconds(moment: Moment) -> Sequence[bytes]:
    return [clock_record(moment.clock, "I")]


def date_alone(moment: Moment) -> Sequence[bytes]:
    return [clock_record(moment.clock, "G")]


def without_clock(_: Moment) -> Sequence[bytes]:
    return [b"\x04\x06\xe7\x91\x00\x00"]


def meter(
    primary: int | None = 1,
    address: str = METER,
    pages: Callable[[Moment], Sequence[bytes]] = records,
    behaviour: Behaviour | None = None,
    rate: int | None = None,
) -> SimulatedMeter:
    one = SimulatedMeter(SecondaryAddress(address), pages, primary=primary, rate=rate)
    one.behaviour = behaviour or Behaviour()
    return one


@dataclass
class Talk:
    """Synchronous talks with simulated meters; each exchange takes STEP seconds. `hears` may spoil a reply."""

    bus: SimulatedBus
    seconds: float = 0.0
    hears: Callable[[Request, Reply], Reply] = lambda _, answer: answer
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        self.seconds += STEP
        self.asked.append(encode(request.frame).hex(" ").upper())
        answer = self.bus.answer(encode(request.frame), self.seconds)
        return self.hears(request, _received(answer))

    def run(self, conversation: Conversation[T]) -> T:
        return talk(conversation, self)

    def follow(self, plan: Plan[T]) -> T:
        try:
            while True:
                step = next(plan)
                self.bus.rate = step.rate
                self.seconds += step.pause
                talk(step.conversation, self)
        except StopIteration as end:
            result: T = end.value
            return result

    @property
    def clock(self) -> LocalClock:
        """The right time, which the meters too began with."""
        return LocalClock(lambda: NOON + timedelta(seconds=self.seconds))


def _received(answer: bytes | None) -> Reply:
    if answer is None:
        return SILENCE
    try:
        return parse(answer)
    except DecodeError:
        return Noise(answer)


def bus(*meters: SimulatedMeter, hears: Callable[[Request, Reply], Reply] = lambda _, answer: answer) -> Talk:
    return Talk(SimulatedBus(list(meters), began=NOON), hears=hears)


def is_command(request: Request) -> bool:
    return isinstance(request.frame, LongFrame) and request.frame.ci != 0x52


def losing(count: int) -> Callable[[Request, Reply], Reply]:
    """The first answers to commands are lost on their way, after the meter has obeyed."""
    left = [count]

    def hears(request: Request, answer: Reply) -> Reply:
        if is_command(request) and left[0]:
            left[0] -= 1
            return SILENCE
        return answer

    return hears


def answering(instead: Reply) -> Callable[[Request, Reply], Reply]:
    """The meter says this to commands."""
    return lambda request, answer: instead if is_command(request) else answer


def refusal(conversation: Conversation[Written], on: Talk) -> str:
    with pytest.raises(WriteRefused) as caught:
        on.run(conversation)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ primary address


def test_set_address_byte_by_byte_for_a_meter_that_knows_no_selection() -> None:
    quiet = [SILENCE] * 5
    script = Script([E5, TELEGRAM, TELEGRAM, *quiet, SILENCE, SILENCE, SILENCE, E5, E5, E5, TELEGRAM_AT_5, *quiet[:4]])
    written = talk(set_address(PrimaryAddress(0), 5), script)
    free_5 = ["10 40 05 45 16"] * 2 + ["10 7B 05 80 16"] * 3
    select = ["68 0B 0B 68 53 FD 52 78 56 34 12 2D 2C 08 04 1B 16"] * 2 + ["10 40 FD 3D 16"]
    write = ["10 40 00 40 16", "68 06 06 68 73 00 51 01 7A 05 44 16"]
    look = ["10 40 05 45 16", "10 7B 05 80 16"]
    left = ["10 40 00 40 16"] * 2 + ["10 7B 00 7B 16"] * 2
    assert script.hex == ["10 40 00 40 16", "10 7B 00 7B 16", "10 5B 00 5B 16", *free_5, *select, *write, *look, *left]
    assert written == Written(
        "primary address 5 instead of 0", SecondaryAddress(METER), (f"it answers at 5 as {METER}",)
    )


def test_a_meter_that_can_be_selected_gets_the_command_as_the_selected_one() -> None:
    one = meter(0)
    on = bus(one)
    on.run(set_address(PrimaryAddress(0), 5))
    assert not one.selected
    commands = [frame for frame in on.asked if " 51 01 7A" in frame]
    assert commands == ["68 06 06 68 53 FD 51 01 7A 05 21 16"]


@pytest.mark.parametrize("old", [PrimaryAddress(1), parse_address("12345678"), parse_address(METER), LoneMeter()])
@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(),
        Behaviour(fcb="separate"),
        Behaviour(fcb="ignored"),
        Behaviour(answers_nke=False),
        Behaviour(sleeps_after=5.0),
        Behaviour(stores_after=3.0),
    ],
    ids=["plain", "two FCB memories", "no FCB", "no answer to NKE", "sleeps", "stores late"],
)
def test_an_address_is_set_and_verified(old: Target, behaviour: Behaviour) -> None:
    one = meter(behaviour=behaviour)
    on = bus(one) if isinstance(old, LoneMeter) else bus(one, meter(7, OTHER))
    on.seconds = 100.0
    written = on.run(set_address(old, 5))
    assert one.primary == 5
    assert written.verified == (f"it answers at 5 as {METER}",)
    assert written.remarks == written.unverified == ()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (PrimaryAddress(1), 7, "address 7 is taken (876543212D2C0804)"),
        (PrimaryAddress(1), 9, "address 9 is taken (unreadable answer"),
        (PrimaryAddress(1), 1, "1 is the address that the meter has already"),
        (PrimaryAddress(1), 0, "0 is the address of meters from the factory"),
        (PrimaryAddress(2), 5, "no meter answers at 2"),
        (PrimaryAddress(9), 5, "at 9: unreadable answer"),
        (parse_address("99999999"), 5, "no meter answers at 99999999"),
        (parse_address("1234567F"), 5, "may be several meters"),
        (LoneMeter(), 5, "at 254 (the only meter on the bus): unreadable answer"),
    ],
)
def test_an_address_is_not_set_where_it_could_do_harm(old: Target, new: int, why: str) -> None:
    addresses = [(1, METER), (7, OTHER), (9, "111111112D2C0804"), (9, "222222222D2C0807")]
    meters = [meter(primary, address) for primary, address in addresses]
    on = bus(*meters)
    assert why in refusal(set_address(old, new), on)
    assert [one.primary for one in meters] == [1, 7, 9, 9]
    assert not [frame for frame in on.asked if frame.startswith("68 06")], "no command was sent"


@pytest.mark.parametrize("place", [LoneMeter(), parse_address("FFFFFFFF")])
def test_where_many_may_answer_one_unreadable_answer_is_a_crowd(place: Target) -> None:
    """The answer that is good may be that of a slow meter, behind those of all others."""
    spoilt = [True]

    def hears(request: Request, answer: Reply) -> Reply:
        if request.frame.control == 0x7B and spoilt:
            spoilt.clear()
            return NOISE
        return answer

    on = bus(meter(), hears=hears)
    if isinstance(place, SecondaryAddress):
        with pytest.raises(NoAnswer, match=r"are there several meters.*mbusd scan PORT --secondary FFFFFFFF"):
            on.run(only(place))
    else:
        assert "are there several meters" in refusal(set_address(place, 5), on)


@pytest.mark.parametrize(
    ("before", "behind", "is_alone"),
    [("", "", True), ("FF 00 FF", "00", True), ("68 11 11 68 08", "", False), ("", "68 15 15 68 08", False)],
)
@pytest.mark.parametrize("echo", [b"", bytes.fromhex("10 7B 05 80 16")])
def test_an_answer_among_unreadable_bytes(before: str, behind: str, is_alone: bool, echo: bytes) -> None:  # noqa: FBT001
    heard = echo + bytes.fromhex(before) + encode(telegram_of(TELEGRAM_AT_5)) + bytes.fromhex(behind)
    recent: list[Observation] = []

    def answer(request: Request) -> Reply:
        recent.append(Observation(request.frame, heard))
        return TELEGRAM_AT_5

    asked = alone(exchange(req_ud2(5, fcb=True), data), recent)
    if is_alone:
        assert talk(asked, answer).frame == TELEGRAM_AT_5
    else:
        with pytest.raises(NoAnswer, match="unreadable answer"):
            talk(asked, answer)


def test_a_mask_that_means_one_meter() -> None:
    on = bus(meter(), meter(2, OTHER))
    assert on.run(only(secondary("12FFFFFF"))).digits == METER
    with pytest.raises(NoAnswer, match="unreadable"):
        on.run(only(secondary("FFFFFFFF")))
    with pytest.raises(NoAnswer, match="no answer"):
        on.run(only(secondary("3FFFFFFF")))


@pytest.mark.parametrize("new", [251, 254, 255, -1])
def test_an_address_that_no_meter_can_have(new: int) -> None:
    with pytest.raises(AddressError):
        bus(meter()).run(set_address(PrimaryAddress(1), new))


def test_a_write_that_is_done_already_is_no_error() -> None:
    on = bus(meter(5))
    assert on.run(set_address(parse_address(METER), 5)).done == "nothing: the meter has primary address 5 already"
    assert on.run(set_address(LoneMeter(), 5)).done == "nothing: the meter has primary address 5 already"


def test_of_two_new_meters_that_look_like_one_only_the_one_that_was_read_moves() -> None:
    seen, hidden = meter(0, "123456602D2C0804"), meter(0, "123456702D2C0804")
    on = bus(seen, hidden)
    seen.access_number = hidden.access_number = 0x88
    for request in ("10 40 00 40 16", "10 7B 00 7B 16", "10 5B 00 5B 16"):  # in step: clean, and with a right checksum
        answer = on.bus.answer(bytes.fromhex(request))
        assert answer is not None
        parse(answer)
    seen.access_number = hidden.access_number = 0x88
    written = on.run(set_address(PrimaryAddress(0), 5))
    assert (seen.primary, hidden.primary) == (5, 0)
    assert written.remarks == ("123456702D2C0804 still answers at 0: there were two",)


def test_twins_with_one_secondary_address_are_told_apart_by_their_primary_one() -> None:
    one, twin = meter(1), meter(2)
    bus(one, twin).run(set_address(PrimaryAddress(2), 5))
    assert (one.primary, twin.primary) == (1, 5)


@pytest.mark.parametrize("old", [PrimaryAddress(1), parse_address(METER)])
@pytest.mark.parametrize("lost", [1, 2, 3, 4, 99])
def test_a_lost_acknowledgement_is_no_failure_if_the_meter_has_obeyed(old: Address, lost: int) -> None:
    one = meter()
    written = bus(one, hears=losing(lost)).run(set_address(old, 5))
    assert one.primary == 5
    assert written.verified


def test_a_moved_meter_without_selection_does_not_hear_the_repetitions() -> None:
    """By the primary address: after a lost E5 the old address is silent, and the new one tells what happened."""
    one, twin = meter(1), meter(2)  # equal secondary addresses: the selection collides
    on = bus(one, twin, hears=losing(1))
    assert on.run(set_address(PrimaryAddress(1), 5)).verified
    commands = [frame for frame in on.asked if " 51 01 7A" in frame]
    assert commands == ["68 06 06 68 73 01 51 01 7A 05 45 16"] * 3 + ["68 06 06 68 53 01 51 01 7A 05 25 16"] * 3
    assert (one.primary, twin.primary) == (5, 2)


PRETENDS, SILENT = "the meter acknowledges the command", "the meter does not acknowledge the command"


@pytest.mark.parametrize(("writes", "how"), [("ignored", PRETENDS), ("silent", SILENT)])
@pytest.mark.parametrize("address", [PrimaryAddress(1), parse_address(METER)])
def test_a_meter_that_does_nothing(writes: Writes, how: str, address: Address) -> None:
    one = meter(behaviour=Behaviour(writes=writes))
    on = bus(one)
    on.bus.began -= timedelta(hours=1)  # the meter's clock is slow
    assert refusal(set_address(address, 5), on).startswith(f"{how} and still answers at {address}")
    assert refusal(set_clock(address, on.clock), on).startswith(f"{how}, but its clock shows 2025-03-30 11:2")
    assert refusal(set_identification(address, secondary("11223344")), on).startswith(f"{how} and ")
    assert (one.primary, one.secondary.digits, one.clock_offset) == (1, METER, timedelta())


def secondary(text: str) -> SecondaryAddress:
    address = parse_address(text)
    assert isinstance(address, SecondaryAddress)
    return address


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Nack(), "refuses the command (A2)"),
        (LongFrame(0x08, 1, 0x70, b"\x10"), "access denied"),
        (LongFrame(0x08, 1, 0x70), "unspecified error"),
    ],
)
def test_a_refusal_in_words_of_the_protocol(answer: Reply, why: str) -> None:
    on = bus(meter(), hears=answering(answer))
    assert why in refusal(set_address(PrimaryAddress(1), 5), on)
    assert len([frame for frame in on.asked if " 51 01 7A" in frame]) == 1, "said once, it need not be said again"


def test_a_meter_that_reports_an_error_instead_of_data_is_left_alone() -> None:
    busy = LongFrame(0x08, 1, 0x70, b"\x08")
    script = Script([E5, busy, busy])
    with pytest.raises(WriteRefused, match="application too busy"):
        talk(set_address(PrimaryAddress(1), 5), script)


def test_a_meter_that_does_not_tell_who_it_is() -> None:
    bare = LongFrame(0x08, 1, 0x78, b"\x04\x06\xe7\x91\x00\x00")
    quiet = [SILENCE] * 5
    there = LongFrame(0x08, 5, 0x78, bare.data)
    script = Script([E5, bare, bare, *quiet, E5, E5, E5, there, *quiet[:4]])
    written = talk(set_address(PrimaryAddress(1), 5), script)
    assert written.verified == ("it answers at 5",)
    assert written.unverified == ("that it is the same meter: it does not tell who it is",)


ANOTHER = reply("68 15 15 68 08 00 72 79 56 34 12 2D 2C 08 04 06 00 00 00 04 06 E7 91 00 00 7C 16")
NOISE = Noise(b"\x68\x15")


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([E5, TELEGRAM, ANOTHER], "answers of different meters"),
        ([E5, NOISE, TELEGRAM, NOISE, TELEGRAM], "answers of which some are unreadable"),
        ([NOISE, E5, TELEGRAM, NOISE, TELEGRAM], "answers of which some are unreadable"),
        ([E5, TELEGRAM, SILENCE, SILENCE, SILENCE], "no answer"),
        ([E5, E5, E5, E5], "only E5 where data are due"),
    ],
)
def test_several_meters_that_answer_by_turns_are_seen_through(answers: list[Reply], why: str) -> None:
    with pytest.raises(WriteRefused, match=f"at 0: {why}"):
        talk(set_address(PrimaryAddress(0), 5), Script(answers))


def test_a_meter_that_answers_a_selection_of_another_one_gets_no_command() -> None:
    """Selections get stuck: the command then goes to the primary address, or nowhere."""
    quiet = [SILENCE] * 5
    script = Script([E5, TELEGRAM, TELEGRAM, *quiet, E5, ANOTHER, E5, E5, E5, E5, TELEGRAM_AT_5, *quiet[:4]])
    assert talk(set_address(PrimaryAddress(0), 5), script).verified
    assert [frame for frame in script.hex if " 51 01 7A" in frame] == ["68 06 06 68 73 00 51 01 7A 05 44 16"]
    script = Script([E5, TELEGRAM, TELEGRAM, E5, *quiet, E5, ANOTHER, E5])
    with pytest.raises(WriteRefused, match=f"{METER} was seen, but does not answer to its full address"):
        talk(set_address(secondary("12345678"), 5), script)


def test_another_meter_at_the_new_address_is_no_success() -> None:
    appeared = LongFrame(0x08, 5, 0x72, telegram_of(ANOTHER).data)
    script = Script([E5, TELEGRAM, TELEGRAM, *[SILENCE] * 8, E5, E5, E5, appeared])
    with pytest.raises(
        WriteRefused, match=f"another meter answers at address 5 than was meant: 123456792.*, not {METER}"
    ):
        talk(set_address(PrimaryAddress(0), 5), script)


def test_an_unreadable_answer_at_the_new_address_is_no_success() -> None:
    unreadable: list[Reply] = [E5, NOISE, NOISE, NOISE]
    script = Script([E5, TELEGRAM, TELEGRAM, *[SILENCE] * 8, E5, E5, *unreadable * LOOKS])
    with pytest.raises(WriteRefused, match="address 5 was free, and now: unreadable answer"):
        talk(set_address(PrimaryAddress(0), 5), script)


def test_a_meter_that_is_busy_storing_is_given_time() -> None:
    busy = LongFrame(0x08, 5, 0x70, b"\x08")
    quiet = [SILENCE] * 8
    script = Script([E5, TELEGRAM, TELEGRAM, *quiet, E5, E5, E5, busy, E5, TELEGRAM_AT_5, *quiet[:4]])
    assert talk(set_address(PrimaryAddress(0), 5), script).verified


def test_one_bad_bit_on_the_way_is_no_crowd() -> None:
    spoilt = [True]

    def hears(request: Request, answer: Reply) -> Reply:
        if request.frame.control == 0x7B and spoilt:
            spoilt.clear()
            return Noise(b"\x68\x15")
        return answer

    assert bus(meter(), hears=hears).run(set_address(PrimaryAddress(1), 5)).verified


@pytest.mark.parametrize("old", [PrimaryAddress(1), parse_address(METER)])
def test_on_a_bad_wire_no_other_meter_ever_moves_and_success_is_never_claimed_wrongly(old: Address) -> None:
    """Answers are lost or garbled with 15 %; a neighbour has the same identification, another one the next address."""
    claimed = 0
    for seed in range(150):
        one, *others = meter(1), meter(2, "12345678A5110807"), meter(3, OTHER), meter(None, "123456792D2C0804")
        on = bus(one, *others, hears=bad_wire(Random(seed)))  # noqa: S311 (spoils answers, keeps no secret)
        try:
            on.run(set_address(old, 5))
            claimed += 1
            assert one.primary == 5
        except WriteRefused:
            assert one.primary in (1, 5)
        assert [other.primary for other in others] == [2, 3, None]
    assert claimed > 100


def bad_wire(chance: Random) -> Callable[[Request, Reply], Reply]:
    def hears(_: Request, answer: Reply) -> Reply:
        luck = chance.random()
        if luck > 0.15 or isinstance(answer, Silence):
            return answer
        return SILENCE if luck < 0.08 else Noise(b"\xfd")

    return hears


# ----------------------------------------------------------------------------------------------------- identification


@pytest.mark.parametrize(
    ("new", "frame"),
    [
        ("01020304", "68 09 09 68 73 05 51 0C 79 04 03 02 01 58 16"),
        ("010203042D2C0804", "68 0D 0D 68 73 05 51 07 79 04 03 02 01 2D 2C 08 04 B8 16"),
    ],
)
def test_the_frames_of_a_new_identification(new: str, frame: str) -> None:
    on = bus(meter(5), meter(6))  # equal secondary addresses: by the primary one only
    on.run(set_identification(PrimaryAddress(5), secondary(new)))
    assert frame in on.asked


@pytest.mark.parametrize("address", [PrimaryAddress(1), parse_address("12345678")])
@pytest.mark.parametrize(("new", "then"), [("01020304", "010203042D2C0804"), ("01020304A5110907", "01020304A5110907")])
@pytest.mark.parametrize("lost", [0, 1, 99])
def test_a_new_identification(address: Address, new: str, then: str, lost: int) -> None:
    one, other = meter(), meter(2, OTHER)
    written = bus(one, other, hears=losing(lost)).run(set_identification(address, secondary(new)))
    assert (one.secondary.digits, other.secondary.digits) == (then, OTHER)
    assert written.meter == one.secondary
    assert written.verified == ("it answers with this address",)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("87654321", "87654321 is taken (876543212D2C0804)"),
        ("1234567F", "cannot be written"),
        ("0102030A", "cannot be written"),
        ("010203042D2CFF04", "cannot be written"),
    ],
)
def test_an_identification_that_must_not_be(new: str, why: str) -> None:
    one = meter()
    assert why in refusal(set_identification(PrimaryAddress(1), secondary(new)), bus(one, meter(2, OTHER)))
    assert one.secondary.digits == METER


def test_an_identification_that_the_meter_has() -> None:
    done = bus(meter()).run(set_identification(PrimaryAddress(1), secondary("12345678"))).done
    assert done == f"nothing: the meter is {METER} already"


# -------------------------------------------------------------------------------------------------------------- clock


@pytest.mark.parametrize(
    ("when", "kind", "summer_time", "data"),
    [
        (datetime(2025, 3, 30, 14, 5), "F", True, "04 6D 05 AE 3E 33"),  # noqa: DTZ001
        (datetime(2025, 3, 30, 14, 5, 36), "I", True, "06 6D 64 05 EE 3E 33 00"),  # noqa: DTZ001
        (datetime(2025, 3, 30, 14, 5, 36), "G", True, "02 6C 3E 33"),  # noqa: DTZ001
        (datetime(2024, 2, 29, 7, 8, 9), "I", False, "06 6D 89 08 87 1D 32 00"),  # noqa: DTZ001 (a leap year)
        (datetime(2080, 1, 1), "F", False, "04 6D 00 20 01 A1"),  # noqa: DTZ001
    ],
)
def test_the_record_of_a_clock(when: datetime, kind: ClockType, summer_time: bool, data: str) -> None:  # noqa: FBT001
    assert clock_record(when, kind, is_summer_time=summer_time).hex(" ").upper() == data


@pytest.mark.parametrize(
    ("now", "kind", "data"),
    [
        (datetime(2025, 12, 31, 23, 59, 40), "F", "04 6D 00 20 41 31"),  # noqa: DTZ001
        (datetime(2025, 12, 31, 23, 59, 29), "F", "04 6D 3B 37 3F 3C"),  # noqa: DTZ001
        (datetime(2025, 3, 30, 14, 5, 35, 600_000), "I", "06 6D 24 05 EE 3E 33 00"),  # noqa: DTZ001
        (datetime(2025, 12, 31, 23, 59, 59, 900_000), "G", "02 6C 3F 3C"),  # noqa: DTZ001
    ],
)
def test_a_time_is_rounded_to_what_its_type_can_say_and_a_date_is_not(
    now: datetime, kind: ClockType, data: str
) -> None:
    on = bus(meter(pages=without_clock))
    on.run(set_clock(PrimaryAddress(1), LocalClock(lambda: now), kind))
    assert [frame for frame in on.asked if f" 51 {data} " in frame]


@pytest.mark.parametrize("year", [1999, 2081])
@pytest.mark.parametrize("kind", ["F", "I", "G"])
def test_a_year_whose_century_a_meter_could_mistake(year: int, kind: ClockType) -> None:
    with pytest.raises(WriteRefused, match="2000 to 2080"):
        clock_record(datetime(year, 6, 1), kind)  # noqa: DTZ001


@pytest.mark.parametrize("address", [PrimaryAddress(1), parse_address("12345678")])
@pytest.mark.parametrize("fcb", ["shared", "separate"])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_clock_with_seconds_is_right_to_the_second(address: Address, fcb: FcbMemory, lost: int) -> None:
    """Also after a lost E5: a meter that counts frames does not set its clock again to what it was before."""
    one = meter(pages=with_seconds, behaviour=Behaviour(fcb=fcb))
    one.clock_offset = timedelta(hours=-3, seconds=17)
    on = bus(one, hears=losing(lost))
    written = on.run(set_clock(address, on.clock, ahead=timedelta(seconds=STEP)))
    assert abs(one.clock_offset) < timedelta(seconds=1)
    assert written.verified
    assert written.verified[0].startswith("its clock shows 2025-03-30 12:20:")


def test_a_clock_without_seconds_is_right_to_half_a_minute() -> None:
    for second in range(0, 60, 7):
        one = meter()
        on = bus(one)
        on.seconds = second
        one.clock_offset = timedelta(days=400)
        on.run(set_clock(PrimaryAddress(1), on.clock, ahead=timedelta(seconds=STEP)))
        assert abs(one.clock_offset) <= timedelta(seconds=31)


@pytest.mark.parametrize(("second", "right"), [(25, True), (50, False)])
def test_a_meter_that_keeps_its_own_seconds_may_be_late_by_one_minute_more(second: int, right: bool) -> None:  # noqa: FBT001
    """Type F says nothing about seconds: 12:19 may be 12:19:59, and half a minute is the rounding."""
    shows_12_19 = clock_record(NOON.replace(minute=19), "F")
    on = bus(meter(pages=lambda _: [shows_12_19]))
    on.seconds = second - 10 - 12 * STEP  # the read-out comes after as many exchanges
    if right:
        assert on.run(set_clock(PrimaryAddress(1), on.clock)).verified
    else:
        assert "but its clock shows 2025-03-30 12:19:00" in refusal(set_clock(PrimaryAddress(1), on.clock), on)


def test_the_type_is_that_of_the_meters_own_clock() -> None:
    for pages, head in ((records, " 51 04 6D "), (with_seconds, " 51 06 6D "), (without_clock, " 51 04 6D ")):
        on = bus(meter(pages=pages))
        on.run(set_clock(PrimaryAddress(1), on.clock))
        assert len([frame for frame in on.asked if head in frame]) == 1


def test_a_clock_that_no_telegram_shows_is_set_and_not_verified() -> None:
    one = meter(pages=without_clock)
    one.clock_offset = timedelta(hours=2)
    on = bus(one)
    written = on.run(set_clock(PrimaryAddress(1), on.clock))
    assert abs(one.clock_offset) < timedelta(minutes=1)
    assert written.verified == ()
    assert "no clock to compare with" in written.unverified[0]
    refused = meter(pages=without_clock, behaviour=Behaviour(writes="silent"))
    assert refusal(set_clock(PrimaryAddress(1), on.clock), bus(refused)).startswith(SILENT)


@pytest.mark.parametrize("pages", [records, with_seconds, date_alone])
def test_a_date_alone_leaves_the_time_of_day(pages: Callable[[Moment], Sequence[bytes]]) -> None:
    one = meter(pages=pages)
    one.clock_offset = timedelta(days=-3, minutes=7)
    on = bus(one)
    midnight = datetime(2025, 3, 30)  # noqa: DTZ001
    written = on.run(set_clock(PrimaryAddress(1), LocalClock(lambda: midnight), "G"))
    assert abs(one.clock_offset - timedelta(minutes=7)) < timedelta(seconds=1)
    assert written.done == "date 2025-03-30"
    assert written.verified[0].startswith("its clock shows 2025-03-30")
    assert written.unverified == written.remarks == ()


def test_a_date_that_the_meter_does_not_take() -> None:
    one = meter(pages=with_seconds, behaviour=Behaviour(writes="ignored"))
    tomorrow = datetime(2025, 3, 31)  # noqa: DTZ001
    why = refusal(set_clock(PrimaryAddress(1), LocalClock(lambda: tomorrow), "G"), bus(one))
    assert "its clock shows 2025-03-30 12:20:1" in why
    assert "where the date 2025-03-31 was written" in why


def test_of_a_time_only_the_date_is_verified_where_only_that_is_shown() -> None:
    one = meter(pages=date_alone)
    one.clock_offset = timedelta(days=1)
    on = bus(one)
    written = on.run(set_clock(PrimaryAddress(1), on.clock))
    assert (written.verified, written.unverified) == (("its clock shows 2025-03-30",), (NO_TIME,))


@pytest.mark.parametrize(("kind", "head"), [("F", " 51 04 6D "), ("I", " 51 06 6D ")])
def test_the_type_may_be_chosen(kind: ClockType, head: str) -> None:
    on = bus(meter(pages=with_seconds))
    on.run(set_clock(PrimaryAddress(1), on.clock, kind))
    assert len([frame for frame in on.asked if head in frame]) == 1


def test_a_clock_that_ends_up_invalid() -> None:
    one = meter(pages=lambda _: [b"\x04\x6d\x80\x20\x3e\x33"])
    on = bus(one)
    assert "its clock gives no valid time" in refusal(set_clock(PrimaryAddress(1), on.clock), on)


@pytest.mark.parametrize(
    ("minute", "second", "near"),
    [(0, 0, True), (1, 59, True), (2, 0, False), (30, 0, False), (58, 0, False), (58, 1, True), (59, 59, True)],
)
def test_near_the_full_hour(minute: int, second: int, near: bool) -> None:  # noqa: FBT001
    assert is_near_the_hour(NOON.replace(minute=minute, second=second)) == near


def test_near_the_full_hour_it_is_said() -> None:
    on = bus(meter())
    on.seconds = 39.5 * 60
    assert on.run(set_clock(PrimaryAddress(1), on.clock)).remarks == (HOURLY,)
    on.seconds += 600
    assert on.run(set_clock(PrimaryAddress(1), on.clock)).remarks == ()


# -------------------------------------------------------------------------------------------------------- application


def instantaneous(_: Moment) -> Sequence[bytes]:
    return [b"\x02\x2b\x10\x00", b"\x02\x5a\xc2\x02"]


@pytest.mark.parametrize("address", [PrimaryAddress(1), parse_address("12345678")])
@pytest.mark.parametrize("lost", [0, 1, 99])
def test_an_application_is_selected_and_reset(address: Address, lost: int) -> None:
    one = meter()
    one.applications = {0x50: instantaneous}
    on = bus(one, hears=losing(lost))
    written = on.run(application_reset(address, 0x50))
    assert written.done == "application select 50 (instantaneous values, telegram 0)"
    assert written.verified == ("the meter sends other records than before",)
    assert on.run(application_reset(address)).verified == ("the meter sends other records than before",)


def test_the_frames_of_application_reset_and_select() -> None:
    on = bus(meter(1), meter(2))  # equal secondary addresses: by the primary one only
    on.run(application_reset(PrimaryAddress(1)))
    on.run(application_reset(PrimaryAddress(1), 0x10))
    commands = [frame for frame in on.asked if " 68 73 01 50" in frame]
    assert commands == ["68 03 03 68 73 01 50 C4 16", "68 04 04 68 73 01 50 10 D4 16"]


def test_an_application_that_the_meter_does_not_have() -> None:
    written = bus(meter()).run(application_reset(PrimaryAddress(1), 0x20))
    assert written.verified == ("the meter acknowledges, and answers",)
    assert written.unverified[0].startswith("the effect: it sends the same records as before")
    mute = meter(behaviour=Behaviour(writes="silent"))
    assert refusal(application_reset(PrimaryAddress(1), 0x20), bus(mute)).startswith(SILENT)


# --------------------------------------------------------------------------------------------------------------- rate


def test_the_ci_field_of_each_rate() -> None:
    assert RATE_CI == {
        300: 0xB8, 600: 0xB9, 1200: 0xBA, 2400: 0xBB, 4800: 0xBC, 9600: 0xBD, 19200: 0xBE, 38400: 0xBF,
    }  # fmt: skip


@pytest.mark.parametrize("address", [PrimaryAddress(1), parse_address("12345678")])
@pytest.mark.parametrize("lost", [0, 1, 99])
def test_a_rate_is_switched_and_verified(address: Address, lost: int) -> None:
    one = meter(rate=2400, behaviour=Behaviour(falls_back_after=30))
    on = bus(one, meter(2, OTHER, rate=2400), hears=losing(lost))
    written = on.follow(set_baudrate(address, 2400, 9600))
    command = next(index for index, frame in enumerate(on.asked) if frame.startswith("68 03 03 68 53 FD BD"))
    assert lost or on.asked[command + 1] != "10 40 FD 3D 16", "nothing is said at a rate that the meter has left"
    assert written.verified == (f"it answers at 9600 Bd as {METER}",)
    on.seconds += 1000
    on.bus.rate = 9600
    assert on.bus.answer(bytes.fromhex("10 40 01 41 16"), on.seconds) == b"\xe5"


def refused_rate(on: Talk, old: int = 2400, new: int = 9600) -> str:
    with pytest.raises(WriteRefused) as caught:
        on.follow(set_baudrate(PrimaryAddress(1), old, new))
    return str(caught.value)


@pytest.mark.parametrize(("writes", "how"), [("ignored", PRETENDS), ("silent", SILENT)])
def test_a_meter_that_keeps_its_rate(writes: Writes, how: str) -> None:
    on = bus(meter(rate=2400, behaviour=Behaviour(writes=writes)))
    assert refused_rate(on) == f"{how}, is silent at 9600 Bd and answers at 2400 Bd as before"
    assert on.seconds < 30


@pytest.mark.parametrize(("falls_back_after", "minutes"), [(30, 1), (120, 3), (580, 10)])
def test_a_meter_that_is_not_heard_at_its_new_rate_comes_back_by_itself(falls_back_after: int, minutes: int) -> None:
    """As where the cable is too long for the new rate: neither side hears the other."""
    one = meter(rate=2400, behaviour=Behaviour(falls_back_after=falls_back_after))
    on = bus(one)
    with pytest.raises(WriteRefused) as caught:
        follow_deaf_at(9600, on, set_baudrate(PrimaryAddress(1), 2400, 9600))
    assert str(caught.value) == f"{PRETENDS}, is silent at 9600 Bd and answers at 2400 Bd as before"
    assert on.seconds < 60 * minutes
    assert one.rate == 2400


def follow_deaf_at(rate: int, on: Talk, plan: Plan[Written]) -> Written:
    """The meters hear nothing that is said at this rate."""
    try:
        while True:
            step = next(plan)
            on.bus.rate = 0 if step.rate == rate else step.rate
            on.seconds += step.pause
            talk(step.conversation, on)
    except StopIteration as end:
        result: Written = end.value
        return result


def test_a_meter_that_hears_but_is_not_heard_is_called_back() -> None:
    one = meter(rate=2400)  # it would stay for ever
    on = bus(one)
    on.hears = lambda _, answer: SILENCE if on.bus.rate == 9600 else answer
    assert refused_rate(on) == f"{PRETENDS}, is silent at 9600 Bd and answers at 2400 Bd as before"
    assert one.rate == 2400
    assert on.seconds < 30


def test_a_meter_that_is_lost() -> None:
    on = bus(meter(rate=2400))
    with pytest.raises(WriteRefused, match="even 10 minutes later does not answer at 2400 Bd"):
        follow_deaf_at(9600, on, set_baudrate(PrimaryAddress(1), 2400, 9600))


def test_a_rate_that_would_be_wrong() -> None:
    on = bus(meter(rate=2400), meter(1, OTHER, rate=9600))
    assert refused_rate(on) == f"at 9600 Bd 1 is taken ({OTHER})"
    assert refused_rate(on, new=2401).startswith("2401 is no rate of the M-Bus: 300, ")
    assert refused_rate(on, new=2400) == "the meter is asked at 2400 Bd: it has this rate already"
    assert refused_rate(on, old=300).startswith("no meter answers at 1")
    assert [one.rate for one in on.bus.meters] == [2400, 9600]


def test_a_meter_that_follows_every_rate() -> None:
    on = bus(meter())
    assert (
        on.follow(set_baudrate(PrimaryAddress(1), 2400, 9600)).done
        == "nothing: the meter follows the master to 9600 Bd"
    )
