"""Tests of the validation of recordings with one fault each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.checks.model import Severity, Verdict
from capture_pipeline.checks.recordings import DEFAULTS, RECORDING_CHECKS, RateRange, Thresholds
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.scan.streams import StreamScan
from capture_pipeline.golden.validation.ids import bridges
from capture_pipeline.golden.validation.report import Report
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.settings.sessions import SessionGates
from capture_pipeline_tests.support.sessions.lines import (
    START_NS,
    STEP_NS,
    depth,
    recording,
    session,
    snapshot,
    trade,
    written,
)

NAMES = [spec.name for spec in RECORDING_CHECKS]
SMALL = replace(
    DEFAULTS,
    min_messages=50,
    duration_s=2.9,
    duration_tolerance_s=0.1,
    trades_per_s=RateRange(5, 15),
    depth_per_s=RateRange(5, 15),
)


def failed(report: Report) -> set[str]:
    return {check.spec.name for check in report.checks if check.verdict is Verdict.FAIL}


def test_a_sound_session_passes(tmp_path: Path) -> None:
    """Every check passes or is skipped."""
    report = validate(session(tmp_path, recording()).path, SMALL)
    assert not failed(report)
    assert report.verdict is Verdict.PASS
    skipped = {
        "book_best",
        "book_audits",
        "disk",
        "accounting",
    }  # an import has no figures of the disk and of the received messages
    assert {check.spec.name for check in report.checks if check.verdict is Verdict.SKIPPED} == skipped


def without(*numbers: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [line for number, line in enumerate(lines, 1) if number not in numbers]


RATIOS = {"continuity", "gap_ratio_ids", "gap_ratio_events", "gap_ratio_discontinuities", "uptime"}
BARE = {"ledger", "checksums", "disk", "accounting", "streams"}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without(21), RATIOS),
        (without(20), RATIOS | {"book_valid"}),
        (without(2), {"seed", "book_valid"}),
        (lambda lines: [*lines[:30], *lines[29:]], {"duplicates"}),
        (lambda lines: [*lines, depth(90, 95, START_NS + 60 * STEP_NS)], {"overlaps"}),
        (lambda lines: [*lines[:30], lines[31], lines[30], *lines[32:]], {"capture_order"}),
        (lambda lines: [*lines[:9], b"nonsense\n", *lines[9:]], {"line_form"}),
        (lambda lines: [lines[0], snapshot(0, START_NS + 1), *lines[2:]], set()),
        (
            lambda lines: [depth(2, 3, START_NS), snapshot(0, START_NS + 1), *lines[2:]],
            {"snapshots", "seed", "book_valid"},
        ),
        (lambda lines: [*lines, snapshot(88, START_NS + 59 * STEP_NS)], set()),
        (lambda lines: [*lines, snapshot(500, START_NS + 59 * STEP_NS)], {"snapshots"}),
        (lambda lines: lines[:40], {"messages", "duration"}),
        (lambda lines: [line for line in lines if b"@trade" not in line], {"messages"}),
        (lambda lines: [*lines, trade(61, START_NS + 900 * STEP_NS)], RATIOS | {"trade_rate", "depth_rate"}),
    ],
)
def test_each_fault_fails_its_checks_and_no_other(
    tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]], expected: set[str]
) -> None:
    """A recording with one fault fails exactly the checks of that fault."""
    assert failed(validate(written(tmp_path / "x.jsonl.gz", spoil(recording())), SMALL)) == expected


def test_missing_messages_are_named_by_their_ids(tmp_path: Path) -> None:
    """Continuity reports the stream, the ids and the surrounding capture times of each gap."""
    check = validate(written(tmp_path / "x.gz", without(20, 21, 41)(recording())), SMALL).check("continuity")
    places = [
        (place["stream"], place["last_good_id"], place["first_good_id"]) for place in check.figures["places"]
    ]
    assert places == [("btcusdt@depth@100ms", 27, 31), ("btcusdt@trade", 9, 11), ("btcusdt@trade", 19, 21)]


def test_uptime_counts_overlapping_gaps_once(tmp_path: Path) -> None:
    """A gap lasts from the message before it to the message after it.

    Time that both streams miss is counted once.
    """
    lines = [line for number, line in enumerate(recording(), 1) if not 20 <= number <= 29]
    report = validate(written(tmp_path / "x.gz", lines), SMALL)
    stamps = [int(line[14:33]) for line in lines]
    widest = stamps[20] - stamps[17]
    assert report.statistics["gap_seconds"] == pytest.approx(widest / 1e9)
    assert report.check("uptime").verdict is Verdict.FAIL


def test_a_listed_gap_is_judged_by_its_ratio(tmp_path: Path) -> None:
    """If the ledger lists every gap, and ratios and uptime are within limits, the sample passes."""
    folder = session(tmp_path, without(21)(recording()))
    lenient = replace(
        DEFAULTS,
        min_messages=50,
        duration_s=2.9,
        duration_tolerance_s=0.1,
        max_gap_ratio=0.1,
        min_uptime=0.5,
        trades_per_s=RateRange(5, 15),
        depth_per_s=RateRange(5, 15),
    )
    report = validate(folder.path, lenient)
    assert report.check("ledger").verdict is Verdict.PASS
    assert report.check("continuity").verdict is Verdict.FAIL
    assert report.verdict is Verdict.PASS
    folder.gaps.write_bytes(b"")
    assert {"ledger", "continuity", "checksums"} <= {
        check.spec.name for check in validate(folder.path, lenient).failed
    }


def test_a_later_line_of_the_ledger_supersedes_an_earlier_one(tmp_path: Path) -> None:
    """A later line with the same stream and last good id replaces the earlier line."""
    folder = session(tmp_path, without(21)(recording()))
    gap = json.loads(folder.gaps.read_bytes())
    folder.gaps.write_text(
        json.dumps(gap | {"first_good_id": gap["first_good_id"] + 5}) + "\n" + json.dumps(gap) + "\n"
    )
    assert validate(folder.path, SMALL).check("ledger").verdict is Verdict.PASS
    folder.gaps.write_text(
        json.dumps(gap) + "\n" + json.dumps(gap | {"first_good_id": gap["first_good_id"] + 5}) + "\n"
    )
    assert validate(folder.path, SMALL).check("ledger").verdict is Verdict.FAIL


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: _flip(folder.plan), "session.json has another SHA-256"),
        (lambda folder: folder.plan.write_bytes(folder.plan.read_bytes() + b" "), "session.json has "),
        (lambda folder: folder.gaps.unlink(), "gaps.jsonl is missing"),
        (lambda folder: folder.checksums.unlink(), "checksums.txt is missing"),
        (lambda folder: folder.checksums.write_text("what\n"), "checksums.txt line 1 is not a checksum"),
        (
            lambda folder: folder.checksums.write_text("0" * 64 + "  ../../x\n"),
            "is outside the session's folder",
        ),
        (lambda folder: folder.metadata.write_text("{}"), "is damaged"),
        (
            lambda folder: folder.metadata.write_text(
                folder.metadata.read_text().replace(folder.recording.name, "x.jsonl.gz")
            ),
            "is not listed in",
        ),
    ],
)
def test_a_changed_session_fails_its_checksums(
    tmp_path: Path, harm: Callable[[SessionFolder], object], words: str
) -> None:
    """The report names each altered file."""
    folder = session(tmp_path, recording())
    harm(folder)
    check = validate(folder.path, SMALL).check("checksums")
    assert check.verdict is Verdict.FAIL
    assert words in f"{check.reason} {check.figures.get('wrong')}"


def replanned(folder: SessionFolder, streams: list[str]) -> None:
    plan = json.loads(folder.plan.read_bytes())
    folder.plan.write_text(json.dumps(plan | {"streams": streams}))


TRADE, DEPTH, SNAPSHOT = "btcusdt@trade", "btcusdt@depth@100ms", "btcusdt@depthSnapshot"


def between(first: int, last: int, name: str = "@trade") -> Callable[[list[bytes]], list[bytes]]:
    """Keep only the lines of a stream from a first to a last line number, and all lines of other streams."""
    return lambda lines: [
        line for number, line in enumerate(lines) if name.encode() not in line or first <= number <= last
    ]


@pytest.mark.parametrize(
    ("spoil", "planned", "silence_s", "words"),
    [
        (without(), [TRADE, DEPTH, SNAPSHOT], 1.0, ""),
        (without(), [TRADE, DEPTH, "ethusdt@trade"], 1.0, "1 of 3: ethusdt@trade never sent a message"),
        (without(), [f"x{number}@trade" for number in range(7)], 1.0, " and 2 more"),
        (
            between(0, 12),
            [TRADE, DEPTH],
            2.0,
            "1 of 2: btcusdt@trade ended 2 s before the end; at most 2 s are allowed",
        ),
        (between(0, 12), [TRADE, DEPTH], 2.5, ""),
        (between(0, 12), [DEPTH], 2.0, ""),
        (between(45, 99), [TRADE, DEPTH], 2.0, "1 of 2: btcusdt@trade began 2 s after the start"),
        (
            between(25, 35),
            [TRADE, DEPTH],
            1.0,
            "btcusdt@trade began 1 s after the start and ended 1 s before the end",
        ),
        (between(0, 12, "@depth@"), [TRADE, DEPTH], 2.0, "btcusdt@depth@100ms ended 2 s before the end"),
    ],
)
def test_a_planned_stream_that_is_silent_fails(
    tmp_path: Path,
    spoil: Callable[[list[bytes]], list[bytes]],
    planned: list[str],
    silence_s: float,
    words: str,
) -> None:
    """Each planned stream has messages from the start to the end.

    REST snapshots are exempt, because they arrive only on request.
    """
    folder = session(tmp_path, spoil(recording()))
    replanned(folder, planned)
    check = validate(folder.path, replace(SMALL, stream_silence_s=silence_s)).check("streams")
    assert (check.verdict, check.spec.severity) == (Verdict.FAIL if words else Verdict.PASS, Severity.ERROR)
    assert words in check.reason


def test_a_deployment_says_how_long_a_stream_may_be_silent() -> None:
    """The setting changes the threshold, and both have the same default."""
    assert Thresholds.from_settings(SessionGates(stream_silence_s=5)).stream_silence_s == 5
    assert Thresholds.from_settings(SessionGates()).stream_silence_s == DEFAULTS.stream_silence_s == 600


def test_a_plan_that_is_gone_or_damaged_is_told(tmp_path: Path) -> None:
    """Without a plan, the expected streams are unknown. A damaged plan fails."""
    folder = session(tmp_path, recording())
    folder.plan.write_text("{}")
    assert "is damaged" in validate(folder.path, SMALL).check("streams").reason
    folder.plan.unlink()
    assert validate(folder.path, SMALL).check("streams").verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("counts", "files", "words"),
    [
        ({}, [], ""),
        (
            {"suspect_segments": 0, "mended_damage": 0, "tail_dropped_messages": 0},
            ["quarantine/x.part.torn-7.bin"],
            "",
        ),
        ({"suspect_segments": 1}, [], "1 parts whose fsync failed"),
        ({"mended_damage": 2}, [], "2 damaged parts quarantined"),
        ({"tail_dropped_messages": 41}, [], "41 messages dropped with a tail"),
        ({"unwritten_messages": 5}, [], "5 messages that were not on the disk when the recorder ended"),
        ({"removed_messages": 6}, [], "6 messages lost with a part that was removed or altered"),
        (
            {},
            ["quarantine/x.jsonl.gz.part.replaced-70.bin"],
            "1 quarantined: quarantine/x.jsonl.gz.part.replaced-70.bin",
        ),
        (
            {"suspect_segments": 3, "tail_dropped_messages": 4},
            [],
            "3 parts whose fsync failed; 4 messages dropped with a tail",
        ),
        (
            {},
            ["quarantine/x.jsonl.gz.part.damaged-70.bin"],
            "1 quarantined: quarantine/x.jsonl.gz.part.damaged-70.bin",
        ),
    ],
)
def test_what_the_disk_lost_fails(
    tmp_path: Path, counts: dict[str, int], files: list[str], words: str
) -> None:
    """Counts of the recorder and files in quarantine are reported with their figures."""
    folder = session(tmp_path, recording())
    metadata = json.loads(folder.metadata.read_bytes())
    metadata["statistics"] |= {
        "suspect_segments": 0,
        "mended_damage": 0,
        "tail_dropped_messages": 0,
        "torn_lines": 0,
    } | counts
    metadata["files"] += [{"name": name, "bytes": 1, "sha256": "0" * 64} for name in files]
    folder.metadata.write_text(json.dumps(metadata))
    check = validate(folder.path, SMALL).check("disk")
    assert (check.verdict, check.spec.severity) == (Verdict.FAIL if words else Verdict.PASS, Severity.ERROR)
    assert words in check.reason
    assert {name: check.figures[name] for name in counts} == counts


def test_a_report_has_the_checks_that_are_listed_in_their_order(tmp_path: Path) -> None:
    """A report of a bare file skips the checks of a folder."""
    folder = session(tmp_path, recording())
    assert [check.spec.name for check in validate(folder.path, SMALL).checks] == NAMES
    report = validate(folder.recording, SMALL)
    assert [check.spec.name for check in report.checks] == NAMES
    assert {check.spec.name for check in report.checks if check.verdict is Verdict.SKIPPED} == BARE | {
        "book_best",
        "book_audits",
    }


def test_a_recording_that_still_grows_is_read(tmp_path: Path) -> None:
    """A session without metadata is not finished.

    Its checksums are skipped, and its growing file is validated.
    """
    folder = session(tmp_path, recording())
    folder.metadata.unlink()
    folder.recording.rename(folder.growing)
    report = validate(folder.path, SMALL)
    assert report.path.name == folder.growing.name
    assert {report.check(name).verdict for name in ("checksums", "disk")} == {Verdict.SKIPPED}


@pytest.mark.parametrize(
    ("price", "quantity", "late", "verdict"),
    [
        ("10.00000000", "1.00000000", True, Verdict.PASS),
        ("10.00000000", "1.00000000", False, Verdict.PASS),
        ("10.00000000", "1.00000001", True, Verdict.FAIL),
        ("9.99000000", "1.00000000", False, Verdict.FAIL),
    ],
)
def test_a_best_price_or_quantity_that_differs_fails(
    tmp_path: Path, price: str, quantity: str, late: bool, verdict: Verdict
) -> None:
    """Each `bookTicker` with the id of a diff is compared with the book, before or after the diff."""
    body = '{"u":93,"s":"BTCUSDT","b":"%s","B":"%s","a":"11.00000000","A":"1.00000000"}' % (price, quantity)  # noqa: UP031 - braces
    end = START_NS + 60 * STEP_NS
    ticker = b'{"capture_ns":%d,"stream":"btcusdt@bookTicker","data":%b}\n' % (end, body.encode())
    lines = [depth(91, 93, end), ticker] if late else [ticker, depth(91, 93, end)]
    check = validate(written(tmp_path / "x.gz", [*recording(), *lines]), SMALL).check("book_best")
    assert (check.verdict, check.figures["compared"]) == (verdict, 1)


def test_a_level_that_is_no_decimal_fails_the_book_by_its_line(tmp_path: Path) -> None:
    """A level from which no book can be built is a failed check with the line's number, not an error."""
    lines = [*recording(), depth(91, 92, START_NS + 60 * STEP_NS, '["1e5","1.00000000"]')]
    check = validate(written(tmp_path / "x.gz", lines), SMALL).check("book_valid")
    assert check.verdict is Verdict.FAIL
    assert "line 62 is damaged: '1e5' is not a decimal" in check.reason


