"""How much may come at once, and how much for ever: a bucket of drops that fills again. Pure."""


class Valve:
    """Lets `burst` through at once, and one more each `seconds`. Whoever asks brings the time, of a monotonic clock."""

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst = burst
        self._seconds = seconds
        self._full_at = float("-inf")  # when all of the burst is there again

    def admits(self, now: float) -> bool:
        """Whether one more may pass; it is taken from what is left."""
        full_at = max(self._full_at, now) + self._seconds
        if full_at - now > self._burst * self._seconds:
            return False
        self._full_at = full_at
        return True


class Valves:
    """One valve of the same kind for each name; whoever asks sees to it that there are not too many names."""

    def __init__(self, burst: int, seconds: float) -> None:
        self._kind = burst, seconds
        self._valves: dict[str, Valve] = {}

    def admits(self, name: str, now: float) -> bool:
        """Whether one more of this name may pass."""
        return self._valves.setdefault(name, Valve(*self._kind)).admits(now)
