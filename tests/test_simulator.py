"""The slave's rules of EN 13757-2 and -3 on simulated meters, on bytes; no decoder takes part."""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame, ShortFrame, encode, parse
from mbusd.simulation.behaviour import RATES
from mbusd.simulation.meter_file import METER_KEYS, meter_from, meters_from
from mbusd.simulation.meters import household
from mbusd.simulation.simulator import Behaviour, Fault, Moment, SimulatedBus, SimulatedMeter
from mbusd.simulation.superposition import superpose
from mbusd.simulation.values import HOUR, Profile, encode_value

E5 = b"\xe5"
BEGAN = datetime(2025, 3, 30, 12, 0, tzinfo=UTC)

NKE, UD2_5B, UD2_7B, UD2_4B, UD1 = 0x40, 0x5B, 0x7B, 0x4B, 0x4A
SELECTED, TEST, BROADCAST = 0xFD, 0xFE, 0xFF
EXACT = "78 56 34 12 2D 2C 08 04"


def meter(count: int = 1, /, **more: object) -> SimulatedMeter:
    """Identification 12345678, KAM, version 8, heat, at address 5; telegram k carries `01 13 k`."""
    entry: dict[str, object] = {
        "address": 5,
        "identification": "12345678",
        "manufacturer": "KAM",
        "version": 8,
        "medium": 4,
        "telegrams": [[f"01 13 {k:02X}"] for k in range(count)],
    }
    return meter_from(entry | more)


def short(control: int, address: int = 5) -> bytes:
    return encode(ShortFrame(control, address))


def select(mask: str) -> bytes:
    return encode(LongFrame(0x53, SELECTED, 0x52, bytes.fromhex(mask)))


def send(data: str, *, address: int = 5, control: int = 0x73, ci: int = 0x51) -> bytes:
    return encode(LongFrame(control, address, ci, bytes.fromhex(data)))


def page(answer: bytes | None) -> str:
    """`k` for telegram k, `k+` where DIF 1F announces more; else the answer in hex, "" for silence."""
    if answer is None:
        return ""
    if answer == E5:
        return "E5"
    frame = parse(answer)
    assert isinstance(frame, LongFrame)
    records = frame.data[12:]
    assert records[:2] == b"\x01\x13"
    assert records[3:] in (b"", b"\x1f")
    return f"{records[2]}{'+' if records[3:] else ''}"


FCB_RULES = [
    # telegrams, requests → answers (LINK: SND_NKE clears the memory; FCB = last repeats; FCB ≠ last goes on)
    (1, "40", "E5"),
    (1, "40 7B 7B 5B", "E5 0 0 0"),
    (3, "40 7B 5B 7B", "E5 0+ 1+ 2"),
    (3, "40 7B 7B 5B 5B 7B 7B", "E5 0+ 0+ 1+ 1+ 2 2"),
    (3, "40 7B 5B 7B 5B", "E5 0+ 1+ 2 0+"),
    (3, "40 7B 5B 40 7B", "E5 0+ 1+ E5 0+"),
    (3, "40 5B 7B", "E5 0+ 1+"),  # memory none: any FCB is new
    (3, "5B", "0+"),
    (3, "7B 7B 7B", "0+ 0+ 0+"),  # a master that never toggles
    (3, "40 4B 4B", "E5 0+ 0+"),
    (3, "40 7B 5B 6B 4B 7B", "E5 0+ 1+ 1+ 1+ 2"),  # FCV = 0 leaves the memory alone
    (3, "40 7B 5A 7A 5B", "E5 0+ E5 E5 1+"),  # REQ_UD1 too
]


@pytest.mark.parametrize(("telegrams", "requests", "answers"), FCB_RULES)
def test_fcb_rules(telegrams: int, requests: str, answers: str) -> None:
    bus = SimulatedBus([meter(telegrams)])
    assert [page(bus.answer(short(int(word, 16)))) for word in requests.split()] == answers.split()


def test_a_selection_clears_the_fcb_memory_and_nke_to_fd_deselects() -> None:
    bus = SimulatedBus([meter(3)])
    asked = [select(EXACT), short(UD2_7B, SELECTED), short(UD2_5B, SELECTED), select(EXACT), short(UD2_5B, SELECTED)]
    assert [page(bus.answer(request)) for request in asked] == ["E5", "0+", "1+", "E5", "0+"]
    assert page(bus.answer(short(NKE, SELECTED))) == "E5"
    assert bus.answer(short(UD2_7B, SELECTED)) is None
    assert bus.answer(short(NKE, SELECTED)) is None


def test_one_memory_serves_primary_and_selected_address_unless_the_meter_has_two() -> None:
    asked = [select(EXACT), short(NKE), short(UD2_7B), short(UD2_7B, SELECTED)]
    shared, separate = SimulatedBus([meter(2)]), SimulatedBus([meter(2, fcb="separate")])
    assert [page(shared.answer(request)) for request in asked] == ["E5", "E5", "0+", "0+"]  # a repetition
    again = [*asked, short(UD2_5B), short(UD2_7B, SELECTED)]
    assert [page(separate.answer(request)) for request in again][-2:] == ["1", "1"]  # FD repeats by its own memory


def test_a_meter_without_fcb_goes_on_at_each_request() -> None:
    bus = SimulatedBus([meter(3, fcb="ignored")])
    assert [page(bus.answer(short(UD2_7B))) for _ in range(4)] == ["0+", "1+", "2", "0+"]


def test_an_endless_meter_never_says_that_it_is_done() -> None:
    bus = SimulatedBus([meter(1, endless=True)])
    assert [page(bus.answer(short(c))) for c in (UD2_7B, UD2_5B, UD2_7B)] == ["0+", "0+", "0+"]


