"""What outlives a restart, and a file that was damaged."""

import json
import logging
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from mbusd.memory import FILE, Memory, Remembered
from tests.sinks.readings import HEAT

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FOUND = (Remembered("123456782D2C0804", NOON, HEAT), Remembered("5", NOON))


def test_what_was_found_and_noted_is_known_to_the_next_life(tmp_path: Path) -> None:
    memory = Memory.load(tmp_path / "state")
    memory.keep_meters("cellar", FOUND)
    memory.note_scan("cellar", "secondary")
    memory.set_note("budgets of cellar", {"cellar/5": (date(2026, 11, 20), 3)})
    memory.save()
    later = Memory.load(tmp_path / "state")
    assert later.meters("cellar") == FOUND
    assert later.meters("attic") == ()
    assert later.has_scanned("cellar", "secondary")
    assert not later.has_scanned("cellar", "both")
    assert later.note("budgets of cellar") == {"cellar/5": ["2026-11-20", 3]}
    assert later.note("something else") is None
    later.note_scan("cellar", "primary")
    assert later.has_scanned("cellar", "both")
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [FILE]


def test_it_is_written_only_when_something_has_changed(tmp_path: Path) -> None:
    memory = Memory.load(tmp_path)
    memory.save()
    assert not (tmp_path / FILE).exists()
    memory.keep_meters("cellar", FOUND)
    memory.save()
    (tmp_path / FILE).unlink()
    memory.keep_meters("cellar", tuple(FOUND))
    memory.set_note("x", None)
    memory.save()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00" * 100,
        '{"version": 1',
        "[]",
        '{"version": 2, "buses": {}}',
        '{"version": 1, "buses": []}',
        '{"version": 1, "notes": 5}',
        "[" * 100_000,
    ],
)
def test_a_broken_file_is_put_aside(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text(text)
    memory = Memory.load(tmp_path)
    assert memory.meters("a") == ()
    assert (tmp_path / f"{FILE}.bad").read_text() == text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    memory.keep_meters("a", FOUND)
    memory.save()
    assert json.loads((tmp_path / FILE).read_text())["version"] == 1


def entry(
    address: str = "5", found_at: str = "2026-11-20T12:00:00+00:00", who: dict[str, object] | None = None
) -> dict[str, object]:
    """A meter as the file has it; `who`: what is different from HEAT in its identity, None: it has none."""
    return {"address": address, "found_at": found_at, "identity": None if who is None else asdict(HEAT) | who}


@pytest.mark.parametrize(
    "absurd",
    [
        None,
        7,
        {},
        entry("x"),
        entry("251"),
        entry("\ud800"),
        entry(found_at="noon"),
        entry(found_at="0001-01-01T00:00:00+14:00"),
    ],
)
def test_an_absurd_meter_costs_only_itself_and_the_certainty_that_none_is_missing(
    absurd: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"port": "/dev/a", "scanned": "both", "meters": [entry("7")]}
    bad = {"port": "/dev/b", "scanned": "both", "meters": [entry("5"), absurd, entry("6")]}
    document = {"version": 1, "buses": {"a": good, "b": bad}, "notes": {"x": 1}}
    (tmp_path / FILE).write_text(json.dumps(document))
    memory = Memory.load(tmp_path)
    assert [one.address for one in memory.meters("a")] == ["7"]
    assert [one.address for one in memory.meters("b")] == ["5", "6"]
    assert (memory.has_scanned("a", "both"), memory.has_scanned("b", "both")) == (True, False)
    assert memory.note("x") == 1
    (line,) = caplog.messages
    assert "1 entries cannot be read" in line
    assert "bus b" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE]


@pytest.mark.parametrize("bus", [None, [], {}, {"meters": None}, {"meters": [], "scanned": ["both"]}])
def test_an_absurd_bus_costs_only_itself(bus: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = {"port": 5, "scanned": "both", "meters": [entry("7")]}
    (tmp_path / FILE).write_text(json.dumps({"version": 1, "buses": {"a": good, "b": bus}, "notes": {}}))
    memory = Memory.load(tmp_path)
    assert [one.address for one in memory.meters("a")] == ["7"]
    assert (memory.meters("b"), memory.has_scanned("b", "both")) == ((), False)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "absurd",
    [
        {"address": "x"},
        {"address": HEAT.address[:8]},
        {"identification": "87654321"},
        {"version": 256},
        {"medium": -1},
        {"version": 10**17},
        {"manufacturer": "KAMSTRUP"},
        {"medium_name": "heat\n" * 1000},
        {"medium_name": "\ud800"},
    ],
)
def test_a_meter_that_is_said_to_be_nobody_tells_itself_who_it_is(absurd: dict[str, object], tmp_path: Path) -> None:
    bus = {"port": "", "scanned": "both", "meters": [entry("5", who=absurd), entry("6", who={})]}
    (tmp_path / FILE).write_text(json.dumps({"version": 1, "buses": {"a": bus}, "notes": {}}))
    memory = Memory.load(tmp_path)
    assert [one.identity for one in memory.meters("a")] == [None, HEAT]


