"""Checks of recordings, with their limits, and of the proof of a session.

`golden/validation` and `golden/proof` evaluate them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from capture_pipeline.checks.model import CheckSpec, Severity
from capture_pipeline.settings.sessions import SessionGates

SAMPLES = "golden_samples"
_HOUR_S = 3600.0

_check = partial(CheckSpec, asset=SAMPLES)

FILE = _check("file", "Every gzip member is complete, and every line ends with a line feed", blocking=True)
LINE_FORM = _check(
    "line_form",
    "Every line is {capture_ns, stream, data}, in that order, and no key occurs twice",
    blocking=True,
)
CAPTURE_ORDER = _check("capture_order", "capture_ns never decreases", blocking=True)
FORM_CHECKS = (FILE, LINE_FORM, CAPTURE_ORDER)

_GAP_PERCENT = ("session_gates.gap_percent",)
CONTINUITY = _check("continuity", "Update ids and trade ids continue; the ledger lists missing ids")
DUPLICATES = _check("duplicates", "No message occurs twice", blocking=True)
OVERLAPS = _check("overlaps", "No diff repeats ids of the previous one")
LOST_IDS = _check(
    "gap_ratio_ids",
    "The lost ids are a small share of all ids between the first and the last",
    settings=_GAP_PERCENT,
)
LOST_EVENTS = _check(
    "gap_ratio_events", "The lost events are a small share of the expected events", settings=_GAP_PERCENT
)
DISCONTINUITIES = _check(
    "gap_ratio_discontinuities",
    "The places at which ids are missing are few compared with the messages",
    settings=_GAP_PERCENT,
)
SNAPSHOTS = _check("snapshots", "Diffs continue each snapshot")
SEED = _check("seed", "Each depth stream has a snapshot from which its book can be built")
ID_CHECKS = (CONTINUITY, DUPLICATES, OVERLAPS, LOST_IDS, LOST_EVENTS, DISCONTINUITIES, SNAPSHOTS, SEED)

STREAMS = _check(
    "streams",
    "Every planned stream has messages, from the start of the recording to its end",
    settings=("session_gates.stream_silence_s",),
)
MESSAGES = _check(
    "messages",
    "The recording has at least as many messages as a golden sample needs",
    settings=("session_gates.least_messages",),
)
DURATION = _check(
    "duration",
    "The recording is at least as long as a golden sample, and does not end before the planned end",
    settings=("session_gates.least_hours", "session_gates.end_tolerance_s"),
)
UPTIME = _check(
    "uptime", "Nearly all of the time is outside gaps", settings=("session_gates.uptime_percent",)
)
TRADE_RATE = _check(
    "trade_rate",
    "The trades per second and symbol are as many as expected",
    Severity.WARN,  # rates depend on the market
    settings=("session_gates.trades_per_s_least", "session_gates.trades_per_s_most"),
)
DEPTH_RATE = _check(
    "depth_rate",
    "The depth diffs per second and symbol are as many as expected",
    Severity.WARN,
    settings=("session_gates.depth_per_s_least", "session_gates.depth_per_s_most"),
)
SIZE_CHECKS = (MESSAGES, DURATION, UPTIME, TRADE_RATE, DEPTH_RATE)

LEDGER = _check(
    "ledger",
    "Every gap of the data is in the ledger, and every gap of the ledger is in the data",
    blocking=True,
)
CHECKSUMS = _check(
    "checksums",
    "Every file of the session is listed, and has the size and the SHA-256 that were recorded",
    blocking=True,
)
DISK = _check(
    "disk",
    "The disk stored every message: no fsync failed, and nothing was quarantined, dropped, removed "
    "or lost at an "
    "end of a stream",
)
ACCOUNTING = _check(
    "accounting", "Every message received is in the recording, a duplicate, or listed as lost"
)
FILE_CHECKS = (CHECKSUMS, DISK, ACCOUNTING)

BOOK_VALID = _check("book_valid", "The replayed book is synced at nearly all diffs")
BOOK_CROSSED = _check("book_crossed", "The replayed book is never crossed")
BOOK_BEST = _check(
    "book_best", "The replayed best prices equal those of the bookTicker stream, if it was recorded"
)
BOOK_AUDITS = _check("book_audits", "The replayed book equals the REST snapshots that were recorded")
BOOK_CHECKS = (BOOK_VALID, BOOK_CROSSED, BOOK_BEST, BOOK_AUDITS)

RECORDING_CHECKS = (*FORM_CHECKS, *ID_CHECKS, STREAMS, *SIZE_CHECKS, LEDGER, *FILE_CHECKS, *BOOK_CHECKS)
"""All checks of a recording, in the order of a report."""
PROOF_HOLDS = CheckSpec(
    "proof_holds",
    "The recording differs from the published trades and klines only by losses in the gap ledger. Days that "
    "are not published yet do not fail the check. Files that cannot be compared are listed",
    asset="next_day_proof",
)


class RateRange(NamedTuple):
    """Expected messages per second of a symbol, both limits included."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits that a golden sample has to meet. A limit without a default has a setting.

    Attributes:
        min_messages: Minimum number of lines.
        duration_s: Minimum duration by the capture times.
        duration_tolerance_s: Seconds that the duration may be shorter.
        end_tolerance_s: Maximum seconds between the last message and the planned end of the session.
        max_gap_ratio: Upper limit of each of the three gap ratios, exclusive.
        min_uptime: Lower limit of the share of time outside gaps, exclusive.
        trades_per_s: Trades per second of a symbol.
        depth_per_s: Depth diffs per second of a symbol.
        stream_silence_s: Maximum seconds without a message of a planned stream at the start and at the end.
        min_book_valid: Minimum share of depth diffs at which the replayed book is synced.
        max_crossed: Maximum number of diffs after which the book is crossed.
        min_audit_ratio: Minimum match ratio of the best 1000 levels in each audit.
    """

    min_messages: int
    duration_s: float
    end_tolerance_s: float
    max_gap_ratio: float
    min_uptime: float
    trades_per_s: RateRange
    depth_per_s: RateRange
    stream_silence_s: float
    duration_tolerance_s: float = 60.0
    min_book_valid: float = 0.999
    max_crossed: int = 0
    min_audit_ratio: float = 0.99

    @classmethod
    def from_settings(cls, gates: SessionGates) -> Thresholds:
        """Build the thresholds from the settings of a deployment."""
        return cls(
            min_messages=gates.least_messages,
            duration_s=gates.least_hours * _HOUR_S,
            max_gap_ratio=gates.gap_percent / 100,
            min_uptime=gates.uptime_percent / 100,
            trades_per_s=RateRange(gates.trades_per_s_least, gates.trades_per_s_most),
            depth_per_s=RateRange(gates.depth_per_s_least, gates.depth_per_s_most),
            stream_silence_s=gates.stream_silence_s,
            end_tolerance_s=gates.end_tolerance_s,
        )


DEFAULTS = Thresholds.from_settings(SessionGates())
