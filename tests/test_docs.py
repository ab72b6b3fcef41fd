"""What people read in docs/ is true: its YAML, commands, links, quotations, requests and figures."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbusd import config
from mbusd.commands import words
from mbusd.mbus.diagnosis import TABLE, Row
from mbusd.mbus.errors import DecodeError, Stale
from mbusd.mbus.frames import LongFrame, parse
from mbusd.mbus.quirks import QUIRKS
from mbusd.mbus.telegram import decode
from mbusd.names import of_two
from mbusd.pace.kindness import advice_on
from mbusd.sinks.emoncms import _NAMES
from mbusd.sinks.requests import REQUESTS
from mbusd.sinks.topics import Topics

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OTHERS = ("profiles.md", "docker.md", "home-assistant-os.md", "performance.md")  # looked at elsewhere
PAGES = {path.name: path.read_text("utf-8") for path in sorted(DOCS.glob("*.md")) if path.name not in OTHERS}
HOUR = 3600
WATER = 7


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Name of the page and text of each fenced block."""
    for name, text in PAGES.items():
        for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield name, block


def commands() -> Iterator[tuple[str, str]]:
    """Each line of a shell block, without its comment."""
    for name, block in blocks("sh"):
        for line in block.splitlines():
            yield name, line


def quotations() -> list[str]:
    return [line.removeprefix("> ") for text in PAGES.values() for line in text.splitlines() if line.startswith("> ")]


def section(page: str, title: str) -> str:
    return PAGES[page].partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("page", "block"), list(blocks("yaml")))
def test_yaml_is_a_configuration(page: str, block: str) -> None:
    assert config.parse(block, page, {}).buses


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_commands_are_ones(page: str, line: str) -> None:
    spoken = shlex.split(line, comments=True)
    spoken = spoken[: next((at for at, word in enumerate(spoken) if word in ("<", ">", "|")), len(spoken))]
    if spoken[0] in ("mbusd", ".venv/bin/mbusd"):
        given = ["/dev/ttyUSB0" if word == "PORT" else word for word in spoken[1:]]
        assert words._parser().parse_args(given), page  # noqa: SLF001 - the parser that the command line has
    if spoken[0].startswith("scripts/"):
        assert (ROOT / spoken[0]).stat().st_mode & 0o111, page


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        file, _, place = target.partition("#")
        there = DOCS / file if file else DOCS / page
        assert there.is_file(), target
        anchors = [re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings(there)]
        assert not place or place in anchors, target


def headings(file: Path) -> list[str]:
    return [line.lstrip("#").strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#")]


def test_the_list_names_every_page() -> None:
    listed = set(re.findall(r"\]\(([^)#]+)\)", PAGES["README.md"]))
    assert set(PAGES) - {"README.md"} <= listed


def says(row: Row, line: str) -> bool:
    """Whether a row of the table says this line, with whatever evidence."""
    return re.fullmatch(re.escape(row.what).replace(r"\{\}", ".*"), line) is not None


def other_sentences() -> list[str]:
    """What is said by others than the table."""
    advice = advice_on((), WATER, "auto", 60, None)
    literally = "the telegram is encrypted: it has no readable values", "another meter answers here now"
    sources = "".join(
        (ROOT / "mbusd" / name).read_text("utf-8") for name in ("values/recognition.py", "polling/attendance.py")
    )
    assert all(text in sources for text in literally)
    double = of_two(("cellar", "6"), "123456782D2C0804", ("cellar", "5"))
    return [str(advice), str(Stale()), double, *literally]


@pytest.mark.parametrize("line", quotations())
def test_what_it_is_said_to_print_is_what_it_prints(line: str) -> None:
    assert any(says(row, line) for row in TABLE) or line in other_sentences()


def test_a_telegram_of_the_maker_is_told_as_it_is() -> None:
    frame = parse(bytes.fromhex("68 05 05 68 08 05 B7 01 02 C7 16"))
    assert isinstance(frame, LongFrame)
    with pytest.raises(DecodeError) as error:
        decode(frame)
    assert f"`{error.value.message}`" in PAGES["troubleshooting.md"]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.code)
def test_everything_that_can_be_wrong_is_explained(row: Row) -> None:
    assert any(says(row, line) for line in quotations())


