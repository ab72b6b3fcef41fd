"""What can go wrong in the protocol, as one small tree. Codes are attributes; texts are for people."""


class MBusError(Exception):
    """A procedure or a decoding ended without its result."""


class DecodeError(MBusError):
    """Bytes that cannot be read: `code` for programs, `offset` in the frame where the trouble begins.

    `application_error` is the meter's own code (EN 13757-3, CI 70) where the frame was such a report.
    """

    def __init__(
        self, code: str, message: str, offset: int | None = None, application_error: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.offset = offset
        self.application_error = application_error

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset}"
        return f"{self.message}{where} ({self.code})"


class AddressError(MBusError, ValueError):
    """A text or number that is no M-Bus address; the message says why and what would be one."""


class NoAnswer(MBusError):
    """All attempts of one exchange were silent or unreadable; `why` says what came last."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Refused(MBusError):
    """The meter answered with an application error instead of data; `code` is None where it gave none."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(f"the meter refuses: {text}")
        self.code = code


class WrongMeter(MBusError):
    """Another meter answered than the one that was selected by its secondary address."""

    def __init__(self, asked: str, answered: str) -> None:
        super().__init__(f"asked for {asked}, {answered} answered")
        self.asked = asked
        self.answered = answered


class Stale(MBusError):
    """The meter sent its last telegram once more, even after its link was reset: nothing new, and not published."""

    def __init__(self) -> None:
        super().__init__("the meter repeats its last telegram, access number and all")
