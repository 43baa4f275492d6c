"""Open alerts, and messages that wait for their channel: one file below `state/alerts`, shared by all processes of a storage root.

An alert is recorded here before anybody sends it, and removed once its channel accepted it. A process may be killed in between: the message
is then sent again, with the same id.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from capture_pipeline.binance.periods import HOUR_US
from capture_pipeline.errors import LakeError
from capture_pipeline.lake.files import file_lock, publish_model, read_model, storage_errors
from capture_pipeline.lake.paths import Lake
from capture_pipeline.operations.alerts.models import Alert, State
from capture_pipeline.settings.alerts import Alerts
from capture_pipeline.settings.levels import Level
from capture_pipeline.terminal import logger

MOST_WAITING = 2000
"""Messages that wait for one channel; the oldest are dropped beyond it, and counted."""
LONGEST_WAIT_US = 7 * 24 * HOUR_US
_PATIENCE_S = 10.0
_log = logger(__name__)


class OpenAlert(BaseModel):
    """A condition that lasts.

    Attributes:
        level: The highest that was reported. Each channel that got the alert gets its end by this level.
        title: Of the alert.
        since_us: Its beginning, microseconds UTC.
        latest_us: When it was last seen.
        times: How often it was reported.
        fields: Of the alert.
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
        waiting: In the order in which they arose.
        sent_us: Times of the messages of the last hour.
        failures: Attempts that failed since the last success.
        next_us: No attempt is made before this time.
        error: The last failure; empty after a success.
        dropped: Messages that were given up, since the beginning.
    """

    waiting: list[Alert] = []
    sent_us: list[int] = []
    failures: int = 0
    next_us: int = 0
    error: str = ""
    dropped: int = 0


class Book(BaseModel):
    """The content of the file.

    Attributes:
        open: By key.
        queues: By channel.
    """

    open: dict[str, OpenAlert] = {}
    queues: dict[str, Queue] = {}


class Spool:
    """The file with its lock."""

    def __init__(self, lake: Lake, settings: Alerts) -> None:
        """Keep the place and the channels with their least levels."""
        self._folder = lake.state("alerts")
        self._path = self._folder / "alerts.json"
        self._least = {channel.name: channel.level for channel in settings.channels}

    def read(self) -> Book:
        """Return the content; empty where there is none or where it is damaged.

        Queues are those of the configured channels.

        Raises:
            StorageError: The disk refuses.
        """
        book, error = self._load()
        if error is not None:
            _log.warning("%s", error)
        return book

    def post(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Record changes of conditions.

        A condition that is open already, at this level or a higher one, and the end of one that is not open, make no message.

        Returns:
            The alerts that became messages.

        Raises:
            StorageError: The disk refuses; nothing was recorded.
            BusyError: Another process holds the lock for too long.
        """
        offered = list(alerts)
        if not offered:
            return []
        with self._changing() as book:
            news = [new for alert in offered if (new := _take(book, alert)) is not None]
            for name, least in self._least.items():
                mine = [alert for alert in news if alert.level.rank >= least.rank]
                queue = book.queues[name]
                queue.waiting += mine
                _bound(queue, max((alert.at_us for alert in offered), default=0))
            return news

    def settle(self, channel: str, change: Callable[[Queue], None]) -> None:
        """Change the queue of a channel.

        Raises:
            StorageError: The disk refuses.
            BusyError: Another process holds the lock for too long.
        """
        with self._changing() as book:
            if channel in book.queues:
                change(book.queues[channel])

    @contextmanager
    def delivering(self, channel: str) -> Iterator[None]:
        """Be the one who sends to a channel.

        Raises:
            BusyError: Another process or thread is.
        """
        with file_lock(self._folder / f"{channel}.lock"):
            yield

    def _load(self) -> tuple[Book, LakeError | None]:
        """Return the content, and why it is empty where the file is damaged."""
        error = None
        try:
            with storage_errors(self._path):
                book = read_model(self._path, Book) or Book()
        except LakeError as damage:
            book, error = Book(), damage
        return book.model_copy(
            update={"queues": {name: book.queues.get(name, Queue()) for name in self._least}}
        ), error

    @contextmanager
    def _changing(self) -> Iterator[Book]:
        with file_lock(self._folder / "alerts.lock", _PATIENCE_S):
            book, error = self._load()
            if error is not None:
                _set_aside(self._path)
            before = book.model_copy(deep=True)
            yield book
            if book != before:
                publish_model(self._path, book)


def _take(book: Book, alert: Alert) -> Alert | None:
    """Change the open conditions; return the message to send, None if there is none."""
    known = book.open.get(alert.key)
    if alert.state is State.RESOLVED:
        if known is None:
            return None
        del book.open[alert.key]
        return alert.model_copy(update={"level": known.level})
    if known is None:
        at_us = alert.at_us
        book.open[alert.key] = OpenAlert(
            level=alert.level, title=alert.title, since_us=at_us, latest_us=at_us, fields=alert.fields
        )
        return alert
    known.latest_us, known.times, known.title = alert.at_us, known.times + 1, alert.title
    if alert.level.rank <= known.level.rank:
        return None
    known.level = alert.level
    return alert


def _bound(queue: Queue, now_us: int) -> None:
    """Give up what waits for too long, and the oldest of what is too much."""
    fresh = [alert for alert in queue.waiting if now_us - alert.at_us < LONGEST_WAIT_US][-MOST_WAITING:]
    queue.dropped += len(queue.waiting) - len(fresh)
    queue.waiting = fresh


def _set_aside(path: Path) -> None:
    """Rename a damaged file, so that alerts go on."""
    aside = path.with_name(f"{path.name}.damaged-{os.getpid()}")
    path.replace(aside)
    _log.warning(
        "%s is damaged and was renamed to %s; alerts that waited in it are not sent", path, aside.name
    )


def without(waiting: Sequence[Alert], sent: Iterable[Alert]) -> list[Alert]:
    """Return messages without those that were sent."""
    ids = {alert.id for alert in sent}
    return [alert for alert in waiting if alert.id not in ids]
