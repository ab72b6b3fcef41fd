"""A real cluster of NATS servers, of which nodes are killed under load: nothing is lost."""

from pathlib import Path

import pytest

from bench import failover


async def test_nodes_of_a_cluster_are_killed_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = failover.program()
    if name is None:
        pytest.skip("nats-server is not installed")
    outcome = await failover.tried(name, tmp_path, seconds=4.0, rate=50.0)
    assert outcome.published == 200
    assert outcome.lost == 0
    assert outcome.state == "199"
    assert "Traceback" not in caplog.text
