"""What is known of a bus in trouble, and what is said of it; between the two stands diagnosis.py.

As long as all is well nobody needs more than these nouns.
"""

from collections.abc import Sequence

from mbusd.light import dataclass
from mbusd.mbus.observation import Observation


@dataclass(frozen=True, slots=True)
class Observations:
    """All that is known about a bus, in the order of time; a bus that is not open has `port_trouble`."""

    asked: Sequence[Observation] = ()
    idle: bytes = b""  # came before anything was asked
    expected: int | None = None  # meters that must be among those who were asked; None in a scan: nobody knows
    port_trouble: str = ""  # why the port could not be opened or was lost
    is_all: bool = False  # the bus has no meters but the expected ones
    sets_rate: bool = True  # the port's rate is that of the wire; a transparent converter has its own


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it is, and what to do about it, a sentence each; `code` is for programs."""

    code: str
    what: str
    todo: str

    def __str__(self) -> str:
        return " ".join(said if said.endswith("?") else f"{said}." for said in (self.what, self.todo))
