"""What outlives a restart, and a file that was damaged."""

import json
import logging
from datetime import UTC, date, datetime
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
        '{"version": 1, "buses": {"a": {"meters": [{"address": "x", "found_at": "2026-11-20", "identity": null}]}}}',
        '{"version": 1, "buses": {"a": {"meters": [{"address": "5", "found_at": "noon", "identity": null}]}}}',
        '{"version": 1, "buses": {"a": {"meters": [{"address": "5", "found_at": "2026-11-20", "identity": {}}]}}}',
        '{"version": 1, "buses": {"a": {"meters": [], "scanned": "all"}}}',
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
