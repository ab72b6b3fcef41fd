"""What outlives a restart: the meters that scans have found, and notes of other rooms, in one small file.

The file is written seldom, for it may lie on an SD card, and whole or not at all. Without a folder everything is
remembered as long as the daemon lives.
"""

import asyncio
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import NoReturn

from mbusd import exact_json, sound_json
from mbusd.exact_json import JsonValue
from mbusd.light import dataclass
from mbusd.mbus.address import SecondaryAddress, parse_address
from mbusd.mbus.errors import AddressError
from mbusd.model import Identity, ScanMode
from mbusd.names import Names

log = logging.getLogger(__name__)

VERSION = 1
FILE = "state.json"
MOST_BYTES = 64 * 2**20  # a house with a thousand meters needs two of them
SAVE_SECONDS = 60.0  # between two writes, at the least
_NAMES = "names"
_MODES: tuple[ScanMode, ...] = ("primary", "secondary", "both")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A meter that a scan has found: the address to read it by, and who it is, as soon as it was read."""

    address: str
    found_at: datetime  # aware, UTC
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class _Bus:
    scanned: ScanMode | None = None  # what was looked for to the end, and not in vain
    meters: tuple[Remembered, ...] = ()
    port: str = ""  # where it was

    @property
    def is_blank(self) -> bool:
        """Nothing is known of it."""
        return self.scanned is None and not self.meters


class Memory:
    """What is known from earlier lives; `folder` None: nothing, and nothing is left to later ones."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE
        self._buses: dict[str, _Bus] = {}
        self._ports: dict[str, str] = {}
        self._notes: dict[str, JsonValue] = {}
        self._saved = ""
        self._is_changed = False
        self._trouble = ""
        self._writing = threading.Lock()

    @classmethod
    def load(cls, folder: Path | None) -> "Memory":
        """The memory in a folder, which is made if need be.

        A file that is none is put aside, and an entry that cannot be is left out: each costs nothing but itself.
        """
        memory = cls(folder)
        path = memory._path
        if path is None:
            log.info("nothing is remembered across restarts: there is no state_dir, and no $STATE_DIRECTORY")
            return memory
        try:
            memory._take(sound_json.loads(_text_in(path)))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            _put_aside(path, error)
            return cls(folder)
        return memory

    def settle(self, ports: Mapping[str, str]) -> dict[str, str]:
        """These are the buses, by name, and their ports; gives the earlier name of each that has another one now.

        A bus of a new name at the port of one that is gone is that one.
        """
        renamed = {}
        for name, port in ports.items():
            self._ports[name] = port
            bus = self._bus(name)
            old = next((old for old, bus in self._buses.items() if bus.port == port and old not in ports), None)
            if old is not None and bus.is_blank:
                renamed[name], bus = old, self._buses.pop(old)
                log.info("bus %s was called %s: what was found there is known", name, old)
            self._keep(name, bus)
        return renamed

    def meters(self, bus: str) -> tuple[Remembered, ...]:
        """What scans have found on a bus."""
        return self._bus(bus).meters

    def keep_meters(self, bus: str, meters: tuple[Remembered, ...]) -> None:
        """These are the meters of a bus that scans have found, and no others."""
        self._keep(bus, replace(self._bus(bus), meters=meters))

    def has_scanned(self, bus: str, mode: ScanMode) -> bool:
        """Whether a bus was looked through that way, to the end, and anybody was found there."""
        return self._bus(bus).scanned in (mode, "both")

    def note_scan(self, bus: str, mode: ScanMode) -> None:
        """A bus was looked through that way."""
        before = self._bus(bus)
        self._keep(bus, replace(before, scanned=mode if before.scanned in (mode, None) else "both"))

    def note(self, section: str) -> JsonValue:
        """What another room has noted last; None: nothing."""
        return self._notes.get(section)

    def set_note(self, section: str, value: JsonValue) -> None:
        """Note what can be written as JSON (mappings with text as keys); it comes back as JSON brings it back.

        What cannot, as a number that is none, is null.
        """
        # a copy: the other room may go on with its own
        plain: JsonValue = json.loads(exact_json.dumps(sound_json.sound(value)))
        if self._notes.get(section) != plain:
            self._notes[section] = plain
            self._is_changed = True

    @cached_property
    def names(self) -> Names:
        """Who goes by a secondary address."""
        return Names(self.note(_NAMES), partial(self.set_note, _NAMES))

    def move_note(self, section: str, to: str) -> None:
        """The section has another name now."""
        if section in self._notes:
            self._notes[to] = self._notes.pop(section)
            self._is_changed = True

    async def keep(self) -> NoReturn:
        """Save what has changed, now and then, until cancelled; and once more then."""
        try:
            while True:
                await asyncio.sleep(SAVE_SECONDS)
                text = self._news()
                if text is not None:
                    await asyncio.to_thread(self._write, text)
        finally:
            self.save()

    def save(self) -> None:
        """Save what has changed."""
        text = self._news()
        if text is not None:
            self._write(text)

    def _bus(self, name: str) -> _Bus:
        return self._buses.get(name, _Bus())

    def _keep(self, name: str, bus: _Bus) -> None:
        bus = replace(bus, port=self._ports.get(name, bus.port))
        if bus != self._bus(name):
            self._buses[name] = bus
            self._is_changed = True

    def _take(self, document: object) -> None:
        """Everything in a document that can be read; ValueError where it is none of ours."""
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise ValueError(f"it is no state of version {VERSION}")
        buses, notes = document.get("buses", {}), document.get("notes", {})
        if not isinstance(buses, dict) or not isinstance(notes, dict):
            raise ValueError("`buses` and `notes` are mappings")  # noqa: TRY004 - wrong content of a file
        faults: list[str] = []
        for name, entry in buses.items():
            self._buses[name], wrong = _bus_in(entry)
            faults += (f"{name}: {what}" for what in wrong)
        self._notes = notes
        if faults:
            what = (
                "%s: %d entries cannot be read and are left out, the first is of bus %s; what they told is found again"
            )
            log.warning(what, self._path, len(faults), faults[0])
        self._saved = self._text()

    def _text(self) -> str:
        buses: dict[str, JsonValue] = {name: _bus_document(bus) for name, bus in self._buses.items()}
        return exact_json.dumps({"version": VERSION, "buses": buses, "notes": self._notes}) + "\n"

    def _news(self) -> str | None:
        """What is to be written, if it is anything new."""
        if self._path is None or not self._is_changed:
            return None
        self._is_changed = False
        text = self._text()
        return None if text == self._saved else text

    def _write(self, text: str) -> None:
        """All of it or nothing: a new file takes the place of the old one when it is safely on the disk."""
        if self._path is None:
            return
        try:
            with self._writing:
                _replace(self._path, text)
        except OSError as error:
            self._is_changed = True
            why = error.strerror or str(error)
            if why != self._trouble:
                what = (
                    "the state cannot be saved in %s: %s; reading goes on, and what scans find is lost with a restart"
                )
                log.warning(what, self._path.parent, why)
            self._trouble = why
        else:
            if self._trouble:
                log.info("the state is saved in %s again", self._path.parent)
            self._saved, self._trouble = text, ""


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()  # half a file, on a disk that may be full
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or the new name is lost with the power
    finally:
        os.close(folder)


