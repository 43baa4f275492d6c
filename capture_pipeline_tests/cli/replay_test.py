"""The commands `capture session replay` and `capture session book`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.main import main
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline_tests.support.sessions.lines import START_NS, depth, snapshot, written

SESSION = "20250803T143000Z_custom_btcusdt"
SECOND = 1_000_000_000


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record a session of ten seconds with tables; ids are missing in the sixth second."""
    monkeypatch.setenv("CAPTURE_STORAGE_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text("{}\n")
    lines = [depth(1, 3, START_NS), snapshot(2, START_NS + 1)]
    for second in range(1, 10):
        first = 3 * second + 1 + (2 if second > 5 else 0)
        lines.append(
            depth(first, first + 2, START_NS + second * SECOND, f'["9.50000000","{second}.00000000"]')
        )
    path = written(tmp_path / "btcusdt_capture_20250803T143000Z.jsonl.gz", lines)
    convert(path, SESSION, tmp_path / "root" / "lake")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("kind", ["file", "session"])
def test_a_replay_tells_what_came_of_it(recording: Path, kind: str) -> None:
    """The output counts messages, level updates and missing ids.

    Without a book at the end there are no best prices.
    """
    told = run("session", "replay", str(recording) if kind == "file" else SESSION)
    assert told.exit_code == 0, told.output
    assert "11 messages, 5 level updates" in told.output
    assert "1 gaps, 1 snapshots loaded" in told.output
    assert "The book is invalid at the end" in told.stdout
    document = json.loads(
        run("session", "replay", str(recording) if kind == "file" else SESSION, "--json").stdout
    )
    assert [(one["last_good_id"], one["first_good_id"]) for one in document["discontinuities"]] == [(18, 21)]
    assert (document["best"], document["state"], document["events"]) == (None, "invalid", 5)


def test_levels_are_kept_at_a_step(recording: Path, tmp_path: Path) -> None:
    """The Parquet file has a row for each second with a valid book."""
    out = tmp_path / "levels.parquet"
    told = run("session", "replay", str(recording), "--every", "1s", "--depth", "2", "--out", str(out))
    assert told.exit_code == 0, told.output
    assert f"5 samples in {out}" in told.output
    assert pl.read_parquet(out)["bid_2_quantity_e8"].to_list() == [second * 10**8 for second in range(1, 6)]


def test_the_book_at_a_time(recording: Path) -> None:
    """A valid book shows levels of both sides; otherwise the exit code is 1, and the reason is printed."""
    del recording
    told = run("session", "book", SESSION, "--at", "2025-08-03T12:30:03.5Z", "--json")
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert (document["bids"], document["last_id"]) == ([["10.0", "1.00000000"], ["9.5", "3.00000000"]], 12)
    shown = run("session", "book", SESSION, "--at", "2025-08-03T12:30:03.5Z").output
    assert "1 asks in total; last message captured at 2025-08-03T12:30:03" in shown
    assert "no message after it" not in shown
    later = run("session", "book", SESSION, "--at", "2025-08-03T12:30:07Z")
    assert (later.exit_code, "ids are missing after 18" in later.output) == (1, True)
    before = run("session", "book", SESSION, "--at", "2025-08-03T11:00:00Z", "--json")
    assert (before.exit_code, json.loads(before.stdout)["reason"]) == (1, "no snapshot had arrived")


@pytest.mark.parametrize("kind", ["id", "folder", "file", "id without tables", "folder without tables"])
@pytest.mark.parametrize("command", ["book", "replay"])
def test_book_and_replay_take_the_same_targets(
    command: str, kind: str, recording: Path, tmp_path: Path
) -> None:
    """An id, a folder or a file, with or without tables, gives the same book."""
    folder = tmp_path / "root" / "golden_samples" / "custom" / SESSION
    folder.mkdir(parents=True)
    (folder / "session.json").touch()
    sound = shutil.copy(recording, folder)
    if "without" in kind:
        shutil.rmtree(tmp_path / "root" / "lake")
    target = {"id": SESSION, "folder": str(folder), "file": str(sound)}[kind.partition(" ")[0]]
    arguments = ["--at", "2025-08-03T12:30:03.5Z"] if command == "book" else []
    told = run("session", command, target, *arguments, "--symbol", "btcusdt", "--json")
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    if command == "book":
        assert (document["bids"][0], document["last_id"], document["symbol"]) == (
            ["10.0", "1.00000000"],
            12,
            "BTCUSDT",
        )
        absent = run("session", "book", target, "--at", "2025-08-03T12:30:07Z")
        assert (absent.exit_code, "ids are missing after 18" in absent.stderr) == (1, True)
    else:
        assert (document["events"], document["gaps"]) == (5, 1)


def test_book_of_a_folder_uses_tables_of_its_own_recording_only(recording: Path, tmp_path: Path) -> None:
    """Tables of another recording under the same id have other contents."""
    folder = tmp_path / "elsewhere" / SESSION
    folder.mkdir(parents=True)
    written(
        folder / recording.name,
        [depth(1, 3, START_NS), snapshot(2, START_NS + 1), depth(4, 40, START_NS + SECOND)],
    )
    told = run("session", "book", str(folder), "--at", "2025-08-03T12:30:01Z", "--json")
    assert (told.exit_code, json.loads(told.stdout)["last_id"]) == (0, 40)


def test_the_book_in_a_hole_is_not_shown(recording: Path) -> None:
    """The hole begins at the last diff before the missing ids.

    No message has shown at that time that ids are missing. The exit code is 1, and the hole is printed.
    """
    del recording
    assert run("session", "book", SESSION, "--at", "2025-08-03T12:30:05Z").exit_code == 0
    told = run("session", "book", SESSION, "--at", "2025-08-03T12:30:05.5Z", "--json")
    document = json.loads(told.stdout)
    assert (told.exit_code, document["state"], document["bids"]) == (1, "invalid", [])
    assert document["hole"] == {
        "from_ns": START_NS + 5 * SECOND,
        "to_ns": None,
        "last_good_id": 18,
        "first_good_id": 21,
    }
    shown = run("session", "book", SESSION, "--at", "2025-08-03T12:30:05.5Z").output
    assert (
        "the next one recorded is 21 (2 ids); no book is known after 2025-08-03T12:30:05Z; no "
        "valid book follows"
    ) in shown


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_of_other_vendors_are_told_by_their_names(recording: Path, kind: str) -> None:
    """The report names the formats (CSV of Tardis, Parquet of Crypto Lake) and the contents."""
    path = recording.parent / f"book.{kind}"
    if kind == "csv":
        head = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
        rows = [("true", "bid", 10.5), ("true", "ask", 11), ("false", "bid", 10.75)]
        line = "binance,BTCUSDT,{0},{0},{1},{2},{3},2\n"
        path.write_text(
            head + "".join(line.format(START_NS // 1000 + at, *row) for at, row in enumerate(rows))
        )
    else:
        times = {name: [START_NS, START_NS + 1] for name in ("timestamp", "receipt_timestamp")}
        levels = {"side_is_bid": [True, False], "price": [10.75, 11.0], "size": [2.0, 2.0]}
        pl.DataFrame({**times, "sequence_number": [1, 2], **levels}).write_parquet(path)
    document = json.loads(run("session", "replay", str(path), "--json").stdout)
    assert document["source"] == str(path)
    bests = {
        "csv": {"bid": "10.75", "bid_quantity": "2", "ask": "11.00", "ask_quantity": "2"},
        "parquet": None,
    }
    assert (document["state"], document["best"]) == (
        {"csv": "synced", "parquet": "waiting"}[kind],
        bests[kind],
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["session", "replay", "20250803T143000Z_custom_ethusdt"], "convert its recording first"),
        (["session", "replay", SESSION, "--symbol", "ethusdt"], "has no tables of ETHUSDT"),
        (["session", "replay", SESSION, "--every", "1s"], "--every and --out need each other"),
        (["session", "replay", SESSION, "--long"], "--every and --out need each other"),
        (["session", "replay", SESSION, "--every", "0s", "--out", "x.parquet"], "is not a duration"),
        (["session", "book", SESSION, "--at", "yesterday"], "is not a date or time"),
    ],
)
def test_what_cannot_be_done_is_one_line(recording: Path, arguments: list[str], what: str) -> None:
    """The line contains a remedy; there is no traceback."""
    del recording
    told = run(*arguments)
    assert (told.exit_code, what in told.output) == (2, True), told.output
