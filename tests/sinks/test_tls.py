"""TLS with a real mosquitto: who is let in, and in which words anybody else is refused."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbusd.sinks.topics import Message
from tests.mosquitto import authority, certified, mosquitto, with_tls
from tests.sinks.clients import Client, Journal, journal

__all__ = ("journal",)  # a fixture

pytestmark = pytest.mark.filterwarnings(  # paho leaves it to the collector
    "ignore:unclosed <ssl.SSLSocket:ResourceWarning", "ignore:Exception ignored in. <ssl.SSLSocket"
)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Here, and not in the test of somebody else."""
    yield
    gc.collect()


async def refused(client: Client, journal: Journal, *words: str) -> None:
    """It is not connected, and one line says why."""
    journal.lines.clear()
    async with client.running():
        await journal.until(words[0])
        assert not client.broker.connected.is_set()
    assert len(journal.warnings) == 1
    assert all(word in journal.warnings[0] for word in words)


async def test_an_authority_of_our_own(tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal) -> None:
    with mosquitto(tmp_path, *with_tls(tmp_path)) as broker:
        client = Client(broker.port, tls={"ca_file": tmp_path / "ca.pem"})
        async with client.running():
            await client.connects()
        why = f"the certificate of the broker 127.0.0.1:{broker.port} is refused: "
        await refused(Client(broker.port, tls={"ca_file": authority(tmp_path, "other")}), journal, why)
        await refused(Client(broker.port, tls=True), journal, why)
    assert "Traceback" not in caplog.text


async def test_a_certificate_for_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    with mosquitto(tmp_path, *with_tls(tmp_path, "DNS:broker.example")) as broker:
        client = Client(broker.port, tls={"ca_file": tmp_path / "ca.pem"})
        await refused(client, journal, "the certificate of the broker 127.0.0.1", "is not valid for '127.0.0.1'")
        client = Client(broker.port, hosts=["localhost"], tls={"ca_file": tmp_path / "ca.pem"})
        await refused(client, journal, "the certificate of the broker localhost", "is not valid for 'localhost'")
    assert "Traceback" not in caplog.text


async def test_a_certificate_that_has_expired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    with mosquitto(tmp_path, *with_tls(tmp_path, days=-1)) as broker:
        client = Client(broker.port, tls={"ca_file": tmp_path / "ca.pem"})
        await refused(client, journal, "is refused: certificate has expired")
    assert "Traceback" not in caplog.text


async def test_a_broker_that_wants_a_certificate_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    options = (*with_tls(tmp_path), "require_certificate true", "use_identity_as_username true")
    certificate, key = certified(tmp_path, "meters")
    with mosquitto(tmp_path, *options) as broker:
        files = {"ca_file": tmp_path / "ca.pem", "cert_file": certificate, "key_file": key}
        client = Client(broker.port, tls=files, given={"answer": 2.0})
        async with client.running():
            client.say(Message("a", "1"))
            await journal.until("connected to the broker")
        stranger = Client(broker.port, tls={"ca_file": tmp_path / "ca.pem"}, given={"answer": 0.3})
        await refused(stranger, journal, f"the broker 127.0.0.1:{broker.port}", "mqtt.tls.cert_file is missing")
    assert "Traceback" not in caplog.text


async def test_a_port_without_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal) -> None:
    with mosquitto(tmp_path) as broker:
        await refused(Client(broker.port, tls=True), journal, f"no TLS with the broker 127.0.0.1:{broker.port}")
    assert "Traceback" not in caplog.text


async def test_a_port_with_tls_that_is_used_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    with mosquitto(tmp_path, *with_tls(tmp_path)) as broker:
        plain = Client(broker.port, given={"answer": 0.3})
        await refused(plain, journal, f"the broker 127.0.0.1:{broker.port}", "mqtt.tls is missing")
    assert "Traceback" not in caplog.text
