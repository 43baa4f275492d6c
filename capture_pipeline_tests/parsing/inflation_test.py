"""Tests that readers of compressed bytes use bounded memory, or reject the input in one line."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from capture_pipeline.binance.archive.zip_file import read_only_entry
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.replay.sources.tardis import TardisSource
from capture_pipeline.sessions import gzip_members
from capture_pipeline.sessions.gzip_members import (
    FULL_BYTES,
    HEAD_BYTES,
    MAX_LINES_BYTES,
    build_member,
    inflate_member,
    member_size,
)
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.recordings.reader import Recording
from capture_pipeline.sessions.recordings.source import DamagePolicy, FindingKind, Source
from capture_pipeline.settings.sessions import Recording as RecordingSettings
from capture_pipeline_tests.support.sessions.desk import Desk
from sandbox_exchange.archive.corrupt_zip import gzip_bomb

CAPTURE = str(Path(sys.executable).with_name("capture"))
MB = 1 << 20
HUGE_MB = 1200


@contextmanager
def memory_below(max_waiting_bytes: int) -> Iterator[None]:
    """Fail if the peak of memory is above a limit."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < max_waiting_bytes, f"{peak:,}"


def hostile_member(megabytes: int, stated: int) -> bytes:
    """Build a member that inflates to a number of megabytes and declares a number of bytes."""
    packed = gzip_bomb(megabytes)[10:-4]
    head = bytearray(build_member(b"x\n", 1)[:HEAD_BYTES])
    size = HEAD_BYTES + len(packed) + 4
    head[16:20] = size.to_bytes(4, "little")
    member = bytes(head) + packed + stated.to_bytes(4, "little")
    assert member_size(member) == (size, 1)
    return member


def member_sizes(path: Path) -> list[int]:
    """Return the inflated size of each sound member."""
    with Source.open(path, policy=DamagePolicy.SKIP) as source:
        return [len(lines) for lines in source]


@pytest.mark.parametrize("stated", [HUGE_MB * MB, MAX_LINES_BYTES, 10 * MB, 0])
def test_a_member_of_a_recording(stated: int) -> None:
    """A member that declares too many bytes is not inflated.

    A member that declares too few is inflated up to the declared number.
    """
    member = hostile_member(HUGE_MB, stated)
    with memory_below(min(stated, MAX_LINES_BYTES if stated <= MAX_LINES_BYTES else 0) * 2 + 16 * MB):
        assert inflate_member(member) is None


