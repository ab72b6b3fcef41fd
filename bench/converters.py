"""Many transparent TCP converters with meters behind them, at the pace of their wires, for little processor time.

`python -m bench.converters --buses 64 --meters 250 --baudrate 9600` prints its ports as a JSON list, then each second a
line of JSON: how many answers each bus has given. Every meter sends 150 bytes after 34.6 ms; its values move. No meter
is ever wrong here: what is measured is the daemon.
"""

import argparse
import asyncio
import json
import signal
import time

from mbusd.mbus.frames import LongFrame, ShortFrame, encode, parse

DELAY = 0.0346  # seconds until a meter answers
PIECE = 16  # bytes that are handed on at once
RECORDS = (
    "0406 {0} 0413 {0} 042B {1} 043B {1} 025A D202 025E 9001 0261 4201 4406 {2} 4413 {2} 426C 7F2C 0422 {0} "
    "84401400000000 84 80 40 14 00000000 142B {1} 143B {1} 8204 6C 7F2C 84 04 06 {2} 04 6D 1E 2C 913A 02 FD 17 0000"
)
SIZE = 150  # bytes of a telegram


class Meter:
    """One meter: answers SND_NKE with E5 and REQ_UD2 with values that grow."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._count = 0

    def telegram(self, address: int) -> bytes:
        """The next one."""
        self._count += 1
        header = f"{self._number:08d}"
        head = bytes.fromhex(header)[::-1] + bytes.fromhex("2D2C 08 04") + bytes([self._count & 0xFF, 0, 0, 0])
        counter, flow = (value.to_bytes(4, "little").hex() for value in (37351 + self._count, 100 + self._count % 7))
        body = head + bytes.fromhex(RECORDS.format(counter, flow, (1000).to_bytes(4, "little").hex()))
        return encode(LongFrame(0x08, address, 0x72, body.ljust(SIZE - 9, b"\x2f")))


class Converter(asyncio.Protocol):
    """One client on one bus."""

    def __init__(self, meters: dict[int, Meter], baudrate: int) -> None:
        self.answers = 0
        self._meters = meters
        self._character = 11 / baudrate
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        frame = parse(data)
        meter = self._meters.get(frame.address) if isinstance(frame, ShortFrame) else None
        if meter is None or not isinstance(frame, ShortFrame):
            return
        answer = b"\xe5" if frame.control == 0x40 else meter.telegram(frame.address)
        self.answers += len(answer) > 1
        begins = asyncio.get_running_loop().time() + len(data) * self._character + DELAY
        for piece in (answer[:PIECE], answer[PIECE:]):
            if piece:
                begins += len(piece) * self._character
                asyncio.get_running_loop().call_at(begins, self._say, piece)

    def _say(self, piece: bytes) -> None:
        if self._transport is not None:
            self._transport.write(piece)


class Bus:
    """A converter's port; its clients come and go."""

    def __init__(self, number: int, meters: int, baudrate: int) -> None:
        self._meters = {address: Meter(number * 1000 + address) for address in range(1, meters + 1)}
        self._baudrate = baudrate
        self._clients: list[Converter] = []

    @property
    def answers(self) -> int:
        """How many telegrams it has sent."""
        return sum(client.answers for client in self._clients)

    def client(self) -> Converter:
        """For somebody who connects."""
        self._clients.append(Converter(self._meters, self._baudrate))
        return self._clients[-1]


async def serve(buses: int, meters: int, baudrate: int) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    served = [Bus(number, meters, baudrate) for number in range(1, buses + 1)]
    servers = [await loop.create_server(bus.client, "127.0.0.1", 0) for bus in served]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    while not stop.is_set():
        print(json.dumps({"at": time.monotonic(), "answers": [bus.answers for bus in served]}), flush=True)
        try:
            async with asyncio.timeout(1.0):
                await stop.wait()
        except TimeoutError:
            continue


def main() -> None:
    """As the module says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("buses", 1), ("meters", 20), ("baudrate", 9600)):
        options.add_argument(f"--{name}", type=int, default=default)
    asyncio.run(serve(**vars(options.parse_args())))


if __name__ == "__main__":
    main()