def test_the_answer_bears_the_own_address_and_a_rising_access_number() -> None:
    alone = meter()
    alone.access_number = 0xFF
    bus = SimulatedBus([alone])
    head = "68 12 12 68 08 05 72 78 56 34 12 2D 2C 08 04 "
    assert bus.answer(short(UD2_7B)) == bytes.fromhex(head + "FF 00 00 00 01 13 00 0B 16")
    assert bus.answer(short(UD2_7B, TEST)) == bytes.fromhex(head + "00 00 00 00 01 13 00 0C 16")
    only_secondary = SimulatedBus([meter(address=None)])
    assert only_secondary.answer(short(UD2_7B, 5)) is None
    only_secondary.answer(select(EXACT))
    answer = only_secondary.answer(short(UD2_7B, SELECTED))
    assert answer is not None
    assert answer[5] == SELECTED


@pytest.mark.parametrize(
    ("mask", "hit"),
    [
        ("FF FF FF FF FF FF FF FF", True),
        ("FF FF FF 1F FF FF FF FF", True),  # 1xxxxxxx: the most significant digit stands in the last byte
        ("FF FF FF 0F FF FF FF FF", False),
        ("F8 FF FF FF FF FF FF FF", True),  # xxxxxxx8
        ("78 56 34 12 2D 2C 08 04", True),
        ("78 56 34 12 FF 2C FF FF", True),  # whole bytes are wildcards in the rest …
        ("78 56 34 12 FF FF F8 FF", False),  # … nibbles are not
        ("78 56 34 12 FF FF FF 07", False),
        ("79 56 34 12 FF FF FF FF", False),
        ("78 56 34 12 FF FF FF", False),
        ("78 56 34 12 FF FF FF FF 0C 78 04 03 02 01", True),  # with the fabrication number
        ("FF FF FF FF FF FF FF FF 0C 78 FF FF FF 0F", True),
        ("FF FF FF FF FF FF FF FF 0C 78 FF FF FF 1F", False),
        ("FF FF FF FF FF FF FF FF 0C 13 04 03 02 01", False),
    ],
)
def test_selection(mask: str, hit: bool) -> None:  # noqa: FBT001 (pytest passes it by name)
    bus = SimulatedBus([meter(fabrication_number="01020304")])
    bus.answer(select(EXACT))  # a selection that does not match deselects
    assert page(bus.answer(select(mask))) == ("E5" if hit else "")
    assert page(bus.answer(short(UD2_7B, SELECTED))) == ("0" if hit else "")


def test_addresses() -> None:
    bus = SimulatedBus([meter()])
    assert [page(bus.answer(short(NKE, address))) for address in (5, 6, TEST, SELECTED, BROADCAST)] == [
        "E5", "", "E5", "", "",
    ]  # fmt: skip
    assert bus.answer(short(UD2_7B, BROADCAST)) is None


def test_set_primary_address() -> None:
    bus = SimulatedBus([meter()])
    bus.answer(short(NKE))
    assert bus.answer(bytes.fromhex("68 06 06 68 73 05 51 01 7A 09 4D 16")) == E5
    assert bus.answer(short(NKE, 5)) is None
    assert bus.answer(short(NKE, 9)) == E5
    assert bus.answer(send("01 7A FB", address=9)) is None
    bus.answer(select(EXACT))
    assert bus.answer(send("01 7A 07", address=SELECTED, control=0x53)) == E5
    assert bus.answer(short(NKE, 7)) == E5


def test_a_repeated_command_is_acknowledged_but_not_executed_again() -> None:
    bus = SimulatedBus([meter()])
    bus.answer(short(NKE))
    assert bus.answer(send("01 7A 09", address=TEST)) == E5
    assert bus.answer(send("01 7A 0A", address=TEST)) == E5  # the same FCB: taken for a repetition
    assert bus.answer(short(UD1, 9)) == E5
    assert bus.answer(send("01 7A 0A", address=TEST, control=0x53)) == E5
    assert bus.answer(short(UD1, 10)) == E5
    assert bus.answer(send("01 7A 0B", address=TEST, control=0x43)) == E5  # FCV = 0: always executed
    assert bus.answer(short(UD1, 11)) == E5


def test_a_broadcast_is_obeyed_in_silence() -> None:
    bus = SimulatedBus([meter()])
    assert bus.answer(send("01 7A 09", address=BROADCAST, control=0x53)) is None
    assert bus.answer(short(NKE, 9)) == E5


def test_an_application_reset_leads_back_to_the_first_telegram() -> None:
    bus = SimulatedBus([meter(3)])
    assert [page(bus.answer(short(c))) for c in (UD2_7B, UD2_5B)] == ["0+", "1+"]
    assert bus.answer(send("", ci=0x50)) == E5
    assert page(bus.answer(short(UD2_5B))) == "0+"


@pytest.mark.parametrize(
    "command",
    ["04 6D 05 AE 3E 33", "06 6D 00 05 EE 3E 33 00"],  # types F and I: 2025-03-30 14:05
)
def test_the_clock_can_be_set_and_runs_on(command: str) -> None:
    bus = SimulatedBus([meter(telegrams=None, records=[{"code": "04 6D", "value": "clock"}])], began=BEGAN)
    assert bus.answer(send(command), seconds=10) == E5
    answer = bus.answer(short(UD2_5B), seconds=10 + 60)
    assert answer is not None
    assert answer[19:-2] == bytes.fromhex("04 6D 06 2E 3E 33")


