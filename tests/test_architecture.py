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
0 cron
0 deafness
0 exact_json
0 parity
0 printable
0 rfc2217
0 schedule
0 simulated_behaviour
0 simulated_writes
0 spool_file
0 strict_yaml
0 superposition
0 systemd
0 units
0 valve
0 virtual_terminal
0 mbus/errors
0 mbus/media
0 mbus/split
0 mbus/status
0 mbus/vif
0 sinks/echo
0 sinks/homeassistant_map

1 budget: clock
1 flood: valve
1 meter_fields: simulated_behaviour
1 model: exact_json
1 simulated_telegrams: simulated_behaviour
1 simulated_values: simulated_behaviour
1 spool: spool_file
1 timetable: cron
1 transport: parity rfc2217
1 watchdog: systemd
1 mbus/address: mbus/errors
1 mbus/frames: mbus/errors
1 mbus/joint: mbus/split
1 mbus/values: mbus/errors
1 sinks/inert: exact_json
1 commands/output: printable

2 condition: model
2 counting: model units
2 hearing: mbus/frames
2 memory: exact_json model mbus/address
2 meter_records: meter_fields simulated_behaviour simulated_values
2 opening: transport
2 shaping: model units
2 simulated_faults: mbus/errors mbus/frames
2 simulated_link: simulated_behaviour mbus/address mbus/frames
2 simulated_rests: simulated_behaviour mbus/frames
2 slots: model mbus/errors mbus/values
2 timing: mbus/frames
2 user_units: units mbus/values
2 mbus/gate: mbus/address mbus/frames
2 mbus/heads: mbus/address mbus/errors mbus/values mbus/vif
2 mbus/quirks: mbus/frames
2 mbus/twins: mbus/address mbus/media
2 sinks/entities: exact_json model sinks/homeassistant_map
2 sinks/requests: exact_json model
2 sinks/roll: model
2 sinks/state: exact_json model
2 sinks/steady: model
2 commands/tables: exact_json model printable

3 activity: condition model schedule
3 key_settings: shaping mbus/media
3 kindness: mbus/quirks
3 register: counting exact_json units
3 value_texts: slots mbus/errors mbus/values
3 virtual_meter: simulated_behaviour simulated_faults simulated_link simulated_rests simulated_telegrams \
    simulated_writes mbus/address mbus/frames
3 mbus/link: mbus/address mbus/errors mbus/frames mbus/quirks
3 mbus/records: mbus/errors mbus/heads mbus/values mbus/vif
3 sinks/absences: shaping
3 sinks/homeassistant: exact_json model sinks/entities sinks/inert
3 sinks/topics: exact_json model sinks/requests sinks/state

4 plausibility: counting exact_json model register units mbus/errors
4 shared_client: mbus/address mbus/frames mbus/gate mbus/link
4 simulator: simulated_behaviour simulated_faults superposition virtual_meter mbus/address mbus/errors mbus/frames
4 mbus/fixed: mbus/errors mbus/records mbus/values mbus/vif
4 mbus/layout: mbus/records
4 mbus/observation: mbus/address mbus/frames mbus/link
4 mbus/profile: mbus/records mbus/status
4 mbus/steps: mbus/address mbus/errors mbus/frames mbus/quirks mbus/records
4 sinks/alarms: model sinks/topics
4 sinks/announcements: exact_json sinks/entities sinks/homeassistant
4 sinks/emoncms: exact_json model units sinks/topics
4 sinks/outbox: sinks/topics
4 sinks/own_devices: exact_json sinks/entities sinks/homeassistant
4 sinks/stream: spool sinks/topics
4 sinks/window: sinks/topics

5 journal: model mbus/frames mbus/link mbus/observation
5 measures: model user_units mbus/profile mbus/records mbus/vif
5 meter_file: meter_fields meter_records simulated_behaviour simulated_faults simulated_values simulator mbus/address \
    mbus/errors
5 scalars: cron transport mbus/address mbus/quirks mbus/steps
5 shared_bus: shared_client transport mbus/address mbus/gate mbus/link
5 simulated_meters: simulated_values simulator
5 virtual_wire: simulated_rests simulator superposition mbus/frames
5 way: hearing timing transport mbus/address mbus/frames mbus/link mbus/observation
5 mbus/evidence: mbus/frames mbus/observation
5 mbus/named: mbus/profile mbus/records
5 mbus/telegram: mbus/address mbus/errors mbus/fixed mbus/frames mbus/layout mbus/records mbus/status

