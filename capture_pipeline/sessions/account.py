"""The account of a session: the count of received messages, and the counts of what happened to them.

`account.json` is allocated with its full size and overwritten in place, so that a recorder can report a loss
when the disk is full. Its state is `open` while a recorder is running. An open account without a recorder
shows that the recorder was killed.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import fsync, storage_errors
from capture_pipeline.parsing import PARSE_ERRORS
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.models import Cause, Checkpoint, Int64

_BASE_BYTES, _STREAM_BYTES = 32 << 10, 512
_MAX_KEPT = 50


class AccountState(StrEnum):
    """State in which the last recorder left its account."""

    OPEN = "open"
    """The recorder is running, or it was killed."""
    CLOSED = "closed"
    """The recorder ended, and all lines that it counts as written were on the disk."""
    UNWRITTEN = "unwritten"
    """The recorder ended while the disk refused the last messages."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class UnknownPeriod(_Record):
    """Time from the last line of a killed recorder to the notice of the kill; its messages are unknown."""

    from_ns: Int64
    to_ns: Int64


class Alteration(_Record):
    """Part of the recording that was removed or altered during the recording.

    Attributes:
        cause: `file removed` or `file altered`.
        segment: Name of the file.
        detail: Description of the alteration.
        from_ns: Capture time of the first line that the file may have contained.
        to_ns: Capture time of the last line written to the file.
    """

    cause: Cause
    segment: str
    detail: str
    from_ns: Int64
    to_ns: Int64


class Account(_Record):
    """Content of `account.json`.

    Attributes:
        state: State of the last recorder.
        processes: Count of recorders of the session, with the last one.
        killed: Count of earlier recorders that were killed.
        unknown: Periods after the kills; only the last ones if there are many.
        altered: Parts of the recording that were removed or altered.
        mark: Counts and ids at the start of an open account, else at the end of the recorder.
        until_ns: Time at which the recorder stopped to receive, capture clock; 0 while open.
        trouble: Error of the disk at the end of the recorder.
    """

    state: AccountState = AccountState.OPEN
    processes: Int64 = 1
    killed: Int64 = 0
    unknown: list[UnknownPeriod] = []
    altered: list[Alteration] = []
    mark: Checkpoint = Checkpoint()
    until_ns: Int64 = 0
    trouble: str = ""


def settle_account(
    account: Account, checkpoint: Checkpoint, lines: int, last_ns: int, now_ns: int
) -> Account:
    """Reconcile the account of an ended recorder with the recording on the disk.

    Args:
        account: Account that the recorder left.
        checkpoint: Last checkpoint of the session.
        lines: Count of lines in the recording.
        last_ns: Capture time of the last line.
        now_ns: Current time.

    Returns: The account with the final counts in its mark. For a killed recorder, `received` counts only the
    messages that are recorded or listed.
    """
    is_killed = account.state is AccountState.OPEN
    mark = checkpoint if is_killed and checkpoint.process >= account.processes else account.mark
    counts, line_count = SessionCounts.parse(mark.counts), lines if mark.lines is None else mark.lines
    if is_killed:
        counts.received = max(line_count, lines) + counts.listed
    missing = max(0, line_count - lines)
    if account.altered:
        counts.removed_messages += missing
    elif account.state is AccountState.UNWRITTEN:
        counts.unwritten_messages += missing
    unknown = (
        [*account.unknown, UnknownPeriod(from_ns=last_ns, to_ns=now_ns)] if is_killed else account.unknown
    )
    changed = {"counts": counts.by_name(), "lines": lines}
    return account.model_copy(
        update={
            "mark": mark.model_copy(update=changed),
            "processes": max(account.processes, checkpoint.process),
            "killed": account.killed + is_killed,
            "unknown": unknown[-_MAX_KEPT:],
        }
    )


def account_summary(account: Account, written: int) -> dict[str, Any]:
    """Return the account as a dictionary for the metadata of the session.

    Args:
        account: Account after `settle_account`.
        written: Count of lines in the recording.
    """
    counts = SessionCounts.parse(account.mark.counts)
    return {
        "received": counts.received,
        "written": written,
        **counts.parts(),
        "difference": counts.received - written - counts.listed,
        "processes": account.processes,
        "killed": account.killed,
        "unknown": [one.model_dump() for one in account.unknown],
        "altered": [one.model_dump(mode="json") for one in account.altered],
        "end": str(account.state),
    }


class AccountFile:
    """`account.json`, a file of constant size."""

    def __init__(self, path: Path, streams: int) -> None:
        """Store the path; `allocate` creates the file.

        Args:
            path: Path of the file.
            streams: Count of streams of the session.
        """
        self._path, self._size = path, _BASE_BYTES + _STREAM_BYTES * streams
        self._used = self._size

    def allocate(self) -> None:
        """Create the file with its full size, durably, unless it exists with that size.

        Raises:
            StorageError: The disk has no room for the file.
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
                # Bytes are written, because some file systems do not honour a reservation.
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
            StorageError: The file cannot be written or was removed.
        """
        text = account.model_dump_json().encode()
        # Only the bytes of the previous content are overwritten: under a limit on the size of files, a short
        # report can still be written.
        content = text.ljust(self._used)
        with storage_errors(self._path):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    if os.pwrite(descriptor, content, 0) != len(content):
                        raise StorageError(
                            "could not be written completely", where=str(self._path), remedy="free disk space"
                        )
                    os.fsync(descriptor)
                    self._used = len(text)
                finally:
                    os.close(descriptor)
            except FileNotFoundError as error:
                raise StorageError(
                    "was removed",
                    where=str(self._path),
                    remedy="change no file of a session that is being recorded",
                ) from error


def read_account(path: Path) -> Account | None:
    """Read the account of a session; None if no recorder kept one.

    A file that cannot be read was cut off during a write, so it counts as open.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Account.model_validate_json(content)
    except PARSE_ERRORS:
        return Account(state=AccountState.OPEN, processes=0)
