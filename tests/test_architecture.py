"""Who may import whom: imports point down, `mbus/` is pure, one file knows each foreign library.

`python -m tests.test_architecture` draws the picture of it anew into README.md.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mbusd"

# A room may import from lower rooms only (the number is its height), and of those only what its row names.
HOUSE = """
0 __init__
0 clock
0 configuration/files
0 exact_json
0 light
0 line/deafness
0 line/parity
0 line/rfc2217
0 pace/cron
0 pace/schedule
0 printable
0 simulation/behaviour
0 simulation/superposition
0 simulation/virtual_terminal
0 simulation/writes
0 spool_file
0 systemd
0 values/units
0 valve
0 mbus/errors
0 mbus/media
0 mbus/split
0 mbus/status
0 mbus/vif
0 sinks/echo
0 sinks/homeassistant_map
0 sinks/makers
0 sinks/obituaries
0 sinks/oddities
0 sinks/packed

1 configuration/durations: pace/cron
1 configuration/strict_yaml: configuration/files
1 flood: valve
1 line/transport: line/parity line/rfc2217
1 model: exact_json
1 names: exact_json
1 pace/budget: clock
1 pace/timetable: pace/cron
1 simulation/meter_fields: simulation/behaviour
1 simulation/telegrams: simulation/behaviour
1 simulation/values: simulation/behaviour
1 sound_json: exact_json
1 spool: spool_file
1 watchdog: systemd
1 mbus/address: mbus/errors
1 mbus/frames: mbus/errors
1 mbus/joint: mbus/split
1 mbus/values: mbus/errors
1 sinks/inert: exact_json
1 sinks/remains: exact_json
1 commands/output: printable

2 arguments: configuration/durations configuration/files line/transport printable mbus/address
2 line/hearing: mbus/frames
2 line/opening: line/transport
2 line/timing: mbus/frames
2 memory: exact_json model names sound_json mbus/address mbus/errors
2 pace/condition: model
2 simulation/faults: mbus/errors mbus/frames
2 simulation/link: simulation/behaviour mbus/address mbus/frames
2 simulation/meter_records: simulation/behaviour simulation/meter_fields simulation/values
2 simulation/rests: simulation/behaviour mbus/frames
2 trust/counting: model values/units
2 trust/past: mbus/frames
2 values/shaping: model values/units
2 values/slots: model mbus/errors mbus/values
2 values/user_units: values/units mbus/values
2 mbus/gate: mbus/address mbus/frames
2 mbus/heads: mbus/address mbus/errors mbus/values mbus/vif
2 mbus/quirks: mbus/frames
2 mbus/twins: mbus/address mbus/media
2 sinks/entities: exact_json model sinks/homeassistant_map
2 sinks/requests: exact_json model
2 sinks/roll: configuration/durations model
2 sinks/state: clock exact_json model
2 sinks/steady: model
2 commands/tables: exact_json model printable

3 configuration/key_settings: values/shaping mbus/media
3 pace/activity: model pace/condition pace/schedule
3 pace/kindness: mbus/quirks
3 simulation/virtual_meter: simulation/behaviour simulation/faults simulation/link simulation/rests \
    simulation/telegrams simulation/writes mbus/address mbus/frames
3 trust/register: exact_json trust/counting values/units
3 values/value_texts: values/slots mbus/errors mbus/values
3 mbus/link: mbus/address mbus/errors mbus/frames mbus/quirks
3 mbus/records: mbus/errors mbus/heads mbus/values mbus/vif
3 sinks/absences: values/shaping
3 sinks/homeassistant: exact_json model sinks/entities sinks/inert sinks/makers
3 sinks/topics: exact_json model sinks/requests sinks/state
3 sinks/undated: clock spool sinks/state

4 line/shared_client: mbus/address mbus/frames mbus/gate mbus/link
4 simulation/simulator: simulation/behaviour simulation/faults simulation/superposition simulation/virtual_meter \
    mbus/address mbus/errors mbus/frames
