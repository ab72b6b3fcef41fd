"""One probe: what is believed of an answer, and what is asked for once more."""

from random import Random

import pytest

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.errors import AddressError
from mbusd.mbus.frames import Noise
from mbusd.mbus.link import Silence
from mbusd.mbus.probe import (
    Crowd,
    Disturbance,
    Meter,
    Mute,
    Selection,
    Silent,
    anybody,
    probe_primary,
    probe_secondary,
    release,
    wake,
)
from mbusd.simulation.simulator import Behaviour, SimulatedBus, identity
from tests.mbus.driving import Script, reply, talk
from tests.mbus.searching import Unselectable, Wire, meter, sending

E5 = reply("E5")
NKE_1 = "10 40 01 41 16"
READ_1 = "10 7B 01 7C 16"
READ_1_AGAIN = "10 5B 01 5C 16"
READ_SELECTED = "10 7B FD 78 16"
SELECT_ALL = "68 0B 0B 68 53 FD 52 FF FF FF FF FF FF FF FF 9A 16"
SELECT_KAM = "68 0B 0B 68 53 FD 52 78 56 34 12 2D 2C 08 04 1B 16"
TELEGRAM = reply("68 19 19 68 08 01 72 78 56 34 12 2D 2C 08 04 05 00 00 00 04 06 E7 91 00 00 02 5A C2 02 9B 16")
KAM = SecondaryAddress("123456782D2C0804")
ANY = Selection(SecondaryAddress("F" * 16))
GARBLED = Noise(bytes.fromhex("68 19 11 68 08"))


def test_nobody_at_a_primary_address_costs_one_frame() -> None:
    script = Script([Silence()])
    assert talk(probe_primary(1), script) == Silent()
    assert script.hex == [NKE_1]


def test_tries_are_for_silence() -> None:
    script = Script([Silence(), Silence(), Silence()])
    assert talk(probe_primary(1, tries=3), script) == Silent()
    assert script.hex == [NKE_1] * 3


def test_a_meter_is_read_and_must_answer_to_its_name() -> None:
    script = Script([E5, TELEGRAM, E5])
    found = talk(probe_primary(1), script)
    assert isinstance(found, Meter)
    assert (found.address, found.primary, found.is_selectable) == (KAM, 1, True)
    assert script.hex == [NKE_1, READ_1, SELECT_KAM]


def test_a_meter_that_knows_no_selection_says_its_name_again_and_again() -> None:
    script = Script([E5, TELEGRAM, Silence(), Silence()] + [TELEGRAM] * 4)
    found = talk(probe_primary(1), script)
    assert isinstance(found, Meter)
    assert not found.is_selectable
    assert script.hex == [NKE_1, READ_1, SELECT_KAM, SELECT_KAM] + [READ_1_AGAIN, READ_1] * 2


def test_whoever_does_not_say_the_same_name_again_is_no_meter() -> None:
    other = reply("68 16 16 68 08 01 72 78 56 34 13 2D 2C 08 04 10 00 00 00 0C 06 51 73 03 00 1F FD 16")
    for again in (other, GARBLED):
        assert isinstance(talk(probe_primary(1), Script([E5, TELEGRAM, Silence(), Silence(), again])), Crowd)


def test_e5_alone_is_no_meter() -> None:
    found = talk(probe_primary(1), Script([E5, Silence(), Silence(), Silence()]))
    assert found == Mute("acknowledges but sends no data")
    assert isinstance(talk(probe_primary(1), Script([E5, E5, E5, E5])), Mute)


def test_an_application_error_is_a_meter_without_a_name() -> None:
    found = talk(probe_primary(1), Script([E5, reply("68 04 04 68 08 01 70 08 81 16")]))
    assert isinstance(found, Mute)
    assert "too busy" in found.why


def test_unreadable_answers_that_come_again_are_several_meters() -> None:
    found = talk(probe_primary(1), Script([Noise(b"\xe4"), Noise(b"\x00\xe5")]))
    assert found == Crowd((b"\xe4", b"\x00\xe5"))
    assert talk(probe_primary(1), Script([E5, GARBLED, GARBLED])) == Crowd((GARBLED.data, GARBLED.data))


def test_unreadable_bytes_that_do_not_come_again_are_noise() -> None:
    assert talk(probe_primary(1), Script([Noise(b"\xfd"), Silence()])) == Disturbance((b"\xfd",))


