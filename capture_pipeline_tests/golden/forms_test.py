"""Tests that all commands and readers give the same results for every form of a recording."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.session.imports import import_command
from capture_pipeline.cli.session.replay import replay_command
from capture_pipeline.cli.session.validation import diagnose_command, validate_command
from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.proof.captured_trades import _read_recording
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.recorder.storage.recovery import _scan_segment as scan_segment
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.recordings.reader import read_lines
from capture_pipeline.sessions.recordings.source import map_file
from capture_pipeline_tests.support.sessions.lines import packed, recording
from sandbox_exchange.sources.replay import read_records

LINES = recording(60)
TEXT = b"".join(LINES)
CRLF = TEXT.replace(b"\n", b"\r\n")
FORMS = {
    "gzip": gzip.compress(TEXT),
    "members": packed(LINES, 7),
    "members cut inside lines": gzip.compress(TEXT[:1234]) + gzip.compress(TEXT[1234:]),
    "plain": TEXT,
    "gzip with CR LF": gzip.compress(CRLF),
    "plain with CR LF": CRLF,
    "members cut between CR and LF": gzip.compress(CRLF[: CRLF.index(b"\n")])
    + gzip.compress(CRLF[CRLF.index(b"\n") :]),
    "CR LF in some lines": b"".join(
        line.replace(b"\n", b"\r\n") if at % 3 else line for at, line in enumerate(LINES)
    ),
    "plain without the last line feed": TEXT[:-1],
    "gzip without the last line feed": gzip.compress(TEXT[:-1]),
    "CR LF without the last line feed": CRLF[:-1],
}
NOTHING = {"an empty file": b"", "a gzip of nothing": gzip.compress(b"")}


def run(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def of_validate(path: Path) -> Any:
    document = json.loads(run(validate_command, path, "--json").stdout)
    assert {
        check["name"]: check["verdict"]
        for check in document["checks"]
        if check["name"] in {"file", "line_form"}
    } == {
        "file": "PASS",
        "line_form": "PASS",
    }
    leave_out = {"bytes", "sha256"}
    return {name: value for name, value in document["statistics"].items() if name not in leave_out}, document[
        "reasons"
    ]


def of_diagnose(path: Path) -> Any:
    document = json.loads(run(diagnose_command, path.parent, "--json").stdout)
    (file,) = document["files"]
    return document["score"], {name: value for name, value in file.items() if name != "bytes"}


def of_import(path: Path) -> Any:
    result = run(
        import_command, "--format", "capture", "--venue", "binance", "--out", path.parent / "out", path
    )
    assert result.exit_code == 0, result.output
    (session,) = (path.parent / "out" / "imported").iterdir()
    return SessionFolder(session).recording.read_bytes()


def of_convert(path: Path) -> Any:
    manifest = convert(path, "20250803T143000Z_btcusdt", path.parent / "tables")
    return manifest.rows, manifest.lines, [(file.path, file.sha256) for file in manifest.files]


def of_replay(path: Path) -> Any:
    document = json.loads(run(replay_command, path, "--json").stdout)
    return {name: value for name, value in document.items() if name not in {"seconds", "events_per_s"}}


def of_reader(path: Path) -> Any:
    return [(number, line.capture_ns, line.stream, bytes(line.data)) for number, line in read_lines(path)]


def of_prove(path: Path) -> Any:
    folder = SessionFolder(path.parent / "20250803T143000Z_btcusdt")
    folder.path.mkdir()
    folder.recording.write_bytes(path.read_bytes())
    return {symbol: frame.collect().rows() for symbol, frame in _read_recording(folder, ["BTCUSDT"]).items()}


def of_sandbox(path: Path) -> Any:
    return list(read_records(path))


READERS: list[Callable[[Path], Any]] = [
    of_validate,
    of_diagnose,
    of_import,
    of_convert,
    of_replay,
    of_reader,
    of_prove,
    of_sandbox,
]


@pytest.mark.parametrize("reader", READERS)
def test_every_form_is_read_alike(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    """Counts, digests, books and bytes do not depend on compression and line ends."""
    outcomes = {}
    for name, content in FORMS.items():
        path = tmp_path / name.replace(" ", "_") / "btcusdt_capture.jsonl"
        path.parent.mkdir()
        path.write_bytes(content)
        outcomes[name] = reader(path)
    assert {name: outcome == outcomes["gzip"] for name, outcome in outcomes.items()} == dict.fromkeys(
        FORMS, True
    )


@pytest.mark.parametrize("form", NOTHING)
def test_a_recording_of_nothing_is_told_by_all(tmp_path: Path, form: str) -> None:
    """Each reader finds no message, and each error is one line."""
    path = tmp_path / "btcusdt_capture.jsonl.gz"
    path.write_bytes(NOTHING[form])
    assert json.loads(run(validate_command, path, "--json").stdout)["statistics"]["messages"] == 0
    assert json.loads(run(diagnose_command, tmp_path, "--json").stdout)["score"] == 0
    assert list(read_records(path)) == []
    for command, words in ((import_command, "no message to import"), (replay_command, "contains no line")):
        options = ["--format", "capture", "--out", tmp_path / "out"] if command is import_command else []
        result = run(command, *options, path)
        assert (result.exit_code, words in result.stderr, result.stderr.count("\n")) == (2, True, 1)
    with pytest.raises(CaptureError, match="contains no line"):
        convert(path, "20250803T143000Z_btcusdt", tmp_path / "tables")


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_resumed_recording_is_read_alike(tmp_path: Path, is_torn: bool) -> None:
    """A recorder that resumes a file with CR LF counts the same messages.

    A whole last line without its line feed is not lost.
    """
    found = {}
    for name, text in {"LF": TEXT, "CR LF": CRLF, "no line feed": TEXT[:-1]}.items():
        folder = SessionFolder(tmp_path / name.replace(" ", "") / "20250803T143000Z_btcusdt")
        folder.path.mkdir(parents=True)
        member = build_member(text, len(LINES))
        folder.growing.write_bytes(member[:-4] if is_torn else member)
        state = RecoveredSession()
        scan_segment(folder, folder.growing, state, 0)
        with map_file(folder.growing) as content:
            assert len(content) > 0
        found[name] = (
            state.messages,
            state.bad,
            state.torn_lines,
            state.first_ns,
            state.last_ns,
            state.tracks,
        )
    assert found["CR LF"] == found["no line feed"] == found["LF"]
    assert found["LF"][:3] == (len(LINES), 0, 0)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    """The digest does not depend on the lines that were read."""
    for name, content in FORMS.items():
        path = tmp_path / f"{name.replace(' ', '_')}.jsonl"
        path.write_bytes(content)
        assert (
            json.loads(run(validate_command, path, "--json", "--no-book").stdout)["statistics"]["sha256"]
            == hashlib.sha256(content).hexdigest()
        )
