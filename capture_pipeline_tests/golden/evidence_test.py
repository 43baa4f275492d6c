"""Tests that no check passes if its evidence is missing, empty or partial."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.checks.model import Verdict
from capture_pipeline.checks.recordings import DEFAULTS, RECORDING_CHECKS, RateRange
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.sessions.counts import ACCOUNT_PARTS
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline_tests.support.sessions.lines import (
    START_NS,
    STEP_NS,
    depth,
    recording,
    session,
    snapshot,
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
FAIL, SKIPPED = Verdict.FAIL, Verdict.SKIPPED
COUNTS = {"suspect_segments": 0, "mended_damage": 0, "tail_dropped_messages": 0, "torn_lines": 0}


def ticker(last: int, stamp: int) -> bytes:
    body = (
        '{"u":%d,"s":"BTCUSDT","b":"10.00000000","B":"1.00000000","a":"11.00000000","A":"1.00000000"}' % last  # noqa: UP031
    )
    return b'{"capture_ns":%d,"stream":"btcusdt@bookTicker","data":%b}\n' % (stamp, body.encode())


def evidence() -> list[bytes]:
    """Build a recording that has the evidence of every check."""
    end = START_NS + 60 * STEP_NS
    return [
        *recording(),
        depth(91, 93, end),
        ticker(93, end + 1),
        snapshot(93, end + 2),
        depth(94, 95, end + 3),
    ]


def made(root: Path, lines: list[bytes]) -> SessionFolder:
    """Create a finished session with the counts and the accounting of a recorder."""
    folder = session(root, lines)
    account = {
        "received": 2 * len(lines),
        "written": len(lines),
        **dict.fromkeys(ACCOUNT_PARTS, 0),
        "killed": 0,
        "unknown": [],
    }
    account |= {"duplicates": len(lines), "difference": 0, "processes": 1, "altered": [], "end": "closed"}
    change(folder, lambda document: document["statistics"].update({**COUNTS, "accounting": account}))
    return folder


def change(folder: SessionFolder, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit `metadata.json` and remove its checksum, because a recorder's checksums do not include it."""
    document = json.loads(folder.metadata.read_bytes())
    edit(document)
    folder.metadata.write_text(json.dumps(document))
    sums = [
        line for line in folder.checksums.read_text().splitlines(keepends=True) if "metadata.json" not in line
    ]
    folder.checksums.write_text("".join(sums))


def statistics(**changed: object) -> Callable[[SessionFolder], None]:
    """Set statistics, or remove those with the value None."""

    def harm(folder: SessionFolder) -> None:
        def edit(document: dict[str, Any]) -> None:
            for name, value in changed.items():
                document["statistics"].pop(name)
                if value is not None:
                    document["statistics"][name] = value

        change(folder, edit)

    return harm


def account(**changed: object) -> Callable[[SessionFolder], None]:
    """Set figures of the accounting, or remove those with the value None."""

    def edit(document: dict[str, Any]) -> None:
        figures = document["statistics"]["accounting"]
        for name, value in changed.items():
            figures.pop(name)
            if value is not None:
                figures[name] = value

    return lambda folder: change(folder, edit)


def unlisted(*suffixes: str) -> Callable[[SessionFolder], None]:
    """Remove files from the list of `metadata.json`."""

    def edit(document: dict[str, Any]) -> None:
        document["files"] = [one for one in document["files"] if not one["name"].endswith(suffixes)]

    return lambda folder: change(folder, edit)


def without_line(text: str) -> Callable[[SessionFolder], None]:
    """Remove a line from `checksums.txt`."""

    def harm(folder: SessionFolder) -> None:
        lines = [line for line in folder.checksums.read_text().splitlines(keepends=True) if text not in line]
        folder.checksums.write_text("".join(lines))

    return harm


def plan(**changed: object) -> Callable[[SessionFolder], None]:
    def harm(folder: SessionFolder) -> None:
        folder.plan.write_text(json.dumps(json.loads(folder.plan.read_bytes()) | changed))

    return harm


def unfinished(folder: SessionFolder) -> None:
    folder.metadata.unlink()


def never_came(folder: SessionFolder) -> None:
    """Plan a stream that the recording does not contain."""
    plan(streams=["btcusdt@trade", "btcusdt@depth@100ms", "ethusdt@trade"])(folder)


def cut(folder: SessionFolder) -> None:
    content = folder.recording.read_bytes()
    folder.recording.write_bytes(content[: len(content) - 40])


def emptied(folder: SessionFolder) -> None:
    folder.recording.write_bytes(b"")