@pytest.mark.parametrize("reason", ["permission denied; the user", "another program has", "there is no such device;"])
def test_reasons_of_ports_are_those_of_the_transport(reason: str) -> None:
    assert any(reason in line for line in quotations())
    assert reason in (ROOT / "mbusd" / "line/transport.py").read_text("utf-8")


def requests() -> list[tuple[str, str]]:
    return re.findall(r"^\| `(\w+)` \| `({.*?})` \|", section("topics.md", "Requests"), re.MULTILINE)


def test_all_requests_are_listed() -> None:
    assert [name for name, _ in requests()] == list(REQUESTS)


@pytest.mark.parametrize(("name", "payload"), requests())
def test_examples_of_requests_are_understood(name: str, payload: str) -> None:
    asked = Topics().asked(f"mbusd/bridge/request/{name}", payload)
    assert asked is not None
    assert asked.error is None
    assert asked.command is not None
    assert asked.response_topic == f"mbusd/bridge/response/{name}"


def test_json_is_json() -> None:
    assert all(json.loads(block) for _, block in blocks("json"))


def test_the_password_is_handed_over_as_the_unit_shows() -> None:
    unit = (ROOT / "systemd" / "mbusd.service").read_text("utf-8").splitlines()
    ((page, block),) = blocks("ini")
    head, *lines = block.splitlines()
    assert (page, head) == ("first-hour.md", "[Service]")
    assert lines
    assert {f"#{line}" for line in lines} <= set(unit)


def test_names_for_emoncms_are_those_that_are_sent() -> None:
    told = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\S+) \|", section("topics.md", "emoncms"), re.MULTILINE)
    assert {key: (name, unit) for key, name, unit in told} == _NAMES


def test_what_makers_say_is_what_mbusd_knows() -> None:
    told = section("batteries.md", "What makers say")
    for quirk in QUIRKS:
        if quirk.rest is not None:
            number = {1920: "32 minutes", 4140: "69 minutes", HOUR: "every hour"}.get(
                int(quirk.rest), f"{quirk.rest / 60:g} minutes"
            )
            assert number in told, quirk


def read_out(size: int, exchanges: int) -> float:
    """Seconds, by the formula of the page at 2400 Bd."""
    return size * 11 / 2400 + exchanges * 0.1


def test_the_formula_is_the_one_that_is_reckoned_with() -> None:
    assert "seconds = bytes * 11 / rate + exchanges * pause" in PAGES["scale.md"]


def test_figures_of_one_wire() -> None:
    shape = r"^\| (one|three) telegrams? of (\d+) bytes, (\w+) \| (\d+) \| (\d+) \| ([\d.]+) \| (\d+) \| (\d+) \|"
    table = re.findall(shape, PAGES["scale.md"], re.MULTILINE)
    assert len(table) == 4
    for count, size, way, in_all, exchanges, seconds, a_minute, an_hour in table:
        telegrams, selection = {"one": 1, "three": 3}[count], 18 if way == "secondary" else 0
        assert int(in_all) == telegrams * (int(size) + 5) + selection
        assert int(exchanges) == telegrams + (way == "secondary")
        takes = read_out(int(in_all), int(exchanges))
        assert float(seconds) == round(takes, 2)
        assert (int(a_minute), int(an_hour)) == (int(60 / takes), int(HOUR / takes))


def test_figures_of_intervals() -> None:
    table = re.findall(r"^\| (\d+) \| (\d+) s \|$", PAGES["scale.md"], re.MULTILINE)
    assert len(table) == 5
    takes = read_out(103, 2)
    for meters, interval in table:
        assert int(interval) == round(2 * int(meters) * takes)
    assert f"use {round(100 * 250 * takes / HOUR)} %" in PAGES["scale.md"]


def test_figures_of_messages() -> None:
    page = PAGES["scale.md"].replace("\n", " ")
    assert f"{2000 * 21} messages an hour, {round(2000 * 21 / HOUR)} a second" in page
    assert f"{1000 * 100} documents an hour, {round(100_000 / HOUR)} a second" in re.sub(" +", " ", page)
    assert f"{round(100_000 * 21 / HOUR)} messages a second" in page
