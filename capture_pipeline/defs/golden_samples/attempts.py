"""Runs of Dagster that recorded a session, and the decision whether the session needs another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import dagster as dg

from capture_pipeline.backoff import Backoff

MAX_ATTEMPTS = 200
"""Maximum number of runs of one session, including retries."""
JOB, ASSET = "record_session", dg.AssetKey("golden_samples")
_STEADY_S = 60.0
"""A run that lasted this long resets the wait before the next run."""
_WAITS = Backoff(first_s=5.0, max_s=600.0)
_DECIDED_S, _RETRY_S = 60.0, 600.0
"""Longest times until Dagster has marked a failed run for a retry or for no retry, and until its daemon has
started a marked retry."""
_WAITING = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING}
_WILL_RETRY, _RETRIED = "dagster/will_retry", "dagster/auto_retry_run_id"


@dataclass(frozen=True)
class SessionRuns:
    """The runs of one session.

    Attributes:
        records: Newest first, at most `MAX_ATTEMPTS`.
    """

    records: Sequence[dg.RunRecord]

    def is_due(self, now_s: float, *, is_ending: bool) -> bool:
        """Decide whether an unfinished session needs another run.

        Args:
            now_s: The present, seconds since 1970.
            is_ending: The end of the session was requested. In this case a session with a cancelled run still
                has to be finished.
        """
        if not 0 < len(self.records) < MAX_ATTEMPTS or any(
            not record.dagster_run.is_finished for record in self.records
        ):
            return False
        newest = self.records[0]
        ended_s = newest.end_time or newest.update_timestamp.timestamp()
        wait_s = self._wait_s()
        if newest.dagster_run.status is dg.DagsterRunStatus.FAILURE:
            wait_s = max(wait_s, _retry_wait_s(newest.dagster_run))
        is_wanted = is_ending or newest.dagster_run.status is dg.DagsterRunStatus.FAILURE
        return is_wanted and now_s >= ended_s + wait_s

    def has_failed(self, now_s: float) -> bool:
        """Return True if the last started run failed and its wait is over; queued runs do not matter."""
        started = next((record for record in self.records if record.dagster_run.status not in _WAITING), None)
        if started is None or started.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            return False
        return now_s >= (started.end_time or 0.0) + self._wait_s()

    def _wait_s(self) -> float:
        """Return the wait before the next run: 5 s after two short runs in a row, otherwise 0.

        The wait doubles with each further short run.
        """
        ended = [record for record in self.records if record.dagster_run.is_finished]
        short = sum(1 for _ in takewhile(_was_short, ended))
        return _WAITS.wait_s(short - 1)


def read_session_runs(instance: dg.DagsterInstance, session: str) -> SessionRuns:
    """Read the runs of a session, launched by the job or by *Materialize*."""
    records = instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": session}), limit=MAX_ATTEMPTS)
    return SessionRuns([record for record in records if _records_a_session(record.dagster_run)])


def _records_a_session(run: dg.DagsterRun) -> bool:
    return ASSET in run.asset_selection if run.asset_selection else run.job_name == JOB


def _was_short(record: dg.RunRecord) -> bool:
    return (record.end_time or 0.0) - (record.start_time or record.end_time or 0.0) < _STEADY_S


def _retry_wait_s(run: dg.DagsterRun) -> float:
    """Return the time that Dagster may need to start its own retry of a run; 0 if it starts none.

    Dagster sets the status of the run before the tag that announces the retry.
    """
    if _RETRIED in run.tags:
        return 0.0
    return {None: _DECIDED_S, "true": _RETRY_S}.get(run.tags.get(_WILL_RETRY), 0.0)
