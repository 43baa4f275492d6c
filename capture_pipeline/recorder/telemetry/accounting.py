"""Account of a session during recording: opened before the first message, updated, and closed at the end."""

from __future__ import annotations

import time

from capture_pipeline.errors import StorageError
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.sessions.account import (
    LISTED_COUNTS,
    Account,
    AccountFile,
    AccountState,
    UnknownPeriod,
    count_listed,
)
from capture_pipeline.sessions.layout import SessionFolder


class Accounting:
    """Writes `account.json` for one recorder.

    Attributes:
        altered: Descriptions of altered files of the recording.
    """

    def __init__(
        self,
        folder: SessionFolder,
        streams: int,
        resumed: RecoveredSession,
        pipeline: RecordingPipeline,
        writer: Writer,
    ) -> None:
        """Continue the account of the earlier recorders.

        Args:
            folder: The session.
            streams: Count of streams of the session.
            resumed: State of the session after its recovery.
            pipeline: Source of the count of received messages.
            writer: Source of the count of written messages and of altered files.
        """
        self._file, self._pipeline, self._writer = AccountFile(folder.account, streams), pipeline, writer
        before = resumed.account
        if before is None and resumed.messages:
            # Recorded by an older version, or the account was removed: treated like a killed recorder.
            unknown = UnknownPeriod(from_ns=resumed.last_ns, to_ns=time.time_ns())
            before = Account(state=AccountState.OPEN, killed=1, unknown=[unknown])
        mark = resumed.checkpoint.model_copy(update={"lines": resumed.messages, "audits": [], "clock": []})
        self._account = Account(
            state=AccountState.OPEN,
            processes=before.processes + 1 if before else 1,
            killed=before.killed if before else 0,
            unknown=before.unknown if before else [],
            altered=before.altered if before else [],
            mark=mark,
        )
        self._taken = 0
        self.altered = [f"{one.segment} {one.detail}" for one in self._account.altered]

    @property
    def process(self) -> int:
        """Number of this recorder in the session, from 1."""
        return self._account.processes

    def begin(self) -> None:
        """Open the account; a recorder that is killed after this call leaves it open.

        Raises:
            StorageError: The disk has no room for the account.
        """
        self._file.allocate()
        self._file.write(self._account)

    def take_alterations(self) -> list[str]:
        """Add the alterations that the writer found since the last call to the account.

        Returns:
            A description of each alteration.
        """
        new = self._writer.alterations[self._taken :]
        if not new:
            return []
        self._taken += len(new)
        self._account = self._account.model_copy(update={"altered": [*self._account.altered, *new]})
        descriptions = [f"{one.segment} {one.detail}" for one in new]
        self.altered += descriptions
        try:
            self._file.write(self._account)
        except StorageError as error:
            descriptions.append(str(error))
        return descriptions

    def close(self, until_ns: int, *, is_written: bool) -> None:
        """Close the account.

        Args:
            until_ns: Time at which the recorder stopped to receive.
            is_written: Whether all received messages are on the disk.

        Raises:
            StorageError: The account cannot be written; it stays open.
        """
        state = AccountState.CLOSED if is_written else AccountState.UNWRITTEN
        end = {
            "state": state,
            "mark": self._pipeline.create_final_checkpoint(),
            "until_ns": until_ns,
            "trouble": self._writer.trouble[:500],
        }
        self._account = self._account.model_copy(update=end)
        self._file.write(self._account)

    @property
    def difference(self) -> int:
        """Received messages that are neither passed to the writer nor accounted for; 0 at the end."""
        return self._pipeline.received - self._pipeline.messages - count_listed(self._pipeline.total_counts())

    def figures(self) -> dict[str, int]:
        """Return the current counts; messages in memory are held back, pending, or waiting for the disk."""
        counts, waiting = self._pipeline.total_counts(), self._writer.waiting_messages
        parts = {name: counts.get(count, 0) for count, name in LISTED_COUNTS.items()}
        return {
            "received": self._pipeline.received,
            "written": self._pipeline.messages - waiting,
            **parts,
            "in_memory": self.difference + waiting,
            "killed": self._account.killed,
        }
