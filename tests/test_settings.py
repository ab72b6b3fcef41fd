"""Values of the configuration: durations, addresses, names, passwords, zones."""

import json
import tracemalloc
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from mbusd.configuration.durations import seconds
from mbusd.configuration.settings import (
    BusSettings,
    MeterSettings,
    MqttSettings,
    Settings,
    TlsSettings,
    WakeSettings,
    zone_of,
)
from mbusd.mbus.address import PrimaryAddress, SecondaryAddress


def settings_of(section: str, **values: object) -> Settings:
    bus: dict[str, object] = {"name": "cellar", "port": "/dev/ttyUSB0"}
    meter: dict[str, object] = {"address": 1}
    document: dict[str, object] = {"buses": [bus], "mqtt": {}, "homeassistant": {}}
    match section:
        case "meter":
            bus["meters"] = [meter | values]
        case "bus":
            bus |= values
        case _:
            document[section] = values
    return Settings.model_validate(document)


def meter_of(**values: object) -> MeterSettings:
    return settings_of("meter", **values).buses[0].meters[0]


def refusal(section: str, **values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        settings_of(section, **values)
    assert len(caught.value.errors()) == 1
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30s", 30),
        ("5m", 300),
        ("5min", 300),
        ("1h", 3600),
        ("1.5h", 5400),
        ("2 d", 172800),
        ("7", 7),
        (7, 7),
        (0.5, 0.5),
    ],
)
def test_durations(text: object, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "s", "5w", "-5s", "1h30m", "nan", "inf", "1e3", None, True, [5], "5 s s", "٣s x"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration: 30s, 5m, 1h, 1d or a number of seconds are"):
        seconds(text)


def test_an_interval_is_a_duration_between_a_second_and_a_year_or_manual() -> None:
    assert [meter_of(interval=text).interval for text in ("10s", 1, "366d", "manual")] == [10, 1, 366 * 86400, "manual"]
    assert meter_of().interval is None
    assert settings_of("bus").buses[0].interval == 3600
    assert "or 'manual'" in refusal("meter", interval="sometimes")
    assert refusal("meter", interval="0s").endswith("'0s' is out of range: 1s to 366d")
    assert refusal("bus", interval="400d").endswith("is out of range: 1s to 366d")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (0, PrimaryAddress(0)),
        (250, PrimaryAddress(250)),
        ("68", PrimaryAddress(68)),
        ("01234567", SecondaryAddress("01234567FFFFFFFF")),
        ("681044022d2c0904", SecondaryAddress("681044022D2C0904")),
        (PrimaryAddress(5), PrimaryAddress(5)),
        (SecondaryAddress("681044022D2C0904"), SecondaryAddress("681044022D2C0904")),
        (SecondaryAddress("681044022D2C0904", "11111111"), SecondaryAddress("681044022D2C0904", "11111111")),
    ],
)
def test_addresses(given: object, address: PrimaryAddress | SecondaryAddress) -> None:
    assert meter_of(address=given).address == address


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (251, "a primary address is 0..250; put a secondary address in quotes, with its leading zeros"),
        (12345678, "a primary address is 0..250; put a secondary address in quotes, with its leading zeros"),
        (-1, "-1 is no primary address"),
        ("1234567", "'1234567' is no address"),
        ("1234567F", "'1234567F' has wildcards in its identification: a meter that is read needs all 8 digits"),
        (True, "an address is 0..250, or 8 or 16 digits in quotes"),
        (1.5, "an address is 0..250, or 8 or 16 digits in quotes"),
        (None, "an address is 0..250, or 8 or 16 digits in quotes"),
    ],
)
def test_what_is_no_address_of_a_meter(given: object, why: str) -> None:
    assert why in refusal("meter", address=given)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("64 MB", 64_000_000),
        ("1.5GB", 1_500_000_000),
        ("2000 kB", 2_000_000),
        ("1000000", 1_000_000),
        (5_000_000, 5_000_000),
    ],
)
def test_sizes(text: object, wanted: int) -> None:
    assert settings_of("mqtt", history_size=text).mqtt.history_size == wanted


@pytest.mark.parametrize("text", ["", "MB", "64 M", "64 mb", "-64 MB", "1e9", True, None, 5.5, [64], "64 MB x"])
def test_what_is_no_size(text: object) -> None:
    assert "is no size: 500 kB, 64 MB, 1 GB or a number of bytes are" in refusal("mqtt", history_size=text)


@pytest.mark.parametrize("text", ["999 kB", 0, "65 GB"])
def test_a_size_has_its_range(text: object) -> None:
    assert refusal("mqtt", history_size=text).endswith(f"'{text}' is out of range: 1 MB to 64 GB")


