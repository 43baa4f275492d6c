"""System calls of an atomic publication: readers see a whole file after any kill or error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STRACE = shutil.which("strace")
CALLS = "openat,write,fsync,mkdir,rename,unlink,unlinkat"
PROGRAM = """
import sys
from pathlib import Path
from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import publish_bytes
try:
    publish_bytes(Path(sys.argv[1]), b"new" * 1000)
except StorageError as error:
    print(error)
    sys.exit(3)
"""
REFUSAL = """
import sys
from pathlib import Path
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.http.pauses import HostGroup
from capture_pipeline.deployment.address_limits import AddressLimits
limits = AddressLimits(Path(sys.argv[1]), RateLimits())
if sys.argv[1].endswith("ban.json"):
    limits.refuse(HostGroup.REST, 418, 600.0)
limits.count_attempt()
"""
LIFE_OF_A_DOWNLOAD = """
import sys
from pathlib import Path
from capture_pipeline.klines.ingest.download import move_into_place
from capture_pipeline.lake.files import unpublish
folder = Path(sys.argv[1]).parent
partial = folder / "f.partial"
partial.write_bytes(b"zip")
move_into_place(partial, folder / "archives" / "f.zip")
unpublish(folder / "archives" / "f.zip")
"""

if STRACE is None and os.environ.get("TEST_TOOLS") == "required":
    raise RuntimeError("strace is needed here; install it")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(STRACE is None, reason="strace is not installed")]


def run_under_strace(
    target: Path, *options: str, program: str = PROGRAM
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Publish over `target` under strace; return the result and the calls on files in its folder."""
    log = target.parent.parent / "strace.log"
    command = [
        str(STRACE),
        "-f",
        "-y",
        "-o",
        str(log),
        "-e",
        f"trace={CALLS}",
        *options,
        sys.executable,
        "-c",
        program,
        str(target),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ended, [line for line in log.read_text().splitlines() if str(target.parent) in line]


def create_old_file(folder: Path) -> Path:
    """Create a file that exists already."""
    target = folder / "published" / "f"
    target.parent.mkdir()
    target.write_bytes(b"old")
    return target


def classify_calls(calls: list[str]) -> list[str]:
    """Classify the calls by file: the temporary file, the folder, or the rename."""
    found = []
    for line in calls:
        name = re.search(r"\b(openat|write|fsync|rename|unlink|unlinkat)\(", line)
        if name and name[1] in {"write", "fsync", "rename"}:
            found.append(f"{name[1]} {'file' if '.tmp' in line else 'folder'}")
    return found


def test_it_is_written_flushed_renamed_and_its_folder_flushed(tmp_path: Path) -> None:
    """Without one of the fsyncs, a loss of power may leave an empty file or none."""
    target = create_old_file(tmp_path)
    ended, calls = run_under_strace(target)
    assert ended.returncode == 0
    assert classify_calls(calls) == ["write file", "fsync file", "rename file", "fsync folder"]


def test_a_download_is_flushed_with_each_folder_that_names_it(tmp_path: Path) -> None:
    """The file is flushed before the rename, and the folder after each mkdir, rename and removal in it."""
    target = create_old_file(tmp_path)
    ended, calls = run_under_strace(target, program=LIFE_OF_A_DOWNLOAD)
    assert ended.returncode == 0, ended.stderr
    folder, steps = str(target.parent), []
    for line in calls:
        call = re.search(r"\b(fsync|mkdir|rename|unlink)\(", line)
        if call and not (call[1] == "unlink" and "ENOENT" in line):
            paths = re.findall(rf"{re.escape(folder)}[\w./]*", line)
            steps.append((call[1], paths[-1].removeprefix(folder) or "/"))
    assert steps == [
        ("mkdir", "/archives"),
        ("fsync", "/"),
        ("fsync", "/f.partial"),
        ("rename", "/archives/f.zip"),
        ("fsync", "/archives"),
        ("unlink", "/archives/f.zip"),
        ("fsync", "/archives"),
    ]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EROFS"])
def test_a_refusing_disk_leaves_the_old_file(call: str, error: str, tmp_path: Path) -> None:
    """The error is one line, and no temporary file is left."""
    target = create_old_file(tmp_path)
    # The interpreter writes nothing, flushes nothing and renames nothing before; with -B it caches no
    # bytecode.
    ended, calls = run_under_strace(
        target, "-E", "PYTHONDONTWRITEBYTECODE=1", "-e", f"inject={call}:error={error}:when=1"
    )
    assert ended.returncode == 3, ended.stderr
    assert "INJECTED" in "".join(calls)
    assert str(target) in ended.stdout
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["f"]


@pytest.mark.parametrize("call", ["write:1", "fsync:1", "rename:1", "fsync:2"])
def test_killed_at_any_call_the_file_is_the_old_one_or_the_new(call: str, tmp_path: Path) -> None:
    """The signal arrives before the system call takes effect."""
    target = create_old_file(tmp_path)
    name, _, when = call.partition(":")
    ended, _ = run_under_strace(
        target, "-E", "PYTHONDONTWRITEBYTECODE=1", "-e", f"inject={name}:signal=SIGKILL:when={when}"
    )
    assert ended.returncode in {-9, 137}
    assert target.read_bytes() == (b"new" * 1000 if call == "fsync:2" else b"old")


@pytest.mark.parametrize(
    ("name", "calls"),
    [("ban.json", ["write", "fsync", "rename", "fsync"]), ("attempt.json", ["write", "rename"])],
)
def test_ban_is_flushed_and_a_count_of_attempts_is_only_whole(
    name: str, calls: list[str], tmp_path: Path
) -> None:
    """A ban survives a loss of power; a connection does not wait for the disk."""
    (tmp_path / "state").mkdir()
    ended, found = run_under_strace(tmp_path / "state" / name, program=REFUSAL)
    assert ended.returncode == 0, ended.stderr
    assert [call.split()[0] for call in classify_calls(found)] == calls
