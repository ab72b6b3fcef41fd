"""What waits for the broker: in order, through kill -9, power loss, full disks and damaged files, within its bounds."""

import asyncio
import logging
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mbusd.app import SPOOL_FILE as FILE
from mbusd.spool import MEMORY_BYTES, Entry, Spool

NOON = 1795176000.0
DAY = 86400.0
MB = 1_000_000
TOPIC = "mbusd/flat_1/history"
READING = '{"time": "2026-11-20T12:00:00Z", "status": [], "energy": 37351, "volume": 561.08, "number": %d}'

KILLED = f"""
import itertools, sys
from pathlib import Path
from mbusd.spool import Spool
spool = Spool(Path(sys.argv[1]), {MB}, {DAY})
for number in itertools.count():
    spool.append("{TOPIC}", str(number), {NOON} + number)
    print(number, flush=True)
"""


OPEN: list[Spool] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def spool_in(folder: Path, most_bytes: int = MB, most_age: float = 30 * DAY) -> Spool:
    OPEN.append(Spool(folder / FILE, most_bytes, most_age))
    return OPEN[-1]


def fill(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        spool.append(TOPIC, str(number), NOON + number)


def after_power_loss(folder: Path) -> Spool:
    """What is on the disk now is all that there is."""
    after = folder.with_name(f"{folder.name} after")
    shutil.copytree(folder, after)
    return spool_in(after)


def waiting(spool: Spool) -> list[int]:
    """The payloads, oldest first."""
    found = spool.head(len(spool) + 10)
    assert len(found) == len(spool)
    assert [kept.number for kept in found] == sorted({kept.number for kept in found})
    return [int(kept.payload) for kept in found]


def drop_first(spool: Spool, count: int) -> None:
    spool.drop(kept.number for kept in spool.head(count))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def rewrite(folder: Path, statement: str) -> None:
    """Change the file as a failing disk might."""
    connection = sqlite3.connect(folder / FILE)
    connection.execute(statement)
    connection.commit()
    connection.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@contextmanager
def no_room() -> Iterator[None]:
    """A disk that takes no more, as good as it can be had without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes of a file: less than a page
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_waits_is_sent_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    fill(spool, 1, 2, 3)
    spool.extend(Entry(TOPIC, str(number), NOON) for number in (4, 5))
    first, *_ = spool.head(1)
    assert first == (first.number, TOPIC, "1", NOON + 1)
    drop_first(spool, 2)
    spool.close()
    later = spool_in(tmp_path)
    assert len(later) == 3
    fill(later, 6)
    assert waiting(later) == [3, 4, 5, 6]
    assert [kept.payload for kept in later.head(2)] == ["3", "4"]
    assert later.lost == 0


def test_no_file_is_there_while_nothing_waits(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    spool = spool_in(folder)
    assert spool.head(10) == ()
    spool.drop([1])
    spool.extend([])
    assert not folder.exists()
    fill(spool, 1, 2)
    assert (folder / FILE).exists()
    drop_first(spool, 2)
    assert list(folder.iterdir()) == []
    fill(spool, 3)
    assert waiting(spool) == [3]
    spool.close()
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_what_arrives_out_of_order_does_not_come_back(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    fill(spool, *range(6))
    numbers = [kept.number for kept in spool.head(6)]
    spool.drop([numbers[4], numbers[1]])
    spool.drop([numbers[1], 10**9])
    assert waiting(spool) == [0, 2, 3, 5]
    spool.close()
    assert waiting(spool_in(tmp_path)) == [0, 2, 3, 5]


def test_kill_9_takes_nothing_that_was_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / FILE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        returned = [int(process.stdout.readline()) for _ in range(100)]
        process.send_signal(signal.SIGKILL)
        returned += map(int, process.stdout)
    spool = spool_in(tmp_path)
    found = waiting(spool)
    assert found[: len(returned)] == returned == list(range(len(returned)))
    assert len(found) <= len(returned) + 1


@pytest.mark.parametrize("cut", [1, 100, 4000])
def test_a_power_loss_in_the_middle_of_a_write_takes_only_what_was_being_written(cut: int, tmp_path: Path) -> None:
    spool = spool_in(tmp_path / "state", 64 * MB)  # its log begins anew seldom: the last message is at its end
    fill(spool, *range(10))
    shutil.copytree(tmp_path / "state", tmp_path / "after")
    with (tmp_path / "after" / f"{FILE}-wal").open("r+b") as log:
        log.truncate(log.seek(0, 2) - cut)
    after = spool_in(tmp_path / "after")
    assert waiting(after) == list(range(9))
    fill(after, 9)
    assert waiting(after) == list(range(10))


def test_an_append_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    asked: list[str] = []
    fill(spool, 1)
    assert spool._file is not None  # noqa: SLF001 - the disk itself cannot be asked
    connection = spool._file._connection  # noqa: SLF001
    connection.set_trace_callback(asked.append)
    fill(spool, 2)
    assert asked[0] == "PRAGMA synchronous = FULL"
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_size_is_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    largest = 0
    for start in range(0, 20_000, 500):
        spool.extend(Entry(TOPIC, READING % number, NOON + number) for number in range(start, start + 500))
        largest = max(largest, size_of(tmp_path))
    for number in range(20_000, 20_200):
        spool.append(TOPIC, READING % number, NOON + number)
        largest = max(largest, size_of(tmp_path))
    assert MB * 0.8 < largest <= MB
    assert len(spool) > 4000
    assert spool.lost == 20_200 - len(spool)
    left = [kept.payload for kept in spool.head(30_000)]
    assert left == [READING % number for number in range(spool.lost, 20_200)]
    lost = spool.lost
    spool.close()
    later = spool_in(tmp_path)
    assert later.lost == lost
    drop_first(later, 30_000)
    assert len(later) == 0
    assert later.lost == lost
    fill(later, 1)
    later.close()
    assert spool_in(tmp_path).lost == 0  # it was told of them when they went


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, most_age=DAY)
    for hour in range(100):
        spool.append(TOPIC, str(hour), NOON + 3600 * hour)
    assert waiting(spool) == list(range(75, 100))
    assert spool.lost == 75
    spool.append(TOPIC, "100", NOON + 30 * DAY)
    assert waiting(spool) == [100]
    assert spool.lost == 100
    spool.close()
    assert spool_in(tmp_path).lost == 100


def test_a_clock_that_is_set_back_costs_nothing(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, most_age=DAY)
    for number, at in enumerate((NOON, NOON - 20 * DAY, NOON + 3600)):
        spool.append(TOPIC, str(number), at)
    assert waiting(spool) == [0, 1, 2]


def test_many_that_grow_too_old_at_once_do_not_make_the_file_larger(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, most_age=DAY)
    spool.extend(Entry(TOPIC, READING % number, NOON) for number in range(5000))
    spool.append(TOPIC, "5000", NOON + 2 * DAY)
    assert waiting(spool) == [5000]
    assert size_of(tmp_path) <= MB


def test_a_message_larger_than_the_file_may_be_is_lost_and_nobody_hurt(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    fill(spool, 1)
    spool.append(TOPIC, "x" * 2 * MB, NOON)
    fill(spool, 2)
    assert waiting(spool) == [2]
    assert spool.lost == 2


def test_without_a_folder_memory_keeps_what_it_can(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    spool = Spool(None, 64 * MB, DAY)
    fill(spool, *range(100))
    drop_first(spool, 10)
    spool.drop([spool.head(2)[1].number])
    assert waiting(spool) == [10, *range(12, 100)]
    spool.close()
    assert waiting(spool) == [10, *range(12, 100)]
    assert caplog.messages == [
        "what waits for the broker waits in memory only: there is no state_dir, and no $STATE_DIRECTORY"
    ]


def test_memory_is_bounded_by_size_and_age_too() -> None:
    spool = Spool(None, 64 * MB, DAY)
    for number in range(30):
        spool.append(TOPIC, str(number).ljust(MB // 2), NOON)
    left = waiting(spool)
    assert left == list(range(30 - len(left), 30))
    assert MEMORY_BYTES - MB < len(left) * MB // 2 <= MEMORY_BYTES
    assert spool.lost == 30 - len(left)
    spool.append(TOPIC, "30", NOON + 2 * DAY)
    assert waiting(spool) == [30]
    assert spool.lost == 30


def test_what_has_arrived_makes_room_in_memory() -> None:
    spool = Spool(None, 64 * MB, DAY)
    for number in range(12):
        spool.append(TOPIC, str(number).ljust(MB // 2), NOON)
    spool.drop(kept.number for kept in spool.head(12)[1:7])
    for number in range(12, 20):
        spool.append(TOPIC, str(number).ljust(MB // 2), NOON)
    assert waiting(spool) == [0, *range(7, 20)]
    assert spool.lost == 0


def test_a_full_disk_costs_nothing_and_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    spool = spool_in(tmp_path)
    fill(spool, *range(5))
    with no_room():
        fill(spool, *range(5, 20))
        assert waiting(spool) == list(range(20))
    (line,) = warnings(caplog)
    assert line.startswith(f"{tmp_path / FILE} cannot be used for what waits for the broker: ")
    assert line.endswith("; memory keeps the last 1 MB")
    fill(spool, 20)
    assert caplog.messages[-1] == f"{tmp_path / FILE} takes what waits for the broker again"
    with no_room():
        fill(spool, 21)
    assert warnings(caplog) == [line, line]
    spool.close()
    assert waiting(spool_in(tmp_path)) == list(range(22))


def test_what_arrives_while_the_disk_is_full_is_not_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_in(tmp_path)
    fill(spool, *range(5))
    with no_room():
        drop_first(spool, 2)
        assert waiting(spool) == [2, 3, 4]
        fill(spool, 5)
        drop_first(spool, 1)
        assert waiting(spool) == [3, 4, 5]
    fill(spool, 6)
    assert waiting(after_power_loss(tmp_path)) == [3, 4, 5, 6]
    assert len(warnings(caplog)) == 1


def test_a_full_disk_is_freed_when_all_has_arrived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = spool_in(tmp_path)
    fill(spool, *range(5))
    with no_room():
        fill(spool, 5)
        drop_first(spool, 6)
        assert len(spool) == 0
        assert list(tmp_path.iterdir()) == []
    assert len(warnings(caplog)) == 1


def test_what_could_not_be_dropped_before_the_end_is_dropped_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_in(tmp_path)
    fill(spool, *range(5))
    with no_room():
        drop_first(spool, 2)
    assert len(warnings(caplog)) == 1
    spool.close()
    assert waiting(spool_in(tmp_path)) == [2, 3, 4]


def test_the_log_of_a_file_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    """The power went while the file was taken away."""
    spool = spool_in(tmp_path / "state")
    fill(spool, 1, 2)
    shutil.copytree(tmp_path / "state", tmp_path / "after")
    (tmp_path / "after" / FILE).unlink()
    after = spool_in(tmp_path / "after")
    fill(after, 3)
    assert waiting(after) == [3]


def test_what_left_for_want_of_room_while_it_was_on_its_way_takes_nothing_with_it(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.append(TOPIC, "0", NOON)
    on_its_way = spool.head(1)
    spool.append(TOPIC, "x" * 2 * MB, NOON)
    fill(spool, 1)
    spool.drop(kept.number for kept in on_its_way)
    assert waiting(spool) == [1]


def test_a_folder_that_cannot_be_made_is_no_more_than_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("a file")
    spool = spool_in(tmp_path / "state")
    fill(spool, 1, 2, 3)
    assert waiting(spool) == [1, 2, 3]
    drop_first(spool, 1)
    assert waiting(spool) == [2, 3]
    assert len(warnings(caplog)) == 1
    (tmp_path / "state").unlink()
    fill(spool, 4)
    spool.close()
    assert waiting(spool_in(tmp_path / "state")) == [2, 3, 4]


def damaged_text(path: Path) -> None:
    path.write_text("this is no database, but it is as long as one" * 100)


def damaged_end(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(10_000)


def of_somebody_else(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE feeds (id INTEGER)")
    connection.close()


@pytest.mark.parametrize("damage", [damaged_text, damaged_end, of_somebody_else])
def test_a_damaged_file_is_put_aside(damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    earlier = spool_in(tmp_path)
    earlier.extend(Entry(TOPIC, READING % number, NOON) for number in range(1000))
    earlier.close()
    assert callable(damage)
    damage(tmp_path / FILE)
    content = (tmp_path / FILE).read_bytes()
    spool = spool_in(tmp_path)
    assert len(spool) == 0
    fill(spool, 1, 2)
    assert waiting(spool) == [1, 2]
    assert (tmp_path / f"{FILE}.broken").read_bytes() == content
    (line,) = warnings(caplog)
    assert line.startswith(f"{tmp_path / FILE} is damaged (")
    assert line.endswith(f"): it is put aside as {FILE}.broken; what waited in it for the broker is not sent")


def test_damage_that_shows_while_it_is_read_costs_what_was_there_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = spool_in(tmp_path)
    earlier.extend(Entry(TOPIC, "x" * 20_000, NOON) for _ in range(20))
    earlier.close()
    spool = spool_in(tmp_path)
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size_of(tmp_path) - 4096))
    spool.close()
    spool = spool_in(tmp_path)
    spool.head(100)
    fill(spool, 1)
    assert waiting(spool) == [1]
    assert len(warnings(caplog)) == 1
    assert (tmp_path / f"{FILE}.broken").exists()


def test_messages_in_a_file_that_breaks_while_it_is_used_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = spool_in(tmp_path)
    earlier.extend(Entry(TOPIC, "x" * 20_000, NOON) for _ in range(20))
    earlier.close()
    spool = spool_in(tmp_path)
    with (tmp_path / FILE).open("r+b") as file:
        file.truncate(4096 * 3)
    spool.head(100)
    assert (len(spool), spool.lost) == (0, 20)
    fill(spool, 1)
    assert waiting(spool) == [1]
    assert len(warnings(caplog)) == 1


def test_what_comes_when_the_file_turns_out_to_be_damaged_is_in_the_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_in(tmp_path / "state")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_text("somebody has put it there" * 100)
    fill(spool, 1)
    assert waiting(after_power_loss(tmp_path / "state")) == [1]
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "payload = '7'",
        "topic = 'mbusd/flat_2/history'",
        "payload = cast(x'ff' AS TEXT)",
        "payload = NULL",
        "at = 'x'",
        "at = cast(x'ff' AS TEXT)",
        "sum = cast(x'ff' AS TEXT)",
    ],
)
def test_a_message_that_the_disk_has_changed_is_lost_and_no_other(change: str, tmp_path: Path) -> None:
    """Nobody hears a value that no meter has sent."""
    earlier = spool_in(tmp_path)
    fill(earlier, 1, 2, 3)
    earlier.close()
    rewrite(tmp_path, f"UPDATE kept SET {change} WHERE number = 2")  # noqa: S608 - of this test
    spool = spool_in(tmp_path)
    assert [kept.payload for kept in spool.head(10)] == ["1", "3"]
    assert (len(spool), spool.lost) == (2, 1)
    fill(spool, 4)
    assert waiting(spool) == [1, 3, 4]
    spool.close()
    assert spool_in(tmp_path).lost == 1


def test_a_file_whose_tables_have_no_readable_names_any_more_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = spool_in(tmp_path)
    fill(earlier, 1)
    earlier.close()
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data.replace(b"CREATE TABLE kept", b"CR\xa0\xf4TE TABLE kept"))
    spool = spool_in(tmp_path)
    fill(spool, 2)
    assert waiting(spool) == [2]
    assert len(warnings(caplog)) == 1


def test_a_file_whose_own_count_the_disk_has_changed_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = spool_in(tmp_path)
    fill(earlier, 1)
    earlier.close()
    rewrite(tmp_path, "UPDATE lost SET number = cast(x'ff' AS TEXT)")
    spool = spool_in(tmp_path)
    fill(spool, 2)
    assert waiting(spool) == [2]
    assert "a number is missing in it" in warnings(caplog)[0]
    assert (tmp_path / f"{FILE}.broken").exists()


def test_a_moment_that_the_disk_has_changed_keeps_nobody_waiting(tmp_path: Path) -> None:
    earlier = spool_in(tmp_path, most_age=10.0)
    fill(earlier, 1, 2)
    earlier.close()
    rewrite(tmp_path, "UPDATE kept SET at = 'x' WHERE number = 1")
    spool = spool_in(tmp_path, most_age=10.0)
    fill(spool, 5)
    assert waiting(spool) == [2, 5]


def test_a_file_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, at REAL, topic TEXT, payload TEXT)")
    connection.execute("CREATE TABLE lost (number INTEGER)")
    connection.execute("INSERT INTO lost VALUES (4)")
    connection.execute("INSERT INTO kept VALUES (1, ?, ?, '1')", (NOON, TOPIC))
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    spool = spool_in(tmp_path)
    fill(spool, 2)
    assert waiting(spool) == [1, 2]
    assert spool.lost == 4


def test_an_empty_file_is_a_new_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).touch()
    spool = spool_in(tmp_path)
    assert list(tmp_path.iterdir()) == []
    fill(spool, 1)
    assert waiting(spool) == [1]
    assert warnings(caplog) == []


def test_two_daemons_with_one_folder_lose_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is on its way while the file becomes free is not taken for what an earlier life has left in it."""
    first = spool_in(tmp_path)
    fill(first, 1, 2, 3)
    second = spool_in(tmp_path)
    fill(second, 4, 5)
    assert waiting(second) == [4, 5]
    assert [line for line in warnings(caplog) if "another daemon with the same state_dir?" in line] == warnings(caplog)
    assert len(warnings(caplog)) == 1
    on_its_way = second.head(1)
    first.close()
    fill(second, 6)
    second.drop(kept.number for kept in on_its_way)
    assert waiting(second) == [1, 2, 3, 5, 6]


async def test_any_thread_may_call(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    await asyncio.gather(*(asyncio.to_thread(fill, spool, number) for number in range(20)))
    assert sorted(await asyncio.to_thread(waiting, spool)) == list(range(20))
    await asyncio.to_thread(spool.close)


def test_texts_of_any_kind_come_back_as_they_are_sent(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    for text in ("", "Wärme 水 \x00 end", "half a pair: \ud83d"):
        spool.append("küche", text, NOON)
    assert [kept.payload for kept in spool.head(5)] == ["", "Wärme 水 \x00 end", "half a pair: ?"]
    assert {kept.topic for kept in spool.head(5)} == {"küche"}
