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
_CONTROL: Final = frozenset({0x88, 0x89, 0x8A})
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_SHORTEST = 2


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
            most_bytes: A longer message is not in order.
        """
        self.gave_up = False
        self._on_message, self._pass_on, self._most_bytes = on_message, pass_on, most_bytes
        self._rest = b""
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        if self.gave_up:
            self._pass_on(data)
            return
        if self._rest:
            data = self._rest + data
        at, end, on_message, most = 0, len(data), self._on_message, self._most_bytes
        while end - at >= _SHORTEST:
            kind, size, body = data[at], data[at + 1], at + 2
            if size >= _TWO_BYTES:
                size, body = _long(data, size, body)
            after = body + size
            if body > end or (after > end and 0 <= size <= most):
                break
            if kind in _WHOLE and 0 <= size <= most and not self._pieces:
                on_message(data[body:after])
            elif not self._is_taken(kind, size, data[at:after], body - at):
                self._give_up(data[at:])
                return
            at = after
        self._rest = data[at:]

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