def test_a_torn_tail_of_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the saved and the read part of the tail are bounded."""
    monkeypatch.setattr(gzip_members, "MAX_LINES_BYTES", 8 * MB)
    (tail := tmp_path / "tail.gz").write_bytes(hostile_member(200, 0)[:-100])
    with memory_below(64 * MB), Source.open(tail, policy=DamagePolicy.SKIP) as found:
        assert not list(found)
    assert [finding.kind for finding in found.findings] == [FindingKind.TORN_MEMBER]
    assert len(found.open_line) < 16 * MB


def test_a_member_is_written_before_its_lines_are_too_many(tmp_path: Path) -> None:
    """The recorder ends a batch after a number of bytes or of messages."""
    desk = Desk(SessionFolder(tmp_path), max_waiting_bytes=1 << 30).start()
    desk.pipeline._settings = RecordingSettings(flush_messages=100_000)
    for number in range(20):
        desk.pipeline.record_unframed("btcusdt@depth", b'{"pad":"%b"}' % (b"x" * (4 * MB) + b"%d" % number))
    desk.end()
    sizes = member_sizes(desk.folder.growing)
    assert sum(sizes) > 80 * MB
    assert max(sizes) < FULL_BYTES + 5 * MB


def test_a_member_of_an_import_is_bounded(tmp_path: Path) -> None:
    """The messages have a megabyte each."""
    pad = "x" * MB
    lines = [
        f"{1_741_000_000_000_000_000 + number} "
        f'{{"stream":"adausdt@trade","data":{{"e":"trade","E":1741000000000,"s":"ADAUSDT",'
        f'"t":{number},'
        f'"p":"1.0","q":"1.0","T":1741000000000,"m":true,"M":true,"pad":"{pad}"}}}}\n'
        for number in range(60)
    ]
    file = tmp_path / "capture.gz"
    file.write_bytes(gzip.compress("".join(lines).encode(), 1))
    session = import_session(Origin.HFTBACKTEST, [file], tmp_path / "out")
    sizes = member_sizes(session.recording)
    assert sum(sizes) > 60 * MB
    assert max(sizes) < FULL_BYTES + 2 * MB


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a gzip file of many zeros without a line end."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.jsonl.gz"
    path.write_bytes(gzip_bomb(HUGE_MB))
    return path


def test_a_file_of_another_tool_comes_in_pieces(bomb: Path) -> None:
    """A piece never exceeds two megabytes."""
    longest = 0
    with memory_below(16 * MB), Source.open(bomb) as source:
        for piece in source:
            longest = max(longest, len(piece))
    assert longest <= 2 * MB


def test_a_damaged_bomb_is_salvaged_in_pieces(tmp_path: Path) -> None:
    """Nothing behind the damage is read."""
    path = tmp_path / "damaged.gz"
    content = bytearray(gzip_bomb(100))
    content[-2000] ^= 0xFF
    path.write_bytes(bytes(content))
    with memory_below(32 * MB), Source.open(path, policy=DamagePolicy.SALVAGE) as source:
        longest = max(len(piece) for piece in source)
        assert [finding.kind for finding in source.findings] == [FindingKind.DAMAGED_MEMBER]
    assert longest <= 5 * MB


def test_a_line_of_a_recording_is_bounded(bomb: Path) -> None:
    with (
        memory_below(128 * MB),
        pytest.raises(MalformedDataError, match="contains a line of more than"),
        Recording(bomb) as recording,
    ):
        for _ in recording:
            pass


def test_a_line_of_a_csv_is_bounded(bomb: Path, tmp_path: Path) -> None:
    """The file of Tardis has no line end."""
    path = tmp_path / "BTCUSDT.csv.gz"
    path.write_bytes(bomb.read_bytes())
    with (
        memory_below(128 * MB),
        pytest.raises(MalformedDataError, match=r"has a line of more than 1,048,576 bytes"),
    ):
        list(TardisSource(path))


def test_a_zip_of_many_entries_is_not_listed() -> None:
    """The directory alone would need gigabytes as objects."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(1001):
            archive.writestr(f"{number}.csv", b"")
    with pytest.raises(MalformedDataError, match="has more than 1,000 entries"):
        read_only_entry(target.getvalue(), "x.csv", 1000, "x.zip")


COMMANDS = [
    ("session", "validate", "{bomb}"),
    ("session", "diagnose", "{folder}"),
    ("session", "import", "--format", "hftbacktest", "--out", "{out}", "{bomb}"),
    ("session", "import", "--format", "cryptofeed", "--out", "{out}", "{bomb}"),
    ("session", "import", "--format", "binance-data-processor", "--out", "{out}", "{bomb}"),
    ("sandbox", "serve", "--port", "0", "--config", "{sandbox}"),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:3]))
def test_a_command_on_a_bomb_stays_small(command: tuple[str, ...], bomb: Path, tmp_path: Path) -> None:
    """The memory of the whole process is far below the inflated size, and the output is an error message."""
    settings = tmp_path / "sandbox.yaml"
    settings.write_text(json.dumps({"replay": str(bomb)}))
    places = {"bomb": bomb, "folder": bomb.parent, "out": tmp_path / "out", "sandbox": settings}
    arguments = [CAPTURE, *(part.format(**places) for part in command)]
    said = tmp_path / "said"
    most_kb = 0
    with said.open("wb") as out, subprocess.Popen(arguments, stdout=out, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            # `wait4` is not used, because its value begins with the memory of the forked process.
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
                most_kb = max(most_kb, int(found[1]) if found else 0)
            time.sleep(0.01)
    assert process.returncode in {1, 2}, said.read_text()
    assert "Traceback" not in said.read_text()
    assert 10_000 < most_kb < 700 * 1024, f"{most_kb:,} kB"
