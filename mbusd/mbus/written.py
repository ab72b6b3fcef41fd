"""What a write reports: what it did, what of it the meter confirmed, and what must be true before it may say so."""

from mbusd.light import dataclass
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.aiming import Aim, WriteRefused
from mbusd.mbus.sighting import Sight, said

WHY_NOT = "some meters want a button pressed or a seal broken first, take few writes a day, or store hours later"


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did: what the meter confirmed, what nothing could confirm, and what is worth a look."""

    done: str
    meter: SecondaryAddress | None
    verified: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    has_changed: bool = True  # False: it was so already, and nothing was sent that changes anything


def is_same(aim: Aim, sight: Sight) -> bool:
    """The meter that was meant is the one that was seen."""
    return sight.meter is not None and sight.meter == aim.meter


def compare(aim: Aim, sight: Sight, where: str) -> None:
    """Raises WriteRefused where another meter answers than was meant."""
    if aim.meter is not None and not is_same(aim, sight):
        raise WriteRefused(f"another meter answers at {where} than was meant: {said(sight)}, not {aim.meter.digits}")


def notes(aim: Aim, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is verified and what is not, where a meter answers as it should."""
    if aim.meter is not None:
        return (f"{where} as {aim.meter.digits}",), ()
    return (where,), ("that it is the same meter: it does not tell who it is",)


def how(acknowledged: bool) -> str:  # noqa: FBT001 (the only thing it is about)
    """The beginning of a sentence about a command without effect."""
    return "the meter acknowledges the command" if acknowledged else "the meter does not acknowledge the command"
