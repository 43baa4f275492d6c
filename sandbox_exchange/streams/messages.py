"""Stream messages and their frames: bytes that are made once and go to all connections, since a server's frames are not masked."""

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


class Key(NamedTuple):
    """A stream of a market in one unit of time: what a connection subscribes to."""

    stream: str
    micro: bool
    market: Market = Market.SPOT


class Message(NamedTuple):
    """One message of a stream.

    Attributes:
        time_us: Event time, microseconds UTC; of a replay the capture time.
        key: Its stream.
        data: The bare JSON.
        first_id: First id it covers: trade id or update id.
        last_id: Last id.
    """

    time_us: int
    key: Key
    data: bytes
    first_id: int
    last_id: int


class Item(NamedTuple):
    """A message as it is sent: unspoilt, or with the defect of a rule."""

    message: Message
    rule: FaultRule | None = None


class Feed(Protocol):
    """Where messages come from."""

    @property
    def goes_on(self) -> bool:
        """Whether its messages pass even when nobody listens."""

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""

    def render(self, keys: Collection[Key], start_us: int, end_us: int) -> Iterator[None]:
        """Prepare `window`, a step at a time; it may be called without."""

    def window(self, keys: Collection[Key], start_us: int, end_us: int) -> tuple[list[Message], int]:
        """Messages of some streams in `(start_us, end_us]`, in order of time, and up to where they are complete."""


def frame(payload: bytes, opcode: int = TEXT, *, last: bool = True) -> bytes:
    """A WebSocket frame from server to client."""
    head, length = opcode | (_FIN if last else 0), len(payload)
    if length < _SHORT:
        return b"%c%c%b" % (head, length, payload)
    if length < _MEDIUM:
        return b"%c\x7e%b%b" % (head, length.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (head, length.to_bytes(8, "big"), payload)


def frames_of(item: Item, *, wrapped: bool) -> bytes:
    """The frames of a message, in the envelope of the combined stream or bare."""
    message = item.message
    payload = (
        b'{"stream":"%b","data":%b}' % (message.key.stream.encode(), message.data)
        if wrapped
        else message.data
    )
    return frame(payload) if item.rule is None else _spoilt(payload, item.rule)


def _spoilt(payload: bytes, rule: FaultRule) -> bytes:
    if rule.fault == "ws_split":
        return _split(payload, max(2, int(rule.number("pieces", 3))))
    before = rule.text("value").encode() if rule.fault == "ws_text" else _ANSWERS.get(rule.fault)
    return frame(_altered(payload, rule)) if before is None else frame(before) + frame(payload)


def _altered(payload: bytes, rule: FaultRule) -> bytes:
    """The bytes of a message with the defect of a rule."""
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
            # Of ws_oversized. Blanks before the last brace: valid JSON of that many bytes.
            return (
                payload[:-1] + b" " * max(0, int(rule.number("bytes", 2 << 20)) - len(payload)) + payload[-1:]
            )


def _split(payload: bytes, pieces: int) -> bytes:
    step = -(-len(payload) // pieces)
    first, *middle, end = [payload[start : start + step] for start in range(0, len(payload), step)]
    inner = b"".join(frame(part, CONTINUATION, last=False) for part in middle)
    return frame(first, last=False) + inner + frame(end, CONTINUATION)


def shutdown_frame(time_us: int, *, wrapped: bool, micro: bool) -> bytes:
    """The message by which the exchange tells that it is about to close a connection."""
    data = b'{"e":"serverShutdown","E":%d}' % (time_us if micro else time_us // 1000)
    return frame(b'{"stream":"%b","data":%b}' % (SHUTDOWN_STREAM.encode(), data) if wrapped else data)
