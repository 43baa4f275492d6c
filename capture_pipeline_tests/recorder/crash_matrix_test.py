"""Crashes at every write, fsync, rename and truncation of a small session, with recovery.

At the end there is one valid file with valid checksums, and persisted == sent − ledger. CI runs a sample of
the matrix, `make crash-matrix` all of it.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from capture_pipeline.errors import CaptureError
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline_tests.support.sessions.crash_program import DEPTH, MISSING, TRADES, main

STRACE = shutil.which("strace")
ALL = os.environ.get("CRASH_MATRIX") == "all"
PROGRAM = "capture_pipeline_tests.support.sessions.crash_program"
CALLS = ("write", "fsync", "rename", "ftruncate", "unlink")
FAULTS = {"write": ("ENOSPC", "EIO"), "fsync": ("EIO",), "rename": ("EIO",), "ftruncate": (), "unlink": ()}
FIRST_RUN, SECOND_RUN = (1, 40), (41, 60)
SAMPLE = 7

if STRACE is None and os.environ.get("TEST_TOOLS") == "required":
    raise RuntimeError("strace is needed here; install it")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(STRACE is None, reason="strace is not installed")]


@dataclass(frozen=True)
class Crash:
    """Fault at the n-th call of a kind."""

    call: str
    number: int
    how: str

    def __str__(self) -> str:
        """Format the fault as strace expects it."""
        return f"inject={self.call}:{self.how}:when={self.number}"


def run(path: Path, log: Path, crash: Crash | None = None) -> subprocess.CompletedProcess[str]:
    """Run the session for the first time under strace."""
    inject = ["-e", str(crash)] if crash else []
    watched = [str(STRACE), "-f", "-y", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *inject]
    command = [*watched, sys.executable, "-B", "-m", PROGRAM, str(path), *(str(each) for each in FIRST_RUN)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="session")
def calls_without_fault(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the calls of a session without a fault."""
    folder = tmp_path_factory.mktemp("calls_without_fault")
    assert run(folder / "20260803T143000Z_btcusdt", folder / "log").returncode == 0
    return (folder / "log").read_text()


def matrix(calls_without_fault: str) -> list[Crash]:
    """Return the whole matrix, or an even sample of it."""
    counts = {call: len(re.findall(rf"\b{call}\(", calls_without_fault)) for call in CALLS}
    cases = [
        Crash(call, number, how)
        for call, count in counts.items()
        for number in range(1, count + 1)
        for how in ("signal=SIGKILL", *(f"error={error}" for error in FAULTS[call]))
    ]
    return cases if ALL else cases[:: max(1, len(cases) // SAMPLE)]


def check_recording(folder: SessionFolder, last_sent: int) -> None:
    """Check the recording: one file, in order, and persisted == sent − ledger."""
    assert not folder.segments()
    subprocess.run(["sha256sum", "-c", "--quiet", folder.checksums.name], cwd=folder.path, check=True)
    lines = [json.loads(line) for line in gzip.decompress(folder.recording.read_bytes()).splitlines()]
    stamps = [line["capture_ns"] for line in lines]
    assert stamps == sorted(set(stamps))
    gaps = read_gaps(folder.gaps)
    trades = [line["data"]["t"] for line in lines if line["stream"] == TRADES]
    lost = [
        number
        for gap in gaps
        if gap.stream == TRADES
        for number in range(gap.last_good_id + 1, gap.first_good_id)
    ]
    # Killed before the first batch, the session begins with what the second run sent: nothing precedes its
    # first id.
    assert trades[0] in {FIRST_RUN[0], SECOND_RUN[0]}
    assert sorted(trades + lost) == list(range(trades[0], trades[-1] + 1))
    assert trades[-1] in {FIRST_RUN[1], last_sent}
    assert set(lost) >= MISSING & set(range(trades[0], trades[-1]))
    ranges = [(line["data"]["U"], line["data"]["u"]) for line in lines if line["stream"] == DEPTH]
    holes = {(low[1], high[0]) for low, high in itertools.pairwise(ranges) if high[0] != low[1] + 1}
    account = json.loads(folder.metadata.read_bytes())["statistics"]["accounting"]
    assert (account["difference"], account["written"], account["end"]) == (0, len(lines), "closed")
    assert holes == {(gap.last_good_id, gap.first_good_id) for gap in gaps if gap.stream == DEPTH}


@pytest.mark.timeout(7200)
def test_a_session_survives_every_crash_and_every_refusal(calls_without_fault: str, tmp_path: Path) -> None:
    """After a kill at any call and a restart, or an error at any call, no loss is silent."""
    cases = matrix(calls_without_fault)
    assert len(cases) >= SAMPLE
    injected = 0
    for place, crash in enumerate(cases):
        folder = SessionFolder(tmp_path / str(place) / "20260803T143000Z_btcusdt")
        folder.path.parent.mkdir()
        log = folder.path.parent / "log"
        first = run(folder.path, log, crash)
        text = log.read_text()
        injected += "INJECTED" in text or "SIGKILL" in text
        if crash.how == "signal=SIGKILL":
            assert first.returncode in {-9, 137}, (crash, first.stderr)
        else:
            assert first.returncode in {0, 3}, (crash, first.stderr)
            assert "Traceback" not in first.stderr, (crash, first.stderr)
        try:
            main(folder.path, *SECOND_RUN)
            check_recording(folder, SECOND_RUN[1])
        except (AssertionError, CaptureError, subprocess.CalledProcessError) as error:
            raise AssertionError(f"{crash}: {error}") from error
        shutil.rmtree(folder.path.parent)
    assert injected == len(cases)
    print(f"\n{len(cases)} crashes and refusals: each ended in one sound session")  # noqa: T201 - the figure of `make crash-matrix`


def test_a_batch_is_written_flushed_and_the_end_is_in_order(calls_without_fault: str) -> None:
    """The recording is flushed before its rename, its folder after it, and the metadata come last."""
    lines = calls_without_fault.splitlines()
    part = [
        found[1]
        for line in lines
        if ".jsonl.gz.part" in line and (found := re.search(r"\b(write|fsync)\(", line))
    ]
    assert part[: 2 * part.count("write")] == ["write", "fsync"] * part.count("write")
    renamed = next(place for place, line in enumerate(lines) if "rename(" in line and ".part" in line)
    # Once more than after each batch, and its folder before anything else is renamed.
    assert part.count("fsync") == part.count("write") + 1
    following = next(place for place, line in enumerate(lines) if "rename(" in line and place > renamed)
    assert any(
        re.search(r"fsync\(\d+<[^>]*/20260803T143000Z_btcusdt>\)", line)
        for line in lines[renamed : renamed + 2]
    )
    assert renamed + 1 < following
    metadata = next(
        place for place, line in enumerate(lines) if "rename(" in line and "/metadata.json" in line
    )
    assert renamed < metadata
    assert any("fsync(" in line and ".metadata.json" in line for line in lines[renamed:metadata])
    checksums = next(
        place for place, line in enumerate(lines) if "rename(" in line and "/checksums.txt" in line
    )
    assert renamed < checksums < metadata
