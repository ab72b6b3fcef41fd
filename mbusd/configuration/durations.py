"""How long something lasts or waits, as people write it: `30s`, `5m`, `1h`, `1d`, or a number of seconds."""

import re

from mbusd.pace.cron import checked

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
SHORTEST_WINDOW, LONGEST_WAIT = 0.01, 60.0  # seconds; gateways and radio bridges take some, nothing takes a minute
_DURATION = re.compile(r"(\d+(?:\.\d+)?) *(s|m|min|h|d)?")


def seconds(value: object) -> float:
    """Seconds from `30s`, `5m`, `1h`, `1d` or a number. Raises ValueError."""
    match = _DURATION.fullmatch(str(value).strip()) if isinstance(value, str | int | float) else None
    if match is None or isinstance(value, bool):
        raise ValueError(f"'{value}' is no duration: 30s, 5m, 1h, 1d or a number of seconds are")
    return float(match[1]) * _UNITS[match[2] or "s"]


def interval_of(value: object) -> float | str:
    """Seconds, "manual", or a cron line of five fields that fires. Raises ValueError."""
    if value == "manual":
        return "manual"
    if isinstance(value, str) and ("*" in value or len(value.split()) > 2):  # "5 min" is a duration
        return checked(value)
    try:
        number = seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}; or 'manual'; or a cron line, '0 0 * * *'") from error
    return _in_range(number, value)


def period(value: object) -> float:
    """Seconds between two of something. Raises ValueError."""
    return _in_range(seconds(value), value)


def window(value: object) -> float:
    """Seconds from the end of a request to the latest begin of its answer. Raises ValueError."""
    number = seconds(value)
    if not SHORTEST_WINDOW <= number <= LONGEST_WAIT:
        raise ValueError(f"'{value}' is out of range: {SHORTEST_WINDOW}s to {LONGEST_WAIT:g}s; others wait as long")
    return number


def silence(value: object) -> float:
    """Seconds that a bus is left alone. Raises ValueError."""
    number = seconds(value)
    if number > LONGEST_WAIT:
        raise ValueError(f"'{value}' is out of range: 0s to {LONGEST_WAIT:g}s; others wait as long")
    return number


def _in_range(number: float, value: object) -> float:
    if not 1 <= number <= 366 * 86400:
        raise ValueError(f"'{value}' is out of range: 1s to 366d")
    return number
