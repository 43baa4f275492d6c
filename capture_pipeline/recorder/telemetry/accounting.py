"""The account of a session while a recorder works: opened before the first message, brought up to date, closed at the end."""

from __future__ import annotations

import time

from capture_pipeline.errors import StorageError
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.recovery import Resumed
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.sessions.account import LISTED, Account, AccountFile, AccountState, Unknown, listed
from capture_pipeline.sessions.layout import SessionFolder


class Accounting:
    """Keeps `account.json` for one recorder.

    Attributes:
        altered: What was found wrong with files of the recording, a line each.
    """

    def __init__(
        self,
        folder: SessionFolder,
        streams: int,
        resumed: Resumed,
        pipeline: RecordingPipeline,
        writer: Writer,
    ) -> None:
        """Take up the account of the recorders before.

        Args:
            folder: The session.
            streams: How many streams it has.
            resumed: Where it stands.
            pipeline: Counts what is received.
            writer: Counts what is written, and finds files altered.
        """
        self._file, self._pipeline, self._writer = AccountFile(folder.account, streams), pipeline, writer
        before = resumed.account
        if before is None and resumed.messages:
            # An earlier version recorded, or somebody removed the account: as little is known as of a recorder that was killed.
            unknown = Unknown(from_ns=resumed.last_ns, to_ns=time.time_ns())
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
        """Which recorder of the session this is, counted from 1."""
        return self._account.processes

    def begin(self) -> None:
        """Open the account: a recorder that is killed from now on leaves it open.

        Raises:
            StorageError: The disk has no room for it.
        """
        self._file.allocate()
        self._file.write(self._account)

    def take_alterations(self) -> list[str]:
        """Put what the writer found since the last call into the account.

        Returns:
            What was found, a line each.
        """
        new = self._writer.alterations[self._taken :]
        if not new:
            return []
        self._taken += len(new)
        self._account = self._account.model_copy(update={"altered": [*self._account.altered, *new]})
        told = [f"{one.segment} {one.detail}" for one in new]
        self.altered += told
        try:
            self._file.write(self._account)
        except StorageError as error:
            told.append(str(error))
        return told

    def close(self, until_ns: int, *, is_written: bool) -> None:
        """Close the account.

        Args:
            until_ns: When the recorder stopped to receive.
            is_written: Whether all that it took is on the disk.

        Raises:
            StorageError: The disk refuses even that; the account stays open.
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
        """Messages that were received and are neither handed to the disk nor accounted for; 0 at the end of a sound recorder."""
        return self._pipeline.received - self._pipeline.messages - listed(self._pipeline.total_counts())

    def figures(self) -> dict[str, int]:
        """The account of this instant; what is in memory is held back, pending, or waits for the disk."""
        counts, waiting = self._pipeline.total_counts(), self._writer.waiting_messages
        parts = {name: counts.get(count, 0) for count, name in LISTED.items()}
        return {
            "received": self._pipeline.received,
            "written": self._pipeline.messages - waiting,
            **parts,
            "in_memory": self.difference + waiting,
            "killed": self._account.killed,
        }
