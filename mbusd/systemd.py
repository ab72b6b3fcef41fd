"""Tells systemd how the daemon is (sd_notify(3)): ready, alive, stopping; and hears of it where to keep state.

Without systemd nothing happens.
"""

import contextlib
import os
import socket
from pathlib import Path


def notify(state: str) -> None:
    """Send one state line, `READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=…`. Nobody waits for whoever reads them."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # noqa: FBT003 - the argument's name is flag
        sender.sendto(state.encode(), address)


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear WATCHDOG=1, at least; None where it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


def state_directory() -> Path | None:
    """Where the service may keep its state (`StateDirectory=`); None where nobody says."""
    folder = os.environ.get("STATE_DIRECTORY", "").split(":", 1)[0]
    return Path(folder) if folder else None