def test_a_date_that_does_not_exist_is_not_stored() -> None:
    one = meter()
    bus = SimulatedBus([one], began=BEGAN)
    assert bus.answer(send("04 6D 05 AE 3F 32")) == E5  # 31 February
    assert one.clock_offset == timedelta()
    assert bus.answer(send("02 6C 21 34", control=0x53)) == E5  # 1 April 2025, the time of day stays
    assert one.clock_offset == timedelta(days=2)


@pytest.mark.parametrize(
    ("command", "digits"),
    [
        ("0C 79 04 03 02 01", "010203042D2C0804"),
        ("07 79 04 03 02 01 A5 11 09 07", "01020304A5110907"),
        ("0C 79 04 03 02 0F", None),  # no decimal digits
        ("0C 79 04 03 02", None),
    ],
)
def test_set_identification(command: str, digits: str | None) -> None:
    one = meter()
    assert page(SimulatedBus([one]).answer(send(command))) == ("E5" if digits else "")
    assert one.secondary.digits == (digits or "123456782D2C0804")


def test_an_application_select_changes_what_is_sent_until_the_reset() -> None:
    one = meter(2)
    one.applications = {0x50: lambda _: [b"\x01\x13\x09"]}
    bus = SimulatedBus([one])
    heard = [page(bus.answer(short(UD2_7B)))]
    for command in ("50", "", "50", "20", "00"):
        assert bus.answer(send(command, ci=0x50, control=0x53)) == E5
        bus.answer(short(NKE))
        heard.append(page(bus.answer(short(UD2_7B))))
    assert heard == ["0+", "9", "0+", "9", "9", "0+"]  # 20 is acknowledged and has no effect
    one.applications = {0x50: lambda _: [bytes(300)]}
    with pytest.raises(ValueError, match=r"0\.\.239 bytes"):
        replace(one)


def test_meters_that_do_not_obey() -> None:
    one = meter()
    bus = SimulatedBus([one])
    one.behaviour.writes = "ignored"
    assert bus.answer(send("01 7A 09")) == E5
    one.behaviour.writes = "silent"
    assert bus.answer(send("01 7A 09", control=0x53)) is None
    assert one.primary == 5


def test_a_meter_that_stores_late() -> None:
    one = meter()
    one.behaviour.stores_after = 1.0
    bus = SimulatedBus([one])
    assert bus.answer(send("01 7A 09"), 10.0) == E5
    assert [bus.answer(short(NKE, address), 10.9) for address in (5, 9)] == [E5, None]
    assert [bus.answer(short(NKE, address), 11.0) for address in (5, 9)] == [None, E5]


def test_a_rate_is_switched_after_the_acknowledgement_and_only_to_one_that_the_meter_has() -> None:
    one = meter()
    one.rate, one.rates = 2400, (300, 2400, 9600)
    bus = SimulatedBus([one], rate=2400)
    assert bus.answer(send("", ci=0xBE)) is None  # 19200
    assert bus.answer(send("", ci=0xBD)) == E5
    assert bus.answer(short(NKE)) is None
    bus.rate = 9600
    assert bus.answer(short(NKE)) == E5
    assert bus.answer(send("", ci=0xBB)) == E5
    bus.rate = 2400
    assert bus.answer(short(NKE)) == E5


@pytest.mark.parametrize("heard", [True, False])
def test_a_meter_falls_back_to_its_old_rate_where_nobody_speaks_to_it_at_the_new_one(*, heard: bool) -> None:
    one = meter()
    one.rate, one.behaviour.falls_back_after = 2400, 30.0
    bus = SimulatedBus([one], rate=2400)
    assert bus.answer(send("", ci=0xBD), 100.0) == E5
    bus.rate = 9600 if heard else 4800
    assert bus.answer(short(NKE), 110.0) == (E5 if heard else None)
    bus.rate = 2400
    assert [bus.answer(short(NKE), seconds) for seconds in (129.0, 131.0)] == [None, None if heard else E5]


@pytest.mark.parametrize(
    "request_bytes",
    [
        "10 7B 05 81 16",  # checksum
        "10 7B 05 80 17",  # stop
        "10 7B 05 80",
        "",
        "E5",
        "68 03 03 68 53 05 B8 10 16",  # a baud rate switch
        "68 03 03 68 53 05 A0 F8 16",  # a maker's CI
        "68 03 03 68 08 05 50 5D 16",  # an answer, no request
        "10 1B 05 20 16",
        "FF " * 300,
    ],
)
def test_what_a_meter_does_not_answer(request_bytes: str) -> None:
    assert SimulatedBus([meter()]).answer(bytes.fromhex(request_bytes)) is None


def test_nothing_that_the_master_says_raises() -> None:
    bus = SimulatedBus(household(BEGAN), began=BEGAN)
    for control in range(256):
        for address in (0, 5, 68, SELECTED, TEST, BROADCAST):
            bus.answer(short(control, address))
            for ci in (0x50, 0x51, 0x52, 0xB8):
                for data in ("", "01", "01 7A", "04 6D", "04 6D FF FF FF FF", "06 6D 3F 3F FF FF FF FF", "F" * 16):
                    bus.answer(encode(LongFrame(control, address, ci, bytes.fromhex(data))))


def test_answers_in_step_are_the_and_of_their_bytes_and_the_longer_one_goes_on() -> None:
    assert superpose([(0, E5), (0, E5), (0, E5)]) == E5
    assert superpose([(0, b"\x0f\xff"), (0, b"\x35")]) == b"\x05\xff"
    assert superpose([(0, bytes(range(256)))]) == bytes(range(256))
    assert superpose([]) == b""


def test_answers_out_of_step_are_garbage() -> None:
    assert superpose([(0, E5), (11, E5)]) == E5 + E5
    assert superpose([(0, E5), (4, E5)]) not in (E5, E5 + E5)
    assert superpose([(0, b"\x00"), (10, b"\x00"), (20, b"\xff")])[0] == 0


