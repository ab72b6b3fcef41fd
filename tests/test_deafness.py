"""When a connection that looks alive is given up."""

from mbusd.line.deafness import DEAF_REQUESTS, DEAF_SECONDS, MOST_SECONDS, Deafness


def silent(deafness: Deafness, since: float, requests: int = DEAF_REQUESTS) -> None:
    for _ in range(requests):
        deafness.misses(since)


def test_many_requests_and_some_time_without_a_byte() -> None:
    deafness = Deafness()
    silent(deafness, 100.0, DEAF_REQUESTS - 1)
    assert not deafness.is_deaf(100.0 + 1000)
    deafness.misses(110.0)
    assert not deafness.is_deaf(100.0 + DEAF_SECONDS - 0.1)
    assert deafness.is_deaf(100.0 + DEAF_SECONDS)


def test_a_byte_is_a_sign_of_life() -> None:
    deafness = Deafness()
    silent(deafness, 100.0)
    deafness.hears()
    deafness.misses(120.0)
    assert not deafness.is_deaf(200.0)


def test_where_new_connections_are_as_silent_they_are_made_ever_more_rarely_until_something_comes() -> None:
    deafness, now, pauses = Deafness(), 100.0, []
    for _ in range(8):
        silent(deafness, now)
        began = now
        while not deafness.is_deaf(now):
            now += 1.0
        pauses.append(now - began)
        deafness.begins_anew()
    assert pauses == [15, 30, 60, 120, 240, *[MOST_SECONDS] * 3]
    deafness.hears()
    silent(deafness, now)
    assert deafness.is_deaf(now + DEAF_SECONDS)