6 document: exact_json measures mbus/errors mbus/frames mbus/media mbus/records mbus/telegram
6 explain: exact_json units mbus/address mbus/errors mbus/frames mbus/media mbus/records mbus/status mbus/telegram
6 form: exact_json model slots mbus/frames mbus/telegram
6 pace_settings: condition cron key_settings scalars
6 survey: mbus/address mbus/observation mbus/telegram
6 virtual_bus: simulator virtual_terminal virtual_wire
6 ways: model slots value_texts mbus/heads mbus/named mbus/values
6 wire: hearing journal timing transport way mbus/frames mbus/link mbus/observation mbus/quirks
6 witness: mbus/errors mbus/frames mbus/link mbus/records mbus/telegram
6 mbus/diagnosis: mbus/evidence mbus/frames mbus/observation
6 mbus/fetching: mbus/address mbus/errors mbus/frames mbus/link mbus/quirks mbus/telegram
6 mbus/understanding: mbus/errors mbus/named mbus/profile mbus/records mbus/telegram mbus/values mbus/vif

7 haste: hearing journal transport way wire mbus/frames mbus/link
7 meaning: exact_json measures model slots value_texts ways mbus/heads mbus/named mbus/profile mbus/records \
    mbus/understanding
7 profile_shapes: mbus/address mbus/errors mbus/media mbus/profile mbus/records mbus/understanding mbus/vif
7 reach: survey mbus/address
7 settings: key_settings model pace_settings scalars shaping
7 mbus/following: mbus/address mbus/errors mbus/fetching mbus/frames mbus/link mbus/quirks mbus/telegram
7 commands/decode: document exact_json explain mbus/errors commands/output commands/tables

8 arguments: printable settings transport mbus/address
8 bus: deafness haste hearing journal model timing transport wire mbus/link mbus/observation
8 config: settings strict_yaml mbus/address mbus/errors
8 recognition: exact_json form meaning slots mbus/layout mbus/profile mbus/records mbus/status mbus/telegram
8 schema: exact_json key_settings settings
8 mbus/master: mbus/address mbus/errors mbus/fetching mbus/following mbus/link mbus/quirks mbus/telegram
8 sinks/announcer: model settings sinks/absences sinks/announcements sinks/homeassistant sinks/own_devices sinks/roll \
    sinks/topics
8 sinks/connection: settings sinks/topics
8 sinks/rota: settings

9 ear: bus parity transport mbus/frames
9 meter: activity budget condition cron kindness model pace_settings plausibility scalars schedule settings shaping \
    timetable mbus/address mbus/master mbus/quirks mbus/steps mbus/telegram
9 mbus/alarms: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/quirks mbus/telegram
9 mbus/exchanges: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/observation mbus/telegram
9 mbus/probe: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/telegram
9 mbus/sighting: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/observation mbus/telegram
9 sinks/publisher: exact_json model settings sinks/alarms sinks/announcer sinks/emoncms sinks/requests sinks/roll \
    sinks/steady sinks/topics
9 sinks/talk: spool sinks/connection sinks/echo sinks/outbox sinks/stream sinks/topics sinks/window
9 commands/simulate: config meter_file simulated_meters simulator virtual_bus mbus/address commands/output

10 agenda: meter model
10 health: meter model transport mbus/diagnosis mbus/observation
10 normalise: measures model recognition mbus/alarms mbus/frames mbus/media mbus/profile mbus/records mbus/telegram \
    mbus/understanding
10 overload: meter timetable
10 mbus/aiming: mbus/address mbus/errors mbus/frames mbus/link mbus/master mbus/sighting mbus/telegram
10 mbus/clamour: mbus/frames mbus/link mbus/observation mbus/probe
10 mbus/findings: mbus/address mbus/probe mbus/split
10 mbus/hurry: mbus/link mbus/probe
10 mbus/pairing: mbus/address mbus/exchanges mbus/frames mbus/link mbus/observation mbus/telegram
10 mbus/together: mbus/frames mbus/probe
10 sinks/mqtt: settings spool sinks/connection sinks/rota sinks/talk sinks/topics

11 profiles: normalise profile_shapes strict_yaml mbus/address mbus/errors mbus/frames mbus/profile mbus/telegram \
    mbus/understanding
11 roster: memory meter model normalise reach settings survey mbus/address
11 vigil: bus health meter model normalise transport mbus/alarms mbus/errors mbus/link
11 mbus/asking: mbus/address mbus/findings mbus/link mbus/probe
11 mbus/tap: mbus/exchanges mbus/frames mbus/pairing
11 mbus/written: mbus/address mbus/aiming mbus/sighting
11 commands/read: bus document ear exact_json normalise transport mbus/address mbus/diagnosis mbus/errors mbus/master \
    mbus/sighting commands/output commands/tables

