"""The shape of the configuration: every option with its default.

Handed out as arguments, part by part; there is no current configuration. What a single value may be stands in
scalars.py.
"""

import errno
import io
import os
import re
from datetime import UTC, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from mbusd.configuration.key_settings import KeysSettings, Medium, Section
from mbusd.configuration.pace_settings import ActiveSettings, not_quicker, too_often
from mbusd.configuration.scalars import (
    Baudrate,
    Bytes,
    Discover,
    Echo,
    Host,
    Interval,
    Listen,
    MeterAddress,
    Name,
    Nke,
    Period,
    PortName,
    ProfileFolder,
    Silence,
    Size,
    Topic,
    Window,
    Zone,
    allow_boolean,
    check_host,
    mapping_or_word,
)
from mbusd.model import ScanMode
from mbusd.values.shaping import Shape

_LOCAL_TIME = Path("/etc/localtime")
RESERVED_NAMES = ("bridge", "bus")  # topics of the daemon's own


class TlsSettings(Section):
    """TLS is verified, always."""

    ca_file: Path | None = None
    """Certificate of the authority that signed the broker's; default: the system's authorities."""
    cert_file: Path | None = None
    """Client certificate, where the broker asks for one."""
    key_file: Path | None = None
    """Key of the client certificate."""

    @model_validator(mode="after")
    def _key_of_something(self) -> "TlsSettings":
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("a key_file needs its cert_file")
        return self


class BrokerAddress(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _without_login(value: object) -> object:
    """A broker is a host; what somebody has written like a URL is not repeated: there may be a password in it."""
    if isinstance(value, str) and ("@" in value or "://" in value):
        raise ValueError("this is no name or address of a host: no mqtt:// and no user with password belong to it")
    return value


def _host_and_port(value: str) -> str:
    match = _LISTED.fullmatch(value)
    _without_login(value)
    if match is None or (match[3] is not None and not 1 <= int(match[3]) <= 65535):
        raise ValueError(f"'{value}' is not HOST or HOST:PORT (an IPv6 address in brackets: [::1]:1883)")
    check_host(match[1] or match[2])
    return value


_LISTED = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([^\[\]:\s]+))(?::(\d{1,5}))?")
HostAndPort = Annotated[str, AfterValidator(_host_and_port)]


class MqttSettings(Section):
    host: Annotated[Host, BeforeValidator(_without_login)] = "localhost"
    """Name or address of the broker."""
    hosts: Annotated[tuple[HostAndPort, ...] | None, Field(json_schema_extra={"minItems": 1})] = None
    """Instead of host: several, HOST or HOST:PORT; the next when one is lost, the first again when it is back."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Default: 1883, with TLS 8883."""
    username: str | None = None
    password: SecretStr | None = None
    """Better: password_file, or MBUSD_MQTT__PASSWORD in the environment."""
    password_file: Path | None = None
    """File whose first line is the password (systemd credentials, docker secrets)."""
    tls: Annotated[TlsSettings | None, BeforeValidator(mapping_or_word), Field(json_schema_extra=allow_boolean)] = None
    """true, or a mapping with ca_file, cert_file, key_file."""
    client_id: str | None = None
    """Default: mbusd and a random tail."""
    keepalive: int = Field(default=60, ge=5, le=65535)
    """Seconds."""
    qos: int = Field(default=1, ge=0, le=2)
    """Of readings; everything else is QoS 1."""
    base_topic: Topic = "mbusd"
    """One for each daemon on a broker."""
    retain: bool = True
    """Retain readings, so that whoever subscribes has them at once."""
    only_on_change: bool = False
    """Publish a reading, and each value's own topic, only when something besides its time has changed."""
    values: bool = True
    """One topic a value besides the JSON of each meter."""
    history: bool = False
    """Every reading also to <base_topic>/<meter>/history, with its time: not retained, and none is lost on its way."""
    history_size: Size = 64_000_000
    """Of the file in which history, and what emoncms gets as JSON, waits while the broker is away: 64 MB, 1 GB."""
    history_age: Period = 30 * 86400.0
    """What waits longer is dropped."""
    allow_writes: bool = False
    """Let requests change meters: set_address, set_identification, set_baudrate, set_clock, reset."""
    telegrams: bool = False
    """The bytes of each read-out in hex, for bug reports."""

    @model_validator(mode="after")
    def _one_or_several(self) -> "MqttSettings":
        if self.hosts == ():
            raise ValueError("hosts: at least one is needed")
        if self.hosts and "host" in self.model_fields_set:
            raise ValueError("host and hosts exclude each other: put all brokers into hosts")
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("hosts: the same broker stands there twice")
        return self

    @property
    def addresses(self) -> tuple[BrokerAddress, ...]:
        """The brokers in the order in which they are tried."""
        usual = self.port or (1883 if self.tls is None else 8883)
        if not self.hosts:
            return (BrokerAddress(self.host, usual),)
        found = (_LISTED.fullmatch(value) for value in self.hosts)
        return tuple(BrokerAddress(it[1] or it[2], int(it[3] or usual)) for it in found if it is not None)

    @model_validator(mode="after")
    def _one_password(self) -> "MqttSettings":
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("a password needs a username")
        return self

    def read_password(self) -> str | None:
        """The password from wherever it stands. Raises OSError when its file cannot be read."""
        if self.password_file is not None:
            try:
                return self.password_file.read_text("utf-8").split("\n", 1)[0].rstrip("\r")
            except UnicodeDecodeError as error:
                raise OSError(errno.EILSEQ, "it is no UTF-8 text", str(self.password_file)) from error
        return None if self.password is None else self.password.get_secret_value()


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError(f"'{value}' is no address of a page: http://… or https://…")
    return value