def test_one_garbled_answer_does_not_make_a_crowd_of_a_meter() -> None:
    assert isinstance(talk(probe_primary(1), Script([Noise(b"\xe4"), E5, GARBLED, TELEGRAM, E5])), Meter)


def test_meters_that_ignore_a_reset_are_asked_for_data_at_once() -> None:
    chance = Random(1)  # noqa: S311
    there = meter(identity("12345678", "KAM", 8, 4), chance, primary=7, behaviour=Behaviour(answers_nke=False))
    wire = Wire(SimulatedBus([there]))
    assert wire.ask(probe_primary(7)) == Silent()
    assert isinstance(wire.ask(probe_primary(7, resets=False)), Meter)
    assert wire.ask(probe_primary(8, resets=False)) == Silent()


def test_two_meters_at_one_address_never_look_like_one_that_does_not_exist() -> None:
    """In step, these send the telegrams of 30505010 and of 50750002."""
    there = [sending("30745142", "83 9D", primary=5), sending("93523045", "39 D7", primary=5)]
    assert isinstance(Wire(SimulatedBus(there)).ask(probe_primary(5)), Crowd)
    there = [sending("51774213", "EC 22"), sending("50752942", "04 B9")]
    assert isinstance(Wire(SimulatedBus(there)).ask(probe_secondary(ANY)), Crowd)


def test_there_is_no_primary_address_251() -> None:
    with pytest.raises(AddressError):
        talk(probe_primary(251), Script([]))


def test_a_selection_is_read_and_confirmed_by_the_full_address() -> None:
    script = Script([E5, TELEGRAM, E5])
    found = talk(probe_secondary(ANY), script)
    assert isinstance(found, Meter)
    assert found.address == KAM
    assert script.hex == [SELECT_ALL, READ_SELECTED, SELECT_KAM]


def test_a_known_meter_and_a_full_address_need_no_confirmation() -> None:
    assert isinstance(talk(probe_secondary(ANY, is_known=KAM.__eq__), Script([E5, TELEGRAM])), Meter)
    assert isinstance(talk(probe_secondary(Selection(KAM)), Script([E5, TELEGRAM])), Meter)


def test_a_telegram_whose_sender_does_not_answer_to_its_name_is_several_meters() -> None:
    assert isinstance(talk(probe_secondary(ANY), Script([E5, TELEGRAM, Silence(), Silence()])), Crowd)


def test_a_clean_e5_and_garbled_data_are_several_meters() -> None:
    assert talk(probe_secondary(ANY), Script([E5, GARBLED])) == Crowd((GARBLED.data,))
    assert talk(probe_secondary(ANY), Script([Noise(b"\xe4")])) == Crowd((b"\xe4",))


def test_data_that_were_lost_once_are_asked_for_again() -> None:
    assert isinstance(talk(probe_secondary(Selection(KAM)), Script([E5, Silence(), TELEGRAM])), Meter)


def test_a_selection_can_be_taken_away_first() -> None:
    script = Script([E5, Silence()])
    assert talk(probe_secondary(Selection(KAM), deselects=True), script) == Silent()
    assert script.hex == ["10 40 FD 3D 16", SELECT_KAM]


def test_the_enhanced_selection_carries_the_fabrication_number() -> None:
    script = Script([Silence()])
    talk(probe_secondary(Selection(SecondaryAddress("12345678FFFFFFFF"), "01020304")), script)
    assert script.hex == ["68 11 11 68 53 FD 52 78 56 34 12 FF FF FF FF 0C 78 04 03 02 01 40 16"]


def test_a_meter_without_selections_is_not_heard_in_a_search() -> None:
    there = Unselectable(identity("12345678", "KAM", 8, 4), lambda _: [b""], primary=1)
    wire = Wire(SimulatedBus([there]))
    assert wire.ask(probe_secondary(ANY)) == Silent()
    found = wire.ask(probe_primary(1))
    assert isinstance(found, Meter)
    assert not found.is_selectable


def test_whether_anybody_answers_at_a_rate() -> None:
    assert talk(anybody(), Script([Noise(b"\xe4")]))
    assert talk(anybody(), Script([Silence(), Silence(), E5, E5]))
    assert not talk(anybody(), Script([Silence()] * 3))


def test_before_and_after_a_scan() -> None:
    first, last = Script([E5, Silence()]), Script([E5])
    talk(wake(), first)
    talk(release(), last)
    assert first.hex + last.hex == ["10 40 FE 3E 16", "10 40 FF 3F 16", "10 40 FD 3D 16"]