12 attendance: bus health meter model normalise plausibility profiles roster shaping transport witness mbus/errors \
    mbus/link mbus/master
12 mbus/apart: mbus/address mbus/asking mbus/fetching mbus/findings mbus/probe mbus/split mbus/together mbus/twins
12 mbus/clocks: mbus/address mbus/aiming mbus/link mbus/master mbus/records mbus/values mbus/written
12 mbus/rates: mbus/address mbus/aiming mbus/link mbus/sighting mbus/written
12 mbus/writing: mbus/address mbus/aiming mbus/link mbus/master mbus/sighting mbus/written
12 commands/overheard: document exact_json normalise transport mbus/diagnosis mbus/exchanges mbus/frames mbus/link \
    mbus/observation mbus/tap mbus/telegram commands/output commands/tables

13 rounds: agenda attendance bus exact_json health meter model overload profiles roster vigil
13 writes: exact_json mbus/address mbus/aiming mbus/clocks mbus/link mbus/rates mbus/writing mbus/written
13 mbus/doubts: mbus/apart mbus/asking mbus/findings mbus/probe
13 commands/sniff: timing transport mbus/exchanges mbus/tap commands/output commands/overheard

14 changes: bus model settings writes mbus/address mbus/clocks mbus/link mbus/quirks mbus/rates mbus/sighting \
    mbus/writing mbus/written
14 mbus/search: mbus/address mbus/apart mbus/asking mbus/doubts mbus/findings mbus/joint mbus/probe mbus/split
14 commands/write: bus exact_json transport writes mbus/address mbus/aiming mbus/clocks mbus/errors mbus/frames \
    mbus/link mbus/observation mbus/rates mbus/sighting mbus/writing mbus/written commands/output

15 mbus/trail: mbus/asking mbus/search

16 scanner: survey mbus/address mbus/asking mbus/clamour mbus/hurry mbus/link mbus/observation mbus/probe mbus/search \
    mbus/trail

17 finder: model normalise reach scanner survey transport mbus/address mbus/errors
17 commands/found: exact_json reach scanner transport mbus/address mbus/media mbus/telegram

18 interludes: bus changes finder meter model roster settings transport writes mbus/address mbus/errors mbus/link
18 commands/scan: bus exact_json hearing scanner survey transport mbus/address mbus/diagnosis mbus/frames \
    mbus/observation mbus/probe mbus/search commands/found commands/output commands/tables

19 poller: bus exact_json health interludes memory meter model opening profiles roster rounds settings shared_bus \
    transport

20 buses: memory meter model poller profiles settings

21 orders: buses document model poller valve sinks/requests

22 app: __init__ buses clock config exact_json flood memory model orders profiles settings spool systemd watchdog \
    sinks/mqtt sinks/publisher sinks/requests sinks/topics

23 commands/configuration: app config printable profiles schema commands/output
23 commands/demo: app config printable profiles simulated_meters simulator virtual_bus commands/output

24 commands/words: __init__ arguments config printable transport writes mbus/diagnosis mbus/errors \
    commands/configuration commands/decode commands/demo commands/output commands/read commands/scan \
    commands/simulate commands/sniff commands/write

25 cli: commands/words