4 trust/ledger: trust/counting trust/register
4 mbus/fixed: mbus/errors mbus/records mbus/values mbus/vif
4 mbus/layout: mbus/records
4 mbus/observation: mbus/address mbus/frames mbus/link
4 mbus/profile: mbus/records mbus/status
4 mbus/steps: mbus/address mbus/errors mbus/frames mbus/quirks mbus/records
4 sinks/alarms: model sinks/topics
4 sinks/bus_reports: model sinks/topics
4 sinks/emoncms: clock exact_json model values/units sinks/topics sinks/undated
4 sinks/last_said: model sinks/topics
4 sinks/news: sinks/topics
4 sinks/outbox: sinks/topics
4 sinks/own_devices: exact_json sinks/entities sinks/homeassistant
4 sinks/stream: clock spool sinks/topics sinks/undated
4 sinks/window: sinks/topics

5 configuration/scalars: configuration/durations line/transport mbus/address mbus/quirks mbus/steps
5 line/journal: model mbus/frames mbus/link mbus/observation
5 line/shared_bus: line/shared_client line/transport mbus/address mbus/gate mbus/link
5 line/way: line/hearing line/timing line/transport mbus/address mbus/frames mbus/link mbus/observation
5 simulation/meter_file: simulation/behaviour simulation/faults simulation/meter_fields simulation/meter_records \
    simulation/simulator simulation/values mbus/address mbus/errors
5 simulation/meters: simulation/simulator simulation/values
5 simulation/virtual_wire: simulation/rests simulation/simulator simulation/superposition mbus/frames
5 trust/plausibility: exact_json model trust/counting trust/ledger trust/register values/units mbus/errors
5 values/measures: model values/user_units mbus/profile mbus/records mbus/vif
5 mbus/evidence: mbus/frames mbus/observation
5 mbus/named: mbus/profile mbus/records
5 mbus/telegram: mbus/address mbus/errors mbus/fixed mbus/frames mbus/layout mbus/records mbus/status
5 mbus/verdict: mbus/observation

6 configuration/pace_settings: configuration/key_settings configuration/scalars pace/condition pace/cron
6 document: exact_json values/measures mbus/errors mbus/frames mbus/media mbus/records mbus/telegram
6 explain: exact_json values/units mbus/address mbus/errors mbus/frames mbus/media mbus/records mbus/status \
    mbus/telegram
6 line/wire: line/hearing line/journal line/timing line/transport line/way mbus/frames mbus/link mbus/observation \
    mbus/quirks
6 scanning/survey: mbus/address mbus/observation mbus/telegram
6 simulation/virtual_bus: simulation/simulator simulation/virtual_terminal simulation/virtual_wire
6 trust/misgivings: model trust/plausibility
6 trust/surprise: trust/counting trust/past mbus/errors mbus/frames mbus/heads mbus/telegram
6 trust/turns: model mbus/address mbus/errors mbus/verdict
6 values/form: exact_json model values/slots mbus/frames mbus/telegram
6 values/ways: model values/slots values/value_texts mbus/heads mbus/named mbus/values
6 mbus/diagnosis: mbus/evidence mbus/frames mbus/observation mbus/verdict
6 mbus/fetching: mbus/address mbus/errors mbus/frames mbus/link mbus/quirks mbus/telegram
6 mbus/understanding: mbus/errors mbus/named mbus/profile mbus/records mbus/telegram mbus/values mbus/vif
6 sinks/announcements: configuration/scalars exact_json sinks/entities sinks/homeassistant sinks/packed

7 configuration/profile_shapes: mbus/address mbus/errors mbus/media mbus/profile mbus/records mbus/understanding \
    mbus/vif
7 configuration/settings: configuration/key_settings configuration/pace_settings configuration/scalars model \
    values/shaping
7 line/haste: line/hearing line/journal line/transport line/way line/wire mbus/frames mbus/link
7 scanning/reach: scanning/survey mbus/address
7 trust/witness: trust/surprise mbus/errors mbus/frames mbus/link mbus/records mbus/telegram
7 values/meaning: exact_json model values/measures values/slots values/value_texts values/ways mbus/heads mbus/named \
    mbus/profile mbus/records mbus/understanding
7 mbus/following: mbus/address mbus/errors mbus/fetching mbus/frames mbus/link mbus/quirks mbus/telegram
7 commands/decode: document exact_json explain mbus/errors commands/output commands/tables
7 commands/simulate: configuration/files configuration/strict_yaml simulation/meter_file simulation/meters \
    simulation/simulator simulation/virtual_bus mbus/address commands/output

