"""What waits for the broker: the latest state of each topic, every event, and in which order."""

from collections.abc import Iterator

from mbusd.sinks.outbox import MOST_UNIQUE, Outbox
from mbusd.sinks.topics import Message


def outbox(*messages: Message) -> Outbox:
    one = Outbox()
    for message in messages:
        one.add(message)
    return one


def waiting(one: Outbox) -> list[tuple[str, str]]:
    return [(message.topic, message.payload) for message in one.waiting]


def sent(one: Outbox, count: int) -> list[int]:
    """The numbers of the next ones, which are on their way now."""
    taken = [one.take() for _ in range(count)]
    return [each[0] for each in taken if each is not None]


def event(topic: str, payload: str) -> Message:
    return Message(topic, payload, retain=False, is_unique=True)


def test_a_later_state_stands_in_for_an_earlier_one_and_no_event_for_another() -> None:
    one = outbox(Message("m", "1"), event("e", "1"), Message("m", "2"), event("e", "2"))
    assert waiting(one) == [("e", "1"), ("m", "2"), ("e", "2")]


def test_what_is_said_again_comes_before_what_waits() -> None:
    one = outbox(Message("a", "1"), Message("b", "1"), Message("c", "1", retain=False), Message("a", "2"))
    one.say_everything()
    assert [topic for topic, _ in waiting(one)] == ["b", "c", "a"]


def test_what_was_cleared_is_not_said_again() -> None:
    one = outbox(Message("a", "1"), Message("b", "1"), Message("a", ""))
    for number in sent(one, 2):
        one.landed(number)
    one.say_everything()
    assert waiting(one) == [("b", "1")]


def test_what_waits_does_not_grow_for_ever() -> None:
    one = outbox(*(Message(f"ha/{number}", "x", is_unique=True) for number in range(30)))
    for number in range(5000):
        one.add(event("event", str(number)))
    for number in range(5000):
        one.add(Message("state", str(number)))
    assert len(one.waiting) == MOST_UNIQUE + 30 + 1
    assert waiting(one)[-2:] == [("event", "4999"), ("state", "4999")]


def test_what_was_not_acknowledged_is_sent_again_in_its_place() -> None:
    one = outbox(event("e", "1"), Message("m", "1"), event("e", "2"), event("e", "3"))
    first, *_ = sent(one, 3)
    one.landed(first)
    one.lost()
    assert waiting(one) == [("m", "1"), ("e", "2"), ("e", "3")]


def test_an_older_state_is_not_sent_again_after_a_newer_one() -> None:
    one = outbox(Message("m", "1"))
    sent(one, 1)
    one.add(Message("m", "2"))
    sent(one, 1)
    one.add(Message("n", "1"))
    one.lost()
    assert waiting(one) == [("m", "2"), ("n", "1")]
    sent(one, 1)
    one.add(Message("m", "3"))
    one.lost()
    assert waiting(one) == [("n", "1"), ("m", "3")]


def test_what_is_acknowledged_is_forgotten() -> None:
    one = outbox(Message("m", "1"), event("e", "1"))
    for number in sent(one, 2):
        one.landed(number)
    one.lost()
    assert one.waiting == ()


def test_what_is_of_now_or_never_is_dropped_alone() -> None:
    one = outbox(Message("m", "1"), Message("emon/m", "1", retain=False, is_fleeting=True))
    one.drop_fleeting()
    assert waiting(one) == [("m", "1")]


class Meters:
    """Who says its messages again; `asked`: the topics that were wanted so far."""

    def __init__(self, **payloads: str) -> None:
        self.payloads = payloads
        self.asked: list[str] = []

    def message(self, topic: str, payload: str) -> Message:
        self.payloads[topic] = payload
        return Message(topic, payload, source=self)

    def again(self) -> Iterator[Message]:
        for topic, payload in self.payloads.items():
            self.asked.append(topic)
            if payload:
                yield Message(topic, payload)


def test_what_a_source_says_again_is_made_when_its_turn_comes() -> None:
    meters = Meters()
    one = outbox(Message("a", "1"), meters.message("b", "1"), meters.message("c", "1"))
    for number in sent(one, 3):
        one.landed(number)
    one.say_everything()
    sent(one, 2)
    assert meters.asked == ["b"]
    assert waiting(one) == [("c", "1")]
    assert one.take() is not None
    assert one.take() is None


def test_what_is_newer_stands_in_for_what_is_said_again() -> None:
    meters = Meters()
    one = outbox(meters.message("a", "1"), meters.message("b", "1"), meters.message("c", "1"))
    for number in sent(one, 3):
        one.landed(number)
    one.add(meters.message("b", "2"))
    one.say_everything()
    sent(one, 1)
    one.add(Message("c", "", source=meters))
    assert waiting(one) == [("b", "2"), ("c", "")]


def test_what_was_said_again_and_is_not_acknowledged_is_not_lost() -> None:
    meters = Meters()
    one = outbox(meters.message("a", "1"), meters.message("b", "1"))
    for number in sent(one, 2):
        one.landed(number)
    one.say_everything()
    sent(one, 1)
    one.lost()
    assert sorted(waiting(one)) == [("a", "1"), ("b", "1")]
    one.say_everything()
    assert sorted(waiting(one)) == [("a", "1"), ("b", "1")]


def test_a_topic_that_is_barred_is_not_said_again() -> None:
    meters = Meters()
    one = outbox(Message("a", "1"), meters.message("b", "1"))
    for number in sent(one, 2):
        one.landed(number)
    one.bar("b")
    one.say_everything()
    assert waiting(one) == [("a", "1")]
