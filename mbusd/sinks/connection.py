"""One connection to one broker, from CONNECT to the end, and in plain words what was wrong with it.

The only file that knows aiomqtt.
"""

import asyncio
import logging
import math
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aiomqtt

from mbusd.configuration.settings import BrokerAddress, MqttSettings
from mbusd.sinks.topics import Message

log = logging.getLogger(__name__)

HANG_UP_SECONDS = 2.0  # for our last byte to leave the machine
LOOKS = 12  # at the clock in a keepalive; aiomqtt takes one each second, and would wake us for nothing else
SUBSCRIPTION_REFUSED = 0x80
_UNLIMITED = sys.maxsize  # of publications that wait for the broker: that is counted elsewhere
_MUTE = logging.Logger("aiomqtt", logging.CRITICAL)  # noqa: LOG001 - what it has to say of a broken line, we say
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux: what nobody takes for so long is thrown away
_AT_ONCE = 4096  # bytes
_LONGEST_TOPIC = 65_535  # bytes, MQTT 3.1.1 cl. 1.5.3
_LONGEST_PAYLOAD = 256 * 1024 * 1024 - 1 - _LONGEST_TOPIC - 4  # cl. 2.2.3
_NO_TOPIC = frozenset("+#\0")  # cl. 4.7.1
_LOGIN = ("not authori", "bad user name")  # CONNACK 4 and 5, MQTT 3.1.1 cl. 3.2.2.3


class Lost(Exception):
    """There is no connection, or no more; the text says why and names the broker."""


class Unsendable(Exception):
    """No broker could be given this message, whatever becomes of the connection; the text says why."""


class LoginRefused(Lost):
    """The broker does not know us."""


class _Socket:
    """A socket that takes all that is there: paho asks for one byte, another one, and the rest of each packet."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def recv(self, size: int) -> bytes:
        """As a socket does it."""
        if not self._rest:
            self._rest = self._sock.recv(_AT_ONCE)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def pending(self) -> int:
        """How many bytes no `select` tells of; as a TLS socket does it, and aiomqtt asks."""
        return len(self._rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Client(aiomqtt.Client):
    """Aiomqtt's, without a task, an event and a search for each message: a reading is some twenty of them."""

    def __init__(self, hostname: str, port: int, *, keepalive: int, **options: Any) -> None:
        super().__init__(hostname, port, keepalive=keepalive, **options)
        self._keepalive_seconds = keepalive
        self._landings: dict[int, Callable[[], None]] = {}  # by packet identifier
        self._own_published, self._client.on_publish = self._client.on_publish, self._published
        self._own_opened, self._client.on_socket_open = self._client.on_socket_open, self._opened
        self._client.disable_logger()  # nobody hears what paho would say of each message

    def send(self, message: Message, payload: bytes, landed: Callable[[], None]) -> None:
        """Begin to send it; `landed` is called from the loop when it is acknowledged. Raises MqttError, ValueError."""
        info = self._client.publish(message.topic, payload, message.qos, message.retain)
        if info.rc:
            raise aiomqtt.MqttCodeError(info.rc)
        if info.is_published():
            asyncio.get_running_loop().call_soon(landed)
        else:
            self._landings[info.mid] = landed

    def _published(self, client: Any, userdata: Any, mid: int, *words: Any) -> None:
        landed = self._landings.pop(mid, None)
        if landed is not None:
            landed()
        elif self._own_published is not None:  # somebody waits in `publish`
            self._own_published(client, userdata, mid, *words)

    def _opened(self, client: Any, userdata: Any, sock: Any) -> None:
        """In the thread that connects."""
        if _USER_TIMEOUT is not None:  # else the kernel would deliver it a quarter of an hour later
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, 1000 * self._keepalive_seconds)
        if not isinstance(sock, ssl.SSLSocket):
            client._sock = _Socket(sock)  # noqa: SLF001 - there is no other way in
        if self._own_opened is not None:
            self._own_opened(client, userdata, sock)

    async def _misc_loop(self) -> None:
        while not self._client.loop_misc():  # noqa: ASYNC110 - what it looks at is the time
            await asyncio.sleep(max(1.0, self._keepalive_seconds / LOOKS))


