"""Messages cut out of the bytes of a WebSocket. Sans-I/O; does the one thing that has to be fast, and leaves all else to a library.

Data frames of a server are taken apart here: unmasked, no extension, whole or in pieces. Control frames are passed on, and so is
everything from the first frame on that is not in order, so that the library judges it and ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_FIN_TEXT, _FIN_BINARY, _TEXT, _BINARY = 0x81, 0x82, 0x01, 0x02
_CONTINUED, _FIN_CONTINUED = 0x00, 0x80
_WHOLE: Final = frozenset({_FIN_TEXT, _FIN_BINARY})
_PIECES: Final = frozenset({_TEXT, _BINARY, _CONTINUED, _FIN_CONTINUED})
_ENDS: Final = frozenset({_FIN_TEXT, _FIN_BINARY, _FIN_CONTINUED})
_CONTROL: Final = frozenset({0x88, 0x89, 0x8A})
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_SHORTEST, _GAVE_UP = 2, -1


class FrameCutter:
    """Cuts messages out of what comes in.

    Attributes:
        gave_up: Whether something was not in order; from then on everything is passed on.
    """

    def __init__(self, on_message: Callable[[bytes], None], pass_on: Callable[[bytes], None], most_bytes: int) -> None:
        """Start at the border of a frame.

        Args:
            on_message: Takes each whole message.
            pass_on: Takes bytes of control frames, whole, and of everything that is not in order.
            most_bytes: A longer message is not in order; at least 65,535.
        """
        self.gave_up = False
        self._on_message, self._pass_on, self._most_bytes = on_message, pass_on, most_bytes
        self._rest = b""
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> int:
        """Take bytes as they came.

        Returns:
            How many messages were in them.
        """
        if self.gave_up:
            self._pass_on(data)
            return 0
        data = self._rest + data if self._rest else data
        at, count = self._usual(data, 0)
        while (after := self._any(data, at)) is not None:
            if after == _GAVE_UP:
                return count
            count += data[at] in _ENDS
            at, more = self._usual(data, after)
            count += more
        self._rest = data[at:]
        return count

    def _usual(self, data: bytes, at: int) -> tuple[int, int]:
        """Take whole messages in frames of 126 to 65,535 bytes, which most are: (position after them, how many)."""
        count, end, on_message = 0, len(data), self._on_message
        if self._pieces:
            return at, 0
        while at + 4 <= end and data[at] == _FIN_TEXT and data[at + 1] == _TWO_BYTES:
            after = at + 4 + (data[at + 2] << 8 | data[at + 3])
            if after > end:
                break
            on_message(data[at + 4 : after])
            count += 1
            at = after
        return at, count

    def _any(self, data: bytes, at: int) -> int | None:
        """Take one frame of any kind: the position after it, None if it is not here as a whole, -1 if it is not in order."""
        end = len(data)
        if end - at < _SHORTEST:
            return None
        kind, size, body = data[at], data[at + 1], at + 2
        if size >= _TWO_BYTES:
            size, body = _long(data, size, body)
        after = body + size
        if body > end or (after > end and 0 <= size <= self._most_bytes):
            return None
        if kind in _WHOLE and 0 <= size <= self._most_bytes and not self._pieces:
            self._on_message(data[body:after])
        elif not self._is_taken(kind, size, data[at:after], body - at):
            self._give_up(data[at:])
            return _GAVE_UP
        return after

    def _is_taken(self, kind: int, size: int, frame: bytes, head: int) -> bool:
        """Take what is no message in one frame; whether it is in order."""
        if size < 0 or size > self._most_bytes:
            return False
        if kind in _CONTROL:
            self._pass_on(frame)
            return True
        is_first = kind in {_TEXT, _BINARY}
        if kind not in _PIECES or is_first == bool(self._pieces) or sum(map(len, self._pieces)) + size > self._most_bytes:
            return False
        self._pieces.append(frame[head:])
        if kind == _FIN_CONTINUED:
            whole, self._pieces = b"".join(self._pieces), []
            self._on_message(whole)
        return True

    def _give_up(self, data: bytes) -> None:
        self.gave_up, self._rest, self._pieces = True, b"", []
        self._pass_on(data)


def _long(data: bytes, size: int, at: int) -> tuple[int, int]:
    """The size that follows the first two bytes, and where it ends; -1 for a masked frame, which no server sends."""
    if size > _EIGHT_BYTES:
        return -1, at
    end = at + (2 if size == _TWO_BYTES else 8)
    return int.from_bytes(data[at:end], "big"), end