def test_what_waits_for_the_broker_is_bounded_without_being_told() -> None:
    mqtt = settings_of("mqtt").mqtt
    assert (mqtt.history, mqtt.history_size, mqtt.history_age) == (False, 64_000_000, 30 * 86400)
    assert settings_of("mqtt", history_age="7d").mqtt.history_age == 7 * 86400
    assert refusal("mqtt", history_age="0s").endswith("'0s' is out of range: 1s to 366d")


@pytest.mark.parametrize("name", ["a/b", "a+", "#", "", "   ", "a\nb", "a\0b"])
def test_a_name_can_be_part_of_a_topic(name: str) -> None:
    assert "cannot be part of a topic" in refusal("meter", name=name)
    assert "cannot be part of a topic" in refusal("bus", name=name)


@pytest.mark.parametrize("name", ["heat pump", "Wärme", "水", "flat.1", "$x", "12345678"])
def test_names_may_be_words_of_any_language(name: str) -> None:
    assert meter_of(name=name).name == name


@pytest.mark.parametrize("topic", ["", "/a", "a/", "a/#", "+", "$SYS/a", "a\0b", "a\nb"])
def test_a_base_topic_is_one_to_publish_on(topic: str) -> None:
    assert "is no topic to publish on" in refusal("mqtt", base_topic=topic)
    assert "is no topic to publish on" in refusal("homeassistant", discovery_prefix=topic)


@pytest.mark.parametrize("host", ["", "a..b", "mqtt://broker", "my broker", "x" * 64 + ".org"])
def test_a_host_is_a_name_that_can_be_looked_up(host: str) -> None:
    assert "is no name or address of a host" in refusal("mqtt", host=host)


@pytest.mark.parametrize("host", ["localhost", "192.0.2.1", "2001:db8::1", "core-mosquitto", "bröker.example"])
def test_names_and_addresses_of_hosts(host: str) -> None:
    assert settings_of("mqtt", host=host).mqtt.host == host


def test_numbers_have_their_range() -> None:
    assert settings_of("mqtt", qos="2", port="8883", keepalive="5").mqtt.qos == 2
    refused = ({"qos": 3}, {"qos": -1}, {"port": 0}, {"port": 65536}, {"keepalive": 4}, {"port": "x"})
    assert all(refusal("mqtt", **values) for values in refused)
    assert "2000 is no rate of the M-Bus: 300, 600" in refusal("bus", baudrate=2000)
    assert refusal("meter", offline_after=0)


@pytest.mark.parametrize("port", ["", " ", "tcp://host", "tcp://host:x", "tcp://:5", "tcp://h:5/x", "udp://h:5"])
def test_a_port_is_a_device_or_a_converter(port: str) -> None:
    assert "/dev/… for a serial device" in refusal("bus", port=port) or "tcp://HOST:PORT" in refusal("bus", port=port)


def test_a_password_stands_in_one_place_and_needs_a_user() -> None:
    assert "exclude each other" in refusal("mqtt", username="u", password="p", password_file="f")
    assert "a password needs a username" in refusal("mqtt", password="p")
    assert "a password needs a username" in refusal("mqtt", password_file="f")


def test_a_password_is_read_from_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    login = MqttSettings(username="u", password_file=file)
    for content, password in ((b"geheim\n", "geheim"), ("ß ö\r\nx".encode(), "ß ö"), (b"", ""), (b" a \n", " a ")):
        file.write_bytes(content)
        assert login.read_password() == password
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(OSError, match="UTF-8"):
        login.read_password()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        login.read_password()


def test_a_password_in_the_settings_does_not_show_itself() -> None:
    login = settings_of("mqtt", username="u", password="hunter2").mqtt
    assert login.read_password() == "hunter2"
    assert "hunter2" not in f"{login!r}{login}"
    assert MqttSettings().read_password() is None


@pytest.mark.parametrize(
    ("given", "tls"),
    [(True, TlsSettings()), ("True", TlsSettings()), ({}, TlsSettings()), (False, None), ("false", None), (None, None)],
)
def test_tls_is_a_word_or_a_mapping(given: object, tls: TlsSettings | None) -> None:
    assert settings_of("mqtt", tls=given).mqtt.tls == tls


def test_a_key_without_its_certificate_is_no_use() -> None:
    assert "a key_file needs its cert_file" in refusal("mqtt", tls={"key_file": "k"})
    assert settings_of("mqtt", tls={"key_file": "k", "cert_file": "c"}).mqtt.tls is not None