class Connection:
    """What can be done while it lasts; all of it raises Lost where it is over."""

    def __init__(self, client: _Client, address: BrokerAddress) -> None:
        self._client = client
        self._address = address

    @property
    def name(self) -> str:
        """Where the broker is, for a log."""
        return str(self._address)

    async def subscribe(self, topics: Iterable[str]) -> list[str]:
        """Subscribe to all of them at once; gives those that the broker refuses."""
        wanted = list(topics)
        if not wanted:
            return []
        with _telling(self._address):
            granted = await self._client.subscribe([(topic, 1) for topic in wanted])
        return [
            topic
            for topic, code in zip(wanted, granted, strict=False)
            if getattr(code, "is_failure", code == SUBSCRIPTION_REFUSED)
        ]

    def send(self, message: Message, landed: Callable[[], None]) -> None:
        """Begin to send it; `landed` is called, never at once, when it is acknowledged. Raises Unsendable, too."""
        payload = _payload_of(message)
        with _telling(self._address):
            self._client.send(message, payload, landed)

    async def publish(self, message: Message) -> None:
        """Send it, and wait as long as it takes until the broker has acknowledged it. Raises Unsendable, too."""
        payload = _payload_of(message)
        with _telling(self._address):
            await self._client.publish(message.topic, payload, qos=message.qos, retain=message.retain, timeout=math.inf)

    async def received(self) -> AsyncIterator[tuple[str, str, bool]]:
        """Topic, payload and whether the broker had it retained, of each message that comes; never ends by itself."""
        with _telling(self._address):
            async for message in self._client.messages:
                raw = message.payload
                payload = raw if isinstance(raw, bytes | bytearray) else str(raw).encode()
                yield str(message.topic), payload.decode("utf-8", "replace"), bool(message.retain)


def _payload_of(message: Message) -> bytes:
    """Raises Unsendable."""
    _check_topic(message.topic)
    payload = message.payload.encode("utf-8", "replace")  # an answer may quote half a surrogate pair
    if len(payload) > _LONGEST_PAYLOAD:
        raise Unsendable(f"a message has {_LONGEST_PAYLOAD} bytes at the most, here are {len(payload)}")
    return payload


def _check_topic(topic: str) -> None:
    """Raises Unsendable; a broker ends the connection, and paho the daemon, where a topic is none."""
    if not _NO_TOPIC.isdisjoint(topic) or not topic:
        raise Unsendable("no topic may be empty or have a +, # or NUL in it")
    try:
        size = len(topic.encode())
    except UnicodeEncodeError as error:
        raise Unsendable("half of a surrogate pair is no text") from error
    if size > _LONGEST_TOPIC:
        raise Unsendable(f"a topic has {_LONGEST_TOPIC} bytes at the most, here are {size}")


@asynccontextmanager
async def connected(
    address: BrokerAddress, settings: MqttSettings, client_id: str, will: Message | None, answer_seconds: float
) -> AsyncIterator[Connection]:
    """A connection whose login was accepted. Raises Lost, also where CONNACK or SUBACK take longer than that."""
    try:
        client = _client(address, settings, client_id, will, answer_seconds)
    except OSError as error:  # a file that cannot be read; ssl.SSLError is one, too
        raise Lost(_trouble_with_files(error)) from error
    client.pending_calls_threshold = _UNLIMITED
    try:
        await _enter(client)
    except aiomqtt.MqttError as error:
        cause = error.__context__
        if isinstance(cause, TimeoutError) and "Operation" in str(error):  # not of the TCP connection
            await _hang_up(client, 0.0)  # or the socket would stay open
            raise Lost(f"the broker {address} does not answer within {answer_seconds:g} s{_hint(settings)}") from error
        raise _why_not(error, address, settings) from error
    try:
        yield Connection(client, address)
    finally:
        await _hang_up(client, HANG_UP_SECONDS)


