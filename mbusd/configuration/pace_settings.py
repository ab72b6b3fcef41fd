"""The part of a meter's configuration that says how often it is read, besides its interval, and whether that fits."""

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from mbusd.configuration.key_settings import Section
from mbusd.configuration.scalars import Period
from mbusd.pace.condition import condition_of
from mbusd.pace.cron import times_a_day

_DAY_SECONDS = 86400.0


def _condition(value: object) -> str:
    """The text, which condition_of has read."""
    if not isinstance(value, str):
        raise ValueError(f"'{value}' is no condition: `power > 0` is")  # noqa: TRY004 - pydantic wants ValueError
    condition_of(value)
    return value


class ActiveSettings(Section):
    """Quick while the meter is at work, by the values of its last reading; at the usual interval while it idles."""

    when: Annotated[str, BeforeValidator(_condition), WithJsonSchema({"type": "string"})]
    """Comparisons of published keys with numbers, joined by `and`: power > 0."""
    interval: Period
    """How often it is read then."""


def too_often(interval: float | str, alarms: float | None, most: int | None) -> str | None:
    """Why a meter's schedule does not fit its budget of `most` questions a day; None if it does."""
    of_alarms = 0.0 if alarms is None else _DAY_SECONDS / alarms
    if interval == "manual":
        of_values = 0.0
    else:
        of_values = float(times_a_day(interval)) if isinstance(interval, str) else _DAY_SECONDS / interval
    asked = of_values + of_alarms
    if most is None or asked <= most:
        return None
    written = f"{interval:g}s" if isinstance(interval, float) else f"'{interval}'"
    alarm = "" if alarms is None else f" and alarms every {alarms:g}s"
    return f"interval {written}{alarm} asks the meter {asked:.4g} times a day, but max_reads_per_day is {most}"


def not_quicker(interval: float | str, active: ActiveSettings | None) -> str | None:
    """Why being active makes no difference to a meter that is read every `interval` seconds; None if it does."""
    if active is None or isinstance(interval, str) or active.interval < interval:
        return None
    return f"active.interval {active.interval:g}s is not quicker than the interval {interval:g}s"