def test_the_zone_of_a_meter_is_its_own_else_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zone_of(meter_of(timezone="Europe/Berlin")) == ZoneInfo("Europe/Berlin")
    monkeypatch.setenv("TZ", ":America/New_York")
    assert zone_of(meter_of()) == ZoneInfo("America/New_York")
    monkeypatch.setenv("TZ", "Mars/Olympus")
    assert zone_of(meter_of()) == UTC
    assert "is no time zone of this machine" in refusal("meter", timezone="Mars/Olympus")
    assert "is no time zone of this machine" in refusal("meter", timezone="../../etc/passwd")


def test_settings_cannot_be_changed() -> None:
    bus = BusSettings(name="a", port="/dev/x")
    with pytest.raises(ValidationError):
        setattr(bus, "name", "b")  # noqa: B010 - mypy knows that it is frozen


def test_how_a_meter_is_asked() -> None:
    plain = meter_of()
    assert (plain.timeout, plain.pause, plain.baudrate, plain.nke, plain.wake) == (None, 0.0, None, "auto", None)
    assert (plain.before, plain.plain, plain.pages) == ((), True, ())
    special = meter_of(
        timeout="1.1s", pause="0.3s", baudrate=300, nke="never", before=["50 10"], plain=False, pages=["B1"], wake={}
    )
    assert (special.timeout, special.pause, special.baudrate, special.nke) == (1.1, 0.3, 300, "never")
    assert (special.before, special.plain, special.pages) == ((b"\x50\x10",), False, (b"\xb1",))
    assert special.wake == WakeSettings(bytes=528, pause=0.1)
    assert meter_of(wake={"bytes": 100, "pause": "1s"}).wake == WakeSettings(bytes=100, pause=1.0)


@pytest.mark.parametrize(
    ("given", "data"), [("50", b"\x50"), (50, b"\x50"), ("b1", b"\xb1"), ("5010", b"\x50\x10"), ("51 0F", b"\x51\x0f")]
)
def test_bytes_are_hex_also_where_yaml_takes_them_for_a_number(given: object, data: bytes) -> None:
    assert meter_of(before=[given]).before == (data,)


@pytest.mark.parametrize("given", ["5", "xy", "5 0", True, None])
def test_what_are_no_bytes(given: object) -> None:
    assert "hex" in refusal("meter", pages=[given])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "no bytes: a CI field with its data, or a whole frame, is needed"),
        ("00" * 254, "254 bytes are too many"),
        ("10 5B 05 61 16", "begins with 10 like a whole frame, and is none"),
        ("B8", "`mbusd set-baudrate` does that"),
    ],
)
def test_what_is_no_step_of_a_recipe(given: str, why: str) -> None:
    assert why in refusal("meter", pages=[given])
    assert why in refusal("meter", before=[given])


def test_a_whole_frame_is_a_step_of_a_recipe() -> None:
    frame = "10 5B 05 60 16"
    assert meter_of(before=[frame]).before == (bytes.fromhex(frame),)


def test_how_often_a_meter_is_asked_for_alarms() -> None:
    assert meter_of().alarms is None
    assert meter_of(alarms="10m").alarms == 600.0
    for given in ("manual", "soon", True):
        assert "is no duration" in refusal("meter", alarms=given)
    assert "is out of range: 1s to 366d" in refusal("meter", alarms=0)


def test_what_a_meter_lives_on() -> None:
    assert [meter_of().power, meter_of(power="mains").power] == ["auto", "mains"]
    assert refusal("meter", power="solar")


def test_what_a_meter_cannot_be_asked_like() -> None:
    assert "is no rate of the M-Bus" in refusal("meter", baudrate=2000)
    assert refusal("meter", nke="sometimes")
    assert refusal("meter", wake={"bytes": 0})
    assert refusal("meter", wake={"bytes": 5000})
    assert "is no duration" in refusal("meter", timeout="soon")


def test_converters_are_as_they_come() -> None:
    plain = settings_of("bus").buses[0]
    assert (plain.echo, plain.dtr, plain.rts, plain.timeout, plain.serve, plain.serve_writes) == (
        "auto",
        True,
        True,
        None,
        None,
        False,
    )
    special = settings_of("bus", echo="on", dtr=False, rts=False, timeout="1s", serve="tcp://[::]:10001").buses[0]
    assert (special.echo, special.dtr, special.rts, special.timeout) == ("on", False, False, 1.0)
    assert refusal("bus", echo="sometimes")
    for listen in ("tcp://", "192.0.2.1", "tcp://h:x", "tcp://h:5/x", "rfc2217://h:5"):
        assert "tcp://HOST:PORT" in refusal("bus", serve=listen)


