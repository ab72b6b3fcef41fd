"""Profile files: the shipped ones keep their word, mistakes in a user's are named with file, line and path."""

import json
import re
from pathlib import Path

import pytest

from mbusd import profiles
from mbusd.configuration.files import FileError
from mbusd.mbus import telegram
from mbusd.mbus.address import manufacturer_code
from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame, encode, parse
from mbusd.mbus.profile import Profile, merged, profiles_for
from mbusd.mbus.understanding import understand
from mbusd.values.measures import keys

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "mbusd" / "profile_data").iterdir())
CORPUS = ROOT.parent / "shared" / "telegrams" / "telegrams.jsonl"


def frame(records: str, maker: str = "XYZ", version: int = 1, medium: int = 4, status: int = 0) -> str:
    """An answer of a meter in hex, checksum and all."""
    code = manufacturer_code(maker).to_bytes(2, "little")
    header = bytes.fromhex("78563412") + code + bytes([version, medium, 7, status, 0, 0])
    return encode(LongFrame(0x08, 5, 0x72, header + bytes.fromhex(records))).hex()


HEAD = """profiles:
  - manufacturer: XYZ
    versions: 1
    name: A meter
    source: a test
"""


def load(folder: Path, text: str, head: str = HEAD) -> tuple[Profile, ...]:
    path = folder / "mine.yaml"
    path.write_text(head + text, "utf-8")
    return profiles.load(path, is_own=True)


def problems(folder: Path, text: str, head: str = HEAD) -> list[str]:
    with pytest.raises(FileError) as caught:
        load(folder, text, head)
    return [problem.removeprefix(f"{folder}/") for problem in caught.value.problems]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_keeps_its_word(path: Path) -> None:
    assert path.suffix == ".yaml"
    assert profiles.load(path), "each profile of it was tried on its own telegram"


def test_every_shipped_profile_carries_a_telegram_and_a_source() -> None:
    for path in SHIPPED:
        text = path.read_text("utf-8")
        count = len(re.findall(r"^  - manufacturer: ", text, re.MULTILINE))
        assert count == len(profiles.load(path))
        assert count == len(re.findall(r"^    test:$", text, re.MULTILINE)), f"{path.name}: a profile has no test"
        assert count == len(re.findall(r"^    source: ", text, re.MULTILINE))


def test_at_least_ten_makers_are_known() -> None:
    found = profiles.shipped()
    assert len({profile.manufacturer for profile in found}) >= 10
    assert not any(profile.is_own for profile in found)
    assert all(profile.origin for profile in found)


def test_no_meter_has_two_shipped_profiles() -> None:
    found = profiles.shipped()
    for profile in found:
        for version in range(256):
            for medium in range(256):
                if profile.fits(profile.manufacturer, version, medium):
                    assert len(profiles_for(found, profile.manufacturer, version, medium)) == 1