def test_a_wildcard_selection_of_two_meters_looks_fine_until_they_send_data() -> None:
    twins = [meter(), meter(manufacturer="SEN", address=6)]
    bus = SimulatedBus(twins)
    assert bus.answer(select("78 56 34 12 FF FF FF FF")) == E5
    collision = bus.answer(short(UD2_7B, SELECTED))
    assert collision is not None
    with pytest.raises(DecodeError, match="checksum"):
        parse(collision)
    assert bus.answer(select("78 56 34 12 2D 2C FF FF")) == E5
    assert page(bus.answer(short(UD2_7B, SELECTED))) == "0"


@pytest.mark.parametrize("lost", [(1,), (0, 2), (0, 1, 3, 5)])
def test_no_telegram_is_lost_or_doubled_where_the_master_repeats_with_the_same_fcb(lost: tuple[int, ...]) -> None:
    one = meter(3)
    bus = SimulatedBus([one])
    bus.answer(short(NKE))
    one.faults = deque(Fault.DROP if index in lost else Fault.NONE for index in range(max(lost) + 1))
    pages: list[str] = []
    control = UD2_7B
    while not pages or pages[-1].endswith("+"):
        answer = bus.answer(short(control))
        if answer is not None:
            pages.append(page(answer))
            control ^= 0x20
    assert pages == ["0+", "1+", "2"]


def test_a_read_out_is_one_picture_and_a_repetition_brings_the_old_one() -> None:
    bus = SimulatedBus([meter(telegrams=None, records=[{"code": "01 13", "value": 1, "per_hour": 60}])])
    asked = [(UD2_7B, 0), (UD2_7B, 600), (UD2_5B, 600), (UD2_4B, 1200)]
    assert [page(bus.answer(short(c), seconds)) for c, seconds in asked] == ["1", "1", "11", "21"]


def test_faults_are_used_up_one_per_answer() -> None:
    one = meter()
    bus = SimulatedBus([one])
    good = E5
    one.faults.extend([Fault.DROP, Fault.GARBLE, Fault.NONE, Fault.CUT, Fault.NOISE_BEFORE, Fault.NOISE_AFTER])
    answers = [bus.answer(short(NKE)) for _ in range(7)]
    assert answers[0] is None
    assert answers[1] is not None
    assert (answers[1][0] ^ 0xE5).bit_count() == 1
    assert answers[2] == answers[6] == good
    assert answers[3] == b"\x00"
    assert answers[4] is not None
    assert answers[4][3:] == good
    assert answers[5] is not None
    assert answers[5][0] == 0xE5
    assert len(answers[5]) == 4


def test_garbling_is_the_same_for_the_same_seed() -> None:
    def spoilt(seed: int) -> list[bytes | None]:
        one = meter(seed=seed, faults=["garble"] * 8)
        return [SimulatedBus([one]).answer(short(UD2_7B)) for _ in range(8)]

    assert spoilt(1) == spoilt(1)
    assert spoilt(1) != spoilt(2)


def test_deaf_sleeping_and_mute_meters() -> None:
    one = meter()
    bus = SimulatedBus([one])
    one.behaviour.deaf = True
    assert bus.answer(short(NKE)) is None
    one.behaviour.deaf = False
    one.behaviour.answers_nke = False
    assert [page(bus.answer(short(c))) for c in (NKE, UD2_7B)] == ["", "0"]
    one.behaviour.sleeps_after = 60
    asleep = [(1000, ""), (1001, "0"), (1050, "0"), (1200, ""), (1201, "0")]
    assert [(at, page(bus.answer(short(UD2_7B), at))) for at, _ in asleep] == asleep


def test_a_late_answer_has_a_longer_delay() -> None:
    one = meter(faults=["late"], late_by=0.4, delay=0.03)
    request = ShortFrame(NKE, 5)
    delays = [one.answer(request, Moment(0, BEGAN)) for _ in range(2)]
    assert [round(answer.delay, 3) for answer in delays if answer] == [0.43, 0.03]


# ---------------------------------------------------------------------------------------------- alarms

UD1_5A, UD1_7A = 0x5A, 0x7A


def alarmed(**more: object) -> tuple[SimulatedMeter, SimulatedBus]:
    one = meter(alarm=4, **more)
    return one, SimulatedBus([one])


def test_an_alarm_byte_is_sent_as_class_1_data() -> None:
    one, bus = alarmed()
    assert bus.answer(short(UD1_7A)) == bytes.fromhex("68 04 04 68 08 05 71 04 82 16")
    assert SimulatedBus([meter(address=1, alarm=4)]).answer(short(UD1_5A, 1)) == bytes.fromhex(
        "68 04 04 68 08 01 71 04 7E 16"
    )
    one.alarm = 0
    assert bus.answer(short(UD1_5A)) == bytes.fromhex("68 04 04 68 08 05 71 00 7E 16")
    one.alarm = None
    assert bus.answer(short(UD1_7A)) == E5
    assert bus.answer(short(UD1_5A, BROADCAST)) is None


def test_an_alarm_is_announced_by_the_acd_bit_of_the_telegrams() -> None:
    one, bus = alarmed()
    answers = [bus.answer(short(UD2_7B))]
    one.alarm = None
    answers.append(bus.answer(short(UD2_5B)))
    assert [answer[4] for answer in answers if answer] == [0x28, 0x08]


def test_class_1_data_can_be_a_telegram() -> None:
    one = meter(class_1=["01 FD 17 04"], alarm=7)
    answer = SimulatedBus([one]).answer(short(UD1_7A))
    assert answer is not None
    assert answer[6] == 0x72
    assert answer[19:-2] == bytes.fromhex("01 FD 17 04")


