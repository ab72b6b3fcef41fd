"""Which noise ends a scan, and which is only noise."""

import pytest

from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.clamour import MISHEARD, NOISE, Clamour
from mbusd.mbus.frames import Ack, Noise
from mbusd.mbus.link import Reply, Request, Silence
from mbusd.mbus.master import select, snd_nke

ACKS = Noise(b"\xe1\xa5")  # two E5, one upon the other
STRANGE = Noise(b"\x12")  # has bits that neither E5 nor 68 has
ENDLESS = Noise(b"\x00" * 300)
ALL = select(SecondaryAddress("F" * 16))


def after(*probes: tuple[Reply, ...]) -> Clamour:
    clamour = Clamour()
    for replies in probes:
        for attempt, reply in enumerate(replies, 1):
            clamour.hear(Request(ALL, attempt), reply)
        clamour.end()
    return clamour


@pytest.mark.parametrize("replies", [(STRANGE, Ack()), (ACKS, Silence()), (ENDLESS,)])
def test_what_no_meters_make_is_noise(replies: tuple[Reply, ...]) -> None:
    assert after(replies).is_noisy


@pytest.mark.parametrize("replies", [(ACKS,), (Ack(),), (Silence(),), (ACKS, ACKS)])
def test_what_meters_make_is_none(replies: tuple[Reply, ...]) -> None:
    assert not after(replies).is_noisy


def test_noise_now_and_then_ends_no_scan() -> None:
    assert after((Ack(),), *[(STRANGE, Silence()), (Silence(),)] * 100).hopeless == ""


def test_noise_most_of_the_time_does() -> None:
    assert after((Ack(),), *[(STRANGE, Silence()), (STRANGE, Silence()), (Silence(),)] * 12).hopeless == NOISE


def test_noise_without_end_does_soon() -> None:
    assert after((Ack(),), *[(ENDLESS,)] * 3).hopeless == NOISE


def test_a_crowd_at_every_level_of_a_search_does_not() -> None:
    assert after(*[(ACKS,)] * 12, (Silence(),), *[(ACKS,)] * 12).hopeless == ""


def test_selections_that_are_never_silent_do() -> None:
    assert after(*[(ACKS,)] * 50).hopeless == NOISE


def test_answers_that_are_always_wrong_are_told_from_noise() -> None:
    assert after(*[(STRANGE, STRANGE)] * 3).hopeless == MISHEARD
    assert after((Ack(),), *[(STRANGE, STRANGE)] * 3).hopeless == ""


def test_another_address_is_no_repetition() -> None:
    clamour = Clamour()
    clamour.hear(Request(snd_nke(5)), ACKS)
    clamour.hear(Request(snd_nke(6)), Silence())
    clamour.end()
    assert not clamour.is_noisy
