"""Other decoders for bench.decode, each in a process of its own that waits for its turn.

pyMeterBus and pymbusparser come from PyPI into a venv beside this project's, libmbus out of node-mbus by npm and
through the C compiler. What cannot be had is told, and left out.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 300  # seconds for a download or a compilation
_TURN = """
import sys, time
versions = [[bytes.fromhex(word) for word in line.split()] for line in open(sys.argv[1])]
import logging
logging.disable(logging.CRITICAL)
{prepare}
for line in sys.stdin:
    done, begun = 0, time.process_time()
    for frames in versions:
        for frame in frames:
            try:
                {work}
                done += 1
            except Exception:
                pass
    print(time.process_time() - begun, done, flush=True)
"""
_PYTHON = {
    "pyMeterBus load": ("import meterbus", "meterbus.load(frame)"),
    "pyMeterBus load, to_JSON": ("import meterbus", "meterbus.load(frame).to_JSON()"),
    "pymbusparser (Rust) to JSON": ("import pymbusparser", "pymbusparser.m_bus_parse(frame.hex(), 'json')"),
}
_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "mbus-protocol.h"
typedef struct { unsigned char bytes[300]; int size; } answer;
static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}
int main(int count, char **words) {
    static char line[4000000];
    answer *all = calloc(200000, sizeof(answer));
    int versions = 0, each = 0, round;
    FILE *file = fopen(words[1], "r");
    while (fgets(line, sizeof line, file)) {
        each = 0;
        for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
            answer *one = &all[versions * 2000 + each++];
            for (one->size = 0; word[2 * one->size]; one->size++) {
                unsigned byte;
                sscanf(word + 2 * one->size, "%2x", &byte);
                one->bytes[one->size] = byte;
            }
        }
        versions++;
    }
    while (scanf("%d", &round) == 1) {
        int done = 0;
        double begun = seconds();
        for (int at = 0; at < each * versions; at++) {
            answer *one = &all[at / each * 2000 + at % each];
            mbus_frame frame;
            mbus_frame_data data;
            memset(&frame, 0, sizeof frame);
            memset(&data, 0, sizeof data);
            if (mbus_parse(&frame, one->bytes, one->size) != 0 || mbus_frame_data_parse(&frame, &data) != 0) continue;
            char *xml = mbus_frame_data_xml(&data);
            if (xml) done++;
            free(xml);
            if (data.data_var.record) mbus_data_record_free(data.data_var.record);
        }
        printf("%.9f %d\n", seconds() - begun, done);
        fflush(stdout);
    }
    return count < 2;
}
"""


class Missing(Exception):
    """A peer cannot be had, and why."""


@dataclass(slots=True)
class Peer:
    """One decoder at work on the telegrams of a file, in hex, blanks and ends of lines between."""

    name: str
    process: "subprocess.Popen[str]"
    decoded: int = 0

    def turn(self) -> float:
        """Processor seconds of all telegrams."""
        if self.process.stdin is None or self.process.stdout is None:
            raise Missing(f"{self.name} has no pipes")
        self.process.stdin.write("1\n")
        self.process.stdin.flush()
        seconds, decoded = self.process.stdout.readline().split()
        self.decoded = int(decoded)
        return float(seconds)

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(10)


def peers(folder: Path, telegrams: Path) -> Iterator[Peer]:
    """Those that can be had; `folder` keeps them for the next time."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = [(name, _of_python(folder, name)) for name in _PYTHON] if _has(_venv, folder) else []
    if _has(_libmbus, folder):
        makers.append(("libmbus (C) parse to XML", [str(_driver(folder))]))
    for name, command in makers:
        yield Peer(name, subprocess.Popen([*command, str(telegrams)], stdin=-1, stdout=-1, text=True))  # noqa: S603


def _has(make: Callable[[Path], None], folder: Path) -> bool:
    """Whether a peer is there, or could be made."""
    try:
        make(folder)
    except (Missing, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"left out: {error}\n")
        return False
    return True


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - the tools of this bench
        command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    if done.returncode:
        raise Missing(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def _python(folder: Path) -> Path:
    return folder / "venv" / "bin" / "python"


def _venv(folder: Path) -> None:
    """PyMeterBus and pymbusparser in a venv."""
    if not _python(folder).exists():
        _run([sys.executable, "-m", "venv", "venv"], folder)
    _run([str(_python(folder)), "-m", "pip", "install", "-q", "pyMeterBus", "pymbusparser"], folder)


def _of_python(folder: Path, name: str) -> list[str]:
    prepare, work = _PYTHON[name]
    return [str(_python(folder)), "-c", _TURN.format(prepare=prepare, work=work)]


def _driver(folder: Path) -> Path:
    return folder / "libmbus-driver"


def _libmbus(folder: Path) -> None:
    """Libmbus with a driver around it, compiled with -O2."""
    for tool in ("npm", "cc"):
        if shutil.which(tool) is None:
            raise Missing(f"libmbus needs {tool}, which is not installed")
    source = folder / "package" / "libmbus"
    if not source.exists():
        archive = _run(["npm", "pack", "--silent", "node-mbus"], folder).split()[-1]
        _run(["tar", "xzf", archive], folder)
    if not (source / "mbus" / "mbus-protocol.c").exists():
        raise Missing("node-mbus has no libmbus/mbus/mbus-protocol.c any more")
    (folder / "driver.c").write_text(_C, "utf-8")
    inside = ["-I", str(source), "-I", str(source / "mbus")]
    code = str(source / "mbus" / "mbus-protocol.c")
    _run(["cc", "-O2", "-w", *inside, "-o", str(_driver(folder)), "driver.c", code, "-lm"], folder)
