"""Whether every message that recorders received is accounted for, and what the disk lost of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from capture_pipeline.golden.scan.scan import Scan
from capture_pipeline.golden.validation.report import Check, check_result, skipped_check
from capture_pipeline.sessions.account import LISTED_COUNTS, AccountState
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Gap, SessionMetadata

_MOST_NAMED = 5
_COUNTED = {
    "suspect_segments": "parts whose fsync failed",
    "mended_damage": "damaged parts set aside",
    "tail_dropped_messages": "messages dropped with a tail",
    "torn_lines": "lines of a torn tail lost at the end",
}
"""What every recorder counts."""
_DISK = {
    **_COUNTED,
    "unwritten_messages": "messages that the disk had not taken when the recorder ended",
    "removed_messages": "messages gone with a part that was removed or altered",
}
_SET_ASIDE = (".damaged-", ".replaced-")
_FIGURES = ("received", "written", *LISTED_COUNTS.values(), "killed")
_AT_END = "behind the last message of a stream"
_AT_START = "before the first message of a stream"


def accounting_check(found: Scan, metadata: SessionMetadata) -> Check:
    """Received = written + duplicates + listed losses, and written = lines of the recording."""
    account = metadata.statistics.get("accounting")
    if account is None:
        return skipped_check(
            "accounting", "metadata.json holds no account: imported, or recorded by an earlier version"
        )
    lacking = [name for name in _FIGURES if not _is_count(account, name)]
    if lacking:
        return check_result(
            "accounting", good=False, reason=f"the account in metadata.json has no {', '.join(lacking)}"
        )
    parts = {name: account[name] for name in ("written", *LISTED_COUNTS.values())}
    difference = account["received"] - sum(parts.values())
    shown = " + ".join(f"{count:,} {name}" for name, count in parts.items() if count or name == "written")
    text = f"{account['received']:,} received = {shown}"
    wrong = [f"{difference:+,} messages are not accounted for"] if difference else []
    if account["written"] != found.lines:
        wrong.append(f"{account['written']:,} lines were counted and the recording has {found.lines:,}")
    last = (account.get("unknown") or [{}])[-1]
    if account.get("end") not in {AccountState.CLOSED, AccountState.UNWRITTEN}:
        wrong.append(
            f"the last recorder was killed: what it received behind its last line {_time(last)} is unknown, and nothing follows"
        )
    if not wrong and account["killed"]:
        told = f"{account['killed']:,} recorders were killed, the last one behind its line {_time(last)}"
        return skipped_check(
            "accounting",
            f"{text}; {told}: what they received and had not written is known by its ids in the ledger alone",
        )
    return check_result(
        "accounting",
        not wrong,
        f"{'; '.join(wrong)}: {text}" if wrong else text,
        **{**account, "difference": difference},
    )


def disk_check(metadata: SessionMetadata, folder: SessionFolder) -> Check:
    """Whether the disk took every message, and still has it; what no ratio counts, a loss at an end of a stream, is named.

    A part of a file that an import could not read is a loss of the same kind.
    """
    gaps = read_gaps(folder.gaps)
    ends = [ids_of_gap(gap) for gap in gaps if gap.at_end]
    starts = [ids_of_gap(gap) for gap in gaps if gap.at_start]
    counts = {name: metadata.statistics.get(name, 0) for name in _DISK}
    aside = [
        record.name for record in metadata.files if any(mark in Path(record.name).name for mark in _SET_ASIDE)
    ]
    wrong = [f"{count} {_DISK[name]}" for name, count in counts.items() if count]
    wrong += [f"{len(aside)} quarantined: {', '.join(aside[:_MOST_NAMED])}"] if aside else []
    wrong += [f"recorded and gone, {told}"] if (told := named(_AT_END, ends)) else []
    wrong += [f"recorded and gone, {told}"] if (told := named(_AT_START, starts)) else []
    wrong += [f"{one['segment']} {one['detail']}" for one in _altered(metadata)]
    left_out = metadata.configuration.get("left_out", [])
    wrong += (
        [f"{len(left_out)} parts left out at import: {'; '.join(left_out[:_MOST_NAMED])}"] if left_out else []
    )
    lacking = [name for name in _COUNTED if name not in metadata.statistics]
    if not wrong and (lacking or not folder.gaps.exists()):
        what = f"metadata.json does not count {', '.join(lacking)}" if lacking else "gaps.jsonl is missing"
        return skipped_check("disk", f"not known: {what}")
    reason = "; ".join(wrong) or "no fsync failed, nothing set aside or dropped"
    return check_result(
        "disk",
        not wrong,
        reason,
        **counts,
        quarantined=aside,
        lost_at_end=ends,
        lost_at_start=starts,
        left_out=left_out,
    )


def ids_of_gap(gap: Gap) -> tuple[str, int, int]:
    """What makes two lines of a ledger the same gap."""
    return gap.stream, gap.last_good_id, gap.first_good_id


def named(what: str, gaps: list[tuple[str, int, int]]) -> str:
    """How many gaps, and the first of them; empty if there is none."""
    shown = ", ".join(f"{stream} {last}..{first}" for stream, last, first in gaps[:_MOST_NAMED])
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
