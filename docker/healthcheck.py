"""Whether the daemon in the container is well: `online` at the broker. Exit 0 if so, else 1 and a line that says why.

The topic is the daemon's last will: the broker itself turns it to `offline` when the connection is gone, and when the
daemon hangs and misses its keepalives. A broker that cannot be reached counts as ill: nothing is published then.
"""

import asyncio
import contextlib
import os
import ssl
import sys
from pathlib import Path

import aiomqtt

from mbusd import config
from mbusd.configuration.settings import BrokerAddress, MqttSettings
from mbusd.sinks.topics import ONLINE, Topics

SECONDS = 10.0  # for all brokers together: Docker waits for 20 s, and a small machine takes some to load this


async def trouble(path: Path | None) -> str | None:
    """What is wrong; None as soon as one of its brokers says that the daemon is online. All are asked at once."""
    settings = config.find(path, os.environ)[0].mqtt  # as the daemon does
    asked = {address: asyncio.create_task(_told_by(address, settings)) for address in settings.addresses}
    with contextlib.suppress(TimeoutError):
        for answer in asyncio.as_completed(asked.values(), timeout=SECONDS):
            if await answer is None:
                return None
    silent = f"no word on {Topics(settings.base_topic).bridge_state} within {SECONDS:.0f} s"
    reasons = {address: task.result() if task.done() else silent for address, task in asked.items()}
    return "; ".join(f"{address}: {why}" if len(reasons) > 1 else f"{why}" for address, why in reasons.items())


async def _told_by(address: BrokerAddress, settings: MqttSettings) -> str | None:
    try:
        return await _trouble_at(address, settings)
    except (aiomqtt.MqttError, OSError) as error:
        return str(error)


async def _trouble_at(address: BrokerAddress, settings: MqttSettings) -> str | None:
    topic = Topics(settings.base_topic).bridge_state
    tls = settings.tls
    context = None if tls is None else ssl.create_default_context(cafile=tls.ca_file)
    if context is not None and tls is not None and tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    client = aiomqtt.Client(  # as somebody of its own: with the daemon's client_id it would throw the daemon out
        address.host,
        address.port,
        username=settings.username,
        password=settings.read_password(),
        tls_context=context,
        timeout=2 * SECONDS,  # of one step; all of them end sooner
    )
    async with client:
        await client.subscribe(topic, qos=1)
        async for message in client.messages:
            state = bytes(message.payload).decode() if isinstance(message.payload, bytes) else str(message.payload)
            return None if state == ONLINE else f"{topic} is '{state}'"
    return f"{topic} cannot be read"


def main() -> int:
    """Say it as Docker wants to hear it."""
    loop = asyncio.new_event_loop()  # asyncio.run would wait until every broker has hung up
    try:
        why = loop.run_until_complete(trouble(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    except (config.ConfigError, OSError) as error:
        why = str(error)
    print(why or ONLINE, flush=True)
    return 1 if why else 0


if __name__ == "__main__":
    os._exit(main())  # not sys.exit, which waits for threads that still look for a host
