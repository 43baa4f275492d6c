"""Store of open alerts and of messages that wait for their channel.

The store is one file below `state/alerts`; all processes with the same storage root share it. A message is
stored before it is sent, and removed after the channel accepted it. If the process is killed in between, the
message is sent again with the same id.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from capture_pipeline.binance.periods import HOUR_US
from capture_pipeline.errors import LakeError
from capture_pipeline.lake.files import publish_model, read_model, storage_errors
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.lake.paths import Lake
from capture_pipeline.operations.alerts.models import Alert, State
from capture_pipeline.settings.alerts import Alerts
from capture_pipeline.settings.levels import Level
from capture_pipeline.terminal import logger

MAX_WAITING = 2000
"""Maximum number of messages that wait for one channel.

Further messages replace the oldest ones, which are counted as dropped.
"""
MAX_WAIT_US = 7 * 24 * HOUR_US
_LOCK_WAIT_S = 10.0
_log = logger(__name__)


class OpenAlert(BaseModel):
    """A condition that has begun and not ended.

    Attributes:
        level: Highest reported level. The end of the condition has this level, so that it reaches the same
            channels.
        title: Title of the latest alert.
        since_us: Start of the condition, microseconds UTC.
        latest_us: Time of the latest alert, microseconds UTC.
        times: Number of alerts.
        fields: Fields of the first alert.
    """

    level: Level
    title: str
    since_us: int
    latest_us: int
    times: int = 1
    fields: dict[str, str] = {}


class Queue(BaseModel):
    """Messages of one channel.

    Attributes:
        waiting: Unsent alerts, oldest first.
        sent_us: Times of the messages of the last hour, microseconds UTC.
        failures: Failed attempts since the last success.
        next_us: Time of the next attempt, microseconds UTC.
        error: The last failure; empty after a success.
        dropped: Number of alerts that were removed without being sent.
    """

    waiting: list[Alert] = []
    sent_us: list[int] = []
    failures: int = 0
    next_us: int = 0
    error: str = ""
    dropped: int = 0


class SpoolContent(BaseModel):
    """The content of the file.

    Attributes:
        open: Open alerts by key.
        queues: Queues by name of the channel.
    """

    open: dict[str, OpenAlert] = {}
    queues: dict[str, Queue] = {}


class _LoadedSpool(NamedTuple):
    """Content of the file; empty, with the error, if the file is damaged."""

    content: SpoolContent
    error: LakeError | None


class Spool:
    """The file of alerts, with a lock for changes."""

    def __init__(self, lake: Lake, settings: Alerts) -> None:
        """Set the file and the channels; nothing is read yet."""
        self._folder = lake.state("alerts")
        self._path = self._folder / "alerts.json"
        self._min_levels = {channel.name: channel.level for channel in settings.channels}

    def read(self) -> SpoolContent:
        """Return the content with the queues of the configured channels; empty without a readable file.

        Raises:
            StorageError: The file cannot be read.
        """
        content, error = self._load()
        if error is not None:
            _log.warning("%s", error)
        return content

    def post(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Store starts and ends of conditions, and queue a message for each change.

        No message is queued for a condition that is already open at the same or a higher level, or for the
        end of a condition that is not open.

        Returns:
            The alerts that were queued.

        Raises:
            StorageError: The file cannot be read or written; nothing was stored.
            BusyError: Another process had the lock for more than 10 seconds.
        """
        reported = list(alerts)
        if not reported:
            return []
        with self._open_for_change() as content:
            news = [new for alert in reported if (new := _apply(content, alert)) is not None]
            for name, min_level in self._min_levels.items():
                queue = content.queues[name]
                queue.waiting += [alert for alert in news if alert.level.rank >= min_level.rank]
                _drop_old(queue, max((alert.at_us for alert in reported), default=0))
            return news

    def update_queue(self, channel: str, change: Callable[[Queue], None]) -> None:
        """Change the queue of a channel.

        Raises:
            StorageError: The file cannot be read or written.
            BusyError: Another process had the lock for more than 10 seconds.
        """
        with self._open_for_change() as content:
            if channel in content.queues:
                change(content.queues[channel])

    @contextmanager
    def lock_channel(self, channel: str) -> Iterator[None]:
        """Lock a channel, so that one process or thread at a time sends to it.

        Raises:
            BusyError: Another process or thread has the lock.
        """
        with file_lock(self._folder / f"{channel}.lock"):
            yield

    def _load(self) -> _LoadedSpool:
        error = None
        try:
            with storage_errors(self._path):
                content = read_model(self._path, SpoolContent) or SpoolContent()
        except LakeError as damage:
            content, error = SpoolContent(), damage
        queues = {name: content.queues.get(name, Queue()) for name in self._min_levels}
        return _LoadedSpool(content.model_copy(update={"queues": queues}), error)

    @contextmanager
    def _open_for_change(self) -> Iterator[SpoolContent]:
        with file_lock(self._folder / "alerts.lock", _LOCK_WAIT_S):
            content, error = self._load()
            if error is not None:
                _rename_damaged(self._path)
            before = content.model_copy(deep=True)
            yield content
            if content != before:
                publish_model(self._path, content)


def _apply(content: SpoolContent, alert: Alert) -> Alert | None:
    """Update the open conditions; return the alert to send, or None if there is nothing to send."""
    known = content.open.get(alert.key)
    if alert.state is State.RESOLVED:
        if known is None:
            return None
        del content.open[alert.key]
        return alert.model_copy(update={"level": known.level})
    if known is None:
        at_us = alert.at_us
        content.open[alert.key] = OpenAlert(
            level=alert.level, title=alert.title, since_us=at_us, latest_us=at_us, fields=alert.fields
        )
        return alert
    known.latest_us, known.times, known.title = alert.at_us, known.times + 1, alert.title
    if alert.level.rank <= known.level.rank:
        return None
    known.level = alert.level
    return alert


def _drop_old(queue: Queue, now_us: int) -> None:
    """Drop alerts that wait for longer than `MAX_WAIT_US`, and the oldest beyond `MAX_WAITING`."""
    fresh = [alert for alert in queue.waiting if now_us - alert.at_us < MAX_WAIT_US][-MAX_WAITING:]
    queue.dropped += len(queue.waiting) - len(fresh)
    queue.waiting = fresh


def _rename_damaged(path: Path) -> None:
    """Rename a damaged file, so that new alerts can be stored."""
    renamed = path.with_name(f"{path.name}.damaged-{os.getpid()}")
    path.replace(renamed)
    _log.warning(
        "%s is damaged and was renamed to %s; the alerts that waited in it are not sent", path, renamed.name
    )
