"""The account of a session: how many messages were received and what became of each, and whether the last recorder could say so.

`account.json` has its full size from the start and is overwritten in place, so that a recorder can still report a loss when the disk
has no room left. It is `open` while a recorder is at work: one that is found open belongs to a process that was killed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import fsync, storage_errors
from capture_pipeline.parsing import PARSE_ERRORS
from capture_pipeline.sessions.models import Cause, Checkpoint, Int64

LISTED_COUNTS = {
    "duplicates": "duplicates",
    "late": "late",
    "early": "early",
    "stray": "stray",
    "rejected_messages": "rejected",
    "control_messages": "control",
    "dropped_messages": "dropped",
    "unwritten_messages": "unwritten",
    "removed_messages": "removed",
}
"""What can become of a message that is no line of the recording: the name of its count, and its name in the account."""
_BASE_BYTES, _STREAM_BYTES = 32 << 10, 512
_MOST_KEPT = 50


class AccountState(StrEnum):
    """How far the account of the last recorder can be relied on."""

    OPEN = "open"
    """It is at work, or it was killed."""
    CLOSED = "closed"
    """It ended, and all that it counts as written was on the disk."""
    UNWRITTEN = "unwritten"
    """It ended while the disk refused the last messages."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class UnknownPeriod(_Record):
    """The time in which a recorder was killed: from its last line until somebody noticed. Nobody knows what it received then."""

    from_ns: Int64
    to_ns: Int64


class Alteration(_Record):
    """A part of the recording that was removed or altered while a recorder wrote it.

    Attributes:
        cause: `file removed` or `file altered`.
        segment: Name of the file.
        detail: What was found.
        from_ns: Capture time of the first line that the file may have held.
        to_ns: Capture time of the last line written to it.
    """

    cause: Cause
    segment: str
    detail: str
    from_ns: Int64
    to_ns: Int64


class Account(_Record):
    """What is known of a session's messages when no recorder can be asked.

    Attributes:
        state: Of the last recorder.
        processes: How many recorders worked on the session, with that one.
        killed: How many of those before it were killed.
        unknown: When; the last ones, if they are many.
        altered: Parts of the recording that somebody removed or altered.
        mark: Counts and ids: at the start of the recorder while it is open, else at its end, with all that it took.
        until_ns: When it stopped to receive, capture clock; 0 while it is open.
        trouble: What the disk said at its end.
    """

    state: AccountState
    processes: Int64 = 1
    killed: Int64 = 0
    unknown: list[UnknownPeriod] = []
    altered: list[Alteration] = []
    mark: Checkpoint = Checkpoint()
    until_ns: Int64 = 0
    trouble: str = ""


def count_listed(counts: Mapping[str, int]) -> int:
    """How many messages are accounted for without being in the recording."""
    return sum(counts.get(name, 0) for name in LISTED_COUNTS)


def settle_account(
    account: Account, checkpoint: Checkpoint, lines: int, last_ns: int, now_ns: int
) -> Account:
    """Bring the account of a recorder that is gone in line with what is on the disk.

    Args:
        account: As it was left.
        checkpoint: The last one of the session.
        lines: How many lines the recording has.
        last_ns: Capture time of the last of them.
        now_ns: The time.

    Returns:
        The account with the counts at its end in its mark. Of a recorder that was killed `received` is the number of messages whose
        fate is known.
    """
    is_killed = account.state is AccountState.OPEN
    mark = checkpoint if is_killed and checkpoint.process >= account.processes else account.mark
    counts, known = dict(mark.counts), lines if mark.lines is None else mark.lines
    if is_killed:
        counts["received"] = max(known, lines) + count_listed(counts)
    missing = max(0, known - lines)
    reason = (
        "removed_messages"
        if account.altered
        else "unwritten_messages"
        if account.state is AccountState.UNWRITTEN
        else ""
    )
    if missing and reason:
        counts[reason] = counts.get(reason, 0) + missing
    unknown = (
        [*account.unknown, UnknownPeriod(from_ns=last_ns, to_ns=now_ns)] if is_killed else account.unknown
    )
    changed = {"counts": counts, "lines": lines}
    return account.model_copy(
        update={
            "mark": mark.model_copy(update=changed),
            "processes": max(account.processes, checkpoint.process),
            "killed": account.killed + is_killed,
            "unknown": unknown[-_MOST_KEPT:],
        }
    )


def account_summary(account: Account, written: int) -> dict[str, Any]:
    """The account for metadata and people.

    Args:
        account: Account after `settle_account`.
        written: Lines of the recording.
    """
    counts = account.mark.counts
    parts = {name: counts.get(count, 0) for count, name in LISTED_COUNTS.items()}
    received = counts.get("received", 0)
    return {
        "received": received,
        "written": written,
        **parts,
        "difference": received - written - sum(parts.values()),
        "processes": account.processes,
        "killed": account.killed,
        "unknown": [one.model_dump() for one in account.unknown],
        "altered": [one.model_dump(mode="json") for one in account.altered],
        "end": str(account.state),
    }


class AccountFile:
    """The file, of constant size."""

    def __init__(self, path: Path, streams: int) -> None:
        """Keep the path; `allocate` makes the file.

        Args:
            path: Where it is.
            streams: How many streams the session has.
        """
        self._path, self._size = path, _BASE_BYTES + _STREAM_BYTES * streams
        self._used = self._size

    def allocate(self) -> None:
        """Give the file its size, durably, unless it has it.

        Raises:
            StorageError: There is no room.
        """
        with storage_errors(self._path):
            try:
                if self._path.stat().st_size >= self._size:
                    return
            except FileNotFoundError:
                pass
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                at = os.lseek(descriptor, 0, os.SEEK_END)
                # Written and not only reserved: some file systems forget a reservation.
                room = memoryview(b" " * (self._size - at))
                while room:
                    room = room[os.write(descriptor, room) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fsync(self._path.parent)

    def write(self, account: Account) -> None:
        """Replace the content in place, durably.

        Raises:
            StorageError: The disk refuses even this.
        """
        text = account.model_dump_json().encode()
        # Only as far as anything was written before: a limit on the size of files must not keep a short report from being written.
        content = text.ljust(self._used)
        with storage_errors(self._path):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    if os.pwrite(descriptor, content, 0) != len(content):
                        raise StorageError(
                            "could not be written whole", where=str(self._path), remedy="free the disk"
                        )
                    os.fsync(descriptor)
                    self._used = len(text)
                finally:
                    os.close(descriptor)
            except FileNotFoundError as error:
                raise StorageError(
                    "is gone", where=str(self._path), remedy="leave the files of a session at work alone"
                ) from error


def read_account(path: Path) -> Account | None:
    """The account of a session, None where no recorder kept one. One that cannot be read was cut off while it was written: it is open."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Account.model_validate_json(content)
    except PARSE_ERRORS:
        return Account(state=AccountState.OPEN, processes=0)
