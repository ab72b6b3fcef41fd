"""One request and what counts as its answer; lists of replies stand for the wire (EN 13757-2 cl. 5.7)."""

import pytest

from mbusd.mbus.errors import NoAnswer
from mbusd.mbus.frames import Ack, LongFrame, Nack, Noise, ShortFrame
from mbusd.mbus.link import Answer, Reply, Request, Silence, acknowledgement, data, describe, exchange
from tests.mbus.driving import Script, talk

NKE = ShortFrame(0x40, 5)
REQUEST = ShortFrame(0x7B, 5)
TELEGRAM = LongFrame(0x08, 5, 0x72, bytes(12))
SILENCE = Silence()
NOISE = Noise(b"\xfe")


def test_the_first_good_answer_ends_the_exchange() -> None:
    script = Script([TELEGRAM])
    assert talk(exchange(REQUEST, data), script) == Answer(TELEGRAM, 1)
    assert script.asked == [REQUEST]


@pytest.mark.parametrize(
    "bad",
    [
        SILENCE,
        NOISE,
        Ack(),
        Nack(),
        REQUEST,
        LongFrame(0x08, 6, 0x72),
        LongFrame(0x48, 5, 0x72),
        LongFrame(0x53, 5, 0x51),
        LongFrame(0x00, 5, 0x72),
        LongFrame(0x0B, 5, 0x72),
    ],
    ids=["silence", "noise", "E5", "A2", "echo", "other A", "direction", "SND_UD", "function 0", "function B"],
)
def test_anything_else_is_asked_for_again_with_the_very_same_frame(bad: Reply) -> None:
    script = Script([bad, bad, TELEGRAM])
    assert talk(exchange(REQUEST, data), script) == Answer(TELEGRAM, 3)
    assert script.asked == [REQUEST] * 3


def test_each_transmission_knows_its_number() -> None:
    attempts: list[int] = []

    def answer(request: Request) -> Reply:
        attempts.append(request.attempt)
        return SILENCE

    with pytest.raises(NoAnswer):
        talk(exchange(NKE, acknowledgement), answer)
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_after_the_last_attempt_there_is_no_answer(attempts: int) -> None:
    script = Script([SILENCE] * attempts)
    with pytest.raises(NoAnswer, match="no answer"):
        talk(exchange(NKE, acknowledgement, attempts), script)
    assert script.left == []


def test_no_answer_says_what_came_last() -> None:
    with pytest.raises(NoAnswer, match=r"unreadable answer \(1 bytes: FE\)"):
        talk(exchange(NKE, acknowledgement), Script([SILENCE, SILENCE, NOISE]))


@pytest.mark.parametrize("control", [0x08, 0x18, 0x28, 0x38])
def test_acd_and_dfc_do_not_matter(control: int) -> None:
    telegram = LongFrame(control, 5, 0x72)
    assert data(telegram, REQUEST) == telegram


@pytest.mark.parametrize("asked", [0xFD, 0xFE])
@pytest.mark.parametrize("answered", [0, 1, 250, 0xFD])
def test_an_answer_to_253_and_254_bears_any_address(asked: int, answered: int) -> None:
    telegram = LongFrame(0x08, answered, 0x72)
    assert data(telegram, ShortFrame(0x7B, asked)) == telegram


def test_only_e5_acknowledges() -> None:
    assert acknowledgement(Ack(), NKE) == Ack()
    for other in (SILENCE, NOISE, Nack(), TELEGRAM, NKE):
        assert acknowledgement(other, NKE) is None


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (SILENCE, "no answer"),
        (Noise(bytes(2)), "unreadable answer (2 bytes: 00 00)"),
        (Noise(bytes(17)), "unreadable answer (17 bytes: " + "00 " * 16 + "…)"),
        (Ack(), "only E5 where data are due: the meter has none now"),
        (Nack(), "the meter refuses (A2)"),
        (LongFrame(0x08, 7, 0x72), "an answer that was not due, from address 7"),
        (ShortFrame(0x7B, 1), "a request of another master (10 7B 01 7C 16)"),
    ],
)
def test_words_for_the_log(reply: Reply, words: str) -> None:
    assert describe(reply) == words
