"""scripts/: what they say where they cannot go on, and that the lock files hold what pyproject.toml asks for."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
LOCKS = ("requirements.lock", "requirements-demo.lock", "requirements-dev.lock")
PYTHON = shlex.quote(sys.executable)
TOOLS = ("cat", "cksum", "cut", "dirname", "env", "grep", "id", "mktemp", "rm", "sh", "tail")
TOO_OLD = '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n'
WITHOUT_VENV = f'#!/bin/sh\ncase $2 in *ensurepip*) exit 1 ;; esac\nexec {PYTHON} "$@"\n'
IN_VENV = f'#!/bin/sh\ncase $2 in pip) ;; "import pip") exit ;; *) exec {PYTHON} "$@" ;; esac\n'
NETWORK = "#!/bin/sh\necho 'E: no network' >&2\nexit 100\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the scripts need, in a path with a space, with an empty .venv and a bin/ that is all of the PATH."""
    root = tmp_path / "a clone"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for file in (*LOCKS, "pyproject.toml"):
        shutil.copy(ROOT / file, root)
    (root / ".venv").mkdir()
    (root / "bin").mkdir()
    for tool in TOOLS:
        (root / "bin" / tool).symlink_to(shutil.which(tool) or "")
    return root


def put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def said(root: Path, *words: str) -> tuple[int, list[str]]:
    """Exit code and lines of a script, started from elsewhere."""
    done = subprocess.run(  # noqa: S603
        [str(root / words[0]), *words[1:]],
        cwd="/",
        env={"PATH": str(root / "bin")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_a_script_is_a_program_for_every_shell(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert path.read_text("utf-8").startswith("#!/bin/sh\n")
    subprocess.run([shutil.which("sh") or "sh", "-n", str(path)], check=True)  # noqa: S603


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test"])
def test_python_that_is_too_old_is_named(clone: Path, script: str) -> None:
    put(clone / "bin" / "python3", TOO_OLD)
    assert said(clone, script) == (
        1,
        ["mbusd: Python 3.11 or newer is needed (Debian 12, Raspberry Pi OS 12 or newer have it); found: Python 3.9.2"],
    )


def test_a_missing_module_venv_is_named_with_its_package(clone: Path) -> None:
    put(clone / "bin" / "python3", WITHOUT_VENV)
    put(clone / "bin" / "apt-get", NETWORK)
    put(clone / "bin" / "sudo", NETWORK)
    code, lines = said(clone, "scripts/venv")
    package = f"python3.{sys.version_info.minor}-venv"
    if os.geteuid() == 0:
        assert lines.pop(0).startswith("mbusd: installing")
        assert lines == [
            f"mbusd: needed to make a virtual environment: {package} (apt-get install failed: E: no network)"
        ]
    else:
        assert lines == [f"mbusd: needed to make a virtual environment: {package} (sudo apt install {package})"]
    assert code == 1


def test_without_a_network_one_line_says_so(clone: Path) -> None:
    put(clone / ".venv" / "bin" / "python", IN_VENV + "echo ERROR: no route >&2\nexit 1\n")
    put(clone / ".venv" / "bin" / "pip", f"#!{clone}/.venv/bin/python\n")
    code, lines = said(clone, "scripts/venv", "requirements.lock")
    assert code == 1
    assert lines[1:] == [
        f"mbusd: packages could not be installed (no network?): ERROR: no route; all of it: {clone}/.venv/install.log"
    ]


def test_without_packages_no_debian_package_is_made(tmp_path: Path) -> None:
    python = Path("/usr/bin/python3")  # the one that the package is for
    code = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    is_python = python.exists() and subprocess.run([python, "-c", code], check=False).returncode == 0  # noqa: S603
    if shutil.which("dpkg-deb") is None or not is_python:
        pytest.skip("no machine to build a Debian package on")
    nothing = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done = subprocess.run(  # noqa: S603
        [str(ROOT / "scripts" / "deb"), str(tmp_path)],
        env={"PATH": os.environ["PATH"]} | nothing,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("mbusd: packages could not be built (no network?): ERROR: No matching distribution")
    assert not list(tmp_path.iterdir())


def test_what_fits_is_left_alone(clone: Path) -> None:
    put(clone / ".venv" / "bin" / "python", IN_VENV + 'echo "$4" >>"${0%/*}/calls"\n')
    put(clone / ".venv" / "bin" / "pip", f"#!{clone}/.venv/bin/python\n")
    calls = clone / ".venv" / "bin" / "calls"
    assert len(said(clone, "scripts/venv", "requirements-dev.lock")[1]) == 1
    assert calls.read_text().split() == ["--require-hashes", "--no-deps"]  # the libraries, and mbusd itself
    for lock in LOCKS:  # the last holds the others
        assert said(clone, "scripts/venv", lock) == (0, [])
    (clone / "pyproject.toml").write_text("# changed")
    assert len(said(clone, "scripts/venv", "requirements-dev.lock")[1]) == 1
    assert len(calls.read_text().split()) == 4


def locked(name: str) -> dict[str, str]:
    """Name and version of all that a lock file holds, each of them with a hash."""
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", (ROOT / name).read_text("utf-8"), flags=re.MULTILINE))
    assert all("--hash=sha256:" in entry for entry in entries)
    return dict(entry.split()[0].split("==") for entry in entries)


@pytest.mark.parametrize(
    ("lock", "extras", "groups"),
    [(LOCKS[0], [], ["build"]), (LOCKS[1], ["demo"], ["build"]), (LOCKS[2], ["demo"], ["build", "dev"])],
)
def test_a_lock_file_holds_what_is_asked_for(lock: str, extras: list[str], groups: list[str]) -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = list(document["project"]["dependencies"])
    wanted += [text for extra in extras for text in document["project"]["optional-dependencies"][extra]]
    wanted += [text for group in groups for text in document["dependency-groups"][group] if isinstance(text, str)]
    versions = locked(lock)
    for requirement in map(Requirement, wanted):
        assert versions[requirement.name.lower()] in requirement.specifier, f"renew the lock files: {requirement}"
    assert versions.items() <= locked(LOCKS[-1]).items(), "one version in all lock files"
