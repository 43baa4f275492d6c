"""Checks of the account of received messages, and of losses on the disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from capture_pipeline.checks.model import CheckResult
from capture_pipeline.checks.recordings import ACCOUNTING, DISK
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.golden.scan.streams import Break
from capture_pipeline.sessions.account import AccountState
from capture_pipeline.sessions.counts import ACCOUNT_PARTS
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Gap, SessionMetadata

_MAX_EXAMPLES = 5
_COUNTED = {
    "suspect_segments": "parts whose fsync failed",
    "mended_damage": "damaged parts quarantined",
    "tail_dropped_messages": "messages dropped with a tail",
    "torn_lines": "lines of a torn tail lost at the end",
}
"""Counts that every recorder writes to `metadata.json`."""
_DISK = {
    **_COUNTED,
    "unwritten_messages": "messages that were not on the disk when the recorder ended",
    "removed_messages": "messages lost with a part that was removed or altered",
}
_SET_ASIDE = (".damaged-", ".replaced-")
_FIGURES = ("received", "written", *ACCOUNT_PARTS, "killed")
_AT_END = "after the last message of a stream"
_AT_START = "before the first message of a stream"


def check_accounting(found: Scan, metadata: SessionMetadata) -> CheckResult:
    """Check that received = written + duplicates + listed losses, and written = lines of the recording."""
    account = metadata.statistics.get("accounting")
    if account is None:
        return ACCOUNTING.skip("metadata.json has no account: imported, or recorded by an earlier version")
    lacking = [name for name in _FIGURES if not _is_count(account, name)]
    if lacking:
        return ACCOUNTING.fail(f"the account in metadata.json has no {', '.join(lacking)}")
    parts = {name: account[name] for name in ("written", *ACCOUNT_PARTS)}
    difference = account["received"] - sum(parts.values())
    shown = " + ".join(f"{count:,} {name}" for name, count in parts.items() if count or name == "written")
    text = f"{account['received']:,} received = {shown}"
    wrong = [f"{difference:+,} messages are not accounted for"] if difference else []
    if account["written"] != found.lines:
        wrong.append(f"{account['written']:,} lines were counted and the recording has {found.lines:,}")
    last = (account.get("unknown") or [{}])[-1]
    if account.get("end") not in {AccountState.CLOSED, AccountState.UNWRITTEN}:
        wrong.append(
            f"the last recorder was killed: messages that it received after its last line {_time(last)} are "
            "unknown, and nothing follows"
        )
    if not wrong and account["killed"]:
        killed = f"{account['killed']:,} recorders were killed, the last one after its line {_time(last)}"
        return ACCOUNTING.skip(
            f"{text}; {killed}: of messages that they did not write only the ids in the ledger are known",
        )
    return ACCOUNTING.pass_if(
        not wrong,
        f"{'; '.join(wrong)}: {text}" if wrong else text,
        **{**account, "difference": difference},
    )


def check_disk(metadata: SessionMetadata, folder: SessionFolder) -> CheckResult:
    """Check that the disk stored every message and still has it. Losses at the ends of a stream are included.

    A part of a file that an import could not read is a loss too.
    """
    gaps = read_gaps(folder.gaps)
    ends = [GapIds.of(gap) for gap in gaps if gap.at_end]
    starts = [GapIds.of(gap) for gap in gaps if gap.at_start]
    counts = {name: metadata.statistics.get(name, 0) for name in _DISK}
    quarantined = [
        record.name for record in metadata.files if any(mark in Path(record.name).name for mark in _SET_ASIDE)
    ]
    wrong = [f"{count} {_DISK[name]}" for name, count in counts.items() if count]
    wrong += (
        [f"{len(quarantined)} quarantined: {', '.join(quarantined[:_MAX_EXAMPLES])}"] if quarantined else []
    )
    wrong += [f"recorded and lost, {text}"] if (text := format_gaps(_AT_END, ends)) else []
    wrong += [f"recorded and lost, {text}"] if (text := format_gaps(_AT_START, starts)) else []
    wrong += [f"{one['segment']} {one['detail']}" for one in _altered(metadata)]
    left_out = metadata.configuration.get("left_out", [])
    wrong += (
        [f"{len(left_out)} parts left out at import: {'; '.join(left_out[:_MAX_EXAMPLES])}"]
        if left_out
        else []
    )
    lacking = [name for name in _COUNTED if name not in metadata.statistics]
    if not wrong and (lacking or not folder.gaps.exists()):
        what = f"metadata.json does not count {', '.join(lacking)}" if lacking else "gaps.jsonl is missing"
        return DISK.skip(f"not known: {what}")
    reason = "; ".join(wrong) or "no fsync failed, nothing quarantined or dropped"
    return DISK.pass_if(
        not wrong,
        reason,
        **counts,
        quarantined=quarantined,
        lost_at_end=ends,
        lost_at_start=starts,
        left_out=left_out,
    )


class GapIds(NamedTuple):
    """Ids on both sides of a gap, by which gaps of the ledger and of the data are compared."""

    stream: str
    last_good_id: int
    first_good_id: int

    @classmethod
    def of(cls, gap: Gap | Break) -> GapIds:
        """Return the ids of a gap of the ledger or of the data."""
        return cls(gap.stream, gap.last_good_id, gap.first_good_id)


def format_gaps(what: str, gaps: list[GapIds]) -> str:
    """Format the number of gaps and the first of them; empty if there are none."""
    shown = ", ".join(f"{stream} {last}..{first}" for stream, last, first in gaps[:_MAX_EXAMPLES])
    return f"{len(gaps):,} {what}: {shown}" if gaps else ""


def _altered(metadata: SessionMetadata) -> list[dict[str, Any]]:
    account = metadata.statistics.get("accounting") or {}
    return [one for one in account.get("altered", []) if "segment" in one and "detail" in one]


def _is_count(account: object, name: str) -> bool:
    return isinstance(account, dict) and isinstance(account.get(name), int) and account[name] >= 0


def _time(unknown: dict[str, int]) -> str:
    stamp = unknown.get("from_ns", 0)
    return (
        f"of {datetime.fromtimestamp(stamp / 1e9, UTC).isoformat(timespec='milliseconds')}"
        if stamp
        else "(there is none)"
    )