8 config: configuration/files configuration/settings configuration/strict_yaml mbus/address mbus/errors
8 configuration/schema: configuration/key_settings configuration/settings exact_json
8 line/bus: line/deafness line/haste line/hearing line/journal line/timing line/transport line/wire model mbus/link \
    mbus/observation
8 values/recognition: exact_json values/form values/meaning values/slots mbus/layout mbus/profile mbus/records \
    mbus/status mbus/telegram
8 mbus/master: mbus/address mbus/errors mbus/fetching mbus/following mbus/frames mbus/link mbus/quirks mbus/telegram
8 sinks/announcer: configuration/settings exact_json model values/shaping sinks/absences sinks/announcements \
    sinks/homeassistant sinks/oddities sinks/own_devices sinks/roll sinks/topics
8 sinks/connection: configuration/settings sinks/topics
8 sinks/rota: configuration/settings
8 sinks/said: configuration/settings model sinks/last_said sinks/news sinks/roll sinks/topics

9 line/ear: line/bus line/parity line/transport mbus/frames
9 polling/meter: configuration/durations configuration/pace_settings configuration/settings model names pace/activity \
    pace/budget pace/condition pace/cron pace/kindness pace/schedule pace/timetable trust/plausibility values/shaping \
    mbus/address mbus/master mbus/quirks mbus/steps mbus/telegram
9 mbus/alarms: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/quirks mbus/telegram
9 mbus/exchanges: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/observation mbus/telegram
9 mbus/probe: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/telegram
9 mbus/sighting: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/observation mbus/telegram
9 sinks/publisher: configuration/settings exact_json model sinks/absences sinks/alarms sinks/announcer \
    sinks/bus_reports sinks/emoncms sinks/oddities sinks/packed sinks/remains sinks/requests sinks/roll sinks/said \
    sinks/steady sinks/topics
9 sinks/talk: spool sinks/connection sinks/echo sinks/outbox sinks/stream sinks/topics sinks/window

10 normalise: model values/measures values/recognition mbus/alarms mbus/frames mbus/media mbus/profile mbus/records \
    mbus/telegram mbus/understanding
10 polling/agenda: model polling/meter
10 polling/health: line/transport model polling/meter mbus/diagnosis mbus/observation mbus/verdict
10 polling/overload: pace/timetable polling/meter
10 mbus/aiming: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/sighting mbus/telegram
10 mbus/clamour: mbus/frames mbus/link mbus/observation mbus/probe
10 mbus/findings: mbus/address mbus/probe mbus/split
10 mbus/hurry: mbus/link mbus/probe
10 mbus/pairing: mbus/address mbus/exchanges mbus/frames mbus/link mbus/observation mbus/telegram
10 mbus/together: mbus/frames mbus/probe
10 sinks/mqtt: configuration/settings spool sinks/connection sinks/obituaries sinks/rota sinks/talk sinks/topics

11 polling/roster: configuration/settings memory model normalise polling/meter scanning/reach scanning/survey \
    mbus/address
11 polling/vigil: clock line/bus line/transport model normalise polling/health polling/meter mbus/alarms mbus/errors \
    mbus/link
11 profiles: configuration/files configuration/profile_shapes configuration/strict_yaml normalise mbus/address \
    mbus/errors mbus/frames mbus/profile mbus/telegram mbus/understanding
11 mbus/asking: mbus/address mbus/findings mbus/link mbus/probe
11 mbus/tap: mbus/exchanges mbus/frames mbus/pairing
11 mbus/written: mbus/address mbus/aiming mbus/sighting
11 commands/read: document exact_json line/bus line/ear line/transport normalise mbus/address mbus/diagnosis \
    mbus/errors mbus/master mbus/sighting mbus/verdict commands/output commands/tables

12 polling/attendance: clock line/bus line/transport model normalise polling/health polling/meter polling/roster \
    profiles trust/misgivings trust/plausibility trust/surprise trust/turns trust/witness values/shaping mbus/address \
    mbus/errors mbus/link mbus/master
