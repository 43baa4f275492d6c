"""Parser of received messages: stream and ids. Messages that cannot be recorded are counted and reported."""

from __future__ import annotations

from collections.abc import Callable

from capture_pipeline.binance.streams.names import is_close_notice, kind_of
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.recorder.ordering.merger import Message
from capture_pipeline.recorder.ordering.message_ids import IdParser, find_id_parser
from capture_pipeline.sessions.line_format import split_envelope, split_message

_FAILURES: tuple[type[Exception], ...] = (MalformedDataError, *PARSE_ERRORS)
Reject = Callable[[str, bytes], None]


class Intake:
    """Parser of the messages of the subscribed streams.

    Attributes:
        rejected: Count of messages that could not be parsed.
        control: Count of messages about the connection itself, such as `serverShutdown`.
    """

    def __init__(self, streams: list[str], on_shutdown: Callable[[int], None], on_reject: Reject) -> None:
        """Create the parsers of the streams.

        Args:
            streams: Names of the subscribed streams.
            on_shutdown: Receives the number of a connection that the exchange is about to close.
            on_reject: Receives the reason and the bytes of each rejected message.
        """
        placers = {stream: find_id_parser(kind_of(stream)) for stream in streams}
        self._id_parsers: dict[bytes, tuple[str, IdParser]] = {
            name.encode(): (name, place) for name, place in placers.items() if place
        }
        self.rejected = self.control = 0
        self._on_shutdown, self._on_reject = on_shutdown, on_reject

    def place(self, connection: int, raw: bytes, now_ns: int) -> Message | None:
        """Return a message with its ids, or None if it is rejected or is about the connection."""
        try:
            name, data = split_message(raw)
            entry = self._id_parsers.get(name)
            if entry is None:
                self._reject_unknown_stream(connection, raw)
                return None
            stream, place = entry
            first, last, event_time, diff = place(data)
            if first > last or not raw.isascii():
                _check(raw, first, last)
        except _FAILURES as error:
            self._reject(connection, explain(error), raw)
            return None
        return Message(first, last, stream, raw, now_ns, connection, event_time, diff)

    def _reject_unknown_stream(self, connection: int, raw: bytes) -> None:
        stream, _ = split_envelope(raw)
        self._reject(connection, f"of the stream {stream!r}, which is not subscribed", raw)

    def _reject(self, connection: int, reason: str, raw: bytes) -> None:
        if is_close_notice(raw):
            self.control += 1
            self._on_shutdown(connection)
        else:
            self.rejected += 1
            self._on_reject(reason[:300], raw)


def _check(raw: bytes, first: int, last: int) -> None:
    if first > last:
        raise MalformedDataError(f"covers the ids {first}..{last}")
    raw.decode()
