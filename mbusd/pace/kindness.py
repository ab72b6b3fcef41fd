"""How often a meter may be read without harm to its battery, told to its owner in a line. Pure.

Most meters for heat, water and gas live on a battery that pays for each telegram; read-outs some minutes apart are
what their makers warn of. Meters for electricity live on what they measure.
"""

from collections.abc import Sequence
from typing import Literal

from mbusd.mbus.quirks import Quirk

Power = Literal["auto", "battery", "mains"]

KIND_SECONDS = 900.0  # between two requests; nearly all makers are content with it
ON_BATTERY = frozenset({0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0A, 0x0B, 0x0C, 0x0D, 0x10, 0x15, 0x16, 0x17, 0x28})
"""Media (EN 13757-7 table 6) whose meters have a battery as a rule: gas, heat, cooling, water, heat cost allocators."""


def advice_on(
    quirks: Sequence[Quirk], medium: int | None, power: Power, interval: float | None, alarms: float | None
) -> str | None:
    """What the owner should know who asks for values every `interval` seconds and for alarms every `alarms` seconds.

    None: nothing, as always for a meter that has `power` from the mains. The rows about the meter come first.
    """
    often = min((seconds for seconds in (interval, alarms) if seconds is not None), default=None)
    if often is None or power == "mains":
        return None
    for quirk in quirks:
        rest = KIND_SECONDS if quirk.rest is None else quirk.rest
        asked = often if quirk.rest is None else interval
        if quirk.advice and asked is not None and asked < rest:
            return f"asked every {asked:g}s, but {quirk.advice} ({quirk.source}); {rest:g}s or more is kinder to it"
    if often < KIND_SECONDS and not _is_known(quirks) and (power == "battery" or medium in ON_BATTERY):
        why = "a battery pays for each answer" if power == "battery" else "such meters live on a battery as a rule"
        return (
            f"asked every {often:g}s, but {why}; {KIND_SECONDS:g}s or more is kinder to it, power: mains ends this line"
        )
    return None


def _is_known(quirks: Sequence[Quirk]) -> bool:
    """Whether its maker says how often it may be read: then nobody needs to guess."""
    return any(quirk.rest is not None for quirk in quirks)