26 __main__: cli
"""

FOREIGN = {  # who may know which foreign library
    "serial": ("transport",),
    "serial_asyncio": ("transport",),
    "aiomqtt": ("sinks/connection",),
    "cronsim": ("cron",),
    "yaml": ("strict_yaml",),
    "pydantic": ("scalars", "key_settings", "pace_settings", "settings", "config", "strict_yaml", "profile_shapes"),
    "pydantic_core": ("strict_yaml",),
    "rich": ("commands/decode", "commands/found", "commands/read", "commands/scan", "commands/tables"),
    "amqtt": ("commands/demo",),
}

IO = ("asyncio", "time", "socket", "logging", "os", "select", "selectors", "ssl", "subprocess", "threading", "random")
WITHOUT = {  # what of the standard library a room must not touch; a folder stands for its rooms
    "mbus/": IO,
    "model": IO,
    "exact_json": IO,
    "units": IO,
    "schedule": IO,
    "timing": IO,
    "normalise": IO,
    "shaping": IO,
    "kindness": IO,
    **dict.fromkeys(("cron", "timetable", "condition", "activity", "budget"), IO),
    "document": IO,
    "explain": IO,
    **dict.fromkeys(("sinks/topics", "sinks/publisher", "sinks/announcements", "sinks/alarms", "sinks/emoncms"), IO),
    **dict.fromkeys(("sinks/homeassistant", "sinks/homeassistant_map", "sinks/entities"), IO),
    **dict.fromkeys(
        ("plausibility", "register", "counting", "recognition", "form", "slots", "meaning", "measures"), IO
    ),
    **dict.fromkeys(("ways", "value_texts", "user_units", "reach", "valve"), IO),
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
    **dict.fromkeys(
        ("transport", "parity", "rfc2217", "timing", "way", "hearing", "journal", "wire", "bus", "shared_bus"),
        "bus_side",
    ),
    **dict.fromkeys(("shared_client", "writes", "changes", "poller", "rounds", "agenda", "attendance"), "bus_side"),
    **dict.fromkeys(("vigil", "roster", "health", "interludes", "kindness", "meter", "schedule"), "bus_side"),
    **dict.fromkeys(("scanner", "survey", "finder", "normalise", "units", "shaping"), "bus_side"),
    **dict.fromkeys(("document", "explain"), "paper"),
    **dict.fromkeys(
        ("simulator", "simulated_values", "simulated_meters", "simulated_writes", "superposition"), "simulation"
    ),
    **dict.fromkeys(("simulated_behaviour", "simulated_faults", "simulated_link", "simulated_rests"), "simulation"),
    **dict.fromkeys(("simulated_telegrams", "virtual_meter", "virtual_wire", "virtual_terminal"), "simulation"),
    **dict.fromkeys(("meter_fields", "meter_records", "meter_file", "virtual_bus"), "simulation"),
    **dict.fromkeys(("model", "exact_json", "settings", "key_settings", "scalars", "config", "strict_yaml"), "shared"),
    **dict.fromkeys(
        ("profiles", "profile_shapes", "pace_settings", "clock", "memory", "spool", "spool_file", "schema"), "shared"
    ),
    **dict.fromkeys(("haste", "opening", "ear", "reach", "buses", "orders", "watchdog", "valve", "flood"), "bus_side"),
    **dict.fromkeys(("plausibility", "register", "counting", "budget", "timetable", "cron"), "bus_side"),
    **dict.fromkeys(("condition", "activity"), "bus_side"),
    **dict.fromkeys(
        ("recognition", "form", "slots", "meaning", "measures", "ways", "value_texts", "user_units"), "bus_side"
    ),
}
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
    if module.partition(".")[0] != "mbusd":
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
        else:
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
    simulation = {room for room, floor in FLOOR_OF.items() if floor == "simulation"}
    outside = {other for room in simulation for other in rooms[room][1]} - simulation
    assert outside == {"mbus/frames", "mbus/address", "mbus/errors"}, "it must not share the code that it tests"
    callers = {room for room in rooms if any(to.startswith("commands/") for to in rooms[room][1])}
    assert {room for room in callers if not room.startswith("commands/")} == {"cli"}


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
        ("simulator", "from mbusd.mbus.link import x", "simulator imports mbus/link, which its row does not name"),
        ("virtual_bus", "from mbusd.mbus import link", "virtual_bus imports mbus/link, which its row does not name"),
        ("poller", "import aiomqtt", "poller imports aiomqtt, which only sinks/connection may know"),
        ("app", "import rich.console", "app imports rich, which only commands/decode, commands/found, "),
        ("settings", "from yaml import load", "settings imports yaml, which only strict_yaml may know"),
        ("poller", "import requests", "poller imports requests, a foreign library that nobody may know"),
        ("poller", "from . import bus", "poller imports .: say the whole name"),
        ("poller", "__import__('mbusd.app')", "poller imports importlib, which it must not"),
        ("poller", "from mbusd.nowhere import x", "poller imports nowhere, which is not below it"),
        ("bus", "from mbusd.commands import read", "bus imports commands/read, which is not below it"),
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
    assert "sinks_connection --> settings & sinks_topics" in picture()


def picture() -> str:
    """The house as a Mermaid graph: floors as boxes, commands/ as one room, without what follows from other arrows."""
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
    return "commands" if room.startswith("commands/") else room


def _floor(room: str) -> str:
    folder = room.partition("/")[0]
    return FLOOR_OF.get(room) or folder


def _id(room: str) -> str:
    return room.replace("/", "_")


def _label(room: str) -> str:
    return "commands/" if room == "commands" else room.rpartition("/")[2]


def _draw() -> None:
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md needs a line {BEGIN} and a line {END}")
    readme.write_text(f"{before}{BEGIN}\n{picture()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    _draw()
