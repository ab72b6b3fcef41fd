"""Whether the daemon in the container is well: `online` at the broker. Exit 0 if so, else 1 and a line that says why.

The topic is the daemon's last will: the broker itself turns it to `offline` when the connection is gone, and when the
daemon hangs and misses its keepalives. A broker that cannot be reached counts as ill: nothing is published then.
"""

import asyncio
import os
import ssl
import sys
from pathlib import Path

import aiomqtt

from mbusd import config
from mbusd.configuration.settings import BrokerAddress, MqttSettings
from mbusd.sinks.topics import ONLINE, Topics

SECONDS = 10.0


async def trouble(path: Path | None) -> str | None:
    """What is wrong; None where the daemon is online, at one of its brokers."""
    settings = config.find(path, os.environ)[0].mqtt  # as the daemon does
    reasons: list[str] = []
    for address in settings.addresses:
        try:
            why = await _trouble_at(address, settings)
        except (aiomqtt.MqttError, OSError) as error:
            why = str(error)
        if why is None:
            return None
        reasons.append(why if len(settings.addresses) == 1 else f"{address}: {why}")
    return "; ".join(reasons)


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
    )
    try:
        async with asyncio.timeout(SECONDS), client:
            await client.subscribe(topic, qos=1)
            async for message in client.messages:
                state = bytes(message.payload).decode() if isinstance(message.payload, bytes) else str(message.payload)
                return None if state == ONLINE else f"{topic} is '{state}'"
    except TimeoutError:
        return f"no word on {topic} within {SECONDS:.0f} s"
    return f"{topic} cannot be read"


def main() -> int:
    """Say it as Docker wants to hear it."""
    try:
        why = asyncio.run(trouble(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    except (config.ConfigError, OSError) as error:
        why = str(error)
    print(why or ONLINE)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
