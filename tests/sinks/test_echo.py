"""Which of our own messages we must hear again: those that one of our subscriptions gets, as paho says."""

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from mbusd.sinks.echo import Echo

LEVELS = st.sampled_from(["mbusd", "bus", "get", "a.b", ""])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
PATTERNS = st.one_of(
    st.lists(LEVELS | st.just("+"), min_size=1, max_size=4).map("/".join).filter(bool),
    st.lists(LEVELS | st.just("+"), max_size=3).map(lambda levels: "/".join([*levels, "#"])),
)


@given(st.sets(PATTERNS, max_size=4), st.lists(TOPICS, max_size=6))
def test_each_subscription_awaits_the_first_message_that_it_gets(patterns: set[str], topics: list[str]) -> None:
    echo = Echo()
    echo.begin(patterns)
    open_ones = set(patterns)
    for topic in topics:
        gets = {one for one in open_ones if topic_matches_sub(one, topic)}
        assert set(echo.said(topic)) == gets
        assert all(echo.missed(one) == topic for one in gets)
        open_ones -= gets


@given(PATTERNS, TOPICS)
def test_a_subscription_that_was_heard_awaits_nothing(pattern: str, topic: str) -> None:
    echo = Echo()
    echo.begin([pattern])
    echo.heard(topic)
    if topic_matches_sub(pattern, topic):
        assert (echo.said(topic), echo.missed(pattern)) == ([], None)
