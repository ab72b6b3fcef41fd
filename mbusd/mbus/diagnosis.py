"""What is wrong with a bus, told from what came back: a verdict instead of "no answer" (EN 13757-2 cl. 4 and 5).

One table, `TABLE`, from the most certain row to the least; the first whose evidence is there speaks.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from mbusd.light import dataclass
from mbusd.mbus import evidence
from mbusd.mbus.evidence import Case
from mbusd.mbus.frames import encode
from mbusd.mbus.observation import understand
from mbusd.mbus.verdict import Observations, Verdict


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that can be wrong: `find` gives the evidence, which `what` quotes, or None."""

    code: str
    find: Callable[[Case], str | None]
    what: str
    todo: str
    because: str  # what the row rests on
    there: str = ""  # what to do instead where the converter sets the rate of the wire


def diagnose(observations: Observations) -> Verdict | None:
    """The first row of the table that fits; None where all is well, or where nothing can be told."""
    looks = tuple(understand(observations.asked))
    own = frozenset(encode(one.request) for one in observations.asked)
    strays = (observations.idle, *(look.after for look in looks if not look.rest))
    case = Case(
        looks,
        own,
        strays,
        observations.idle,
        observations.expected,
        observations.is_all,
        observations.port_trouble,
    )
    for row in TABLE:
        found = row.find(case)
        if found is not None:
            todo = row.todo if observations.sets_rate else row.there or row.todo
            return Verdict(row.code, row.what.format(found), todo)
    return None


_RATE: Final = "Try the other rates (mbusd scan PORT --baudrate auto), and check the parity (8E1)"
_RATE_THERE: Final = "Set the converter itself, on its own page, to the rate of the meters (mostly 2400 Bd) and 8E1"
_OR_THRESHOLD: Final = "; if none helps, the threshold of the converter is off"
_OR_WIRING: Final = (
    "; if a few meters are well at this rate, look for loose contacts, a line that is too long and too many meters for "
    "the converter"
)
_FORMAT: Final = "Set the converter or the port to 8 data bits, even parity, 1 stop bit (8E1)"
_FEED: Final = "Check that the converter feeds the bus (21 to 42 V between the wires) and that the wires are connected"
_CONNECTED: Final = "Check that the address is right, the meter connected and the bus powered"
_AUTO: Final = "mbusd scan PORT --baudrate auto tries all rates"
_AT_CONVERTER: Final = "the rate and parity (8E1) are set at the converter itself, mostly to 2400 Bd"