12 mbus/apart: mbus/address mbus/asking mbus/fetching mbus/findings mbus/probe mbus/split mbus/together mbus/twins
12 mbus/clocks: mbus/address mbus/aiming mbus/link mbus/master mbus/records mbus/values mbus/written
12 mbus/rates: mbus/address mbus/aiming mbus/link mbus/sighting mbus/written
12 mbus/writing: mbus/address mbus/aiming mbus/link mbus/master mbus/sighting mbus/written
12 commands/overheard: document exact_json line/transport normalise mbus/diagnosis mbus/exchanges mbus/frames \
    mbus/link mbus/observation mbus/tap mbus/telegram mbus/verdict commands/output commands/tables

13 polling/rounds: exact_json line/bus model polling/agenda polling/attendance polling/health polling/meter \
    polling/overload polling/roster polling/vigil profiles
13 writes: clock exact_json mbus/address mbus/aiming mbus/clocks mbus/link mbus/rates mbus/writing mbus/written
13 mbus/doubts: mbus/apart mbus/asking mbus/findings mbus/probe
13 commands/sniff: line/timing line/transport mbus/exchanges mbus/tap commands/output commands/overheard

14 changes: configuration/settings line/bus model writes mbus/address mbus/clocks mbus/link mbus/quirks mbus/rates \
    mbus/sighting mbus/writing mbus/written
14 mbus/search: mbus/address mbus/apart mbus/asking mbus/doubts mbus/findings mbus/joint mbus/probe mbus/split
14 commands/write: exact_json line/bus line/transport writes mbus/address mbus/aiming mbus/clocks mbus/errors \
    mbus/frames mbus/link mbus/observation mbus/rates mbus/sighting mbus/writing mbus/written commands/output

15 mbus/trail: mbus/asking mbus/search

16 scanning/scanner: scanning/survey mbus/address mbus/asking mbus/clamour mbus/hurry mbus/link mbus/observation \
    mbus/probe mbus/search mbus/trail

17 scanning/finder: line/transport model normalise scanning/reach scanning/scanner scanning/survey mbus/address \
    mbus/errors
17 commands/found: exact_json line/transport scanning/reach scanning/scanner mbus/address mbus/media mbus/telegram

18 polling/interludes: changes configuration/settings line/bus line/transport model polling/meter polling/roster \
    scanning/finder writes mbus/address mbus/errors mbus/link
18 commands/scan: exact_json line/bus line/hearing line/transport scanning/scanner scanning/survey mbus/address \
    mbus/diagnosis mbus/frames mbus/observation mbus/probe mbus/search mbus/verdict commands/found commands/output \
    commands/tables

19 poller: configuration/settings exact_json line/bus line/opening line/shared_bus line/transport memory model \
    polling/health polling/interludes polling/meter polling/roster polling/rounds profiles

20 buses: configuration/settings memory model poller polling/meter profiles

21 orders: buses document model poller valve sinks/requests

22 app: __init__ buses clock config configuration/settings exact_json flood memory model orders profiles spool \
    systemd watchdog sinks/mqtt sinks/publisher sinks/requests sinks/topics

23 commands/configuration: app config configuration/schema configuration/settings printable profiles commands/output
23 commands/demo: app config printable profiles simulation/meters simulation/simulator simulation/virtual_bus \
    commands/output

24 commands/words: __init__ arguments printable writes commands/configuration commands/decode commands/demo \
    commands/output commands/read commands/scan commands/simulate commands/sniff commands/write

25 commands/start: configuration/files line/transport mbus/diagnosis mbus/errors mbus/verdict commands/configuration \
    commands/output commands/words

26 cli: commands/start

