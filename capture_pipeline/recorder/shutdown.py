"""End of a recorder: the last messages go to the disk, and the account is closed."""

from __future__ import annotations

import contextlib

from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import publish_model
from capture_pipeline.recorder.background.daemon_thread import run_in_daemon_thread
from capture_pipeline.recorder.events import AccountDiffers, Outcome, RecorderEnded
from capture_pipeline.recorder.factory import Parts
from capture_pipeline.recorder.telemetry.incidents import publish_file_faults
from capture_pipeline.sessions.models import SessionState


async def end_recording(parts: Parts, outcome: Outcome, until_ns: int) -> None:
    """Write the messages that are in memory and close the account; all connections are closed.

    Args:
        parts: Parts of the recorder.
        outcome: End of the recorder, for the event log and the status.
        until_ns: Time at which the recorder stopped to receive, capture clock.

    Raises:
        StorageError: The last messages or the account cannot be written.
    """
    writer, events = parts.writer, parts.events
    # No later message would show the loss of pending messages, so the writer gets time to write them.
    patience_s = parts.setup.settings.patience_s
    await run_in_daemon_thread(lambda: writer.drain(patience_s))
    parts.pipeline.finish()
    is_written = await run_in_daemon_thread(lambda: writer.finish(patience_s))
    events.publish(RecorderEnded(outcome, is_written))
    publish_file_faults(writer, parts.accounting, events)
    if writer.failure is not None:
        raise writer.failure
    if difference := parts.accounting.difference:
        events.publish(
            AccountDiffers(
                f"{difference:,} messages were received that are neither recorded nor accounted for"
            )
        )
    if is_written:
        with contextlib.suppress(StorageError):  # the checkpoint only saves a scan; the account decides
            _publish_checkpoint(parts)
    _close_account(parts, until_ns, is_written=is_written)
    parts.publisher.publish(
        SessionState.INTERRUPTED if outcome is Outcome.INTERRUPTED else SessionState.FINISHING
    )


def _publish_checkpoint(parts: Parts) -> None:
    """Publish the final counts, with the end of the written bytes as the position."""
    position = {"segment": parts.writer.segment, "offset": parts.writer.offset}
    mark = parts.pipeline.create_checkpoint(parts.clock.last_ns).model_copy(update=position)
    publish_model(parts.setup.folder.checkpoint, mark)


def _close_account(parts: Parts, until_ns: int, *, is_written: bool) -> None:
    refused = ""
    try:
        parts.accounting.close(until_ns, is_written=is_written)
    except StorageError as error:
        refused = str(error)
    if is_written and not refused:
        return
    trouble = parts.writer.trouble or refused or "the disk is too slow"
    parts.publisher.publish(SessionState.INTERRUPTED)
    raise StorageError(
        f"ended with {parts.writer.waiting_messages:,} messages that could not be written: {trouble}",
        where=str(parts.setup.folder.path),
        remedy="free disk space and run the same command again: it resumes or finishes the session "
        "and lists the lost ids in gaps.jsonl",
    )
