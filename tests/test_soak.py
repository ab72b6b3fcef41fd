"""A day of the whole daemon in simulated time, with troubles: nothing is left of it."""

from bench.soak import BUSES, METERS, soaked

READ_OUTS = 6000


def test_nothing_grows_and_nothing_is_left_behind() -> None:
    came = soaked(READ_OUTS, 10, seed=1)
    assert came.tally.read_outs >= READ_OUTS
    assert 0 < sum(came.tally.failed.values()) < READ_OUTS / 4
    assert len(came.happened) >= 3
    first, last = came.samples[1], came.samples[-1]
    assert last.blocks - first.blocks < 3 * (last.read_outs - first.read_outs)  # less than any one object for each
    retained = [one.retained for one in came.samples]
    assert max(retained) - min(retained) < 10  # a meter may just have been exchanged
    assert last.retained < 30 * BUSES * METERS
    assert last.tasks <= first.tasks + BUSES
    assert last.descriptors <= first.descriptors + 1
    assert (came.left_tasks, came.left_descriptors) == (0, 0)
