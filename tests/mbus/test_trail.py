"""A search that is taken back to an answer goes on as if it had been that from the beginning."""

from random import Random

import pytest

from mbusd.mbus.asking import Answered, Step
from mbusd.mbus.probe import Silent, probe_secondary
from mbusd.mbus.search import Search
from mbusd.mbus.trail import Trail
from mbusd.simulation.simulator import SimulatedBus
from tests.mbus.searching import Wire, addresses, by_chance, meter, own

METERS = 15


def answer(trail: Trail, step: Step, wire: Wire) -> Answered:
    return wire.ask(
        probe_secondary(
            step.selection, step.tries, is_known=trail.search.is_known, deselects=step.deselects, reads=step.reads
        )
    )


@pytest.mark.parametrize("seed", range(8))
def test_silences_that_were_none_are_taken_back_and_nobody_is_missed(seed: int) -> None:
    """Every third answer is believed to be silence, until up to two probes more have been made."""
    chance = Random(seed)  # noqa: S311 - simulates, keeps no secret
    meters = [meter(by_chance(chance, f"{chance.randrange(10**8):08}"), chance) for _ in range(METERS)]
    trail, wire = Trail(Search), Wire(SimulatedBus(meters))
    owed: Answered | None = None
    since = taken_back = 0
    while trail.step is not None or owed is not None:
        step = trail.step
        if owed is not None and (since == 2 or step is None):
            trail.go_back(since, owed)
            owed, taken_back = None, taken_back + 1
            continue
        assert step is not None
        truth = answer(trail, step, wire)
        if owed is None and not isinstance(truth, Silent) and chance.random() < 1 / 3:
            owed, since, truth = truth, 0, Silent()
        since += 1
        trail.take(Silent() if owed is not None and not isinstance(truth, Silent) else truth)
        if owed is not None and not isinstance(truth, Silent):
            since = min(since, 2)
    assert taken_back > 3
    assert addresses(trail.search) == own(meters)


def test_the_last_steps_are_those_that_were_answered() -> None:
    trail = Trail(Search)
    first = trail.step
    assert first is not None
    trail.take(Silent())
    assert trail.last(3) == [first]
    assert trail.last(0) == []
    trail.go_back(1, Silent())
    assert trail.last(3) == [first]
