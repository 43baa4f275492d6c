"""Tests of the commands: exit codes, tables, JSON, error messages."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.session.imports import import_command
from capture_pipeline.cli.session.validation import diagnose_command, validate_command
from capture_pipeline.golden.quality_score import MEANING
from capture_pipeline_tests.support.sessions.lines import recording, session, trade, written


def run(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_validate_tells_what_fails_and_ends_with_one(tmp_path: Path) -> None:
    """The table lists every check, and the last line lists the failed ones."""
    path = written(tmp_path / "x.jsonl.gz", recording())
    result = run(validate_command, path)
    assert result.exit_code == 1
    assert "continuity" in result.stdout
    assert result.stdout.splitlines()[-1] == "FAIL: messages, duration"


def test_validate_as_json_is_one_document(tmp_path: Path) -> None:
    """The document has verdict, reasons, checks and statistics. `--no-book` leaves the book out."""
    document = json.loads(
        run(validate_command, session(tmp_path, recording()).path, "--json", "--no-book").stdout
    )
    assert document["verdict"] == "FAIL"
    assert {check["name"]: check["verdict"] for check in document["checks"]}["book_valid"] == "SKIPPED"
    assert document["statistics"]["messages"] == 61


@pytest.mark.parametrize("name", ["none.gz", "."])
def test_validate_without_a_recording_ends_with_two(tmp_path: Path, name: str) -> None:
    """A path that cannot be read gives one line of error and no verdict."""
    result = run(validate_command, tmp_path / name)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


def test_diagnose_holds_the_score_to_its_gate(tmp_path: Path) -> None:
    """A folder with a sound file passes, and a folder with empty files fails."""
    written(
        tmp_path / "x.jsonl.gz",
        [trade(number, 1_754_224_200_000_000_000 + number) for number in range(1, 50)],
    )
    sound = run(diagnose_command, tmp_path)
    assert sound.exit_code == 0
    assert sound.stdout.splitlines()[-1] == "100 of 100; above the gate of 70"
    for number in range(5):
        (tmp_path / f"{number}.jsonl.gz.part").write_bytes(b"")
    (tmp_path / "x.jsonl.gz").unlink()
    assert run(diagnose_command, tmp_path).exit_code == 1
    assert json.loads(run(diagnose_command, tmp_path, "--json").stdout)["score"] == 0


def test_a_diagnosis_is_readable_and_says_what_its_score_is_of(tmp_path: Path) -> None:
    """File names are not wrapped, and the length of a gap is rounded to a tenth of a second."""
    name = "btcusdt-plus3-47bb_capture_20260803T143000Z.jsonl.gz.part"
    start = 1_754_224_200_000_000_000
    written(tmp_path / name, [trade(number, start + number) for number in range(1, 50)])
    written(
        tmp_path / "b.jsonl.gz", [trade(number, start + 15_144_700_000 + number) for number in range(50, 99)]
    )
    told = run(diagnose_command, tmp_path).stdout
    assert name in told
    assert " 15.1 " in told
    assert "15.144" not in told
    assert all(meaning in " ".join(told.split()) for meaning in MEANING.values())


def test_thresholds_are_those_of_the_settings(tmp_path: Path) -> None:
    """The commands use the thresholds of the settings file."""
    path = written(tmp_path / "x.jsonl.gz", recording())
    config = tmp_path / "c.yaml"
    config.write_text("session_gates: {least_messages: 50, least_hours: 0, quality_score_least: 100}")
    assert run(validate_command, path, "--config", config).exit_code == 0
    assert run(diagnose_command, tmp_path, "--config", config).exit_code == 1
    config.write_text("session_gates: {least_messages: -1}")
    assert run(validate_command, path, "--config", config).exit_code == 2


def test_import_says_where_the_session_is(tmp_path: Path) -> None:
    """A second import of the same session, or a wrong regime, gives one line of error and exit code 2."""
    session(tmp_path, recording())
    source = tmp_path / "source.gz"
    arguments = ("--format", "hftbacktest", "--out", tmp_path / "o", source)
    first = run(import_command, *arguments)
    assert first.exit_code == 0
    assert Path(first.stdout.removeprefix("Imported as ").strip()).is_dir()
    again = run(import_command, *arguments)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr
    assert run(import_command, *arguments, "--regime", "../x").exit_code == 2