def _put_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(f"{path.name}.bad")
    try:
        path.replace(aside)
        what = f"it is put aside as {aside.name}"
    except OSError as trouble:
        what = f"it cannot be put aside: {trouble.strerror}"
    why = error.strerror if isinstance(error, OSError) else error
    log.warning("%s cannot be read (%s): %s; meters are looked for again", path, why, what)


def _bus_document(bus: _Bus) -> JsonValue:
    meters: list[JsonValue] = [
        {
            "address": one.address,
            "found_at": one.found_at.astimezone(UTC).isoformat(timespec="seconds"),
            "identity": None if one.identity is None else {part: getattr(one.identity, part) for part in _PARTS},
        }
        for one in bus.meters
    ]
    return {"port": bus.port, "scanned": bus.scanned, "meters": meters}


def _text_in(path: Path) -> str:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{size} bytes are no state")
    return path.read_text("utf-8")


def _bus_in(entry: JsonValue) -> tuple[_Bus, list[str]]:
    """What is known of a bus, and what of it cannot be read; if that are meters, it has to be looked through again."""
    if not isinstance(entry, dict) or not isinstance(entry.get("meters"), list):
        return _Bus(), [f"{_shown(entry)} is no bus"]
    meters, faults = [], []
    for one in entry["meters"]:
        try:
            meters.append(_meter_in(one))
        except ValueError as error:
            faults.append(str(error))
    scanned, port = entry.get("scanned"), entry.get("port", "")
    mode = next((mode for mode in _MODES if mode == scanned and not faults), None)
    if scanned not in (*_MODES, None):
        faults.append(f"{_shown(scanned)} is no mode of a scan")
    return _Bus(mode, tuple(meters), port if isinstance(port, str) else ""), faults


def _meter_in(entry: JsonValue) -> Remembered:
    match entry:
        case {"address": str(text), "found_at": str(moment), "identity": who}:
            try:
                parse_address(text)
                found_at = datetime.fromisoformat(moment).astimezone(UTC)
            except (AddressError, ValueError, OverflowError) as error:
                raise ValueError(f"{_shown(entry)} is no meter: {error}") from error
            return Remembered(text, found_at, _identity_in(who))
    raise ValueError(f"{_shown(entry)} is no meter")


_PARTS = {part.name: int | None if part.name in ("version", "medium") else str for part in fields(Identity)}
_MANUFACTURER = re.compile(r"([A-Z]{3}|0x[0-9A-F]{4})?")
_MEDIUM = re.compile(r"\w{1,64}", re.ASCII)


def _identity_in(entry: JsonValue) -> Identity | None:
    """Who it is; None where nobody can be that: it tells so itself when it is read."""
    if not isinstance(entry, dict) or not _PARTS.keys() <= entry.keys():
        return None
    if not all(isinstance(entry[part], kind) for part, kind in _PARTS.items()):
        return None
    who = Identity(*(entry[part] for part in _PARTS))
    try:
        SecondaryAddress(who.address)
    except AddressError:
        return None
    is_its_own = who.identification in ("", who.address[:8])
    are_bytes = all(part is None or 0 <= part <= 0xFF for part in (who.version, who.medium))
    are_names = _MANUFACTURER.fullmatch(who.manufacturer) and _MEDIUM.fullmatch(who.medium_name)
    return who if is_its_own and are_bytes and are_names else None


def _shown(entry: JsonValue) -> str:
    """As much of it as a log bears."""
    text = repr(entry)
    return text if len(text) <= 100 else f"{text[:100]}…"
