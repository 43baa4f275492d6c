r"""The line form of a recording: `{"capture_ns":<ns>,"stream":"<name>","data":<the exchange's bytes>}\n`.

`data` holds the exchange's own bytes, spliced and never written anew. Sources: a message of the combined stream, whose envelope
already ends in the last two fields, or the body of a REST answer under a stream name of ours.
"""

from __future__ import annotations

import msgspec

from capture_pipeline.binance.streams.messages import Int64
from capture_pipeline.errors import MalformedDataError

_HEAD = b'{"capture_ns":'
_STREAM = b'{"stream":"'
_DATA = b'","data":'


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One line, its data still undecoded.

    Attributes:
        capture_ns: When it was let through, nanoseconds UTC on the recorder's clock, never decreasing within a file.
        stream: The exchange's name of the stream, or `<symbol>@depthSnapshot`.
        data: The exchange's bytes.
    """

    capture_ns: Int64
    stream: str
    data: msgspec.Raw


decode_line = msgspec.json.Decoder(Line).decode
"""Raises one of `parsing.PARSE_ERRORS` for what is no such line; of `data` only that it is JSON is known then."""


def split_message(message: bytes) -> tuple[bytes, bytes]:
    """Stream name and data of a combined-stream message.

    Raises:
        MalformedDataError: It is not in the exchange's compact form, or holds a line break; it cannot become a line unchanged.
    """
    end = message.find(_DATA, 11, 200)
    if (
        end < 0
        or not message.startswith(_STREAM)
        or not message.endswith(b"}")
        or b"\n" in message
        or b"\r" in message
    ):
        raise MalformedDataError(f"is no message of the combined stream: {message[:120]!r}")
    return message[11:end], message[end + 9 : -1]


def split_envelope(message: bytes) -> tuple[str, int]:
    """Stream name of a combined-stream message, and where its data start.

    Raises:
        MalformedDataError: See `split_message`.
    """
    name, _ = split_message(message)
    return name.decode("utf-8", "backslashreplace"), len(name) + 20


def splice_line(capture_ns: int, message: bytes) -> bytes:
    """A combined-stream message as a line."""
    return b"%b%d,%b\n" % (_HEAD, capture_ns, message[1:])


def format_line(capture_ns: int, stream: str, data: bytes) -> bytes:
    """Bare data as a line, for instance a REST snapshot.

    Raises:
        MalformedDataError: The data hold a line break.
    """
    if b"\n" in data or b"\r" in data:
        raise MalformedDataError(f"holds a line break: {data[:120]!r}", where=stream)
    return b'%b%d,"stream":"%b","data":%b}\n' % (_HEAD, capture_ns, stream.encode(), data)
