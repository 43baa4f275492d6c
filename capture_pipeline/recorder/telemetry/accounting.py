"""Account of a session during recording: opened before the first message, updated, and closed at the end."""

from __future__ import annotations

import time

from capture_pipeline.errors import StorageError
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.sessions.account import Account, AccountFile, AccountState, UnknownPeriod


def continue_account(resumed: RecoveredSession) -> Account:
    """Return the open account of a recorder that continues a session."""
    before = resumed.account
    if before is None and resumed.messages:
        # Recorded by an older version, or the account was removed: treated like a killed recorder.
        unknown = UnknownPeriod(from_ns=resumed.last_ns, to_ns=time.time_ns())
        before = Account(killed=1, unknown=[unknown])
    mark = resumed.checkpoint.model_copy(update={"lines": resumed.messages, "audits": [], "clock": []})
    if before is None:
        return Account(mark=mark)
    return Account(
        processes=before.processes + 1,
        killed=before.killed,
        unknown=before.unknown,
        altered=before.altered,
        mark=mark,
    )


class Accounting:
    """Writes `account.json` for one recorder.

    Attributes:
        altered: Descriptions of altered files of the recording.
    """

    def __init__(
        self, file: AccountFile, account: Account, pipeline: RecordingPipeline, writer: Writer
    ) -> None:
        """Store the parts; `begin` writes the account.

        Args:
            file: `account.json` of the session.
            account: Account of the earlier recorders, see `continue_account`.
            pipeline: Source of the count of received messages.
            writer: Source of the count of written messages and of altered files.
        """
        self._file, self._account, self._pipeline, self._writer = file, account, pipeline, writer
        self._taken = 0
        self.altered = [f"{one.segment} {one.detail}" for one in account.altered]

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
        counts = self._pipeline.counts
        return counts.received - self._pipeline.messages - counts.listed

    def figures(self) -> dict[str, int]:
        """Return the current counts; messages in memory are held back, pending, or waiting for the disk."""
        counts, waiting = self._pipeline.counts, self._writer.waiting_messages
        return {
            "received": counts.received,
            "written": self._pipeline.messages - waiting,
            **counts.parts(),
            "in_memory": self.difference + waiting,
            "killed": self._account.killed,
        }