def _client(
    address: BrokerAddress, settings: MqttSettings, client_id: str, will: Message | None, answer_seconds: float
) -> _Client:
    return _Client(
        address.host,
        address.port,
        username=settings.username,
        password=settings.read_password(),
        identifier=client_id,
        keepalive=settings.keepalive,
        will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
        tls_context=_tls(settings),
        logger=_MUTE,
        timeout=answer_seconds,
    )


def _tls(settings: MqttSettings) -> ssl.SSLContext | None:
    tls = settings.tls
    if tls is None:
        return None
    for path in filter(None, (tls.ca_file, tls.cert_file, tls.key_file)):
        path.open("rb").close()  # the ssl module does not tell which file is missing
    context = ssl.create_default_context(cafile=None if tls.ca_file is None else str(tls.ca_file))
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context


def _trouble_with_files(error: OSError) -> str:
    if error.filename is not None:
        why = f"cannot read {error.filename}: {error.strerror}"
        is_ours = isinstance(error, PermissionError)
        return f"{why}; under systemd use LoadCredential, as mbusd.service shows" if is_ours else why
    return f"mqtt.tls: ca_file, cert_file or key_file is no certificate or key in PEM: {error}"


def _hint(settings: MqttSettings) -> str:
    """It may also have closed the connection: aiomqtt does not tell."""
    if settings.tls is None:
        return " (if it is a port with TLS, mqtt.tls is missing)"
    return "" if settings.tls.cert_file else " (if it wants a certificate of ours, mqtt.tls.cert_file is missing)"


def _why_not(error: aiomqtt.MqttError, address: BrokerAddress, settings: MqttSettings) -> Lost:
    """Why there is no connection."""
    text = str(error).strip() or type(error).__name__
    cause = error.__context__
    if isinstance(cause, socket.gaierror):
        return Lost(f"the broker {address} cannot be found: no address for its name ({cause.strerror})")
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message.rstrip(".")
        return Lost(f"the certificate of the broker {address} is refused: {why} (certificate verify failed)")
    if isinstance(cause, ssl.SSLError) or (settings.tls is not None and isinstance(cause, ConnectionResetError)):
        return Lost(f"no TLS with the broker {address}: {text}; is it a port with TLS?")
    if any(words in text.lower() for words in _LOGIN):
        return LoginRefused(
            f"the broker {address} refuses the login of {settings.username or 'nobody (no username is set)'}: {text}"
        )
    return Lost(f"the broker {address} is away: {text}")


@contextmanager
def _telling(address: BrokerAddress) -> Iterator[None]:
    try:
        yield
    except (aiomqtt.MqttError, OSError, ValueError) as error:  # ValueError: the socket is closed already
        why = "it does not answer" if "timed out" in str(error) else "the connection is lost"
        raise Lost(f"the broker {address} is away: {why}") from error


async def _enter(client: aiomqtt.Client) -> None:
    """Connect; should we be cancelled meanwhile, a connection that is made all the same is ended, not forgotten."""
    entering = asyncio.ensure_future(client.__aenter__())

    def leave(task: asyncio.Future[aiomqtt.Client]) -> None:
        if client.timeout == 0.0 and not task.cancelled():
            task.exception()  # nobody wants to know any more
            client._client.disconnect()  # noqa: SLF001 - __aexit__ would have to be waited for, and nobody waits

    entering.add_done_callback(leave)
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        client.timeout = 0.0
        raise


async def _hang_up(client: aiomqtt.Client, seconds: float) -> None:
    client.timeout = seconds
    with suppress(aiomqtt.MqttError, OSError):
        await client.__aexit__(None, None, None)


def overhear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep the log free of what aiomqtt leaves behind where a connection breaks: we know of that already.

    It may still ask to write to its closed socket, one of its futures may keep the reason to itself, and it stumbles
    over one of them that was cancelled with us.
    """
    error, what = context.get("exception"), str(context["message"])
    writes = isinstance(error, OSError | ValueError) and "add_writer" in what
    keeps = isinstance(error, OSError | aiomqtt.MqttError) and what == "Future exception was never retrieved"
    if writes or keeps or isinstance(error, asyncio.CancelledError):
        log.debug("%s: %s", what, error)
    else:
        loop.default_exception_handler(context)
