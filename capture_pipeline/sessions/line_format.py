r"""The line format of a recording: `{"capture_ns":<ns>,"stream":"<name>","data":<the exchange's bytes>}\n`.

`data` contains the bytes of the exchange unchanged. A line is built from a message of the combined stream,
whose envelope already ends with the last two fields, or from the body of a REST answer and a stream name of
this project.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from capture_pipeline.binance.streams.messages import Int64
from capture_pipeline.errors import MalformedDataError

_HEAD = b'{"capture_ns":'
_STREAM = b'{"stream":"'
_DATA = b'","data":'


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One line; its data are not decoded.

    Attributes:
        capture_ns: Capture time, nanoseconds UTC on the recorder's clock; it never decreases within a file.
        stream: Name of the stream at the exchange, or `<symbol>@depthSnapshot`.
        data: Bytes of the exchange.
    """

    capture_ns: Int64
    stream: str
    data: msgspec.Raw


decode_line = msgspec.json.Decoder(Line).decode
"""Raises one of `parsing.PARSE_ERRORS` for an invalid line; of `data` it checks only that they are JSON."""


class CombinedMessage(msgspec.Struct, frozen=True, gc=False):
    """Stream name and data of a combined-stream message."""

    stream: bytes
    data: bytes


class Envelope(NamedTuple):
    """Stream name of a combined-stream message, and the offset of its data."""

    stream: str
    offset: int


def split_message(message: bytes) -> CombinedMessage:
    """Split a combined-stream message.

    Raises:
        MalformedDataError: The message is not in the exchange's compact form, or contains a line break.
    """
    end = message.find(_DATA, 11, 200)
    if (
        end < 0
        or not message.startswith(_STREAM)
        or not message.endswith(b"}")
        or b"\n" in message
        or b"\r" in message
    ):
        raise MalformedDataError(f"is not a message of the combined stream: {message[:120]!r}")
    return CombinedMessage(message[11:end], message[end + 9 : -1])


def split_envelope(message: bytes) -> Envelope:
    """Find stream name and data of a combined-stream message.

    Raises:
        MalformedDataError: The message is not in the exchange's compact form, or contains a line break.
    """
    name = split_message(message).stream
    return Envelope(name.decode("utf-8", "backslashreplace"), len(name) + 20)


def splice_line(capture_ns: int, message: bytes) -> bytes:
    """Build a line from a combined-stream message."""
    return b"%b%d,%b\n" % (_HEAD, capture_ns, message[1:])


def format_line(capture_ns: int, stream: str, data: bytes) -> bytes:
    """Build a line from data without an envelope, for instance a REST snapshot.

    Raises:
        MalformedDataError: The data contain a line break.
    """
    if b"\n" in data or b"\r" in data:
        raise MalformedDataError(f"contains a line break: {data[:120]!r}", where=stream)
    return b'%b%d,"stream":"%b","data":%b}\n' % (_HEAD, capture_ns, stream.encode(), data)