@pytest.mark.parametrize(
    ("memory", "requests", "answers"),
    [  # IEC 60870-5-2: one FCB for everything on a link …
        ("shared", "7B 5A 7B 5A 7B", "0+ A5 1+ A7 2"),
        ("shared", "7B 5A 5B", "0+ A5 0+"),  # a repetition
        ("shared", "7A 7A 5A 5A", "A4 A4 A6 A6"),
        ("shared", "7A 7B", "A4 0+"),  # nothing was sent that could be repeated
        # … or one more for class 1
        ("separate", "7B 5A 5B 7A 7B", "0+ A5 1+ A7 2"),
        ("separate", "7B 5A 7B", "0+ A5 0+"),
        ("separate", "7A 7B 7A 5A", "A4 0+ A4 A7"),
    ],
)
def test_fcb_rules_of_class_1(memory: str, requests: str, answers: str) -> None:
    """The alarm is 4 at first and one more after each request."""
    one = meter(3, alarm_fcb=memory)
    bus = SimulatedBus([one])
    heard = []
    for number, word in enumerate(requests.split()):
        one.alarm = 4 + number
        answer = bus.answer(short(int(word, 16)))
        assert answer is not None
        heard.append(f"A{answer[7]}" if answer[6] == 0x71 else page(answer))
    assert heard == answers.split()


def test_a_selection_and_a_reset_make_the_next_request_for_alarms_a_new_one() -> None:
    one, bus = alarmed()
    for forget in (short(NKE), select(EXACT)):
        address = SELECTED if forget[0] == 0x68 else 5
        bus.answer(select(EXACT))
        bus.answer(short(UD1_7A, address))
        one.alarm = (one.alarm or 0) + 1
        bus.answer(forget)
        answer = bus.answer(short(UD1_7A, address))
        assert answer is not None
        assert answer[7] == one.alarm


# ---------------------------------------------------------------------------------------------- makers' own ways


def test_a_makers_ci_is_answered_with_data_at_once_and_a_repetition_with_the_same() -> None:
    one = meter(maker_pages={"B1": {"records": [{"code": "01 13", "value": 7, "per_hour": 3600}]}})
    bus = SimulatedBus([one])
    asked = [(0x73, 0.0), (0x73, 1.0), (0x53, 2.0)]
    answers = [bus.answer(send("", ci=0xB1, control=control), at) for control, at in asked]
    assert [page(answer) for answer in answers] == ["7", "7", "9"]
    assert bus.answer(send("", ci=0xB2)) is None


@pytest.mark.parametrize(
    ("renewal", "shown"), [("read-out", "0 0 2 2"), ("repetition", "0 1 2 2"), ("reset", "0 0 0 3")]
)
def test_what_brings_new_values(renewal: str, shown: str) -> None:
    one = meter(telegrams=None, records=[{"code": "01 13", "value": 0, "per_hour": 3600}], renewal=renewal)
    bus = SimulatedBus([one])
    heard = [page(bus.answer(short(control), at)) for at, control in enumerate((UD2_7B, UD2_7B, UD2_5B))]
    if renewal == "reset":
        assert bus.answer(send("", ci=0x50), 3.0) == E5
        heard.append(page(bus.answer(short(UD2_5B), 3.0)))
    else:
        heard.append(page(bus.answer(short(UD2_5B), 2.0)))
    assert heard == shown.split()


def test_a_meter_that_stays_at_its_last_telegram_until_the_reset() -> None:
    bus = SimulatedBus([meter(2, goes_round=False)])
    assert [page(bus.answer(short(c))) for c in (UD2_7B, UD2_5B, UD2_7B, UD2_5B, NKE, UD2_7B)] == [
        "0+", "1", "1", "1", "E5", "0+",
    ]  # fmt: skip


def test_a_meter_that_rests_after_its_answers_hears_nothing_meanwhile() -> None:
    one = meter(rests_for=0.3)
    bus = SimulatedBus([one], bit=1 / 2400)
    length = 11 * 5 / 2400  # seconds of a short frame
    ends = 10.0 + (11 + 11) / 2400 + 0.02  # of the E5
    assert bus.answer(short(NKE), 10.0) == E5
    assert bus.answer(short(NKE), ends + 0.29 + length) is None
    assert bus.answer(short(NKE), ends + 0.31 + length) == E5
    unpaced = SimulatedBus([meter(rests_for=0.3)])
    assert [unpaced.answer(short(NKE), at) for at in (1.0, 1.29, 1.3)] == [E5, None, E5]


def test_the_first_answer_after_a_sleep_is_slow() -> None:
    one = meter(sleeps_after=60, starts_slowly=0.7, delay=0.1)
    delays = [one.answer(ShortFrame(NKE, 5), Moment(at, BEGAN)) for at in (1000, 1001, 1002, 2000, 2001)]
    assert [answer and round(answer.delay, 3) for answer in delays] == [None, 0.8, 0.1, None, 0.8]


@pytest.mark.parametrize(
    ("refusal", "answer"),
    [
        ("error", "68 04 04 68 08 05 70 09 86 16"),
        ("status", "68 0F 0F 68 08 05 72 78 56 34 12 2D 2C 08 04 03 01 00 00 FC 16"),
        ("acknowledgement", "E5"),
        ("silence", ""),
    ],
)
def test_read_out_too_soon_it_refuses(refusal: str, answer: str) -> None:
    bus = SimulatedBus([meter(2, least_pause=180, refusal=refusal)])
    assert [page(bus.answer(short(c), 10.0)) for c in (UD2_7B, UD2_5B)] == ["0+", "1"]
    assert (bus.answer(short(UD2_7B), 189.0) or b"") == bytes.fromhex(answer)
    assert page(bus.answer(short(UD2_7B), 190.0)) == "0+"


