"""Stream messages and their frames.

Frames of a server are not masked, so that the bytes of a message are the same for all connections.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol

from capture_pipeline.binance.urls import Market
from sandbox_exchange.constants import SHUTDOWN_STREAM
from sandbox_exchange.faults.rules import FaultRule

TEXT, CONTINUATION, CLOSE, PING = 1, 0, 8, 9
_FIN = 0x80
_ANSWERS = {
    "ws_answer": b'{"result":null,"id":1}',
    "ws_error": b'{"error":{"code":2,"msg":"Invalid request: method name must be a string"},"id":1}',
}
_SHORT, _MEDIUM = 126, 1 << 16


class StreamKey(NamedTuple):
    """Stream of a market in one unit of time."""

    stream: str
    micro: bool
    market: Market = Market.SPOT


class Message(NamedTuple):
    """Message of a stream.

    Attributes:
        time_us: Event time, microseconds UTC; in a replay the capture time.
        key: Stream of the message.
        data: JSON without the envelope of the combined stream.
        first_id: First trade id or update id in the message.
        last_id: Last trade id or update id in the message.
    """

    time_us: int
    key: StreamKey
    data: bytes
    first_id: int
    last_id: int


class OutgoingMessage(NamedTuple):
    """Message to send, with the rule of its defect or None."""

    message: Message
    rule: FaultRule | None = None


class MessageWindow(NamedTuple):
    """Messages by time, and the time up to which they are complete, microseconds UTC."""

    messages: list[Message]
    end_us: int


class Feed(Protocol):
    """Source of stream messages."""

    @property
    def runs_without_listeners(self) -> bool:
        """True if messages pass while no connection is open."""

    @property
    def is_finished(self) -> bool:
        """True if there are no further messages."""

    def render(self, keys: Collection[StreamKey], start_us: int, end_us: int) -> Iterator[None]:
        """Prepare the messages of `window` in steps; optional before `window`."""

    def window(self, keys: Collection[StreamKey], start_us: int, end_us: int) -> MessageWindow:
        """Return messages in `(start_us, end_us]` by time."""


def frame(payload: bytes, opcode: int = TEXT, *, last: bool = True) -> bytes:
    """Encode a WebSocket frame from server to client."""
    head, length = opcode | (_FIN if last else 0), len(payload)
    if length < _SHORT:
        return b"%c%c%b" % (head, length, payload)
    if length < _MEDIUM:
        return b"%c\x7e%b%b" % (head, length.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (head, length.to_bytes(8, "big"), payload)


def encode_frames(item: OutgoingMessage, *, wrapped: bool) -> bytes:
    """Encode a message as frames, with or without the envelope of the combined stream."""
    message = item.message
    payload = (
        b'{"stream":"%b","data":%b}' % (message.key.stream.encode(), message.data)
        if wrapped
        else message.data
    )
    return frame(payload) if item.rule is None else _encode_with_fault(payload, item.rule)


def _encode_with_fault(payload: bytes, rule: FaultRule) -> bytes:
    if rule.fault == "ws_split":
        return _split_frames(payload, max(2, int(rule.number("pieces", 3))))
    prefix = rule.text("value").encode() if rule.fault == "ws_text" else _ANSWERS.get(rule.fault)
    return frame(_corrupt(payload, rule)) if prefix is None else frame(prefix) + frame(payload)


def _corrupt(payload: bytes, rule: FaultRule) -> bytes:
    """Return a message with the defect of a rule."""
    match rule.fault:
        case "ws_bad_json":
            return payload[: len(payload) // 2]
        case "ws_third_element":
            return payload.replace(b'"]', b'",[]]')
        case "ws_bad_utf8":
            return payload[:-2] + b"\xff" + payload[-1:]
        case "ws_unknown_field":
            at = len(payload) - (2 if payload.startswith(b'{"stream":') else 1)
            return b'%b,"%b":%b%b' % (
                payload[:at],
                rule.text("name", "zz").encode(),
                rule.text("value", "1").encode(),
                payload[at:],
            )
        case _:
            # ws_oversized: blanks before the last brace keep the JSON valid.
            return (
                payload[:-1] + b" " * max(0, int(rule.number("bytes", 2 << 20)) - len(payload)) + payload[-1:]
            )


def _split_frames(payload: bytes, pieces: int) -> bytes:
    step = -(-len(payload) // pieces)
    first, *middle, end = [payload[start : start + step] for start in range(0, len(payload), step)]
    inner = b"".join(frame(part, CONTINUATION, last=False) for part in middle)
    return frame(first, last=False) + inner + frame(end, CONTINUATION)


def shutdown_frame(time_us: int, *, wrapped: bool, micro: bool) -> bytes:
    """Encode the message that announces a close by the exchange."""
    data = b'{"e":"serverShutdown","E":%d}' % (time_us if micro else time_us // 1000)
    return frame(b'{"stream":"%b","data":%b}' % (SHUTDOWN_STREAM.encode(), data) if wrapped else data)