@pytest.mark.parametrize(
    ("discover", "meters", "mode"),
    [
        (None, [], "both"),
        (None, [{"address": 1}], None),
        ("off", [], None),
        (False, [], None),  # what YAML makes of off
        ("both", [{"address": 1}], "both"),
        ("primary", [], "primary"),
        ("secondary", [{"address": 1}], "secondary"),
    ],
)
def test_what_is_looked_for_at_start(discover: object, meters: list[object], mode: str | None) -> None:
    assert settings_of("bus", discover=discover, meters=meters).buses[0].scan_at_start == mode


@pytest.mark.parametrize("discover", [True, "yes", "on", 1])
def test_what_is_no_way_to_look(discover: object) -> None:
    assert refusal("bus", discover=discover)


def test_a_transparent_converter_keeps_its_rate() -> None:
    meters = [{"address": 1, "baudrate": 300}, {"address": 2, "baudrate": 9600}, {"address": 3, "baudrate": 2400}]
    why = refusal("bus", port="tcp://host:5", meters=meters)
    assert "a transparent tcp:// converter keeps its rate: no meter at 300 and 9600 Bd; use rfc2217://" in why
    assert settings_of("bus", port="tcp://host:5", meters=meters[2:])
    for port in ("/dev/ttyUSB0", "rfc2217://host:5"):
        assert settings_of("bus", port=port, meters=meters)


@pytest.mark.parametrize(
    ("word", "echo"), [(True, "on"), (False, "off"), ("on", "on"), ("off", "off"), ("auto", "auto")]
)
def test_an_echo_is_on_or_off_also_where_yaml_makes_a_truth_value_of_the_word(word: object, echo: str) -> None:
    assert settings_of("bus", echo=word).buses[0].echo == echo


def test_what_yaml_makes_of_no_is_no_way_to_begin_a_read_out() -> None:
    assert "auto, always or never is needed here (YAML makes true and false of" in refusal("meter", nke=False)


def test_waking_is_a_word_or_a_mapping() -> None:
    assert meter_of(wake=True).wake == WakeSettings()
    assert meter_of(wake=False).wake is None
    assert meter_of(wake={"bytes": 20}).wake == WakeSettings(bytes=20)


@pytest.mark.parametrize("section", ["meter", "bus"])
@pytest.mark.parametrize("timeout", ["0s", "61s", "100s", 0.001])
def test_a_window_that_hears_nobody_or_keeps_all_others_waiting(section: str, timeout: object) -> None:
    assert f"'{timeout}' is out of range: 0.01s to 60s" in refusal(section, timeout=timeout)


def test_silence_before_a_request_has_an_end() -> None:
    assert "'400s' is out of range: 0s to 60s" in refusal("meter", pause="400s")
    assert "is out of range" in refusal("meter", wake={"pause": "61s"})
    assert meter_of(timeout="60s", pause=60).pause == 60


def test_a_meter_is_asked_for_something() -> None:
    assert "`plain: false` without `pages`: nothing would be asked" in refusal("meter", plain=False)
    assert meter_of(plain=False, pages=["B1"]).pages == (b"\xb1",)


@pytest.mark.parametrize("ci", ["7A", "72", "6E 00", "78"])
def test_a_recipe_asks_nothing_with_what_meters_answer_with(ci: str) -> None:
    assert f"CI {ci[:2]} is what a meter answers with" in refusal("meter", pages=[ci])


# ----------------------------------------------------------------------------------------- hundreds of meters


def test_what_was_written_is_kept_once_for_all_meters_in_which_the_same_is_written() -> None:
    one, other, third = meter_of(address=1), meter_of(address=2), meter_of(address=3, nke="never")
    assert one.model_fields_set is other.model_fields_set
    changed = one.model_copy(update={"baudrate": 300})
    assert changed.model_fields_set == {"address", "baudrate"}
    assert (one.model_fields_set, third.model_fields_set) == ({"address"}, {"address", "nke"})


def test_a_meter_takes_little_room_in_memory() -> None:
    few, many = ({"name": "b", "port": "/dev/x", "meters": _numbered(count)} for count in (1, 201))
    taken = []
    for bus in (few, few, many):
        tracemalloc.start()
        kept = Settings.model_validate({"buses": [bus]})
        taken.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert list(json.loads(kept.model_dump_json())["buses"][0]["meters"][-1]) == list(MeterSettings.model_fields)
    assert (taken[-1] - taken[-2]) / 200 < 500  # bytes


def _numbered(count: int) -> list[dict[str, object]]:
    return [{"name": f"meter {number}", "address": number} for number in range(1, count + 1)]