def garbled(folder: SessionFolder) -> None:
    """Insert a line that cannot be read."""
    lines = evidence()
    written(folder.recording, [*lines[:9], b"nonsense\n", *lines[9:]])


def only(*parts: bytes) -> Callable[[SessionFolder], None]:
    """Keep only the lines that contain one of the parts."""

    def harm(folder: SessionFolder) -> None:
        written(folder.recording, [line for line in evidence() if any(part in line for part in parts)])

    return harm


def no_ledger_anywhere(folder: SessionFolder) -> None:
    """Remove the ledger, its entry in the list of files, and its checksum."""
    folder.gaps.unlink()
    unlisted("gaps.jsonl")(folder)
    without_line("gaps")(folder)


def no_ledger_and_unfinished(folder: SessionFolder) -> None:
    folder.gaps.unlink()
    folder.metadata.unlink()


def with_a_gap(folder: SessionFolder) -> None:
    """Remove a message from the recording and leave the ledger empty."""
    lines = evidence()
    written(folder.recording, [*lines[:20], *lines[21:]])


LINES = (
    "capture_order",
    "duplicates",
    "overlaps",
    "continuity",
    "gap_ratio_ids",
    "gap_ratio_events",
    "gap_ratio_discontinuities",
)
OF_LINES = (*LINES, "snapshots", "seed", "uptime", "trade_rate", "depth_rate")
BOOK = ("book_valid", "book_crossed", "book_best", "book_audits")
MISSING, EMPTY, PARTIAL = "missing", "empty", "partial"
TABLE: list[tuple[str, str, Callable[[SessionFolder], object], Verdict]] = [
    ("file", EMPTY, emptied, FAIL),
    ("file", PARTIAL, cut, FAIL),
    ("line_form", EMPTY, emptied, SKIPPED),
    ("line_form", PARTIAL, cut, SKIPPED),
    ("line_form", PARTIAL, garbled, FAIL),
    *((name, EMPTY, emptied, SKIPPED) for name in OF_LINES),
    *((name, PARTIAL, garbled, SKIPPED) for name in OF_LINES),
    *((name, PARTIAL, never_came, SKIPPED) for name in OF_LINES),
    *(
        (name, PARTIAL, cut, SKIPPED)
        for name in ("capture_order", "duplicates", "overlaps", "seed", "trade_rate", "depth_rate")
    ),
    *(
        (name, MISSING, only(b"@bookTicker"), SKIPPED)
        for name in (*LINES[1:], "snapshots", "seed", "trade_rate", "depth_rate")
    ),
    ("snapshots", MISSING, only(b"@depth@"), SKIPPED),
    ("seed", MISSING, only(b"@depth@"), FAIL),
    ("streams", MISSING, lambda folder: folder.plan.unlink(), SKIPPED),
    ("streams", EMPTY, plan(streams=[]), SKIPPED),
    ("streams", EMPTY, emptied, FAIL),
    ("streams", PARTIAL, never_came, FAIL),
    ("streams", PARTIAL, lambda folder: folder.plan.write_text("{}"), FAIL),
    ("messages", EMPTY, emptied, FAIL),
    ("duration", MISSING, lambda folder: folder.plan.unlink(), SKIPPED),
    ("duration", EMPTY, emptied, FAIL),
    ("duration", PARTIAL, lambda folder: folder.plan.write_text("{}"), FAIL),
    ("duration", PARTIAL, plan(duration_s=60), FAIL),
    ("ledger", MISSING, lambda folder: folder.gaps.unlink(), FAIL),
    ("ledger", MISSING, no_ledger_and_unfinished, SKIPPED),
    ("ledger", EMPTY, with_a_gap, FAIL),
    ("ledger", PARTIAL, lambda folder: folder.gaps.write_bytes(b'{"stream":"btcusdt@tr'), FAIL),
    ("ledger", PARTIAL, garbled, SKIPPED),
    ("ledger", PARTIAL, cut, SKIPPED),
    ("checksums", MISSING, unfinished, SKIPPED),
    ("checksums", MISSING, lambda folder: folder.checksums.unlink(), FAIL),
    ("checksums", MISSING, lambda folder: folder.events.write_text("{}\n"), FAIL),
    ("checksums", MISSING, no_ledger_anywhere, FAIL),
    ("checksums", EMPTY, lambda folder: folder.checksums.write_bytes(b""), FAIL),
    ("checksums", EMPTY, unlisted(""), FAIL),
    ("checksums", PARTIAL, without_line(".jsonl.gz"), FAIL),
    ("checksums", PARTIAL, without_line("gaps.jsonl"), FAIL),
    ("checksums", PARTIAL, without_line("session.json"), FAIL),
    ("checksums", PARTIAL, unlisted("gaps.jsonl"), FAIL),
    ("checksums", PARTIAL, unlisted("session.json"), FAIL),
    ("checksums", PARTIAL, unlisted(".jsonl.gz"), FAIL),
    ("disk", MISSING, unfinished, SKIPPED),
    ("disk", MISSING, lambda folder: folder.gaps.unlink(), SKIPPED),
    ("disk", EMPTY, statistics(**dict.fromkeys(COUNTS)), SKIPPED),
    *(("disk", PARTIAL, statistics(**{name: None}), SKIPPED) for name in COUNTS),
    ("accounting", MISSING, unfinished, SKIPPED),
    ("accounting", MISSING, statistics(accounting=None), SKIPPED),
    ("accounting", EMPTY, statistics(accounting={}), FAIL),
    ("accounting", EMPTY, statistics(accounting=[]), FAIL),
    *(
        ("accounting", PARTIAL, account(**{name: None}), FAIL)
        for name in ("received", "written", "end", "killed", *ACCOUNT_PARTS)
    ),
    ("accounting", PARTIAL, account(duplicates=0), FAIL),
    ("accounting", PARTIAL, account(written=64, duplicates=66), FAIL),
    ("accounting", PARTIAL, account(end="open", killed=1), FAIL),
    ("accounting", PARTIAL, account(killed=1), SKIPPED),
    ("accounting", PARTIAL, account(received=-1), FAIL),
    ("accounting", PARTIAL, account(received="many"), FAIL),
    *((name, MISSING, only(b"@trade"), SKIPPED) for name in BOOK),
    *((name, EMPTY, emptied, SKIPPED) for name in BOOK),
    ("book_valid", PARTIAL, only(b"@depth@", b"@trade"), FAIL),
    *((name, PARTIAL, only(b"@depth@", b"@trade"), SKIPPED) for name in BOOK[1:]),
    ("book_best", MISSING, only(b"@depth"), SKIPPED),
    *((name, PARTIAL, never_came, SKIPPED) for name in BOOK),
    *((name, PARTIAL, garbled, SKIPPED) for name in BOOK),
]


