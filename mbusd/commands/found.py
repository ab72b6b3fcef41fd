"""What a scan has found, for people, for programs and for the configuration file."""

import json
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from rich import box
from rich.table import Table

from mbusd.exact_json import JsonValue
from mbusd.line.transport import Port
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.media import medium_name
from mbusd.mbus.telegram import Header
from mbusd.scanning.reach import address_of, answering, remark
from mbusd.scanning.scanner import Finding, Survey


def line(finding: Finding, answered: Collection[int | None]) -> str:
    """One meter in one line; `answered` are the primary addresses that somebody has answered by then."""
    parts = [_who(finding)]
    if finding.primary is not None:
        parts.append(f"primary address {finding.primary}")
    if finding.address is not None:
        parts.append(f"secondary address {finding.address}" + " (not selectable)" * _is_deaf(finding))
    if finding.baudrate is not None:
        parts.append(f"at {finding.baudrate} Bd")
    return " · ".join([*parts, *filter(None, (_remark(finding, answered),))])


def table(survey: Survey) -> Table:
    """All meters, one a row."""
    answered = answering(survey)
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("primary", "secondary", "maker", "version", "medium", "remark"):
        result.add_column(title, justify="right" if title == "primary" else "left", no_wrap=title != "remark")
    for finding in survey.findings:
        header = _header(finding)
        cells = [] if header is None else [header.manufacturer, header.version]
        medium = "" if header is None or header.medium is None else medium_name(header.medium).replace("_", " ")
        first = ["" if value is None else str(value) for value in (finding.primary, finding.address)]
        middle = ["" if value is None else str(value) for value in cells or ("", "")]
        rate = [] if finding.baudrate is None else [f"at {finding.baudrate} Bd"]
        said = _remark(finding, answered) or "not selectable" * _is_deaf(finding)
        result.add_row(*first, *middle, medium, "; ".join([*rate, *filter(None, (said,))]))
    return result


def document(port: Port, survey: Survey, verdict: str | None) -> dict[str, JsonValue]:
    """The whole survey; `address` is what `mbusd read` takes."""
    return {
        "port": port.name,
        "baudrate": port.baudrate,
        "complete": survey.is_complete,
        "probes": survey.probes,
        "meters": [_meter(finding, port, answering(survey)) for finding in survey.findings],
        "remarks": list(survey.remarks()),
        "diagnosis": verdict,
    }


def _meter(finding: Finding, port: Port, answered: Collection[int | None]) -> dict[str, JsonValue]:
    header, address = _header(finding), address_of(finding)
    medium = None if header is None else header.medium
    return {
        "address": None if address is None else str(address),
        "primary": finding.primary,
        "secondary": None if finding.address is None else finding.address.digits,
        "baudrate": finding.baudrate or port.baudrate,
        "selectable": finding.is_selectable,
        "fabrication": finding.fabrication,
        "manufacturer": None if header is None else header.manufacturer,
        "id": None if header is None else header.identification,
        "version": None if header is None else header.version,
        "medium": medium,
        "medium_name": None if medium is None else medium_name(medium),
        "remark": _remark(finding, answered) or None,
    }


def configuration(port: Port, survey: Survey) -> str:
    """The `buses:` block for the configuration file, each meter by its safest address."""
    lines = ["buses:", f"  - name: {_quoted(_bus_name(port))}", f"    port: {_quoted(port.name)}"]
    lines += [f"    baudrate: {port.baudrate}"]
    usable = [(finding, address) for finding in survey.findings if (address := address_of(finding)) is not None]
    taken: set[str] = set()
    answered = answering(survey)
    lines += ["    meters:"] if usable else ["    meters: []"]
    for finding, address in usable:
        name = _name(finding, taken)
        taken.add(name)
        lines.append(f"      - name: {name}")
        text = f'"{address}"' if isinstance(address, SecondaryAddress) else str(address)
        lines.append(f"        address: {text}  # {_comment(finding, answered)}")
        lines += [f"        baudrate: {finding.baudrate}"] * (finding.baudrate is not None)
    lost = [finding for finding in survey.findings if address_of(finding) is None]
    lines += [f"    # {_one_line(line(finding, answered))}" for finding in lost]
    lines += [f"    # {_one_line(text)}" for text in survey.remarks()]
    lines += ["    # the scan is not complete: there may be more meters"] * (not survey.is_complete)
    return "\n".join(lines)


def _comment(finding: Finding, answered: Collection[int | None]) -> str:
    parts = [_who(finding)]
    is_by_primary = address_of(finding) == finding.primary
    if finding.primary is not None and not is_by_primary:
        parts.append(f"primary address {finding.primary}")
    if finding.address is not None and is_by_primary:
        parts.append(f"secondary address {finding.address}")
    return _one_line(", ".join([*parts, *filter(None, (_remark(finding, answered),))]))


def _remark(finding: Finding, answered: Collection[int | None]) -> str:
    """What is particular about a meter, and whether it can be read at all, or is there at all."""
    parts = [text for text in (remark(finding, answered),) if text]
    if finding.fabrication is not None:
        parts.append(f"this one has fabrication number {finding.fabrication}")
    elif finding.address is not None and finding.safest is None:
        parts.append("it cannot be read until it has an address of its own: connect it alone and use mbusd set-address")
    return "; ".join(parts)


def _is_deaf(finding: Finding) -> bool:
    """It has a secondary address but cannot be selected by it, though nobody else has the same."""
    return finding.address is not None and not finding.is_selectable and not finding.remark


def _who(finding: Finding) -> str:
    header = _header(finding)
    if header is None or header.identification is None:
        return "a meter"
    maker = header.manufacturer or "unknown maker"
    medium = "" if header.medium is None else f", {medium_name(header.medium).replace('_', ' ')}"
    version = "" if header.version is None else f", version {header.version}"
    return f"{maker} {header.identification}{medium}{version}"


def _header(finding: Finding) -> Header | None:
    return None if finding.telegram is None else finding.telegram.header


def _name(finding: Finding, taken: set[str]) -> str:
    """Medium and identification, and the fabrication number where only that tells it from another.

    A number behind it where that is taken.
    """
    header = _header(finding)
    medium = "meter" if header is None or header.medium is None else medium_name(header.medium)
    number = str(finding.primary) if finding.address is None else finding.address.identification
    whole = "_".join(filter(None, (medium, number, finding.fabrication)))
    name, again = whole, 2
    while name in taken:
        name = f"{whole}_{again}"
        again += 1
    return name


def _bus_name(port: Port) -> str:
    """The last part of a device's name, the host of a converter."""
    host = urlsplit(port.name).hostname if "://" in port.name else None
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", host or port.name.rstrip("/").rpartition("/")[2])
    return name or "bus"


def _quoted(text: str) -> str:
    """A JSON text is a YAML text."""
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) else json.dumps(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
