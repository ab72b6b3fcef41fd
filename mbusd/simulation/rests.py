"""When a simulated meter can hear and wants to answer: its sleep, its rest, its budget of read-outs. Pure."""

from dataclasses import dataclass, field, replace

from mbusd.mbus.frames import Frame, encode
from mbusd.simulation.behaviour import Answer, Behaviour, Moment

CHARACTER = 11  # bit times: start, 8 data, even parity, stop
SHORTEST_PAUSE = 11  # bit times between a request and its answer

_DAY = 86400.0


@dataclass(slots=True)
class Rests:
    """What a meter remembers of the hours: when it heard something, spoke, and was read."""

    _heard: float = float("-inf")  # all in seconds
    _hears_from: float = float("-inf")
    _was_asleep: bool = False
    _read_at: dict[int, list[float]] = field(default_factory=dict)  # application → times of its read-outs

    def hears(self, request: Frame, moment: Moment, behaviour: Behaviour) -> bool:
        """Whether it takes notice of a request that ended now."""
        if moment.seconds - CHARACTER * moment.bit * len(encode(request)) < self._hears_from - 1e-9:
            return False
        pause, self._heard = moment.seconds - self._heard, moment.seconds
        limit = behaviour.sleeps_after
        is_asleep = limit is not None and pause > limit
        self._was_asleep |= is_asleep
        return not behaviour.deaf and not is_asleep

    def begins_to_speak(self, answer: Answer, moment: Moment, behaviour: Behaviour) -> Answer:
        """The answer, perhaps slower than usual; after it the meter may need a rest."""
        if self._was_asleep:
            self._was_asleep = False
            answer = replace(answer, delay=answer.delay + behaviour.starts_slowly)
        if behaviour.rests_for:
            takes = moment.bit * (SHORTEST_PAUSE + CHARACTER * len(answer.data)) + (
                answer.delay + answer.gap if moment.bit else 0
            )
            self._hears_from = moment.seconds + takes + behaviour.rests_for
        return answer

    def allows(self, application: int, seconds: float, behaviour: Behaviour) -> bool:
        """Whether it can be read now; if so, that is counted."""
        if not behaviour.pauses and behaviour.read_outs_a_day is None:
            return True
        before = self._read_at.setdefault(application, [])
        pause = behaviour.pauses.get(application, 0.0)
        if before and seconds - before[-1] < pause:
            return False
        limit = behaviour.read_outs_a_day
        if limit is not None:
            today = sum(seconds - at < _DAY for times in self._read_at.values() for at in times)
            if today >= limit:
                return False
        before.append(seconds)
        self._read_at[application] = [at for at in before if seconds - at < max(_DAY, pause)]
        return True
