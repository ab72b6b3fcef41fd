"""The door: `main` runs what the words of the command line ask for; commands/start.py tells how."""

from collections.abc import Sequence

INTERRUPTED = 130  # 128 and the number of SIGINT


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 it failed, 2 wrong usage or bad configuration, 130 Ctrl-C."""
    try:
        from mbusd.commands import start  # noqa: PLC0415 - Ctrl-C may come while it is loaded, too

        return start.run(words)
    except KeyboardInterrupt:
        return INTERRUPTED