def test_the_shipped_profiles_on_telegrams_of_real_meters() -> None:
    """Nothing clashes, no number is lost, and what ABB, Saia and Schneider send is known by name."""
    if not CORPUS.exists():
        pytest.skip(f"{CORPUS} is not there")
    shipped, named = profiles.shipped(), set[str]()
    for line in CORPUS.read_text("utf-8").splitlines():
        try:
            read = parse(bytes.fromhex(json.loads(line)["hex"]))
            said = telegram.decode(read) if isinstance(read, LongFrame) else None
        except DecodeError:
            continue
        if said is None or said.header is None:
            continue
        header = said.header
        profile = merged(profiles_for(shipped, header.manufacturer or "", header.version, header.medium))
        understood = understand([said], profile)
        assert understood.problems == ()
        (after,) = understood.telegrams
        for before, now in zip(said.records, after.records, strict=False):  # those of the maker's block come last
            assert before.raw == now.raw
            assert before.kind == "raw" or before.value == now.value
        named.update(keys(after.records) if profile is not None else ())
    assert {"power_factor", "reactive_energy_backward", "voltage_l1_l2", "reactive_power_l3", "frequency"} <= named


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    (profile,) = load(
        tmp_path,
        f"""    media: [heat, 0x0C]
    medium: water
    status: {{names: {{5: leak}}, ignore: [7], usual: "27"}}
    ignore_vifes: ["00"]
    vifes: {{"01": l1}}
    records:
      - {{vib: "FF 1?", storage: 1-3, subunit: [1, 4-5], function: maximum, length: 2, quantity: power, unit: W,
         factor: 0.1, modifiers: [peak], becomes: {{tariff: 2}}, show: disabled}}
    data:
      - {{length: 2, starts: "AB", fields: [{{offset: 1, length: 1, type: uint, quantity: mode}}]}}
    test:
      telegram: "{frame("D2 80 40 FF 10 64 00 0F AB 07", status=0xA0)}"
      says: {{mode: 7, power_maximum_subunit_2_storage_1: 10}}
      status: [leak]
""".replace("subunit: [1, 4-5]", "subunit: [2, 4-5]").replace("modifiers: [peak], becomes: {tariff: 2}, ", ""),
    )
    assert profile.is_own
    assert profile.origin == "mine.yaml:2"
    assert profile.medium == 7
    assert profile.rules[0].subunits == ((2, 2), (4, 5))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("    quantites: 1\n", "mine.yaml:6: profiles[0].quantites: is not known here; known: manufacturer,"),
        ("    vife: {}\n", "mine.yaml:6: profiles[0].vife: is not known here; did you mean 'vifes'?"),
        (
            '    records:\n      - {vib: "04", quantitty: power}\n',
            "mine.yaml:7: profiles[0].records[0].quantitty: is not known here; did you mean 'quantity'?",
        ),
        (
            '    records:\n      - vib: "FF 0G"\n',
            "mine.yaml:7: profiles[0].records[0].vib: 'FF 0G' is no hex: pairs of 0-9 and A-F are",
        ),
        (
            "    records:\n      - vib: 13\n",
            "mine.yaml:7: profiles[0].records[0].vib: hex is put in quotes, 13 has none",
        ),
        (
            '    records:\n      - vib: ["04", "F"]\n',
            "mine.yaml:7: profiles[0].records[0].vib[1]: 'F' is no hex: pairs of 0-9 and A-F are",
        ),
        (
            '    records:\n      - {vib: "FF 0?", quantity: one}\n\n      - {vib: "FF 07", quantity: two}\n',
            "mine.yaml:9: profiles[0].records[1]: a record can fit this and the rule in line 7: which one is meant?",
        ),
        (
            "    data:\n      - fields:\n          - {offset: 0, length: 1, type: uint8, quantity: x}\n",
            "mine.yaml:8: profiles[0].data[0].fields[0].type: Input should be 'int', 'uint', 'bcd',",
        ),
        (
            "    data:\n      - fields:\n          - {offset: 0, length: 3, type: real, quantity: x}\n",
            "mine.yaml:8: profiles[0].data[0].fields[0]: 3 bytes are no real: 4 can be",
        ),
        (
            '    records:\n      - {vib: "FF 07", quantity: energy, unit: kWh}\n',
            "mine.yaml:7: profiles[0].records[0].unit: 'kWh' is no unit of the VIF tables:",
        ),
        (
            '    records:\n      - {vib: "FF 07", quantity: energy, unit: m3}\n',
            "mine.yaml:7: profiles[0].records[0]: energy is in J or Wh or cal, not in m3",
        ),
        (
            '    records:\n      - {vib: "FF 07", bits: {1: leak}}\n',
            "mine.yaml:7: profiles[0].records[0]: bits have names only where kind is bits",
        ),
        (
            '    records:\n      - {vib: "FF 07", kind: text, factor: 2}\n',
            "mine.yaml:7: profiles[0].records[0]: a factor is for a number, not for text",
        ),
        (
            '    records:\n      - {vib: "FF 07", factor: 0}\n',
            "mine.yaml:7: profiles[0].records[0].factor: a factor is a number other than 0",
        ),
        (
            '    records:\n      - {vib: "FF 07", quantity: Flow rate}\n',
            "mine.yaml:7: profiles[0].records[0].quantity: 'Flow rate' is no name here:",
        ),
        (
            '    records:\n      - {vib: "FF 07", storage: 5-2}\n',
            "mine.yaml:7: profiles[0].records[0].storage: '5-2' is no number and no range:",
        ),
        ("    media: heating\n", "mine.yaml:6: profiles[0].media: 'heating' is no medium:"),
        ("    status: {names: {1: busy}}\n", "mine.yaml:6: profiles[0].status.names"),
        ('    ignore_vifes: ["0000"]\n', "mine.yaml:6: profiles[0].ignore_vifes[0]: '0000' is not one byte in hex"),
        ("    name: B\n", "mine.yaml:6: profiles[0].name: stands there twice"),
    ],
)
def test_a_mistake_is_named_with_line_and_path(tmp_path: Path, text: str, complaint: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "mine.yaml:1: the file: a mapping (key: value) is needed here"),
        ("profiles: []\n", "mine.yaml:1: profiles:"),
        ("- a\n", "mine.yaml:1: the file: a mapping (key: value) is needed here"),
        ("profiles:\n  - name: [\n", "mine.yaml:3: while parsing a flow node expected the node content"),
        ("profiles: &a [*a]\n", "mine.yaml: an alias stands inside of what it means"),
        (
            "profiles:\n  - {manufacturer: XY, name: a, source: b}\n",
            "mine.yaml:2: profiles[0].manufacturer: 'XY' is no",
        ),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, complaint: str) -> None:
    (found,) = problems(tmp_path, text, head="")
    assert found.startswith(complaint)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = '    nmae: B\n    records:\n      - {vib: 1}\n      - {vib: "04", shows: normal}\n'
    assert [found.split(":")[1] for found in problems(tmp_path, text)] == ["6", "8", "9"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, "profiles:\n  - manufacturer: XYZ\n    name: A\n", head="")
    assert found == ["mine.yaml:2: profiles[0].source: is missing"]


