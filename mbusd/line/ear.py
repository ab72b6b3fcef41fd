"""An ear on a port: what comes while nobody is asked, which is how noise and short circuits are told from answers."""

import asyncio

from mbusd.line.bus import Bus, Opener
from mbusd.line.parity import HearsBroken
from mbusd.line.transport import Port, ProtocolFactory, open_port
from mbusd.mbus.frames import LONGEST

LISTEN_SECONDS = 1.0


class Ear:
    """Opens ports as `opener` does, for a `Bus`, and hears all that comes on the last one."""

    def __init__(self, opener: Opener = open_port) -> None:
        self._opener = opener
        self._heard = bytearray()

    async def open(self, port: Port, protocol: ProtocolFactory) -> asyncio.Transport:
        """Open the port. Raises what the opener raises."""
        return await self._opener(port, lambda: _Tapped(protocol(), self._heard))

    async def idle_noise(self, bus: Bus) -> bytes:
        """What comes on a quiet bus in a second; none where nothing has come that was to be explained.

        Late answers are let pass first, and nobody else may use the bus meanwhile.
        """
        if not any(one.heard for one in bus.recent):
            return b""
        await asyncio.sleep(bus.timing.window + bus.timing.slack)
        self._heard.clear()
        await asyncio.sleep(LISTEN_SECONDS)
        return bytes(self._heard)


class _Tapped(asyncio.Protocol):
    """Stands between the port and the bus."""

    def __init__(self, protocol: asyncio.Protocol, heard: bytearray) -> None:
        self._protocol = protocol
        self._heard = heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._note(data)
        self._protocol.data_received(data)

    def broken_received(self, data: bytes) -> None:
        self._note(data)
        protocol = self._protocol
        (protocol.broken_received if isinstance(protocol, HearsBroken) else protocol.data_received)(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def _note(self, data: bytes) -> None:
        self._heard += data[: LONGEST - len(self._heard)]
