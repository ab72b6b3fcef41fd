"""When a bus is said to be at fault: what one read-out after the other brings, and what is told of it."""

import logging
from dataclasses import dataclass, field

import pytest

from mbusd.configuration.settings import BusSettings
from mbusd.line.transport import Port
from mbusd.mbus.frames import Ack, LongFrame, ShortFrame, encode
from mbusd.mbus.master import req_ud2, snd_nke
from mbusd.mbus.observation import Observation
from mbusd.model import BusTroubled, Event
from mbusd.polling.health import MANY, Health, Opinion, of_port
from mbusd.polling.meter import Meter

E5 = encode(Ack())


@dataclass
class Line:
    """A wire that remembers what was asked on it."""

    recent: list[Observation] = field(default_factory=list)
    idle_noise: bytes = b""
    port: Port = field(default_factory=lambda: Port("/dev/x"))

    def hears(self, request: ShortFrame, heard: bytes = b"", after: bytes = b"") -> None:
        self.recent = [*self.recent, Observation(request, heard, after)][-64:]


class House:
    """Meters 1, 2, 3 … on a line, and what is told of the bus."""

    def __init__(self, number: int, interval: str = "1h", **more: object) -> None:
        listed = [{"address": address, "name": f"m{address}", **more} for address in range(1, number + 1)]
        bus = BusSettings.model_validate({"name": "cellar", "port": "/dev/x", "interval": interval, "meters": listed})
        self.meters = [Meter.of(one, bus, 0.0, 0.0) for one in bus.meters]
        self.line = Line()
        self.events: list[Event] = []
        self.health = Health("cellar", self.line, self.meters, self.events.append)

    def good(self, *addresses: int) -> None:
        for address in addresses or range(1, len(self.meters) + 1):
            self.health.listen()
            header = bytes([address, 0, 0, 0]) + bytes.fromhex("EE 4D 01 04 01 00 00 00")
            self.line.hears(req_ud2(address, fcb=True), encode(LongFrame(0x08, address, 0x72, header)))
            self.health.succeeded(self.meters[address - 1])
            self.meters[address - 1].answers = True
            self.meters[address - 1].schedule.succeeded(0.0)

    def bad(self, *addresses: int, ack: bytes = b"", data: bytes = b"", after: bytes = b"") -> Opinion:
        """Read-outs that fail: what came for SND_NKE and for each REQ_UD2, and what unasked."""
        opinion = Opinion(None, is_of_bus=False)
        for address in addresses:
            meter = self.meters[address - 1]
            self.health.listen()
            self.line.hears(snd_nke(address), ack)
            for _ in range(3):
                self.line.hears(req_ud2(address, fcb=True), data, after)
            opinion = self.health.failed(meter)
            meter.schedule.failed(0.0)
            meter.answers = None if meter.schedule.failures < 3 and meter.answers is None else meter.answers
            if meter.schedule.failures >= 3:
                meter.answers = False
        return opinion

    @property
    def told(self) -> list[str | None]:
        return [event.code for event in self.events if isinstance(event, BusTroubled)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ------------------------------------------------------------------------------------------------ no wolf


def test_one_silent_meter_among_good_ones_is_the_meters_own_business() -> None:
    house = House(5)
    house.good()
    for _ in range(20):
        opinion = house.bad(3)
        assert opinion.verdict is not None
        assert opinion.verdict.code == "meter_silent"
        assert not opinion.is_of_bus
        house.good(4, 5, 1, 2)
    assert house.told == []


def test_three_dead_meters_in_a_row_are_no_dead_bus() -> None:
    """They stand together in the file, and so they are asked one after the other, at the start and later."""
    house = House(10)
    for _ in range(10):
        house.bad(1, 2, 3)
        house.good(*range(4, 11))
    assert house.told == []


def test_a_dead_meter_and_one_that_is_read_by_hand_only_are_no_dead_bus() -> None:
    house = House(2, "manual")
    house.meters[1].schedule.interval = 3600.0
    for _ in range(5):
        house.good(1)
        house.bad(*[2] * 8)
    assert house.told == []


@pytest.mark.parametrize("spoilt", [b"\x00", b"\x28\x00\x40", b"\x68\x01"])
def test_a_read_out_that_is_spoilt_now_and_then_is_no_trouble_of_the_bus(spoilt: bytes) -> None:
    house = House(3)
    house.good()
    for _ in range(30):
        house.bad(2, ack=E5, data=spoilt)
        house.good(3, 1)
        house.bad(2, ack=E5, after=spoilt)
        house.good(3, 1, 2)
    assert house.told == []


@pytest.mark.parametrize("was_good", [True, False])
@pytest.mark.parametrize(("offline_after", "needed"), [(1, 3), (3, 3), (5, 5)])
def test_the_only_meter_of_a_bus_and_nothing_else_may_be_the_bus(
    caplog: pytest.LogCaptureFixture, offline_after: int, needed: int, *, was_good: bool
) -> None:
    """It is told when the meter itself counts as silent, and that it may be the meter."""
    house = House(1, offline_after=offline_after)
    if was_good:
        house.good()
    assert not house.bad(*[1] * (needed - 1)).is_of_bus
    assert house.told == []
    assert house.bad(1).is_of_bus
    assert house.told == ["bus_silent"]
    house.bad(*[1] * 10)
    assert house.told == ["bus_silent"]
    (line,) = warnings(caplog)
    assert "the only meter of this bus, address 1, does not answer" in line
    assert "it is the bus or the meter. Check that the converter feeds the bus" in line
    house.good(1)
    assert house.told == ["bus_silent", None]


def test_an_only_meter_that_is_silent_now_and_then_is_its_own_business() -> None:
    house = House(1)
    for _ in range(5):
        house.bad(1, 1)
        house.good(1)
    assert house.told == []


def test_where_something_is_heard_the_only_meter_is_not_said_to_be_silent(caplog: pytest.LogCaptureFixture) -> None:
    house = House(1)
    house.bad(1, 1, 1, 1, data=b"\x28\x00\x40")
    assert "bus_silent" not in house.told
    assert caplog.records


@pytest.mark.parametrize(
    ("port", "todo"),
    [
        ("/dev/x", "--baudrate auto"),
        ("rfc2217://gateway:2217", "--baudrate auto"),
        ("tcp://gateway:10001", "the rate and parity (8E1) are set at the converter itself"),
    ],
)
def test_the_rate_is_changed_where_it_is_set(caplog: pytest.LogCaptureFixture, port: str, todo: str) -> None:
    house = House(3)
    house.line.port = Port(port)
    house.bad(*[1, 2, 3] * 2)
    assert house.told == ["bus_silent"]
    assert todo in warnings(caplog)[0]
    assert ("--baudrate" in warnings(caplog)[0]) is house.line.port.sets_rate


# ------------------------------------------------------------------------------------------------ a dead bus


@pytest.mark.parametrize("number", [2, 3, 4, 5, 60])
@pytest.mark.parametrize("was_good", [True, False])
def test_all_silent_is_told_once_before_the_first_meter_is_called_silent(
    caplog: pytest.LogCaptureFixture, number: int, *, was_good: bool
) -> None:
    house = House(number)
    if was_good:
        house.good()
    everybody = range(1, number + 1)
    house.bad(*everybody, *everybody)
    assert house.told == ["bus_silent"]
    opinion = house.bad(*everybody, *everybody)
    assert opinion.is_of_bus
    assert house.told == ["bus_silent"]
    (line,) = warnings(caplog)
    assert line.startswith("bus cellar: none of ")
    assert "Check that the converter feeds the bus" in line
    house.good(1)
    assert house.told == ["bus_silent", None]
    assert len(warnings(caplog)) == 1


def test_of_many_meters_that_used_to_answer_not_all_need_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    house = House(60)
    house.good()
    house.bad(*range(1, MANY))
    assert house.told == []
    house.bad(MANY)
    assert house.told == ["bus_silent"]
    assert caplog.records


def test_as_long_as_nobody_ever_answered_all_must_have_been_asked(caplog: pytest.LogCaptureFixture) -> None:
    house = House(60)
    house.bad(*range(1, 60))
    assert house.told == []
    house.bad(60)
    assert house.told == ["bus_silent"]
    assert caplog.records


def test_one_stray_byte_on_a_dead_bus_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    house = House(3)
    house.good()
    house.bad(1, after=b"\x55")
    house.bad(2, 3, 1, 2, 3)
    assert house.told == ["bus_silent"]
    house.bad(1, after=b"\x55")
    house.bad(2, 3, 1, 2, 3)
    assert house.told == ["bus_silent"]
    assert len(warnings(caplog)) == 1


def test_a_wrong_rate_is_named(caplog: pytest.LogCaptureFixture) -> None:
    house = House(3)
    house.bad(1, 2, 3, 1, 2, ack=b"\xfd", data=b"\xf7\xff")
    assert house.told == ["wrong_rate"]
    assert "the rate is wrong" in warnings(caplog)[0]


def test_what_changes_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    """First the supply was missing, then somebody switched the rate."""
    house = House(2)
    house.good()
    house.bad(1, 2, 1, 2)
    house.bad(*[1, 2] * 5, ack=b"\xfd", data=b"\xf7\xff")
    assert house.told == ["bus_silent", "wrong_rate"]
    assert len(warnings(caplog)) == 2


def test_an_answer_about_alarms_shows_that_the_bus_lives(caplog: pytest.LogCaptureFixture) -> None:
    house = House(2)
    house.bad(1, 2, 1, 2)
    house.health.answered()
    assert house.told == ["bus_silent", None]
    assert caplog.records


def test_what_was_before_the_port_was_opened_again_is_no_evidence() -> None:
    house = House(2)
    house.good()
    house.bad(1, 2)
    house.health.reopened()
    house.bad(1)
    assert house.told == []


# ------------------------------------------------------------------------------------------------ while others answer


CROWD = {"ack": E5, "data": bytes.fromhex("68 00 11 68 08 00 72")}


def test_two_meters_at_one_address_are_told_when_they_are_certain(caplog: pytest.LogCaptureFixture) -> None:
    house = House(3)
    house.good()
    for _ in range(2):
        assert not house.bad(2, **CROWD).is_of_bus
        house.good(3, 1)
    assert house.told == []
    assert house.bad(2, **CROWD).is_of_bus
    assert house.told == ["several_meters"]
    house.good(3, 1)
    house.bad(2, **CROWD)
    house.good(3, 1)
    assert house.told == ["several_meters"]
    house.good(2)
    assert house.told == ["several_meters", None]
    assert len(warnings(caplog)) == 1


def test_another_master_is_told_at_the_second_time(caplog: pytest.LogCaptureFixture) -> None:
    house = House(2)
    house.good()
    his = encode(ShortFrame(0x5B, 77))
    house.bad(1, ack=E5, data=his)
    house.good(2)
    assert house.told == []
    house.bad(1, ack=E5, data=his)
    assert house.told == ["another_master"]
    assert "10 5B 4D" in warnings(caplog)[0]


def test_a_trouble_that_is_left_is_told_when_the_greater_one_ends(caplog: pytest.LogCaptureFixture) -> None:
    house = House(3)
    house.good()
    for _ in range(3):
        house.bad(2, **CROWD)
        house.good(3, 1)
    house.bad(1, 3, 1, 3, 1, 3, 1, 3)
    house.good(1)
    assert house.told[0] == "several_meters"
    assert house.told[-1] == "several_meters"
    assert None not in house.told
    house.good(2)
    assert house.told[-1] is None
    assert caplog.records


# ------------------------------------------------------------------------------------------------ ports


@pytest.mark.parametrize(
    ("why", "todo"),
    [
        ("/dev/x: another program has this port open", "End that program (fuser -v PORT names it)"),
        ("/dev/x: permission denied; the user must be in the group", "Add the user to that group"),
        ("/dev/x: there is no such device; is the converter plugged in?", "Plug the converter in"),
    ],
)
def test_a_port_that_cannot_be_opened_says_what_to_do(why: str, todo: str) -> None:
    assert why in of_port(why)
    assert todo in of_port(why)
