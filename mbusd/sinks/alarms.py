"""What the broker holds of the alarms of each meter, and what has to be said of an alarm. Pure."""

from collections.abc import Iterator

from mbusd.model import AlarmTaken, Identity
from mbusd.sinks.topics import Message, Topics


class Alarms:
    """The last alarm of each meter; and whose alarms an earlier life has left at the broker."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._last: dict[str, AlarmTaken] = {}
        self._retained: set[str] = set()

    def take(self, taken: AlarmTaken) -> Iterator[Message]:
        """News is published, and what is asked for the first time; beginning and end are events."""
        alarm = taken.alarm
        before = self._last.get(alarm.meter)
        if before is not None and None not in (before.identity, taken.identity) and before.identity != taken.identity:
            before = None
        self._last[alarm.meter] = taken
        if before is not None and not taken.is_news:
            return
        yield self._topics.of_alarm(alarm)
        was_raised = before is not None and before.alarm.is_raised
        if alarm.is_raised != was_raised:
            kind = "meter_alarm" if alarm.is_raised else "meter_alarm_over"
            yield self._topics.of_event(kind, meter=alarm.meter, code=alarm.code, bits=list(alarm.bits))

    def learn(self, topic: str, payload: str) -> bool:
        """Take note of an alarm found at the broker; False if the message is something else."""
        meter = self._topics.meter_of_alarm(topic)
        if meter is None:
            return False
        if payload:
            self._retained.add(meter)
        else:
            self._retained.discard(meter)
        return True

    def exchanged(self, meter: str, identity: Identity) -> Iterator[Message]:
        """The meter stands in another one's place: only an alarm of its own stays."""
        last = self._last.get(meter)
        if last is None or last.identity != identity:
            yield from self.forget(meter)

    def forget(self, meter: str) -> Iterator[Message]:
        """Nobody asks for alarms under this name any more: what is said there holds no longer."""
        was_said = self._last.pop(meter, None) is not None
        if was_said or meter in self._retained:
            self._retained.discard(meter)
            yield self._topics.no_alarm(meter)
