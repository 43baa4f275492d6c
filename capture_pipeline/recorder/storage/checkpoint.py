"""Content of a checkpoint: tracks in the form of the file, and results of parts other than the pipeline."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from msgspec import structs

from capture_pipeline.recorder.events import BookAudited, ClockSampled
from capture_pipeline.recorder.ordering.gap_tracker import MessageTime
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.models import TrackMark


@dataclass
class Findings:
    """Results of other parts of the recorder that a checkpoint stores.

    Attributes:
        process: Number of this recorder in the session, from 1; 0 if it keeps no account.
        audits: Results of the audits of books.
        clock_samples: Offsets and round trips to the exchange's clock.
    """

    process: int = 0
    audits: list[dict[str, Any]] = field(default_factory=list)
    clock_samples: list[dict[str, Any]] = field(default_factory=list)

    def add_audit(self, event: BookAudited) -> None:
        """Store the result of an audit."""
        self.audits.append(event.result)

    def add_clock_sample(self, event: ClockSampled) -> None:
        """Store a sample of the exchange's clock."""
        self.clock_samples.append(structs.asdict(event))


def checkpoint_tracks(tracks: dict[str, Track], last_times: dict[str, MessageTime]) -> dict[str, TrackMark]:
    """Return tracks in the form of a checkpoint."""
    nothing = MessageTime(0)
    times = {stream: last_times.get(stream, nothing) for stream in tracks}
    return {
        stream: TrackMark(
            **asdict(track),
            last_ns=times[stream].capture_ns,
            last_event_us=times[stream].event_us or 0,
        )
        for stream, track in tracks.items()
    }