@pytest.mark.parametrize(
    ("name", "kind", "harm", "expected"),
    TABLE,
    ids=[f"{name}-{kind}-{number}" for number, (name, kind, *_) in enumerate(TABLE)],
)
def test_a_check_without_its_evidence_does_not_pass(
    name: str, kind: str, harm: Callable[[SessionFolder], object], expected: Verdict, tmp_path: Path
) -> None:
    """Each case is a check, the fault of its evidence, and the expected verdict."""
    folder = made(tmp_path, evidence())
    harm(folder)
    check = validate(folder.path, SMALL, book=True).check(name)
    assert (kind, check.verdict) == (kind, expected), check.reason
    assert check.reason


def test_with_its_evidence_every_check_passes(tmp_path: Path) -> None:
    """With complete evidence no verdict depends on missing evidence."""
    report = validate(made(tmp_path, evidence()).path, SMALL, book=True)
    assert {check.spec.name: check.verdict for check in report.checks} == dict.fromkeys(NAMES, Verdict.PASS)


def test_every_check_is_in_the_table() -> None:
    """Every check has a case of partial evidence, and a case of missing or empty evidence."""
    of_kind = {kind: {name for name, case, *_ in TABLE if case == kind} for kind in (MISSING, EMPTY, PARTIAL)}
    assert of_kind[MISSING] | of_kind[EMPTY] == set(NAMES)
    # A part of a count is a lower bound of the count.
    assert of_kind[PARTIAL] == set(NAMES) - {"messages"}


def test_without_a_recording_nothing_is_validated(tmp_path: Path) -> None:
    """A missing recording is an error, not a failed check."""
    folder = made(tmp_path, evidence())
    folder.recording.unlink()
    with pytest.raises(MalformedDataError, match="contains no recording"):
        validate(folder.path)


def test_an_audit_of_one_book_says_nothing_of_another(tmp_path: Path) -> None:
    """Only the book of one of two symbols has a snapshot after it was synced."""
    other = [line.replace(b"btcusdt", b"ethusdt").replace(b"BTCUSDT", b"ETHUSDT") for line in recording()]
    stamped = sorted(evidence() + other, key=lambda line: int(line[14:33]))
    check = validate(written(tmp_path / "x.jsonl.gz", stamped), SMALL, book=True).check("book_audits")
    assert (check.verdict, "ETHUSDT" in check.reason) == (SKIPPED, True)


