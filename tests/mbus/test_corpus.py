"""Telegrams of real meters, where that folder is at hand: each decodes as judged, and no byte of them is lost."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import pytest

from mbusd.mbus.errors import DecodeError
from mbusd.mbus.frames import LongFrame, parse
from mbusd.mbus.media import medium_name
from mbusd.mbus.telegram import Telegram, decode

FOLDER = Path(__file__).parents[3] / "shared" / "telegrams"
HEADERS = {0x72: 12, 0x76: 12, 0x7A: 4, 0x78: 0}


class JudgedRecord(TypedDict):
    dib: str
    vib: str
    raw: str
    value: str | None
    unjudged: list[str]


class JudgedHeader(TypedDict):
    medium_name: str | None


class JudgedError(TypedDict):
    code: str


class Judged(TypedDict):
    id: str
    kind: str
    direction: str
    confidence: str
    header: JudgedHeader | None
    records: list[JudgedRecord]
    manufacturer_data: str | None
    more_records_follow: bool
    encrypted: bool
    error: JudgedError | None


@dataclass(frozen=True)
class Case:
    frame: bytes
    judged: Judged


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Answers of meters, good and bad; requests of masters and what was judged with doubt are left out."""
    if not FOLDER.exists():
        pytest.skip(f"the telegrams of real meters are not here: {FOLDER}")
    sent = map(json.loads, (FOLDER / "telegrams.jsonl").read_text("utf-8").splitlines())
    frames = {line["id"]: bytes.fromhex(line["hex"]) for line in sent}
    judged: list[Judged] = [json.loads(line) for line in (FOLDER / "expected.jsonl").read_text("utf-8").splitlines()]
    chosen = [line for line in judged if line["direction"] == "slave" and line["confidence"] != "doubtful"]
    return [Case(frames[line["id"]], line) for line in chosen]


@pytest.fixture(scope="module")
def good(cases: list[Case]) -> list[tuple[Telegram, Judged]]:
    return [(decoded(case.frame), case.judged) for case in cases if case.judged["kind"] == "ok"]


def decoded(data: bytes) -> Telegram:
    frame = parse(data)
    assert isinstance(frame, LongFrame)
    return decode(frame)


def test_every_good_telegram_decodes_to_its_end(good: list[tuple[Telegram, Judged]]) -> None:
    assert good
    assert [judged["id"] for telegram, judged in good if telegram.error is not None] == []


def test_records_have_the_bytes_and_values_that_they_should(good: list[tuple[Telegram, Judged]]) -> None:
    for telegram, judged in good:
        ours = [(record.dib, record.raw) for record in telegram.records]
        theirs = [(bytes.fromhex(record["dib"]), bytes.fromhex(record["raw"])) for record in judged["records"]]
        assert ours == theirs, judged["id"]
        for record, other in zip(telegram.records, judged["records"], strict=True):
            if "value" not in other["unjudged"] and record.quantity != "manufacturer_specific":
                assert (record.value is None) == (other["value"] is None), judged["id"]
            assert (record.value is not None) or record.problem


def test_what_follows_the_records(good: list[tuple[Telegram, Judged]]) -> None:
    for telegram, judged in good:
        assert (telegram.manufacturer_data or b"") == bytes.fromhex(judged["manufacturer_data"] or "")
        assert (telegram.more_follows, telegram.encrypted) == (judged["more_records_follow"], judged["encrypted"])


def test_media_have_their_names(good: list[tuple[Telegram, Judged]]) -> None:
    for telegram, judged in good:
        if telegram.header is not None and telegram.header.medium is not None:
            assert judged["header"] is not None
            assert medium_name(telegram.header.medium) == judged["header"]["medium_name"]


def test_no_byte_is_lost(good: list[tuple[Telegram, Judged]]) -> None:
    """Header, records, fillers and manufacturer data put together again are the data of the frame."""
    for telegram, judged in good:
        data = telegram.frame.data
        if telegram.frame.ci in HEADERS and not telegram.encrypted:
            assert put_together(telegram) == data, judged["id"]


def put_together(telegram: Telegram) -> bytes:
    data = telegram.frame.data
    built = data[: HEADERS[telegram.frame.ci]]
    for record in telegram.records:
        while data[len(built)] == 0x2F:
            built += b"\x2f"
        built += record.dib + record.vib
        if record.dib[0] & 0x0F == 0x0D:
            built += data[len(built) : len(built) + 1]
        built += record.raw
    while len(built) < len(data) and data[len(built)] in (0x00, 0x2F):
        built += data[len(built) : len(built) + 1]
    if telegram.manufacturer_data is not None:
        built += (b"\x1f" if telegram.more_follows else b"\x0f") + telegram.manufacturer_data
    return built


def test_bad_telegrams_are_refused_by_name(cases: list[Case]) -> None:
    for case in cases:
        if case.judged["kind"] == "error":
            assert case.judged["error"] is not None
            error = trouble(case.frame)
            if case.judged["error"]["code"] not in ("start", "checksum"):  # these are the frame's, not the telegram's
                assert error.code == case.judged["error"]["code"], case.judged["id"]


def trouble(data: bytes) -> DecodeError:
    try:
        telegram = decoded(data)
    except DecodeError as error:
        return error
    assert telegram.error is not None
    return telegram.error