27 __main__: cli
"""

STANDARD = ("mbusd.light",)  # stands in for a module of the standard library: any room may have it, no row names it

FOREIGN = {  # who may know which foreign library
    "serial": ("line/transport",),
    "serial_asyncio": ("line/transport",),
    "aiomqtt": ("sinks/connection",),
    "cronsim": ("pace/cron",),
    "yaml": ("configuration/strict_yaml",),
    "pydantic": (
        "configuration/scalars",
        "configuration/key_settings",
        "configuration/pace_settings",
        "configuration/settings",
        "config",
        "configuration/strict_yaml",
        "configuration/profile_shapes",
    ),
    "pydantic_core": ("configuration/strict_yaml",),
    "rich": ("commands/decode", "commands/found", "commands/read", "commands/scan", "commands/tables"),
    "amqtt": ("commands/demo",),
}

IO = ("asyncio", "time", "socket", "logging", "os", "select", "selectors", "ssl", "subprocess", "threading", "random")
WITHOUT = {  # what of the standard library a room must not touch; a folder stands for its rooms
    **dict.fromkeys(("mbus/", "pace/", "values/"), IO),
    **dict.fromkeys(("model", "exact_json", "sound_json", "normalise", "document", "explain", "valve"), IO),
    **dict.fromkeys(("line/timing", "scanning/reach"), IO),
    **dict.fromkeys(
        (f"trust/{room}" for room in ("plausibility", "ledger", "register", "counting", "surprise", "past")), IO
    ),
    **dict.fromkeys(("trust/turns", "trust/witness"), IO),
    **dict.fromkeys(("sinks/topics", "sinks/publisher", "sinks/announcements", "sinks/alarms", "sinks/emoncms"), IO),
    **dict.fromkeys(("sinks/homeassistant", "sinks/homeassistant_map", "sinks/entities", "sinks/last_said"), IO),
}

FLOORS = {  # of the picture; what is not named stands alone
    "entrance": "the entrance",
    "sinks": "sinks/: what the world sees",
    "bus_side": "bus side: time and bytes",
    "paper": "telegrams on paper",
    "simulation": "a bus without hardware",
    "shared": "what both sides share",
    "mbus": "mbus/: the protocol, pure",
}
FLOOR_OF = {
    **dict.fromkeys(("cli", "arguments", "commands", "app", "systemd"), "entrance"),
    **dict.fromkeys(("line", "pace", "polling", "scanning", "trust", "values", "normalise", "poller"), "bus_side"),
    **dict.fromkeys(("buses", "orders", "changes", "writes", "watchdog", "valve", "flood"), "bus_side"),
    **dict.fromkeys(("document", "explain"), "paper"),
    **dict.fromkeys(("model", "exact_json", "config", "configuration", "profiles", "printable"), "shared"),
    **dict.fromkeys(("clock", "light", "memory", "spool", "spool_file"), "shared"),
}
ONE_BY_ONE = ("mbus", "sinks")  # folders of which the picture shows every room
BEGIN, END = "<!-- architecture -->", "<!-- /architecture -->"


def house() -> dict[str, tuple[int, set[str]]]:
    """Height of each room, and what it may import."""
    rows = [line.partition(":") for line in HOUSE.splitlines() if line]
    return {head.split()[1]: (int(head.split()[0]), set(words.split())) for head, _, words in rows}


def files() -> dict[str, Path]:
    """All modules by the name of their room; an `__init__` of a folder is none."""
    found = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in PACKAGE.rglob("*.py")}
    return {room: path for room, path in found.items() if room == "__init__" or not room.endswith("__init__")}


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Everything that a source text imports, wherever it stands: module, and the name taken from it or nothing."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)
        elif isinstance(node, ast.Name) and node.id == "__import__":
            yield "importlib", ""


def room_of(module: str, name: str, rooms: dict[str, tuple[int, set[str]]]) -> str | None:
    """The room that an import means; None where it is not of the house."""
    if module.partition(".")[0] != "mbusd" or module in STANDARD:
        return None
    path = "/".join(module.split(".")[1:])
    deeper = f"{path}/{name}".lstrip("/")
    return deeper if deeper in rooms else path or "__init__"


def complaints(room: str, source: str, rooms: dict[str, tuple[int, set[str]]]) -> list[str]:
    """What is wrong with the imports of a room."""
    found = []
    height, allowed = rooms[room]
    forbidden = {name for place, names in WITHOUT.items() if room == place or room.startswith(place) for name in names}
    for module, name in imported(source):
        if module.startswith("."):
            found.append(f"{room} imports {module}: say the whole name")
        elif (other := room_of(module, name, rooms)) is not None:
            if other not in rooms or rooms[other][0] >= height:
                found.append(f"{room} imports {other}, which is not below it")
            elif other not in allowed:
                found.append(f"{room} imports {other}, which its row does not name")
        elif module not in STANDARD:
            top = module.partition(".")[0]
            if top in FOREIGN and room not in FOREIGN[top]:
                found.append(f"{room} imports {top}, which only {', '.join(FOREIGN[top])} may know")
            elif top not in FOREIGN and top not in sys.stdlib_module_names:
                found.append(f"{room} imports {top}, a foreign library that nobody may know")
            elif top in forbidden or top == "importlib":
                found.append(f"{room} imports {top}, which it must not")
    return found


def edges() -> dict[str, set[str]]:
    """The imports of each room inside the house, as they are."""
    there = files()
    rooms = house() | {room: (0, set()) for room in there}  # only the names count here
    return {
        room: {other for module, name in imported(path.read_text("utf-8")) if (other := room_of(module, name, rooms))}
        for room, path in there.items()
    }


def test_every_file_has_its_row_and_every_row_its_file() -> None:
    rooms, there = house(), files()
    new = [_proposed(room, rooms) for room in sorted(set(there) - set(rooms))]
    assert (new, set(rooms) - set(there)) == ([], set()), (
        "new room? if it is at the right height, give it this row in HOUSE (tests/test_architecture.py)"
    )


@pytest.mark.parametrize("room", sorted(house()))
def test_a_room_imports_what_its_row_allows(room: str) -> None:
    if room not in files():
        pytest.skip("its file is gone; see above")
    assert complaints(room, files()[room].read_text("utf-8"), house()) == []


def test_rows_point_down_and_name_only_what_is_used() -> None:
    rooms, used = house(), edges()
    used = {room: used.get(room, set()) for room in rooms}
    up = [(room, other) for room, (height, allowed) in rooms.items() for other in allowed if rooms[other][0] >= height]
    unused = [(room, other) for room, (_, allowed) in rooms.items() for other in allowed - used[room]]
    assert (up, unused) == ([], []), "a permission that nobody uses is a hole in the wall"


def test_there_is_no_circle() -> None:
    assert len(list(TopologicalSorter(edges()).static_order())) == len(files())  # raises CycleError


def test_the_walls_that_must_stay() -> None:
    rooms = house()
    assert all(other.startswith("mbus/") for room in rooms if room.startswith("mbus/") for other in rooms[room][1])
    assert not [room for room in rooms if room.startswith("sinks/") if any("mbus/" in to for to in rooms[room][1])]
    simulation = {room for room in rooms if room.startswith("simulation/")}
    outside = {other for room in simulation for other in rooms[room][1]} - simulation
    assert outside == {"mbus/frames", "mbus/address", "mbus/errors"}, "it must not share the code that it tests"
    callers = {room for room in rooms if any(to.startswith("commands/") for to in rooms[room][1])}
    assert {room for room in callers if not room.startswith("commands/")} == {"cli"}


def test_the_daemon_carries_no_dataclass_of_the_standard_library() -> None:
    heavy = {
        room for room, path in files().items() if ("dataclasses", "dataclass") in imported(path.read_text("utf-8"))
    }
    assert {room for room in heavy if room.partition("/")[0] not in ("simulation", "commands")} == {"light"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_an_init_holds_a_docstring_and_at_most_the_version(path: Path) -> None:
    body = ast.parse(path.read_text("utf-8")).body
    assert ast.get_docstring(ast.Module(body, []))
    rest = [ast.unparse(statement).partition(" = ")[0] for statement in body[1:]]
    assert rest == (["__version__"] if path.parent == PACKAGE else [])


@pytest.mark.parametrize(
    ("room", "source", "complaint"),
    [
        ("mbus/frames", "from mbusd.mbus.link import exchange", "mbus/frames imports mbus/link, which is not below it"),
        ("mbus/frames", "import mbusd.mbus.frames", "mbus/frames imports mbus/frames, which is not below it"),
        ("mbus/link", "import asyncio", "mbus/link imports asyncio, which it must not"),
        ("mbus/link", "import os.path", "mbus/link imports os, which it must not"),
        ("mbus/link", "from mbusd import model", "mbus/link imports model, which its row does not name"),
        ("sinks/topics", "from mbusd.mbus import vif", "sinks/topics imports mbus/vif, which its row does not name"),
        ("sinks/topics", "def f():\n import logging", "sinks/topics imports logging, which it must not"),
        ("sinks/mqtt", "if TYPE_CHECKING:\n from mbusd.poller import Poller", "sinks/mqtt imports poller, which is"),
        (
            "simulation/simulator",
            "from mbusd.mbus.link import x",
            "simulation/simulator imports mbus/link, which its row does not name",
        ),
        (
            "simulation/virtual_bus",
            "from mbusd.mbus import link",
            "simulation/virtual_bus imports mbus/link, which its row does not name",
        ),
        ("poller", "import aiomqtt", "poller imports aiomqtt, which only sinks/connection may know"),
        ("app", "import rich.console", "app imports rich, which only commands/decode, commands/found, "),
        (
            "configuration/settings",
            "from yaml import load",
            "configuration/settings imports yaml, which only configuration/strict_yaml",
        ),
        ("poller", "import requests", "poller imports requests, a foreign library that nobody may know"),
        ("poller", "from . import bus", "poller imports .: say the whole name"),
        ("poller", "__import__('mbusd.app')", "poller imports importlib, which it must not"),
        ("poller", "from mbusd.nowhere import x", "poller imports nowhere, which is not below it"),
        ("line/bus", "from mbusd.commands import read", "line/bus imports commands/read, which is not below it"),
    ],
)
def test_an_import_that_points_the_wrong_way_is_seen(room: str, source: str, complaint: str) -> None:
    said = complaints(room, f"import json\n{source}\n", house())
    assert len(said) == 1
    assert said[0].startswith(complaint)


def test_imports_for_types_and_inside_of_functions_count() -> None:
    source = (
        "if TYPE_CHECKING:\n    import a.b\ndef f():\n    from c import d as e\ntry:\n    import f as g\nfinally: pass"
    )
    assert set(imported(source)) == {("a.b", ""), ("c", "d"), ("f", "")}


def test_the_picture_in_the_readme_is_the_house() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1, f"README.md needs a line {BEGIN} and a line {END}"
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == picture(), (
        "the picture in README.md is not the house any more; draw it: python -m tests.test_architecture"
    )


def _proposed(room: str, rooms: dict[str, tuple[int, set[str]]]) -> str:
    """The row that a room would have as it is."""
    others = edges()[room]
    height = 1 + max((rooms[other][0] for other in others if other in rooms), default=-1)
    return f"{height} {room}: {' '.join(sorted(others))}"


def test_the_picture_leaves_out_only_what_follows() -> None:
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
    assert "cli --> commands\n" in picture()
    assert "sinks_connection --> configuration & sinks_topics" in picture()


def picture() -> str:
    """The house as a Mermaid graph: floors as boxes, most folders as one room, without what follows from other arrows.

    Raises graphlib.CycleError where two of them lean on each other.
    """
    whole: dict[str, set[str]] = {}
    for room, others in edges().items():
        if not room.startswith("__"):
            to = whole.setdefault(_drawn(room), set())
            to |= {_drawn(other) for other in others if not other.startswith("__")} - {_drawn(room)}
    lines = ["```mermaid", "graph TD"]
    for floor, title in FLOORS.items():
        lines.append(f'  subgraph {floor}_floor["{title}"]')
        lines += [f'    {_id(room)}["{_label(room)}"]' for room in sorted(whole) if _floor(room) == floor]
        lines.append("  end")
    for room, others in sorted(reduced(whole).items()):
        if others:
            lines.append(f"  {_id(room)} --> {' & '.join(_id(other) for other in sorted(others))}")
    return "\n".join([*lines, "```"])


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph without the arrows that follow from longer ways."""
    below: dict[str, set[str]] = {}
    for room in TopologicalSorter(graph).static_order():
        below[room] = graph[room].union(*(below[other] for other in graph[room]))
    return {room: {to for to in others if not any(to in below[x] for x in others)} for room, others in graph.items()}


def _drawn(room: str) -> str:
    folder = room.partition("/")[0]
    return room if folder in ONE_BY_ONE else folder


def _floor(room: str) -> str:
    folder = room.partition("/")[0]
    return FLOOR_OF.get(room) or folder


def _id(room: str) -> str:
    return room.replace("/", "_")


def _label(room: str) -> str:
    return f"{room}/" if (PACKAGE / room).is_dir() else room.rpartition("/")[2]


def _draw() -> None:
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md needs a line {BEGIN} and a line {END}")
    readme.write_text(f"{before}{BEGIN}\n{picture()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    _draw()