LIMIT = 0.125
"""A value that a float represents exactly."""


@pytest.mark.parametrize(
    ("name", "thresholds", "expected"),
    [
        ("messages", {"min_messages": 65}, Verdict.PASS),
        ("messages", {"min_messages": 66}, FAIL),
        ("duration", {"duration_s": 3.000000003, "duration_tolerance_s": 0.0}, Verdict.PASS),
        ("duration", {"duration_s": 3.000000004, "duration_tolerance_s": 0.0}, FAIL),
        ("trade_rate", {"trades_per_s": RateRange(30 / 3.000000003, 15)}, Verdict.PASS),
        ("trade_rate", {"trades_per_s": RateRange(5, 30 / 3.000000003)}, Verdict.PASS),
        ("depth_rate", {"depth_per_s": RateRange(32 / 3.000000003, 15)}, Verdict.PASS),
        ("depth_rate", {"depth_per_s": RateRange(5, 32 / 3.000000003)}, Verdict.PASS),
        ("book_valid", {"min_book_valid": 31 / 32}, Verdict.PASS),
        ("book_valid", {"min_book_valid": 1.0}, Verdict.PASS),
        ("book_audits", {"min_audit_ratio": 1.0}, Verdict.PASS),
        ("book_crossed", {"max_crossed": 0}, Verdict.PASS),
    ],
)
def test_a_threshold_at_exactly_its_value(
    name: str, thresholds: dict[str, Any], expected: Verdict, tmp_path: Path
) -> None:
    """A value equal to an inclusive limit passes."""
    report = validate(made(tmp_path, evidence()).path, replace(SMALL, **thresholds), book=True)
    assert report.check(name).verdict is expected, report.check(name).reason


def test_limits_that_are_exclusive_fail_at_their_value(tmp_path: Path) -> None:
    """A gap ratio must be below its limit, and the uptime must be above its limit."""
    lines = evidence()
    folder = made(tmp_path, [*lines[:20], *lines[21:]])
    report = validate(folder.path, SMALL)
    for name in ("gap_ratio_ids", "gap_ratio_events", "gap_ratio_discontinuities"):
        ratio = report.check(name).figures["ratio"]
        assert ratio > 0
        assert validate(folder.path, replace(SMALL, max_gap_ratio=ratio)).check(name).verdict is FAIL
        assert (
            validate(folder.path, replace(SMALL, max_gap_ratio=ratio * 1.0001)).check(name).verdict
            is Verdict.PASS
        )
    uptime = report.check("uptime").figures["uptime"]
    assert validate(folder.path, replace(SMALL, min_uptime=uptime)).check("uptime").verdict is FAIL
    assert (
        validate(folder.path, replace(SMALL, min_uptime=uptime * 0.9999)).check("uptime").verdict
        is Verdict.PASS
    )


@pytest.mark.parametrize(("early_ns", "expected"), [(0, Verdict.PASS), (1, FAIL)])
def test_the_last_message_may_come_as_early_as_the_tolerance(
    early_ns: int, expected: Verdict, tmp_path: Path
) -> None:
    """The tolerance is counted back from the planned end of the session."""
    folder = made(tmp_path, evidence())
    last_ns = json.loads(folder.metadata.read_bytes())["ended_ns"]
    start_us = last_ns // 1000 - 10_000_000
    # The planned end is exactly 4 s, or 4 s and a nanosecond, after the last message.
    plan(start_us=start_us, duration_s=round((last_ns + 4 * 10**9 + early_ns - start_us * 1000) / 1e9, 9))(
        folder
    )
    check = validate(folder.path, replace(SMALL, end_tolerance_s=4.0)).check("duration")
    assert check.verdict is expected, check.reason


@pytest.mark.parametrize(("silence_s", "expected"), [(2.0, Verdict.PASS), (1.999999, FAIL)])
def test_a_stream_may_be_silent_as_long_as_the_limit(
    silence_s: float, expected: Verdict, tmp_path: Path
) -> None:
    """The stream is silent at the end of the recording, for exactly the limit or longer."""
    lines = [line for line in evidence() if b"@depth" in line or int(line[14:33]) <= START_NS + 21 * STEP_NS]
    folder = made(tmp_path, [*lines, depth(96, 97, START_NS + 61 * STEP_NS)])
    plan(streams=["btcusdt@trade", "btcusdt@depth@100ms"])(folder)
    check = validate(folder.path, replace(SMALL, stream_silence_s=silence_s)).check("streams")
    assert check.verdict is expected, check.reason
