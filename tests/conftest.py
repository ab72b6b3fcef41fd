"""A warning in the log fails a test, unless the test takes `caplog` and judges the log itself.

Hypothesis tries the same examples each time, so that a change is judged by what it changes;
`pytest --hypothesis-profile=search` looks for others.
"""

import inspect
import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("steady", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("steady")

LEVELLED = (None, "mbusd", "asyncio", "paho", "amqtt", "transitions")  # whose level the daemon's commands set
WATCHED = ("mbusd", "asyncio")


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """A level that a command has set for its process ends with its test."""
    loggers = [logging.getLogger(name) for name in LEVELLED]
    before = [one.level for one in loggers]
    yield
    for one, level in zip(loggers, before, strict=True):
        one.setLevel(level)


@pytest.fixture(autouse=True)
def _quiet_log(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    if "caplog" in inspect.signature(request.function).parameters:
        return
    loud = [
        f"{record.name}: {record.getMessage()}"
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING and record.name.split(".", 1)[0] in WATCHED
    ]
    assert not loud, f"unexpected in the log: {loud}"