def test_a_repeated_request_costs_no_read_out() -> None:
    bus = SimulatedBus([meter(least_pause=180)])
    assert [page(bus.answer(short(UD2_7B), at)) for at in (10.0, 11.0, 12.0)] == ["0", "0", "0"]


def test_so_many_read_outs_a_day() -> None:
    bus = SimulatedBus([meter(read_outs_a_day=2, refusal="silence")])
    hours = (0, 1, 2, 23.9, 24, 24.5, 25.1, 26)
    heard = []
    for hour in hours:
        bus.answer(short(NKE), hour * HOUR)
        heard.append(page(bus.answer(short(UD2_7B), hour * HOUR)))
    assert heard == ["0", "0", "", "", "0", "", "0", ""]


def test_each_application_has_its_own_pause() -> None:
    applications = {"50": {"records": ["01 13 09"], "least_pause": 300}}
    bus = SimulatedBus([meter(least_pause=4140, applications=applications, refusal="silence")])
    assert page(bus.answer(short(UD2_7B), 0.0)) == "0"
    assert bus.answer(send("50", ci=0x50, control=0x53), 1.0) == E5
    assert [page(bus.answer(short(c), at)) for c, at in ((UD2_7B, 1.0), (UD2_5B, 200.0), (UD2_5B, 301.0))] == [
        "9", "", "9",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- the built-in set


def readings(bus: SimulatedBus, address: int, seconds: float) -> bytes:
    """The records of the first telegram after a reset."""
    bus.answer(short(NKE, address), seconds)
    answer = bus.answer(short(UD2_7B, address), seconds)
    assert answer is not None
    frame = parse(answer)
    assert isinstance(frame, LongFrame)
    return frame.data[12:]


def test_the_multical_shows_these_values_at_the_start() -> None:
    bus = SimulatedBus(household(BEGAN), began=BEGAN)
    bus.answer(short(NKE, 68))
    assert bus.answer(short(UD2_7B, 68)) == bytes.fromhex(
        "68 5E 5E 68 08 44 72 02 44 10 68 2D 2C 09 04 01 00 00 00"
        " 0C 78 02 44 10 68"  # fabrication number
        " 04 06 0A 00 00 00"  # 10 kWh
        " 04 14 10 01 00 00"  # 2.72 m³
        " 04 22 77 09 00 00"  # 2423 h
        " 04 59 2C 07 00 00"  # 18.36 °C
        " 04 5D 18 07 00 00"  # 18.16 °C
        " 04 61 14 00 00 00"  # 0.20 K
        " 04 2D 00 00 00 00"
        " 14 2D 2F 00 00 00"  # 4.7 kW
        " 04 3B 00 00 00 00"
        " 14 3B 6E 05 00 00"  # 1390 l/h
        " 0F 00 00 00 00 01 02 00 00 00 00 00 00 45 16"
    )


def multical(bus: SimulatedBus, seconds: float) -> list[int]:
    """Energy, volume, hours, flow and return temperature, difference, power, its maximum, volume flow, its maximum."""
    records = readings(bus, 68, seconds)
    return [int.from_bytes(records[at + 2 : at + 6], "little") for at in range(6, 66, 6)]


def test_the_heat_pump_starts_later_and_its_values_agree() -> None:
    bus = SimulatedBus(household(BEGAN), began=BEGAN)
    assert multical(bus, 599) == multical(bus, 0)
    before: list[int] = []
    for seconds in range(600, 30_000, 300):
        energy, volume, hours, flow, back, difference, power, peak, rate, peak_rate = multical(bus, seconds)
        assert flow - back == difference
        assert (power * 0.1) == pytest.approx(1.163 * rate * difference / 100_000, abs=0.06)
        assert power <= peak == 47
        assert rate <= peak_rate == 1390
        assert all(old <= new for old, new in zip(before, (energy, volume, hours), strict=False))
        before = [energy, volume, hours]
    assert before[0] > 20
    assert before[1] - 272 == pytest.approx(100 * (before[0] - 10) / 1.163 / 5, abs=20)


def test_the_house_is_reachable_as_promised() -> None:
    meters = household(BEGAN)
    bus = SimulatedBus(meters, began=BEGAN)
    assert [address for address in range(251) if bus.answer(short(NKE, address))] == [0, 3, 5, 12, 68]
    water = next(one for one in meters if one.name == "water")
    assert bus.answer(select("FF FF FF 21 FF FF FF FF")) == E5
    collision = bus.answer(short(UD2_7B, SELECTED))
    assert collision is not None
    with pytest.raises(DecodeError):
        parse(collision)
    assert bus.answer(select(water.secondary.to_bytes().hex())) == E5
    answer = bus.answer(short(UD2_7B, SELECTED))
    assert answer is not None
    assert isinstance(parse(answer), LongFrame)
    assert len({str(one.secondary) for one in meters}) == len(meters)


def binary(data: bytes) -> int:
    return int.from_bytes(data, "little")


def bcd(data: bytes) -> int:
    return int(data[::-1].hex())


@pytest.mark.parametrize(
    ("address", "places", "number"),
    [
        (12, ((9, 6), (18, 6), (28, 6), (38, 6)), binary),  # import, export, tariffs 1 and 2 in Wh
        (5, ((2, 4), (8, 4), (44, 4)), binary),  # kWh, 10 l, h
        (3, ((8, 4),), bcd),  # gas in litres
    ],
)
def test_no_counter_of_the_house_falls_and_all_rise_in_a_week(
    address: int, places: tuple[tuple[int, int], ...], number: Callable[[bytes], int]
) -> None:
    bus = SimulatedBus(household(BEGAN), began=BEGAN)
    rows = [readings(bus, address, seconds) for seconds in range(0, 7 * 86400, 1800)]
    for at, size in places:
        course = [number(records[at : at + size]) for records in rows]
        assert course == sorted(course)
        assert course[0] < course[-1]


def test_the_tariffs_of_the_electricity_meter_sum_up() -> None:
    bus = SimulatedBus(household(BEGAN), began=BEGAN)
    for seconds in range(0, 2 * 86400, 3000):
        records = readings(bus, 12, seconds)
        total, day, night = (int.from_bytes(records[at : at + 6], "little") for at in (9, 28, 38))
        assert 0 <= total - day - night <= 1


def test_a_profile_counts_what_it_shows() -> None:
    profile = Profile((0.0, 100.0, 0.0, 0.0), period=4 * HOUR, delay=HOUR)
    assert [profile.rate(hours * HOUR) for hours in (0, 1, 1.5, 2, 2.5, 4, 6)] == [0, 0, 50, 100, 50, 0, 100]
    assert [profile.total(hours * HOUR) for hours in (1, 1.5, 2, 2.5, 3, 5, 9)] == [0, 12.5, 50, 87.5, 100, 100, 200]
    flat = Profile((10.0, 10.0), start=5 * HOUR)
    assert flat.between(4 * HOUR, 6, 22) == pytest.approx(30)
    assert flat.between(24 * HOUR, 6, 22) == pytest.approx(160)


# ---------------------------------------------------------------------------------------------- meters from a file


def test_meters_from_a_file() -> None:
    entry = {
        "name": "boiler",
        "address": 7,
        "identification": "00123456",
        "manufacturer": "KAM",
        "medium": 4,
        "fabrication_number": "01020304",
        "status": 4,
        "delay": 0.05,
        "telegrams": [
            [
                {"code": "0C 13", "value": 1234, "per_hour": 10},
                {"code": "02 5A", "value": -10, "swing": 5, "period": 60},
            ],
            ["01 FD 17 00", {"code": "0D FD 11", "value": "cellar"}, {"code": "05 5B", "value": 20.5}, "0F 01 02"],
        ],
    }
    bus = SimulatedBus(meters_from({"meters": [entry]}))
    first = bus.answer(short(UD2_7B, 7), seconds=3600)
    second = bus.answer(short(UD2_5B, 7), seconds=3600)
    assert first is not None
    assert second is not None
    assert first[7:19].hex(" ").upper() == "56 34 12 00 2D 2C 01 04 01 04 00 00"
    assert first[19:-2].hex(" ").upper() == "0C 13 44 12 00 00 02 5A F6 FF 1F"
    assert second[19:-2].hex(" ").upper() == "01 FD 17 00 0D FD 11 06 72 61 6C 6C 65 63 05 5B 00 00 A4 41 0F 01 02"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identification": 12345678}, r"meter\.identification: 8 digits in quotes"),
        ({"identification": None}, r"meter\.identification: is missing"),
        ({"identification": "1234567F"}, r"meter\.identification: 8 digits"),
        ({"manufacturer": "kam"}, r"meter\.manufacturer: .*three letters A to Z"),
        ({"medium": 255}, r"meter\.medium: a whole number 0\.\.254 is wanted, not 255"),
        ({"medium": None}, r"meter\.medium: is missing; 0\.\.254"),
        ({"address": 251}, r"meter\.address: a whole number 0\.\.250"),
        ({"address": True}, r"meter\.address: a whole number"),
        ({"adress": 5}, r"meter\.adress: is unknown; allowed: address, "),
        ({"fcb": "toggle"}, r"meter\.fcb: 'toggle' is unknown; allowed: shared, separate, ignored"),
        ({"alarm_fcb": "none"}, r"meter\.alarm_fcb: 'none' is unknown; allowed: shared, separate"),
        ({"writes": "yes"}, r"meter\.writes: 'yes' is unknown; allowed: obeyed, ignored, silent"),
        ({"renewal": "never"}, r"meter\.renewal: 'never' is unknown; allowed: read-out, repetition, reset"),
        ({"refusal": "no"}, r"meter\.refusal: 'no' is unknown; allowed: error, status, acknowledgement, silence"),
        ({"alarm": 256}, r"meter\.alarm: a whole number 0\.\.255 is wanted, not 256"),
        ({"class_1": "04"}, r"meter\.class_1: a list is wanted"),
        ({"class_1": ["00" * 240]}, r"meter.*0\.\.239 bytes"),
        ({"rate": 1000}, r"meter\.rate: one of 300, 600, .* Bd is wanted, not 1000"),
        ({"rates": [300]}, r"meter\.rate: is missing"),
        ({"rate": 300, "rates": [2400]}, r"meter\.rates: the meter's own rate, 300 Bd, is missing"),
        ({"rate": 300, "rates": [300, True]}, r"meter\.rates: one of .* not True"),
        ({"stores_after": -1}, r"meter\.stores_after: seconds, 0 or more"),
        ({"falls_back_after": "1m"}, r"meter\.falls_back_after: a number"),
        ({"read_outs_a_day": 1.5}, r"meter\.read_outs_a_day: a whole number"),
        ({"applications": []}, r"meter\.applications: a mapping is wanted"),
        (
            {"applications": {50: {"records": []}}},
            r"meter\.applications: two hex digits in quotes, 01 to FF, .* not 50",
        ),
        ({"applications": {"00": {"records": []}}}, r"meter\.applications: two hex digits in quotes, 01 to FF"),
        ({"applications": {"50": {}}}, r"meter\.applications\.50: either `records` or `telegrams`"),
        (
            {"applications": {"50": {"record": []}}},
            r"meter\.applications\.50\.record: is unknown; allowed: least_pause",
        ),
        ({"applications": {"50": {"records": ["0"]}}}, r"meter\.applications\.50\.records\[0\]: '0' is no hex"),
        ({"maker_pages": {"50": {"records": []}}}, r"meter\.maker_pages: two hex digits in quotes, A0 to B7"),
        (
            {"maker_pages": {"B1": {"telegrams": []}}},
            r"meter\.maker_pages\.B1\.telegrams: is unknown; allowed: records",
        ),
        ({"maker_pages": {"B1": None}}, r"meter\.maker_pages\.B1: is missing; a mapping"),
        ({"faults": ["drip"]}, r"meter\.faults: 'drip' is unknown; allowed: none, drop"),
        ({"delay": -1}, r"meter\.delay: seconds, 0 or more"),
        ({"delay": float("inf")}, r"meter\.delay: a number"),
        ({"telegrams": [[{"code": "05 5B", "value": 1e39}]]}, r"\[0\]\.value: a number \(up to 1e\+24\)"),
        ({"deaf": "no"}, r"meter\.deaf: true or false"),
        ({"telegrams": None}, r"meter: either `records` or `telegrams`"),
        ({"telegrams": []}, r"meter\.telegrams: one telegram at least"),
        ({"telegrams": [["04 0G"]]}, r"meter\.telegrams\[0\]\[0\]: '04 0G' is no hex"),
        ({"telegrams": [[7]]}, r"meter\.telegrams\[0\]\[0\]: a mapping is wanted"),
        ({"telegrams": [["00" * 240]]}, r"meter.*0\.\.239 bytes"),
        ({"telegrams": [[{"code": "04", "value": 1}]]}, r"\[0\]\.code: 04 is no DIF"),
        ({"telegrams": [[{"code": "04 83", "value": 1}]]}, r"\[0\]\.code: 04 83 is no DIF"),
        ({"telegrams": [[{"code": "04 06"}]]}, r"\[0\]\.value: is missing"),
        ({"telegrams": [[{"code": "04 06", "value": "10"}]]}, r"\[0\]\.value: DIF 04 cannot carry '10'"),
        ({"telegrams": [[{"code": "04 06", "value": 1.5}]]}, r"\[0\]\.value: DIF 04 cannot carry 1\.5"),
        ({"telegrams": [[{"code": "09 06", "value": 100}]]}, r"\[0\]\.value: DIF 09 cannot carry 100"),
        ({"telegrams": [[{"code": "01 6D", "value": "clock"}]]}, r"\[0\]\.value: DIF 01 cannot carry"),
    ],
)
def test_a_bad_meter_file_says_where_and_what(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        meter(**change)


def test_a_meter_file_can_say_how_the_meter_deviates() -> None:
    said: dict[str, object] = {
        "deaf": True,
        "answers_nke": False,
        "endless": True,
        "goes_round": False,
        "renewal": "reset",
        "sleeps_after": 60,
        "starts_slowly": 0.5,
        "rests_for": 0.3,
        "late_by": 0.4,
        "pauses_inside": 0.2,
        "bit_errors": 0.001,
        "fcb": "separate",
        "alarm_fcb": "separate",
        "writes": "ignored",
        "stores_after": 5,
        "falls_back_after": 30,
        "read_outs_a_day": 45,
        "refusal": "status",
    }
    behaviour = meter(**said).behaviour
    assert {key: getattr(behaviour, key) for key in said} == said
    assert {one.name for one in fields(Behaviour)} == {*said, "pauses"}
    assert meter(least_pause=180).behaviour.pauses == {0: 180}
    one = meter(rate=300, rates=[300, 2400], alarm=4)
    assert (one.rate, one.rates, one.alarm) == (300, (300, 2400), 4)
    assert (meter(rate=300).rates, meter().rate) == (RATES, None)


def test_the_example_of_a_meter_file_shows_every_key_and_each_default_as_it_is() -> None:
    text = (Path(__file__).parent.parent / "meters.example.yaml").read_text("utf-8")
    for key in METER_KEYS:
        assert re.search(rf"^ *(- |# )?{key}:", text, re.MULTILINE), key
    heating, nasty = meters_from(yaml.safe_load(text))
    assert set(heating.applications) == {0x50}
    assert set(heating.maker_pages) == {0xB1}
    assert nasty.behaviour == Behaviour()


def test_a_file_without_meters_is_an_error() -> None:
    documents: tuple[object, ...] = (None, [], {"meters": []}, {"meters": {}}, "meters")
    for document in documents:
        with pytest.raises(ValueError, match="meters: a list of meters"):
            meters_from(document)
    with pytest.raises(ValueError, match=r"file\.meter: is unknown; allowed: meters"):
        meters_from({"meter": []})
    with pytest.raises(ValueError, match=r"meters\[0\]\.identification"):
        meters_from([{"manufacturer": "KAM"}])


@pytest.mark.parametrize(
    ("dif", "value", "data"),
    [
        (0x02, -1, "FF FF"),
        (0x01, 300, "2C"),  # rolls over
        (0x0C, 12345678, "78 56 34 12"),
        (0x0A, -12, "12 F0"),
        (0x09, 123, "23"),
        (0x02, datetime(2025, 3, 30, tzinfo=UTC), "3E 33"),
        (0x04, datetime(2025, 3, 30, 14, 5, tzinfo=UTC), "05 2E 3E 33"),
        (0x0D, "ABC", "03 43 42 41"),
        (0x05, 20.0, "00 00 A0 41"),
    ],
)
def test_values_as_bytes(dif: int, value: float | str | datetime, data: str) -> None:
    assert encode_value(dif, value) == bytes.fromhex(data)
