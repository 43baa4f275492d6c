"""Recovery of an unfinished session: scan the recording, repair its tail, quarantine damage, fix the ledger.

Data behind a torn tail would be unreadable, so nothing is appended before the recovery.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from capture_pipeline.binance.streams.names import event_us, kind_of
from capture_pipeline.errors import LakeError
from capture_pipeline.lake.files import atomic_write, fsync, read_model, storage_errors
from capture_pipeline.parsing import PARSE_ERRORS, guard_parser
from capture_pipeline.recorder.ordering.gap_tracker import GapBounds, MessageTime, gap_between
from capture_pipeline.recorder.ordering.message_ids import MessageIds, ids_of
from capture_pipeline.recorder.storage.journal import Journal
from capture_pipeline.recorder.storage.ledger_correction import ScanEvidence, reconcile_gaps
from capture_pipeline.sessions.account import Account, read_account, settle_account
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.gap_ledger import ends_with_whole_line, read_gaps, write_gaps
from capture_pipeline.sessions.gzip_members import HEAD_BYTES, Content, claimed_lines, member_size
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.line_format import decode_line
from capture_pipeline.sessions.models import Cause, Checkpoint, Gap
from capture_pipeline.sessions.recordings.source import DamagePolicy, FindingKind, Source, map_file

_STEP = 1 << 20
_RESET_US, _NEVER_US = 1_000_000, 1 << 62
_TAILS = {FindingKind.TORN_MEMBER: "torn", FindingKind.ZERO_TAIL: "zeros"}
"""Names of the kinds of a tail that has to be cut, for files in the quarantine."""


@dataclass
class RecoveredSession:
    """State of a session after its recovery.

    Attributes:
        segment: Number of the part of the recording that is continued.
        first_ns: First capture time of the recording; 0 if it is empty.
        last_ns: Last capture time; 0 if it is empty.
        tracks: Ids and counts by stream.
        last_times: Time of the last message by stream.
        checkpoint: Last checkpoint of the recorder; its counts are those of the account if there is one.
        account: Account of the received messages, settled with the recording; None if no recorder kept one.
        repairs: Descriptions of the repairs, for the event log.
        damage_count: Count of damaged parts that were moved to the quarantine.
        gaps: Gaps in the scanned lines.
        messages: Count of lines: those up to the checkpoint and the scanned ones.
        bad: Count of scanned lines that are not valid lines of a recording.
        torn_lines: Count of lines of a torn tail that could not be saved.
    """

    segment: int = 1
    first_ns: int = 0
    last_ns: int = 0
    tracks: dict[str, Track] = field(default_factory=dict)
    last_times: dict[str, MessageTime] = field(default_factory=dict)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    account: Account | None = None
    repairs: list[str] = field(default_factory=list)
    damage_count: int = 0
    gaps: list[Gap] = field(default_factory=list)
    messages: int = 0
    bad: int = 0
    torn_lines: int = 0

    def count(self, lines: bytes) -> None:
        """Count the lines of a sound member; an invalid line is counted as bad, and validation reports it."""
        for line in lines[:-1].split(b"\n"):
            self.messages += 1
            try:
                placed = decode_line(line)
                ids = ids_of(kind_of(placed.stream), bytes(placed.data))
            except PARSE_ERRORS:
                self.bad += 1
                continue
            self.first_ns = self.first_ns or placed.capture_ns
            self.last_ns = max(self.last_ns, placed.capture_ns)
            if ids is not None:
                self._place(placed.stream, ids, MessageTime(placed.capture_ns, event_us(ids.event_time)))

    def _place(self, stream: str, ids: MessageIds, moment: MessageTime) -> None:
        first, last = ids.first, ids.last
        track = self.tracks.setdefault(stream, Track())
        previous = self.last_times.get(stream)
        if (
            last <= track.last
            and previous is not None
            and (moment.event_us or 0) > (previous.event_us or _NEVER_US) + _RESET_US
        ):
            # Lower ids with a later time: the exchange restarted its count.
            track.restart()
        before = track.last
        if track.count(first, last):
            edge = GapBounds(stream, before, first, self.last_times.get(stream, moment), moment)
            self.gaps.append(gap_between(edge, Cause.UNKNOWN, "found when the recording was read again"))
        self.last_times[stream] = moment


def recover_session(folder: SessionFolder, *, whole: bool = False) -> RecoveredSession:
    """Prepare the recording of a session for appending.

    Args:
        folder: The session.
        whole: Whether to read all of the recording, not only the part after the last checkpoint.

    Raises:
        StorageError: The recording or the ledger cannot be written.
        LakeError: The checkpoint is damaged, or `list_parts` raises.
    """
    state = RecoveredSession(account=read_account(folder.account))
    segments = _numbered_parts(folder)
    state.checkpoint = read_model(folder.checkpoint, Checkpoint) or Checkpoint()
    if not segments and not state.checkpoint.tracks and state.account is None:
        return state
    is_trusted = not whole and not (state.account and state.account.altered)
    checkpoint = _usable_checkpoint(state.checkpoint, segments) if is_trusted else None
    if checkpoint is not None:
        with guard_parser(
            str(folder.checkpoint),
            "is damaged",
            kind=LakeError,
            remedy="move the file away; the recording is then read from its start",
        ):
            _apply_checkpoint(state, checkpoint)
    first = checkpoint.segment if checkpoint else 1
    for number, path in segments.items():
        if number >= first:
            _scan_segment(
                folder, path, state, checkpoint.offset if checkpoint and number == checkpoint.segment else 0
            )
    state.segment = max(segments, default=1)
    _reconcile(folder, state)
    if state.account is not None:
        state.account = settle_account(
            state.account, state.checkpoint, state.messages, state.last_ns, time.time_ns()
        )
        state.checkpoint = state.checkpoint.model_copy(update={"counts": state.account.mark.counts})
    return state


def list_parts(folder: SessionFolder) -> list[Path]:
    """Return the files of the recording: the joined file if it exists, else the parts.

    Raises:
        LakeError: Both exist, and the parts are not the beginning of the joined file.
    """
    return list(_numbered_parts(folder).values())


def _numbered_parts(folder: SessionFolder) -> dict[int, Path]:
    """Return the same files by number; raises like `list_parts`."""
    parts = folder.numbered_segments()
    if not folder.recording.exists():
        return parts
    if parts:
        _remove_joined_parts(folder, list(parts.values()))
    return {1: folder.recording}


def _remove_joined_parts(folder: SessionFolder, parts: list[Path]) -> None:
    """Remove parts that are in the joined file; the last first, so that a crash leaves a valid beginning."""
    with folder.recording.open("rb") as whole:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(_STEP):
                    if whole.read(len(block)) != block:
                        remedy = "move one of them away; neither was changed"
                        raise LakeError(
                            f"exists next to {part.name}, which is not its beginning",
                            where=str(folder.recording),
                            remedy=remedy,
                        )
    for part in reversed(parts):
        part.unlink()


def _apply_checkpoint(state: RecoveredSession, checkpoint: Checkpoint) -> None:
    state.first_ns, state.last_ns = checkpoint.first_ns, checkpoint.last_ns
    for stream, mark in checkpoint.tracks.items():
        state.last_times[stream] = MessageTime(mark.last_ns, mark.last_event_us or None)
        state.tracks[stream] = Track(**mark.model_dump(exclude={"last_ns", "last_event_us"}))
    message_count = sum(track.messages for track in state.tracks.values())
    state.messages = message_count if checkpoint.lines is None else checkpoint.lines


def _usable_checkpoint(checkpoint: Checkpoint, segments: dict[int, Path]) -> Checkpoint | None:
    """Return the checkpoint if a member or the end of the file is at its offset; else the file is scanned."""
    if not checkpoint.tracks or checkpoint.segment not in segments:
        return None
    with segments[checkpoint.segment].open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(checkpoint.offset)
        fits = size == checkpoint.offset or member_size(file.read(HEAD_BYTES)) is not None
    return checkpoint if fits else None


class _ByteRange(NamedTuple):
    start: int
    end: int


def _scan_segment(folder: SessionFolder, path: Path, state: RecoveredSession, start: int) -> None:
    with (
        storage_errors(path),
        map_file(path) as content,
        Source.open(path, start, policy=DamagePolicy.SKIP) as source,
    ):
        for lines in source:
            state.count(lines)
        holes = [_ByteRange(hole.offset or 0, hole.end) for hole in source.findings if hole.end is not None]
        if holes:
            _quarantine_damage(folder, path, content, holes, state)
        for finding in source.findings:
            if finding.kind in _TAILS:
                _repair_tail(folder, content, source, _TAILS[finding.kind], state)


def _repair_tail(
    folder: SessionFolder, content: Content, source: Source, ending: str, state: RecoveredSession
) -> None:
    """Quarantine the torn tail, cut the file after its last sound member, and append the saved lines."""
    path = source.path
    kept, size = (
        folder.quarantine / f"{path.name}.{ending}-{source.sound_end}.bin",
        len(content) - source.sound_end,
    )
    _copy_to_file(kept, content, source.sound_end, len(content))
    lost = claimed_lines(content, source.sound_end)
    sound_end = path.stat().st_size - size
    os.truncate(path, sound_end)
    fsync(path)
    lines = [line + b"\n" for line in (*source.salvaged.splitlines(), source.open_line) if _is_line(line)]
    if lines:
        with Journal(path) as journal:
            journal.append(b"".join(lines), len(lines))
            journal.sync()
        state.count(b"".join(lines))
    lost = max(0, lost - len(lines))
    state.torn_lines += lost
    summary = f"{len(lines):,} lines saved, {lost:,} known to be lost"
    state.repairs.append(f"{path.name}: {size:,} bytes of a {ending} tail moved to {kept.name}, {summary}")


def _quarantine_damage(
    folder: SessionFolder,
    path: Path,
    content: Content,
    holes: list[_ByteRange],
    state: RecoveredSession,
) -> None:
    """Move damaged bytes out of the file; their ids become gaps of the ledger."""
    edges = [0]
    for start, end in holes:
        _copy_to_file(folder.quarantine / f"{path.name}.damaged-{start}.bin", content, start, end)
        edges += [start, end]
        state.repairs.append(f"{path.name}: {end - start:,} damaged bytes at {start:,} moved to quarantine")
    edges.append(len(content))
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            _copy(content, start, end, file)
    state.damage_count += len(edges) // 2 - 1  # the damaged parts lie between the sound ones


def _copy_to_file(path: Path, content: Content, start: int, end: int) -> None:
    """Publish a part of a file as a separate file."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        _copy(content, start, end, file)


def _copy(content: Content, start: int, end: int, file: BinaryIO) -> None:
    file.writelines(content[at : min(at + _STEP, end)] for at in range(start, end, _STEP))


def _is_line(line: bytes) -> bool:
    """Return whether a line is complete; a missing line feed is allowed, because `}` ends the object."""
    try:
        placed = decode_line(line)
        ids_of(kind_of(placed.stream), bytes(placed.data))
    except PARSE_ERRORS:
        return False
    return True


def _reconcile(folder: SessionFolder, state: RecoveredSession) -> None:
    """Make the ledger agree with the recording."""
    gaps = read_gaps(folder.gaps)
    marks = [state.checkpoint, *([state.account.mark] if state.account else [])]
    altered = state.account.altered if state.account else []
    evidence = ScanEvidence(
        state.tracks, state.last_times, state.gaps, state.first_ns, marks, altered, bool(state.repairs)
    )
    result = reconcile_gaps(gaps, evidence)
    if result != gaps or not ends_with_whole_line(folder.gaps):
        write_gaps(folder.gaps, result)
