"""The opening of a port, which may hang for ever in a driver: since when it lasts, for a watchdog."""

import asyncio
import time

from mbusd.line.transport import Port, ProtocolFactory, open_port


class Opening:
    """Opens a port as `open_port` does; `since`: of the monotonic clock, None while it is not at it."""

    def __init__(self) -> None:
        self.since: float | None = None

    async def __call__(self, port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
        self.since = time.monotonic()
        try:
            return await open_port(port, protocol)
        finally:
            self.since = None