TABLE: Final = (
    Row(
        "port_in_use",
        partial(evidence.port, "another program has this port open"),
        "the port cannot be opened: {}",
        "End that program (fuser -v PORT names it); one master at a time can have the bus",
        "the kernel's lock on the port (EBUSY, EAGAIN)",
    ),
    Row(
        "port_lost",
        evidence.unplugged,
        "the device was unplugged, or has lost its power{}",
        "Plug the converter in, and name it by /dev/serial/by-id, which does not change; dmesg tells when it went",
        "pyserial reads nothing though the kernel says that there is something; EIO from a device that is gone",
    ),
    Row(
        "port_missing",
        partial(evidence.port, "there is no such device"),
        "the port cannot be opened: {}",
        "Plug the converter in, and name it by /dev/serial/by-id, which does not change",
        "ENOENT",
    ),
    Row(
        "port_missing",
        partial(evidence.port, "name that of the converter"),
        "the port cannot be opened: {}",
        "Correct `port` in the configuration",
        "EISDIR, ENOTDIR, ENOTTY",
    ),
    Row(
        "port_forbidden",
        partial(evidence.port, "permission denied"),
        "the port cannot be opened: {}",
        "Add the user to that group, then log in again or restart the service",
        "EACCES",
    ),
    Row(
        "port_in_use",
        partial(evidence.port, "the connection was closed"),
        "the converter hangs up: {}",
        "See whether another program is connected to it: most TCP converters serve one client at a time",
        "TCP servers on serial lines take one client and close the rest",
    ),
    Row(
        "port",
        partial(evidence.port, ""),
        "the port does not work: {}",
        "Look at the converter, its supply and its cable or network first; the meters are not to blame",
        "a bus without a port says nothing about its meters",
    ),
    Row(
        "short_circuit",
        evidence.break_when_idle,
        "the bus is in a permanent space, as with a short circuit or a broken wire ({})",
        "Disconnect the bus from the converter; if the 00 end, look for the short circuit or for too many meters",
        "a break is received as 00; on overload all meters vanish at once",
    ),
    Row(
        "wrong_parity",
        evidence.parity_replaced,
        "the receiver is set to a wrong parity ({})",
        _FORMAT,
        "termios with INPCK gives a character with a parity error as 00",
    ),
    Row(
        "wrong_parity",
        evidence.parity_alone,
        "all that comes is right, but for its parity ({})",
        _FORMAT,
        "the kernel marks each character with a parity error; nothing but a wrong setting spoils each and no bit else",
    ),
    Row(
        "short_circuit",
        evidence.break_when_asked,
        "nothing but 00 comes, as with a short circuit, an overload or a broken wire ({})",
        "Disconnect the bus from the converter; if the 00 end, look for the short circuit or for too many meters",
        "level converters signal overload with a break, received as 00",
    ),
    Row(
        "short_circuit",
        evidence.break_around,
        "the bus falls into a space again and again, as with a short circuit or an overload ({})",
        "Disconnect the bus from the converter; if the 00 end, look for the short circuit or for too many meters",
        "an answer begins with E5 or 68 and ends with E5 or 16, and several at once do not begin with a row of 00",
    ),
    Row(
        "another_master",
        evidence.another_master,
        "another master asks on this bus ({})",
        "Let one of them ask: both spoil each other's answers and selections",
        "only a master sends short frames and C fields with bit 6 (EN 13757-2 cl. 5.7.3)",
    ),
    Row(
        "echo",
        evidence.echo_only,
        "the converter sends back what it is told, and no meter answers ({})",
        "The way to the converter is good: look at the supply of the bus, its two wires and the rate",
        "half duplex converters and some USB sticks echo (libmbus issue 24)",
    ),
    Row(
        "noise",
        evidence.noise_when_idle,
        "there is noise on the bus while nobody speaks ({})",
        "Disconnect the bus from the converter; if it ends, look for interference, an earth fault or loose contacts",
        "meters never speak unasked (EN 13757-2 cl. 4)",
    ),
    Row(
        "late_answers",
        evidence.late,
        "answers come too late, to the next request ({})",
        "Set a longer timeout: gateways and radio bridges may take seconds",
        "the answer begins within 330 bits + 50 ms (EN 13757-2 cl. 5.5); gateways need longer",
    ),
    Row(
        "wrong_format",
        evidence.other_format,
        "the receiver is not set to 8E1 ({})",
        _FORMAT,
        "a character has 11 bits; how E5 and 68 L look with fewer follows from the bits",
    ),
    Row(
        "wrong_rate",
        evidence.other_rate,
        "the rate is wrong, or the converter's levels are ({})",
        _RATE + _OR_THRESHOLD,
        "a collision sets no bits; FD, FE, FC for E5 were seen in libmbus issues 131, 138, 199",
        _RATE_THERE + _OR_THRESHOLD,
    ),
    Row(
        "parity_errors",
        evidence.parity_errors,
        "most answers come with parity or framing errors ({})",
        _RATE + _OR_WIRING,
        "each character has a parity bit and a stop bit (EN 13757-2 cl. 5.2), which a wrong rate or bad wiring spoils",
        _RATE_THERE + _OR_WIRING,
    ),
    Row(
        "levels",
        evidence.levels,
        "the converter reads the meters' current wrongly ({})",
        "Check parity (8E1), the threshold of the converter and the number of meters that it can feed",
        "a steady wrong byte from one meter alone is no collision (libmbus issues 131, 138, 199)",
    ),
    Row(
        "several_meters",
        evidence.several_meters,
        "several meters answer at one address ({})",
        "Find them with mbusd scan --secondary, read them by secondary address or give each its own primary one; "
        "if only one is there, check the parity (8E1) and look for loose contacts",
        "answers add their currents; a longer one stands behind a shorter one (EN 13757-2 cl. 4, libmbus)",
    ),
    Row(
        "noise",
        evidence.unreadable,
        "what comes cannot be read, and is different each time ({})",
        "Look for interference, an earth fault or loose contacts, then for the rate (mbusd scan PORT --baudrate auto) "
        "and the parity (8E1); make sure that an M-Bus is behind this port",
        "one wrong rate or one collision looks the same each time",
        "Look for interference, an earth fault or loose contacts, then for the rate and the parity (8E1) that the "
        "converter is set to; make sure that an M-Bus is behind it",
    ),
    Row(
        "bus_silent",
        evidence.only_meter_silent,
        "the only meter of this bus, address {}, does not answer, nor does anything else: it is the bus or the meter",
        f"{_FEED} and the address is right; {_AUTO}",
        "a bus that has no supply is as silent as a meter that was taken away",
        f"{_FEED} and the address is right; {_AT_CONVERTER}",
    ),
    Row(
        "no_answer",
        evidence.one_asked_silent,
        "nothing answers at address {}",
        f"{_CONNECTED}; a meter at another rate or parity than this port (8E1) is silent too: {_AUTO}",
        "a meter that hears wrong characters says nothing (EN 13757-2 cl. 5.7)",
        f"{_CONNECTED}; a meter at another rate or parity (8E1) is silent too: {_AT_CONVERTER}",
    ),
    Row(
        "bus_silent",
        evidence.bus_silent,
        "none of {} addresses answers: it is the bus, not a meter",
        f"{_FEED}; {_AUTO}",
        "all meters disappear at once when the converter has no supply or another rate",
        f"{_FEED}; {_AT_CONVERTER}",
    ),
    Row(
        "meter_silent",
        evidence.one_among_good,
        "other meters answer, {} does not",
        "Look at this meter: its wires, its address and its rate; some sleep, or answer so many times a day only",
        "the bus works",
    ),
)
"""What can be wrong, from the most certain to the least."""
