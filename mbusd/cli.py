"""The door: `main` runs what the words of the command line ask for; they are in commands/words.py."""

from collections.abc import Sequence

INTERRUPTED = 130  # 128 and the number of SIGINT


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 it failed, 2 wrong usage or bad configuration, 130 Ctrl-C."""
    try:
        from mbusd.commands import words as line  # noqa: PLC0415 - Ctrl-C may come while it is loaded, too

        return line.run(words)
    except KeyboardInterrupt:
        return INTERRUPTED