def test_a_note_of_what_is_no_json_is_null_and_can_be_saved(tmp_path: Path) -> None:
    memory = Memory.load(tmp_path)
    memory.set_note("x", {"rate": float("inf"), "name": "\ud800", "\udfff": 1, "count": 10**400, "kept": [Decimal(1)]})
    memory.save()
    known = {"rate": None, "name": None, "count": None, "kept": [1]}
    assert memory.note("x") == Memory.load(tmp_path).note("x") == known


def test_a_file_that_fills_the_memory_of_the_machine_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(2**40)  # without anything in it
    assert Memory.load(tmp_path).meters("a") == ()
    assert f"{2**40} bytes are no state" in caplog.text


def test_without_a_folder_it_is_said_once_and_nothing_is_written(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        memory = Memory.load(None)
    memory.keep_meters("cellar", FOUND)
    memory.save()
    assert memory.meters("cellar") == FOUND
    assert [record.getMessage()[:35] for record in caplog.records] == ["nothing is remembered across restar"]


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "state")
    memory.keep_meters("cellar", FOUND)
    for _ in range(3):
        memory.save()
    assert len(caplog.records) == 1
    (tmp_path / "file").unlink()
    memory.save()
    assert Memory.load(tmp_path / "file" / "state").meters("cellar") == FOUND


def test_a_full_disk_is_one_line_and_the_state_is_saved_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    memory = Memory.load(tmp_path)
    new = tmp_path / "state.new"
    for found in (FOUND, FOUND[:1], FOUND):
        memory.keep_meters("cellar", found)
        new.symlink_to("/dev/full")
        memory.save()
        assert list(tmp_path.iterdir()) == []  # nor half a file
    lost = "reading goes on, and what scans find is lost with a restart"
    assert caplog.messages == [f"the state cannot be saved in {tmp_path}: No space left on device; {lost}"]
    memory.save()
    assert caplog.messages[1:] == [f"the state is saved in {tmp_path} again"]
    assert Memory.load(tmp_path).meters("cellar") == FOUND


def test_what_is_there_outlives_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory.load(tmp_path)
    memory.keep_meters("cellar", FOUND)
    memory.save()
    (tmp_path / "state.new").symlink_to("/dev/full")
    memory.keep_meters("cellar", ())
    memory.save()
    assert len(caplog.records) == 1
    assert Memory.load(tmp_path).meters("cellar") == FOUND


def test_a_file_that_cannot_be_moved_away_is_said_to_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text("{")
    (tmp_path / f"{FILE}.bad").mkdir()
    assert Memory.load(tmp_path).meters("a") == ()
    (line,) = caplog.messages
    assert line.endswith(": it cannot be put aside: Is a directory; meters are looked for again")


# ------------------------------------------------------------------------------------------------ names of buses


def test_a_bus_with_another_name_at_its_port_is_the_same_bus(tmp_path: Path) -> None:
    memory = Memory.load(tmp_path)
    assert memory.settle({"cellar": "/dev/a", "attic": "/dev/b"}) == {}
    memory.keep_meters("cellar", FOUND)
    memory.note_scan("cellar", "both")
    memory.set_note("budgets of cellar", {"5": 3})
    memory.save()
    later = Memory.load(tmp_path)
    assert later.settle({"basement": "/dev/a", "attic": "/dev/b"}) == {"basement": "cellar"}
    later.move_note("budgets of cellar", "budgets of basement")
    assert later.meters("basement") == FOUND
    assert later.has_scanned("basement", "both")
    assert later.meters("cellar") == ()
    assert (later.note("budgets of basement"), later.note("budgets of cellar")) == ({"5": 3}, None)


def test_a_bus_at_another_port_keeps_what_goes_with_its_name() -> None:
    memory = Memory()
    memory.settle({"cellar": "/dev/a"})
    memory.keep_meters("cellar", FOUND)
    assert memory.settle({"cellar": "/dev/b"}) == {}
    assert memory.meters("cellar") == FOUND


def test_nobody_inherits_from_a_bus_that_is_still_there_or_was_elsewhere() -> None:
    memory = Memory()
    memory.settle({"cellar": "/dev/a"})
    memory.keep_meters("cellar", FOUND)
    assert memory.settle({"cellar": "/dev/a", "attic": "/dev/b"}) == {}
    assert memory.settle({"attic": "/dev/b", "roof": "/dev/c"}) == {}
    assert memory.meters("roof") == ()
