"""What a scan hears that no meters can have sent: how noisy the bus is, and when it is hopeless to go on."""

from itertools import pairwise

from mbusd.mbus.frames import Noise
from mbusd.mbus.link import Reply, Request, Silence
from mbusd.mbus.observation import selection
from mbusd.mbus.probe import is_endless, is_no_answer, may_be_acks

_HOPELESS = 12  # noisy probes more than clean ones
_ENDLESS = 5  # probes whose noise is as bad as one that never ends
_MOST_JUMBLES = 40  # selections in a row that only a jumble answered: crowds of meters have silent parts
_FEW = 3  # probes that brought nothing but that, before the first good answer

NOISE = "something unreadable answers that no meter sends: noise, a wrong rate, or no M-Bus behind this port"
MISHEARD = "no answer arrives as a meter sends it"


class Clamour:
    """Of one scan: `hear` each reply, `end` each probe; then `hopeless` says why the scan should end, if it should."""

    def __init__(self) -> None:
        self.is_noisy = False  # there was noise that no meter can have made
        self.hopeless = ""
        self._has_good = False  # a frame has come
        self._misheard = self._score = self._jumbles = 0
        self._exchanges: list[tuple[Request, Reply]] = []  # of the probe under way

    def hear(self, request: Request, reply: Reply) -> None:
        """A request of the probe under way, and its reply."""
        self._has_good = self._has_good or not isinstance(reply, Noise | Silence)
        if request.attempt == 1 and selection(request.frame) is not None:
            self._jumbles = self._jumbles + 1 if isinstance(reply, Noise) and may_be_acks(reply.data) else 0
        self._exchanges.append((request, reply))

    def end(self) -> None:
        """The probe is over."""
        replies = [reply for _, reply in self._exchanges]
        heard = [reply.data for reply in replies if isinstance(reply, Noise)]
        badness = max([self._did_not_come_again(), *map(_badness, heard)])
        self._score = max(0, self._score + (badness or -1))
        self._misheard += len(heard) > 1 and len(heard) == len(replies) and all(map(is_no_answer, heard))
        self.is_noisy = self.is_noisy or badness > 0
        self._exchanges.clear()
        if self._misheard >= _FEW and not self._has_good:
            self.hopeless = MISHEARD
        elif self._score >= _HOPELESS or self._jumbles >= _MOST_JUMBLES:
            self.hopeless = NOISE

    def _did_not_come_again(self) -> bool:
        """Whether a request was answered by something unreadable, and its repetition by nobody."""
        return any(
            request.frame == again.frame and isinstance(reply, Noise) and isinstance(second, Silence)
            for (request, reply), (again, second) in pairwise(self._exchanges)
        )


def _badness(heard: bytes) -> int:
    return _ENDLESS if is_endless(heard) else int(is_no_answer(heard))
