"""Names and descriptions of the checks of a golden sample, for the command line, the UI and the tests."""

from __future__ import annotations

from capture_pipeline.golden.validation.report import Thresholds
from capture_pipeline.settings.sessions import SessionGates

HOUR_S = 3600.0

CHECKS = {
    "file": "Every gzip member is whole, and every line ended",
    "line_form": "Every line is {capture_ns, stream, data}, in that order, and no key occurs twice",
    "capture_order": "capture_ns never decreases",
    "continuity": "Update ids and trade ids continue; the ledger lists missing ids",
    "duplicates": "No message occurs twice",
    "overlaps": "No diff repeats ids of the previous one",
    "gap_ratio_ids": "Ids lost / ids between first and last",
    "gap_ratio_events": "Events lost / events expected",
    "gap_ratio_discontinuities": "Places at which ids are missing / messages",
    "snapshots": "Diffs continue each snapshot",
    "seed": "Each depth stream has a snapshot from which its book can be built",
    "streams": "Every planned stream has messages, from the start of the recording to its end",
    "messages": "At least as many messages as a golden sample needs",
    "duration": "At least as long as a golden sample, and not ended before the planned end of the session",
    "uptime": "Share of the time outside gaps",
    "trade_rate": "Trades a second and symbol are as expected",
    "depth_rate": "Depth diffs a second and symbol are as expected",
    "ledger": "Every gap of the data is in the ledger, and every gap of the ledger is in the data",
    "checksums": "Every file of the session is listed, and has the size and the SHA-256 that were recorded",
    "disk": (
        "The disk stored every message: no fsync failed, and nothing was quarantined, dropped, removed or lost at an "
        "end of a stream"
    ),
    "accounting": "Every message received is in the recording, a duplicate, or listed as lost",
    "book_valid": "Share of diffs at which the replayed book is synced",
    "book_crossed": "The replayed book is never crossed",
    "book_best": "The replayed best prices equal those of the bookTicker stream, where it was recorded",
    "book_audits": "The replayed book equals the REST snapshots that were recorded",
}
"""Descriptions by name, in the order of a report."""

BLOCKING = frozenset({"file", "line_form", "capture_order", "duplicates", "ledger", "checksums"})
"""A failure of one of these checks blocks the steps that use the recording."""


def build_thresholds(gates: SessionGates) -> Thresholds:
    """Build the thresholds from the settings of a deployment."""
    return Thresholds(
        min_messages=gates.least_messages,
        duration_s=gates.least_hours * HOUR_S,
        max_gap_ratio=gates.gap_percent / 100,
        min_uptime=gates.uptime_percent / 100,
        trades_per_s=(gates.trades_per_s_least, gates.trades_per_s_most),
        depth_per_s=(gates.depth_per_s_least, gates.depth_per_s_most),
        stream_silence_s=gates.stream_silence_s,
        end_tolerance_s=gates.end_tolerance_s,
    )
