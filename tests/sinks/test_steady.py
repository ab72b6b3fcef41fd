"""Readings of a known form are published as if nothing were known of them, whatever happens in between."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC

import pytest

from bench.converters import Meter
from mbusd.mbus.frames import LongFrame, parse
from mbusd.mbus.telegram import decode
from mbusd.model import Event, MeterChanged, MeterGone, Reading, ReadingTaken
from mbusd.normalise import reading
from mbusd.sinks.publisher import Publisher
from mbusd.sinks.topics import Message
from tests.sinks.readings import NOON, info
from tests.sinks.test_publisher import publisher


def readings(number: int) -> Iterator[Reading]:
    """One after the other from one meter."""
    meter = Meter(number)
    while True:
        frame = parse(meter.telegram(68))
        assert isinstance(frame, LongFrame)
        taken = reading("", [decode(frame)], NOON, UTC)
        yield taken.called("heat_pump", taken.identity)


def drafted(number: int) -> Iterator[Reading]:
    return (one for one in readings(number) if one.draft is not None)


def heard(who: Publisher, event: Event) -> list[Message]:
    return list(who.take(event))


@pytest.mark.parametrize("only_on_change", [False, True])
def test_it_is_published_as_if_it_were_the_first_of_its_form(*, only_on_change: bool) -> None:
    quick, slow = (publisher(only_on_change=only_on_change) for _ in range(2))
    one, other = drafted(1), drafted(2)
    first, successor = next(one), next(other)
    known = info(identity=first.identity)
    life: list[Event | str] = [
        MeterChanged(known),
        *(ReadingTaken(next(one)) for _ in range(2)),
        "learnt",
        *(ReadingTaken(next(one)) for _ in range(3)),
        MeterChanged(replace(known, has_alarms=True)),
        *(ReadingTaken(next(one)) for _ in range(2)),
        MeterChanged(replace(known, identity=successor.identity)),
        *(ReadingTaken(next(other)) for _ in range(3)),
        "deleted",
        *(ReadingTaken(next(other)) for _ in range(2)),
        MeterGone(replace(known, identity=successor.identity)),
        MeterChanged(known),
        *(ReadingTaken(next(one)) for _ in range(3)),
    ]
    for event in life:
        match event:
            case "learnt":
                assert list(quick.learnt()) == list(slow.learnt())
            case "deleted":
                for who in (quick, slow):
                    who.learn(f"homeassistant/device/mbusd_{successor.identity.address}/config", "")
            case ReadingTaken(taken):
                assert taken.draft is not None
                assert heard(quick, event) == heard(slow, ReadingTaken(replace(taken)))
            case str():
                raise AssertionError(event)
            case _:
                assert heard(quick, event) == heard(slow, event)