_URL = re.compile(r"https?://[^\s/?#]+\S*")
Url = Annotated[str, AfterValidator(_url)]


class HomeAssistantSettings(Section):
    enabled: bool = True
    discovery_prefix: Topic = "homeassistant"
    status_topic: Topic | None = None
    """Where Home Assistant says that it has started; default: <discovery_prefix>/status."""
    configuration_url: Url | None = None
    """A page of your own about the installation, http or https; Home Assistant links each device to it as "Visit"."""


class EmoncmsSettings(Section):
    """Numbers for emoncms, named as OpenEnergyMonitor's hub names those of M-Bus meters; besides all else."""

    enabled: bool = False
    base_topic: Topic = "emon"
    """Where emoncms listens."""
    node: Name = "MBUS"
    """Its name for all meters together; "meter" makes each meter a node of its own."""
    format: Literal["values", "json"] = "values"
    """One topic a value, or one JSON document a reading, with its time."""


class WakeSettings(Section):
    """A preamble that rouses a sleeping interface, such as an optical head, before each request."""

    bytes: int = Field(default=528, ge=1, le=4096)
    """How many bytes 55h; 528 are 2.4 s at 2400 Bd."""
    pause: Silence = 0.1
    """Silence between the preamble and the request."""


_EVERYTHING = KeysSettings()
_AS_IT_IS = _EVERYTHING.shape(None)  # shared by most meters


class MeterSettings(Section):
    name: Name | None = None
    """Part of the topics, name of the device; default: the secondary address."""
    address: MeterAddress
    """Primary address 0..250, or a secondary address of 8 or 16 digits in quotes."""
    area: str = ""
    """Room that Home Assistant suggests for it when it sees it first."""
    interval: Interval | None = None
    """A duration, `manual`, or a cron line ("0 0 * * *", by the clock of `timezone`); default: the bus's."""
    active: ActiveSettings | None = None
    """{when: power > 0, interval: 10s}: quick while the meter works; default: always at its interval."""
    max_reads_per_day: int | None = Field(default=None, ge=1)
    """Budget of its battery, from midnight to midnight; nothing exceeds it but a request with force. Default: none."""
    alarms: Period | None = None
    """How often the meter is asked for alarms (REQ_UD1) besides its read-outs; default: never."""
    power: Literal["auto", "battery", "mains"] = "auto"
    """What the meter lives on; who reads a battery too often is told so. auto: as meters of its kind do as a rule."""
    offline_after: int = Field(default=3, ge=1)
    """Read-outs without an answer until the meter counts as offline."""
    plausibility: bool | None = None
    """Read a counter that falls or leaps a second time before it is believed; default: the bus's."""
    timezone: Zone | None = None
    """Zone of the meter's clock; default: this machine's."""
    timeout: Window | None = None
    """From the end of a request to the latest begin of its answer; default: the bus's."""
    pause: Silence = 0.0
    """Silence before each request to this meter, for meters that turn round slowly."""
    baudrate: Baudrate | None = None
    """The meter's own rate; the port is switched for it and back. Not over a transparent tcp:// converter."""
    nke: Nke = "auto"
    """SND_NKE before a read-out: where the state of the link is unknown, always, or never."""
    before: tuple[Bytes, ...] = ()
    """Sent before each read-out, in hex: CI field and data ("50" resets the application), or a whole frame."""
    plain: bool = True
    """Ask the plain request at all; false where only `pages` are wanted."""
    pages: tuple[Bytes, ...] = ()
    """Further requests, written as in `before`, answered with data; "B1" for Eastron's instantaneous values."""
    wake: Annotated[WakeSettings | None, BeforeValidator(mapping_or_word), Field(json_schema_extra=allow_boolean)] = (
        None
    )
    """true, or a mapping with bytes and pause: rouses a sleeping interface before each request."""
    keys: KeysSettings = _EVERYTHING
    """Which values are published, under which names, in which units."""
    medium: Medium | None = None
    """What is measured, where the meter does not say it or says it wrong: water, gas, heat …"""

    @property
    def shape(self) -> Shape:
        """What is made of its readings."""
        return _AS_IT_IS if self.keys is _EVERYTHING and self.medium is None else self.keys.shape(self.medium)

    @model_validator(mode="after")
    def _asks_something(self) -> "MeterSettings":
        if not self.plain and not self.pages:
            raise ValueError("`plain: false` without `pages`: nothing would be asked")
        return self