TEST = """    records:
      - {{vib: "FF 07", quantity: power, unit: W}}
    test:
      telegram: "{hex}"
      says: {{{says}}}
"""


@pytest.mark.parametrize(
    ("records", "says", "complaint"),
    [
        ("02 FF 07 05 00", "power: 6", "mine.yaml:10: profiles[0].test.says.power: 6 is expected, 5 came"),
        ("02 FF 07 05 00", "power: null", "mine.yaml:10: profiles[0].test.says.power: null is expected, 5 came"),
        (
            "02 FF 07 05 00 02 FF 08 01 00",
            "flow: 5",
            "mine.yaml:10: profiles[0].test.says.flow: the telegram has no flow; it has power",
        ),
        (
            "02 FF 07 05 00 02 2B 01 00",
            "power: 1",
            "mine.yaml:9: profiles[0].test.telegram: the profile would name two values power; they keep their names",
        ),
    ],
)
def test_a_profile_that_does_not_keep_its_word_is_refused(
    tmp_path: Path, records: str, says: str, complaint: str
) -> None:
    assert problems(tmp_path, TEST.format(hex=frame(records), says=says)) == [complaint]


def test_the_status_of_the_test_must_be_right_too(tmp_path: Path) -> None:
    found = problems(tmp_path, TEST.format(hex=frame("02 FF 07 05 00", status=4), says="power: 5"))
    assert found == ["mine.yaml:8: profiles[0].test.status: nothing is expected, power_low came"]


def test_a_test_of_another_meter_or_with_a_typing_error_is_refused(tmp_path: Path) -> None:
    other = problems(tmp_path, TEST.format(hex=frame("02 FF 07 05 00", version=2), says="power: 5"))
    assert other == [
        "mine.yaml:9: profiles[0].test.telegram: the profile is not about XYZ, version 2, medium 4 (wrong_meter)"
    ]
    typed = problems(tmp_path, TEST.format(hex=frame("02 FF 07 05 00").replace("ff07", "ff08"), says="power: 5"))
    assert len(typed) == 1
    assert "would be right" in typed[0]


def test_a_bad_file_in_a_users_folder_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "a_bad.yaml").write_text("profiles: 1\n", "utf-8")
    (tmp_path / "b_good.yaml").write_text(HEAD, "utf-8")
    (tmp_path / "c_unreadable.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "readme.txt").write_text("not a profile", "utf-8")
    good, bad = profiles.in_folder(tmp_path)
    assert [profile.name for profile in good] == ["A meter"]
    assert bad == (
        f"{tmp_path}/a_bad.yaml:1: profiles: a list (- …) is needed here",
        f"{tmp_path}/c_unreadable.yaml: is not UTF-8 text",
    )


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    good, bad = profiles.in_folder(tmp_path / "none")
    assert good == ()
    assert bad == (f"{tmp_path / 'none'}: is no folder; profiles are *.yaml files in one",)


def test_the_examples_of_the_manual_work(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "profiles.md").read_text("utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example, "utf-8")
        assert profiles.load(path, is_own=True)
