"""What a scan has found, for people, for programs and for the configuration file."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from rich import box
from rich.table import Table

from mbusd.exact_json import JsonValue
from mbusd.mbus.address import SecondaryAddress
from mbusd.mbus.media import medium_name
from mbusd.mbus.telegram import Header
from mbusd.scanner import Finding, Survey
from mbusd.transport import Port


def line(finding: Finding) -> str:
    """One meter in one line."""
    parts = [_who(finding)]
    if finding.primary is not None:
        parts.append(f"primary address {finding.primary}")
    if finding.address is not None:
        parts.append(f"secondary address {finding.address}" + " (not selectable)" * _is_deaf(finding))
    if finding.baudrate is not None:
        parts.append(f"at {finding.baudrate} Bd")
    return " · ".join(parts + [_remark(finding)] * bool(_remark(finding)))


def table(findings: Sequence[Finding]) -> Table:
    """All meters, one a row."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("primary", "secondary", "maker", "version", "medium", "remark"):
        result.add_column(title, justify="right" if title == "primary" else "left", no_wrap=title != "remark")
    for finding in findings:
        header = _header(finding)
        cells = [] if header is None else [header.manufacturer, header.version]
        medium = "" if header is None or header.medium is None else medium_name(header.medium).replace("_", " ")
        first = ["" if value is None else str(value) for value in (finding.primary, finding.address)]
        middle = ["" if value is None else str(value) for value in cells or ("", "")]
        rate = [] if finding.baudrate is None else [f"at {finding.baudrate} Bd"]
        remark = _remark(finding) or "not selectable" * _is_deaf(finding)
        result.add_row(*first, *middle, medium, "; ".join([*rate, *filter(None, (remark,))]))
    return result


def document(port: Port, survey: Survey, verdict: str | None) -> dict[str, JsonValue]:
    """The whole survey; `address` is what `mbusd read` takes."""
    return {
        "port": port.name,
        "baudrate": port.baudrate,
        "complete": survey.is_complete,
        "probes": survey.probes,
        "meters": [_meter(finding, port) for finding in survey.findings],
        "remarks": list(survey.remarks()),
        "diagnosis": verdict,
    }


def _meter(finding: Finding, port: Port) -> dict[str, JsonValue]:
    header = _header(finding)
    medium = None if header is None else header.medium
    return {
        "address": None if finding.safest is None else str(finding.safest),
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
        "remark": _remark(finding) or None,
    }


def configuration(port: Port, survey: Survey) -> str:
    """The `buses:` block for the configuration file, each meter by its safest address."""
    lines = ["buses:", f"  - name: {_quoted(_bus_name(port))}", f"    port: {_quoted(port.name)}"]
    lines += [f"    baudrate: {port.baudrate}"]
    usable = [finding for finding in survey.findings if finding.safest is not None]
    taken: set[str] = set()
    lines += ["    meters:"] if usable else ["    meters: []"]
    for finding in usable:
        name = _name(finding, taken)
        taken.add(name)
        address = finding.safest
        lines.append(f"      - name: {name}")
        text = f'"{address}"' if isinstance(address, SecondaryAddress) else str(address)
        lines.append(f"        address: {text}  # {_comment(finding)}")
        lines += [f"        baudrate: {finding.baudrate}"] * (finding.baudrate is not None)
    lines += [f"    # {_one_line(line(finding))}" for finding in survey.findings if finding.safest is None]
    lines += [f"    # {_one_line(remark)}" for remark in survey.remarks()]
    lines += ["    # the scan is not complete: there may be more meters"] * (not survey.is_complete)
    return "\n".join(lines)


def _comment(finding: Finding) -> str:
    parts = [_who(finding)]
    if finding.primary is not None and finding.safest != finding.primary:
        parts.append(f"primary address {finding.primary}")
    if finding.address is not None and finding.safest == finding.primary:
        parts.append(f"secondary address {finding.address}")
    return _one_line(", ".join(parts + [_remark(finding)] * bool(_remark(finding))))


def _remark(finding: Finding) -> str:
    """What is particular about a meter, and whether it can be read at all."""
    parts = [finding.remark] * bool(finding.remark)
    if finding.fabrication is not None:
        parts.append(f"this one has fabrication number {finding.fabrication}")
    if finding.address is not None and finding.fabrication is not None and finding.safest is None:
        whole = replace(finding.address, fabrication=finding.fabrication)
        parts.append(f'read it as "{whole}", under a name of its own')
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
    """Medium and identification; a number behind it where that is taken."""
    header = _header(finding)
    medium = "meter" if header is None or header.medium is None else medium_name(header.medium)
    number = str(finding.primary) if finding.address is None else finding.address.identification
    name = f"{medium}_{number}"
    again = 2
    while name in taken:
        name = f"{medium}_{number}_{again}"
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
