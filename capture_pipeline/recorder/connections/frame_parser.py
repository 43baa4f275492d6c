"""Parser of WebSocket frames (RFC 6455). Sans-I/O; it parses data frames and leaves the rest to a library.

It parses data frames of a server: unmasked, without extensions, whole or in fragments. Frames of a close and
pings are passed to the library. The work is linear in the received bytes and limited per call, so a peer that
sends the smallest frames cannot block the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

MAX_FRAMES: Final = 4096
"""Frames per call; a read of 256 KiB with messages of the exchange has fewer."""
MAX_FRAGMENTS: Final = 4096
"""Fragments per message. The exchange sends none; a proxy may split 2 MiB into pieces of 512 bytes."""
PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009
_FIN_TEXT, _FIN_BINARY, _TEXT, _BINARY = 0x81, 0x82, 0x01, 0x02
_CONTINUED, _FIN_CONTINUED = 0x00, 0x80
CLOSE, PING, _PONG = 0x88, 0x89, 0x8A
_FIN, _OPCODE, _RESERVED = 0x80, 0x0F, 0x70
_WHOLE: Final = frozenset({_FIN_TEXT, _FIN_BINARY})
_DATA: Final = frozenset({_FIN_TEXT, _FIN_BINARY, _TEXT, _BINARY, _CONTINUED, _FIN_CONTINUED})
_ENDS: Final = frozenset({_FIN_TEXT, _FIN_BINARY, _FIN_CONTINUED})
_CONTROL: Final = frozenset({CLOSE, PING, _PONG})
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_SHORTEST, _MASKED = 2, 128


class FrameError(Exception):
    """Violation of the protocol by the peer; the connection has to end.

    Attributes:
        code: Close code for the peer.
        reason: The violation.
    """

    def __init__(self, code: int, reason: str) -> None:
        """Store the close code and the violation."""
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Fragments:
    """Fragments of one message, limited in count and total size."""

    def __init__(self, max_bytes: int) -> None:
        """Start without fragments.

        Args:
            max_bytes: Limit of the bytes of a message.
        """
        self._max_bytes = max_bytes
        self._is_text = False
        self._count = 0
        self._content = bytearray()

    @property
    def is_open(self) -> bool:
        """True if a message is incomplete."""
        return self._count > 0

    def add(self, kind: int, payload: bytes) -> bytes | None:
        """Add a fragment.

        Args:
            kind: First byte of its frame.
            payload: Content of the fragment.

        Returns:
            The message if the fragment is the last one, else None.

        Raises:
            FrameError: The fragment is out of order, or the message is too long, has too many fragments or is
                not UTF-8.
        """
        is_first = bool(kind & _OPCODE)
        if is_first == self.is_open:
            what = (
                "a message begins inside another one" if is_first else "a fragment comes before any message"
            )
            raise FrameError(PROTOCOL_ERROR, what)
        if is_first:
            self._is_text = kind & _OPCODE == _TEXT
        self._count += 1
        if len(self._content) + len(payload) > self._max_bytes:
            raise FrameError(TOO_BIG, f"a message has more than {self._max_bytes:,} bytes")
        if self._count > MAX_FRAGMENTS:
            raise FrameError(TOO_BIG, f"a message has more than {MAX_FRAGMENTS:,} fragments")
        self._content += payload
        if not kind & _FIN:
            return None
        message, self._content, self._count = bytes(self._content), bytearray(), 0
        if self._is_text:
            check_text(message)
        return message


def check_text(message: bytes) -> None:
    """Check the encoding of a text message.

    Raises:
        FrameError: The message is not UTF-8.
    """
    if not message.isascii():
        try:
            message.decode()
        except UnicodeDecodeError as error:
            raise FrameError(INVALID_TEXT, f"a text message is not UTF-8 at byte {error.start:,}") from None


class _ParsedFrames(NamedTuple):
    """Position after the parsed messages, and their count."""

    position: int
    message_count: int


class FrameParser:
    """Splits received bytes into messages.

    Attributes:
        is_behind: Whether frames are left because `feed` reached its limit; the next call continues with
            them.
    """

    def __init__(
        self, on_message: Callable[[bytes], None], pass_on: Callable[[bytes], None], max_bytes: int
    ) -> None:
        """Start at a frame boundary.

        Args:
            on_message: Receives each whole message.
            pass_on: Receives close frames, and the last ping of each call: RFC 6455, 5.5.3, requires an
                answer only to that one.
            max_bytes: Limit of the bytes of a message; at least 65,535.
        """
        self.is_behind = False
        self._on_message, self._pass_on, self._max_bytes = on_message, pass_on, max_bytes
        self._rest = bytearray()
        self._needed = 0
        self._fragments = Fragments(max_bytes)
        self._ping = b""

    def feed(self, data: bytes = b"") -> int:
        """Process received bytes.

        Returns:
            Count of messages in the bytes.

        Raises:
            FrameError: A frame violates the protocol; earlier messages were passed on.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return 0
            data = bytes(self._rest)
        at, count, left = 0, 0, MAX_FRAMES
        while left > 0:
            at, more = self._parse_common_frames(data, at, left)
            count, left = count + more, left - more - 1
            after = self._parse_frame(data, at)
            if after is None:
                break
            count += data[at] in _ENDS
            at = after
        self.is_behind = left <= 0
        self._rest = bytearray(memoryview(data)[at:])
        if self._ping:
            ping, self._ping = self._ping, b""
            self._pass_on(ping)
        return count

    def _parse_common_frames(self, data: bytes, at: int, limit: int) -> _ParsedFrames:
        """Process whole messages of 126 to 65,535 bytes, the most common ones."""
        count, end, on_message = 0, len(data), self._on_message
        if self._fragments.is_open:
            return _ParsedFrames(at, 0)
        while at + 4 <= end and data[at] == _FIN_TEXT and data[at + 1] == _TWO_BYTES and count < limit:
            after = at + 4 + (data[at + 2] << 8 | data[at + 3])
            if after > end:
                break
            message = data[at + 4 : after]
            if not message.isascii():
                check_text(message)
            on_message(message)
            count += 1
            at = after
        return _ParsedFrames(at, count)

    def _parse_frame(self, data: bytes, at: int) -> int | None:
        """Process one frame of any kind; return the position after it, or None if it is incomplete."""
        here = len(data) - at
        if here < _SHORTEST:
            self._needed = _SHORTEST
            return None
        kind, size = data[at], data[at + 1]
        self._check_head(kind, size)
        head = _SHORTEST + (0 if size < _TWO_BYTES else 2 if size == _TWO_BYTES else 8)
        if here < head:
            self._needed = head
            return None
        if size >= _TWO_BYTES:
            size = int.from_bytes(data[at + _SHORTEST : at + head], "big")
        if size > self._max_bytes:
            raise FrameError(TOO_BIG, f"a frame has {size:,} bytes, the limit is {self._max_bytes:,}")
        if here < head + size:
            self._needed = head + size
            return None
        self._handle_frame(kind, data[at : at + head + size], head)
        return at + head + size

    @staticmethod
    def _check_head(kind: int, size: int) -> None:
        """Check the first two bytes of a frame; the masks are those of RFC 6455, 5.2."""
        if kind & _RESERVED:
            raise FrameError(PROTOCOL_ERROR, "a frame has a reserved bit, and no extension was agreed")
        if size >= _MASKED:
            raise FrameError(PROTOCOL_ERROR, "a server's frame is masked")
        if kind not in _DATA and (kind not in _CONTROL or size >= _TWO_BYTES):
            what = "is too long or in fragments" if kind | _FIN in _CONTROL else "is unknown"
            raise FrameError(PROTOCOL_ERROR, f"a frame of the kind 0x{kind & _OPCODE:x} {what}")

    def _handle_frame(self, kind: int, frame: bytes, head: int) -> None:
        if kind in _DATA:
            if kind in _WHOLE and not self._fragments.is_open:
                message: bytes | None = frame[head:]
                if kind == _FIN_TEXT:
                    check_text(frame[head:])
            else:
                message = self._fragments.add(kind, frame[head:])
            if message is not None:
                self._on_message(message)
        elif kind == PING:
            self._ping = frame
        elif kind == CLOSE:
            self._pass_on(frame)
