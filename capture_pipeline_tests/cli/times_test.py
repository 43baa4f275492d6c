"""The command `capture session times`, which recommends the clock by which to order events.

Its inputs are files of Crypto Lake or a session; failed criteria set the exit code.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.checks.feasibility import ORIGIN_TIME
from capture_pipeline.cli.main import main
from capture_pipeline.feasibility.evidence import EvidenceStore
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline_tests.support.sessions.lines import recording, written

START_NS, STEP_NS = 1_785_760_200_000_000_000, 1_000_000_000
SESSION = "20250803T143000Z_custom_btcusdt"


@pytest.fixture(autouse=True)
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTURE_STORAGE_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text("{}\n")


def trades(path: Path, missing: int) -> Path:
    """Create a hundred trades of Crypto Lake, received two milliseconds after their event time.

    Some have no event time.
    """
    receipts = [START_NS + at * STEP_NS for at in range(100)]
    origins = [-1 if at < missing else receipt - 2_000_001 for at, receipt in enumerate(receipts)]
    pq.write_table(
        pa.table({"timestamp": origins, "receipt_timestamp": receipts, "id": list(range(100))}), path
    )
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["session", "times", *arguments])


@pytest.mark.parametrize(
    ("missing", "code", "verdict", "clock"), [(0, 0, "PASS", "origin time"), (5, 1, "FAIL", "receipt time")]
)
def test_files_of_crypto_lake_are_judged(
    tmp_path: Path, missing: int, code: int, verdict: str, clock: str
) -> None:
    """With fewer than five rows of a hundred without an event time, the recommendation is the event time.

    From five on it is the receipt time. The evidence is stored on request.
    """
    file, page = trades(tmp_path / "trades.parquet", missing), tmp_path / "times.html"
    told = run("--trades", str(file), "--out", str(page), "--publish")
    assert told.exit_code == code, told.output
    assert f"{verdict}: {ORIGIN_TIME.description}" in told.output
    assert f"order events by {clock}" in told.output
    assert page.read_text().count("<svg") >= 1
    found = EvidenceStore(tmp_path / "root" / "reports").latest(ORIGIN_TIME.asset)
    assert found is not None
    assert (found[0].reading(ORIGIN_TIME).measured, list(found[0].inputs)) == (
        float(missing),
        ["trades.parquet"],
    )


def test_a_session_is_judged_alike(tmp_path: Path) -> None:
    """The input is the tables of the session; the evidence is stored on request only."""
    path = written(tmp_path / "btcusdt_capture_20250803T143000Z.jsonl.gz", recording())
    convert(path, SESSION, tmp_path / "root" / "lake")
    told = run(SESSION, "--json")
    assert told.exit_code in {0, 1}, told.output
    assert json.loads(told.stdout)["inputs"].keys() == {path.name}
    assert EvidenceStore(tmp_path / "root" / "reports").latest(ORIGIN_TIME.asset) is None


def test_one_or_the_other_is_named(tmp_path: Path) -> None:
    """The command needs either a session or files; an unknown layout is one line of error."""
    file = trades(tmp_path / "trades.parquet", 0)
    for arguments in ([], [SESSION, "--trades", str(file)]):
        assert "name a session, or files" in run(*arguments).output
    told = run("--deltas", str(file))
    assert (told.exit_code, "has no column sequence_number" in told.output) == (2, True)
