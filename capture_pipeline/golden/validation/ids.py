"""Checks of ids: continuity, duplicates, overlaps, the three gap ratios, and continuation of snapshots."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import chain

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.checks import recordings as checks
from capture_pipeline.checks.model import CheckResult, Severity
from capture_pipeline.checks.recordings import Thresholds
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.golden.scan.streams import StreamScan
from capture_pipeline.sessions.continuity import IdRange, compute_gap_ratios

_MAX_EXAMPLES = 5


def check_ids(found: Scan, thresholds: Thresholds, *, listed: bool) -> list[CheckResult]:
    """Run all checks of ids.

    Args:
        found: Scan of the recording.
        thresholds: Limits of the gap ratios.
        listed: True if the gap ledger lists all gaps. A gap does not fail the recording then; only the ratios
            do.
    """
    tracked = [stream for stream in found.streams.values() if stream.track.first >= 0]
    if not tracked:
        return [spec.skip("no stream carries contiguous ids") for spec in checks.ID_CHECKS]
    return [
        _check_continuity(tracked, listed=listed),
        *_check_repeats(tracked),
        *_check_ratios(tracked, thresholds),
        *check_snapshots(found),
    ]


def check_snapshots(found: Scan) -> list[CheckResult]:
    """Check that diffs continue each snapshot, and that each depth stream has such a snapshot."""
    depth = {stream.symbol: stream for stream in found.of_kind(StreamKind.DEPTH) if stream.track.first >= 0}
    ids_of = {stream.symbol: stream.snapshots for stream in found.of_kind(StreamKind.SNAPSHOT)}
    if not depth:
        return [spec.skip("there is no depth stream") for spec in (checks.SNAPSHOTS, checks.SEED)]
    unconnected = [
        f"{symbol} {last}"
        for symbol, ids in ids_of.items()
        for last in ids
        if symbol in depth and not bridges(depth[symbol], last)
    ]
    seeded = {
        symbol
        for symbol, stream in depth.items()
        if any(bridges(stream, last) for last in ids_of.get(symbol, []))
    }
    count = sum(map(len, ids_of.values()))
    unseeded = sorted(depth.keys() - seeded)
    snapshots = (
        checks.SNAPSHOTS.pass_if(
            not unconnected,
            _format_names("lastUpdateId that no diff continues", unconnected)
            or f"diffs continue all {count}",
            snapshots=count,
        )
        if count
        else checks.SNAPSHOTS.skip("the recording contains no snapshot")
    )
    reason = (
        f"no seed: no usable snapshot of {', '.join(unseeded)}"
        if unseeded
        else f"every book can be built, {len(seeded)} of {len(depth)}"
    )
    return [snapshots, checks.SEED.pass_if(not unseeded, reason, without=unseeded)]


def bridges(depth: StreamScan, last_update_id: int) -> bool:
    """Return True if the diffs continue a snapshot without a missing id, or end at its id."""
    runs = depth.all_runs
    place = bisect_right(runs, IdRange(last_update_id + 1, 1 << 63)) - 1
    return place >= 0 and last_update_id <= runs[place].last


def _check_continuity(tracked: list[StreamScan], *, listed: bool) -> CheckResult:
    breaks = sorted(chain.from_iterable(stream.breaks for stream in tracked), key=lambda gap: gap.start_ns)
    lost = sum(stream.track.lost for stream in tracked)
    gaps = sum(stream.track.gaps for stream in tracked)
    names = [f"{gap.stream} {gap.last_good_id + 1}–{gap.first_good_id - 1}" for gap in breaks]
    where = "each of them in the ledger" if listed else "not accounted for"
    reason = (
        f"{gaps:,} gaps, {lost:,} ids, {where}: {_format_names('', names)}"
        if gaps
        else f"no id is missing in {len(tracked)} streams"
    )
    places = [
        {
            "stream": gap.stream,
            "last_good_id": gap.last_good_id,
            "first_good_id": gap.first_good_id,
            "start_ns": gap.start_ns,
            "end_ns": gap.end_ns,
        }
        for gap in breaks
    ]
    spec = replace(checks.CONTINUITY, severity=Severity.WARN) if listed else checks.CONTINUITY
    return spec.pass_if(not gaps, reason, gaps=gaps, ids_lost=lost, places=places)


def _check_repeats(tracked: list[StreamScan]) -> list[CheckResult]:
    results = []
    for spec in (checks.DUPLICATES, checks.OVERLAPS):
        counts = {stream.name: count for stream in tracked if (count := getattr(stream.track, spec.name))}
        reason = ", ".join(f"{stream} {count:,}" for stream, count in counts.items()) or "none"
        results.append(spec.pass_if(not counts, reason, **{spec.name: sum(counts.values())}))
    return results


def _check_ratios(tracked: list[StreamScan], thresholds: Thresholds) -> list[CheckResult]:
    ratios = compute_gap_ratios([stream.track for stream in tracked])
    limit = thresholds.max_gap_ratio
    rows = (
        (checks.LOST_IDS, ratios.lost_ids, "ids lost / ids between first and last"),
        (checks.LOST_EVENTS, ratios.lost_events, "events lost (estimated of ranges) / events expected"),
        (checks.DISCONTINUITIES, ratios.discontinuities, "places at which ids are missing / messages"),
    )
    return [
        spec.pass_if(ratio < limit, f"{ratio:.6%} of less than {limit:.4%}: {meaning}", ratio=ratio)
        for spec, ratio, meaning in rows
    ]


def _format_names(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _MAX_EXAMPLES:,} more" if len(names) > _MAX_EXAMPLES else ""
    return f"{what}{': ' if what else ''}{', '.join(names[:_MAX_EXAMPLES])}{more}"
