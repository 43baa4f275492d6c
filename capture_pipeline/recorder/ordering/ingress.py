"""Parser of the stream and the ids of received messages. Unrecordable messages are counted and reported."""

from __future__ import annotations

from capture_pipeline.binance.streams.names import is_close_notice, kind_of
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.recorder.events import MAX_RAW_BYTES, EventBus, MessageRejected, ShutdownAnnounced
from capture_pipeline.recorder.ordering.merger import Message
from capture_pipeline.recorder.ordering.message_ids import IdParser, MessageIds, find_id_parser
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.line_format import split_envelope, split_message

_FAILURES: tuple[type[Exception], ...] = (MalformedDataError, *PARSE_ERRORS)


class Intake:
    """Parser of the messages of the subscribed streams."""

    def __init__(self, streams: list[str], counts: SessionCounts, events: EventBus) -> None:
        """Create the parsers of the streams.

        Args:
            streams: Names of the subscribed streams.
            counts: Counts of rejected messages and of messages about the connection.
            events: Receives rejected messages and announced closes.
        """
        placers = {stream: find_id_parser(kind_of(stream)) for stream in streams}
        self._id_parsers: dict[bytes, tuple[str, IdParser]] = {
            name.encode(): (name, place) for name, place in placers.items() if place
        }
        self._counts, self._events = counts, events

    def place(self, connection: int, raw: bytes, now_ns: int) -> Message | None:
        """Return a message with its ids, or None if it is rejected or is about the connection."""
        try:
            message = split_message(raw)
            entry = self._id_parsers.get(message.stream)
            if entry is None:
                self._reject_unknown_stream(connection, raw)
                return None
            stream, place = entry
            ids = place(message.data)
            if ids.first > ids.last or not raw.isascii():
                _check(raw, ids)
        except _FAILURES as error:
            self._reject(connection, explain(error), raw)
            return None
        return Message(ids.first, ids.last, stream, raw, now_ns, connection, ids.event_time, ids.diff)

    def _reject_unknown_stream(self, connection: int, raw: bytes) -> None:
        stream = split_envelope(raw).stream
        self._reject(connection, f"of the stream {stream!r}, which is not subscribed", raw)

    def _reject(self, connection: int, reason: str, raw: bytes) -> None:
        if is_close_notice(raw):
            self._counts.control_messages += 1
            self._events.publish(ShutdownAnnounced(connection))
        else:
            self._counts.rejected_messages += 1
            self._events.publish(MessageRejected(reason[:300], raw[:MAX_RAW_BYTES]))


def _check(raw: bytes, ids: MessageIds) -> None:
    if ids.first > ids.last:
        raise MalformedDataError(f"covers the ids {ids.first}..{ids.last}")
    raw.decode()