class BusSettings(Section):
    name: Name = "mbus"
    """Part of topics; where there are several buses each needs one."""
    port: PortName
    """/dev/serial/by-id/usb-… or tcp://HOST:PORT of a transparent converter, rfc2217://HOST:PORT of a serial server."""
    baudrate: Baudrate = 2400
    """Of the wire; with tcp:// it only computes the time-outs."""
    timeout: Window | None = None
    """From the end of a request to the latest begin of the answer; default: the standard's 330 bits + 50 ms."""
    echo: Echo = "auto"
    """Whether the converter sends each request back; in auto an echo is noticed and dropped."""
    dtr: bool = True
    """Level of DTR on serial ports; some converters feed from it."""
    rts: bool = True
    """Level of RTS on serial ports."""
    serve: Listen | None = None
    """tcp://HOST:PORT where other programs reach this bus as through a transparent converter, between the polls."""
    serve_writes: bool = False
    """Let those programs send what changes meters."""
    discover: Discover | None = None
    """off, primary, secondary or both: find meters at start and read them. Default: both if no meter is listed."""
    interval: Interval = 3600.0
    """Default for its meters: a duration, `manual` or a cron line. Battery meters pay for every read-out."""
    plausibility: bool = True
    """Default for its meters: read a counter that falls or leaps a second time before it is believed."""
    meters: tuple[MeterSettings, ...] = ()

    @model_validator(mode="after")
    def _rates_that_can_be(self) -> "BusSettings":
        others = {meter.baudrate for meter in self.meters} - {None, self.baudrate}
        if others and self.port.lower().startswith("tcp://"):
            rates = " and ".join(map(str, sorted(filter(None, others))))
            raise ValueError(f"a transparent tcp:// converter keeps its rate: no meter at {rates} Bd; use rfc2217://")
        return self

    @model_validator(mode="after")
    def _reads_that_fit(self) -> "BusSettings":
        for meter in self.meters:
            interval = self.interval if meter.interval is None else meter.interval
            why = too_often(interval, meter.alarms, meter.max_reads_per_day) or not_quicker(interval, meter.active)
            if why is not None:
                raise ValueError(f"meter {meter.name or meter.address}: {why}")
        return self

    @property
    def scan_at_start(self) -> ScanMode | None:
        """What to look for when the bus is first open."""
        chosen = self.discover or ("off" if self.meters else "both")
        return None if chosen == "off" else chosen


class Settings(Section):
    """Configuration of mbusd."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    mqtt: MqttSettings = MqttSettings()
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()
    emoncms: EmoncmsSettings = EmoncmsSettings()
    profiles: ProfileFolder = None
    """Folder with profiles of your own, *.yaml, for makers' records and bits; they go before those that are shipped."""
    state_dir: Path | None = None
    """Folder for what is remembered across restarts: found meters, budgets. Default: what systemd gives; else none."""
    buses: Annotated[tuple[BusSettings, ...], Field(json_schema_extra={"minItems": 1})]
    """At least one: a port; several need names, too."""


def zone_of(meter: MeterSettings) -> tzinfo:
    """The zone of the meter's clock: its own, else this machine's (TZ or /etc/localtime), else UTC."""
    name = meter.timezone or os.environ.get("TZ", "").lstrip(":")
    try:
        if name:
            return ZoneInfo(name)
        return _zone_in(_LOCAL_TIME.read_bytes())
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return UTC


@lru_cache(maxsize=1)
def _zone_in(data: bytes) -> ZoneInfo:
    """One for all meters; Europe's has four kilobytes of changes."""
    return ZoneInfo.from_file(io.BytesIO(data))
