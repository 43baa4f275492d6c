"""The writer thread: batches from a bounded queue to the journal, regular fsyncs, checkpoints.

A disk that refuses is retried at constant intervals; the end of the recorder interrupts the wait, which a
back-off of stamina does not allow. The waiting batches are bounded: at the bound `has_room` is false, and the
producer decides what is lost.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import create_folder, fsync, publish_model, storage_errors
from capture_pipeline.recorder.storage.event_log import append_line
from capture_pipeline.recorder.storage.journal import Journal, SegmentAlteredError
from capture_pipeline.sessions.account import Alteration
from capture_pipeline.sessions.continuity import CaptureRange
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Cause, Checkpoint, Gap

_RETRY_S = 1.0
_NO_TIMES = CaptureRange(0, 0)


@dataclass
class Batch:
    """Lines and gaps that are written together.

    Attributes:
        lines: Whole lines; empty if only the ledger is written.
        count: Count of the lines.
        gaps: Gaps before messages of this batch; written to the ledger before the lines.
        mark: State of the recorder after this batch, for a checkpoint.
        times: Capture times of the first and the last line.
    """

    lines: bytes
    count: int
    gaps: list[Gap] = field(default_factory=list)
    mark: Checkpoint | None = None
    times: CaptureRange = _NO_TIMES


class Writer(threading.Thread):
    """Writes the recording of one session.

    Attributes:
        trouble: Error of the disk; empty while writing succeeds.
        failure: Unexpected exception that ended the thread.
        bytes_written: Compressed bytes of the recording.
        suspects: Segments whose fsync failed, until `take_suspects` returns them.
        alterations: Segments that another program removed or altered.
        waiting_messages: Count of lines that are not written yet.
    """

    def __init__(
        self, folder: SessionFolder, *, segment: int, max_waiting_bytes: int, fsync_s: float
    ) -> None:
        """Open the segment to write.

        Args:
            folder: The session.
            segment: Number of the part of the recording; 1 unless an fsync failed before.
            max_waiting_bytes: Limit of the bytes that wait to be written.
            fsync_s: Longest time between two fsyncs.

        Raises:
            StorageError: The segment cannot be opened or created.
        """
        super().__init__(name="recording-writer", daemon=True)
        self.trouble = ""
        self.failure: BaseException | None = None
        self.suspects: deque[str] = deque()
        self.alterations: list[Alteration] = []
        self.waiting_messages = 0
        self._folder, self._segment = folder, segment
        self._max_waiting_bytes, self._fsync_s = max_waiting_bytes, fsync_s
        self._journal = Journal(folder.segment(segment))
        self.bytes_written = self._journal.size
        self._queue: deque[Batch] = deque()
        self._waiting = 0
        self._wake = threading.Condition()
        self._closing = False
        self._abandon = threading.Event()
        self._mark: Checkpoint | None = None
        self._dirty_since: float | None = None
        self._checked_s = time.monotonic()
        self._times = _NO_TIMES
        self._has_new_file = False

    @property
    def segment(self) -> int:
        """Number of the segment that is written."""
        return self._segment

    @property
    def offset(self) -> int:
        """Bytes in the current segment."""
        return self._journal.size

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are not written yet."""
        return self._waiting

    def take_suspects(self) -> list[str]:
        """Return the segments whose fsync failed since the last call."""
        return [self.suspects.popleft() for _ in range(len(self.suspects))]

    def has_room(self, size: int) -> bool:
        """Return whether a batch of this size fits; valid until the next `put`, as there is one producer."""
        return not self._waiting or self._waiting + size <= self._max_waiting_bytes

    def put(self, batch: Batch) -> None:
        """Add a batch to the queue, after `has_room`."""
        with self._wake:
            self._queue.append(batch)
            self._waiting += len(batch.lines)
            self.waiting_messages += batch.count
            self._wake.notify()

    def drain(self, patience_s: float) -> None:
        """Wait until the queue is empty, the thread failed, or `patience_s` is over."""
        with self._wake:
            self._wake.wait_for(lambda: not self._waiting or self.failure is not None, patience_s)

    def end(self) -> None:
        """Stop the thread after the queued batches are written."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def finish(self, patience_s: float) -> bool:
        """Write the queued batches, fsync and stop the thread.

        Args:
            patience_s: Longest time to retry a disk that refuses.

        Returns:
            Whether everything is on the disk.
        """
        self.end()
        self.join(patience_s)
        self._abandon.set()
        self.join()
        return not self._queue and not self.trouble and self.failure is None

    def run(self) -> None:
        """Write batches until the end; this is the body of the thread."""
        try:
            while not self._can_stop():
                batch = self._next_batch()
                if batch is not None:
                    self._write(batch)
                if time.monotonic() - self._checked_s >= self._fsync_s:
                    self._check_file()
                if self._dirty_since is not None and time.monotonic() - self._dirty_since >= self._fsync_s:
                    self._sync()
            if self._dirty_since is not None:
                self._sync()
        except BaseException as error:  # noqa: BLE001 - the event loop raises it and ends the session
            self.failure = error
        finally:
            self._journal.close()

    def _can_stop(self) -> bool:
        """Return whether the thread can stop; the lock makes sure that no last batch is missed."""
        with self._wake:
            return self._abandon.is_set() or (self._closing and not self._queue)

    def _next_batch(self) -> Batch | None:
        """Return the next batch, or None when an fsync or the end is due."""
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait(self._fsync_s if self._dirty_since is None else 0.05)
            return self._queue[0] if self._queue else None

    def _write(self, batch: Batch) -> None:
        while True:
            try:
                self._append(batch)
                break
            except SegmentAlteredError as altered:
                self._replace_segment(altered)
                if self._abandon.is_set():
                    return
            except StorageError as error:
                self.trouble = str(error)
                if self._abandon.wait(_RETRY_S):
                    return
        self.trouble = ""
        with self._wake:
            self._queue.popleft()
            self._waiting -= len(batch.lines)
            self.waiting_messages -= batch.count
            self._wake.notify_all()
        if batch.mark is not None:
            # The position after this batch, whatever else is written before the next fsync.
            self._mark = batch.mark.model_copy(
                update={"segment": self._segment, "offset": self._journal.size}
            )
        if self._dirty_since is None:
            self._dirty_since = time.monotonic()

    def _append(self, batch: Batch) -> None:
        """Write the ledger before the lines.

        A gap too many is replaced or removed on resume, but a lost id without a gap would be invisible.
        """
        before = self._journal.size
        with storage_errors(self._folder.gaps):
            if batch.gaps and not self._folder.gaps.exists():
                self._has_new_file = True
            for gap in batch.gaps:
                append_line(self._folder.gaps, gap.model_dump_json() + "\n")
        if batch.count:
            self._journal.append(batch.lines, batch.count)
            self._times = CaptureRange(self._times.start_ns, batch.times.end_ns)
        self.bytes_written += self._journal.size - before

    def _sync(self) -> None:
        self._dirty_since = None
        try:
            self._journal.sync()
            with contextlib.suppress(FileNotFoundError):
                fsync(self._folder.gaps)
            if self._has_new_file:
                fsync(self._folder.path)
                self._has_new_file = False
        except (StorageError, OSError) as error:
            self.suspects.append(f"{self._journal.path.name}: {error}")
            self._next_segment()
            return
        if not self._check_file():
            return
        if self._mark is not None:
            mark, self._mark = self._mark, None
            with contextlib.suppress(StorageError, OSError):
                publish_model(self._folder.checkpoint, mark)

    def _check_file(self) -> bool:
        """Return whether the file is as it was written; if it is not, continue in a new one."""
        self._checked_s = time.monotonic()
        try:
            self._journal.check()
        except SegmentAlteredError as altered:
            self._replace_segment(altered)
            return False
        return True

    def _replace_segment(self, altered: SegmentAlteredError) -> None:
        """Continue in a new file and quarantine a file that replaced the old one: it has other data."""
        path = self._journal.path
        start, end = self._times
        self.alterations.append(
            Alteration(
                cause=altered.cause,
                segment=path.name,
                detail=altered.detail,
                from_ns=start,
                to_ns=end or time.time_ns(),
            )
        )
        if altered.cause is Cause.FILE_REMOVED:
            with contextlib.suppress(OSError, StorageError):
                create_folder(self._folder.quarantine)
                path.rename(self._folder.quarantine / f"{path.name}.replaced-{time.time_ns()}.bin")
        self._next_segment()

    def _next_segment(self) -> None:
        """Continue in a new file: after a failed fsync, the content of the old one on the disk is unknown."""
        self._journal.close()
        while True:
            try:
                self._journal = Journal(self._folder.segment(self._segment + 1))
                break
            except (StorageError, FileNotFoundError) as refused:
                self.trouble = str(refused)
                if self._abandon.wait(_RETRY_S):
                    return
        self._segment += 1
        self._times = CaptureRange(self._times.end_ns, 0)
        self.trouble = ""