def test_a_recording_in_parts_has_to_be_joined_first(tmp_path: Path) -> None:
    """A session with two growing parts is rejected, because one part is not the whole session."""
    folder = session(tmp_path, recording())
    folder.recording.rename(folder.segment(1))
    folder.segment(2).write_bytes(b"")
    with pytest.raises(MalformedDataError, match="in 2 parts"):
        validate(folder.path)


def test_half_a_ledger_line_is_none(tmp_path: Path) -> None:
    """A finished session has a complete ledger. A whole line that is no gap is reported by its number."""
    folder = session(tmp_path, recording())
    folder.gaps.write_bytes(b'{"stream":"btcusdt@tr')
    assert "half a line" in validate(folder.path, SMALL).check("ledger").reason
    folder.gaps.write_bytes(b"{}\n")
    assert "line 1 is not a gap" in validate(folder.path, SMALL).check("ledger").reason


def test_a_folder_without_recording_is_one_line(tmp_path: Path) -> None:
    """A folder without a recording is an error that names the folder."""
    with pytest.raises(MalformedDataError, match="contains no recording"):
        validate(tmp_path)


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6), st.data())
def test_a_snapshot_bridges_where_a_diff_covers_its_next_id(
    diffs: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """A snapshot fits if `U <= lastUpdateId + 1 <= u` for a diff that was not dropped.

    It also fits at the end of a diff that no other diff follows.
    """
    stream, kept, at = StreamScan("x@depth", StreamKind.DEPTH), [], 10
    for width, stands in diffs:
        if stands:
            stream.count_message(at, at + width - 1, 1)
            kept.append((at, at + width - 1))
        at += width
    last = data.draw(st.integers(8, at + 1))
    expected = any(first <= last + 1 <= end or last == end for first, end in kept)
    assert bridges(stream, last) is expected
