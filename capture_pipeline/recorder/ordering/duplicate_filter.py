"""Recently emitted messages by their bytes: copies from other connections need not be parsed."""

from __future__ import annotations

from capture_pipeline.recorder.ordering.merger import Message

_GENERATION = 4096


class DuplicateFilter:
    """Bounded store of messages, in two generations so that removing old ones costs nothing per message."""

    def __init__(self) -> None:
        """Start without messages."""
        self._young: dict[bytes, Message] = {}
        self._old: dict[bytes, Message] = {}

    def add(self, message: Message) -> None:
        """Add an emitted message; each other connection will deliver a copy."""
        if len(self._young) >= _GENERATION:
            self._young, self._old = {}, self._young
        self._young[message.raw] = message

    def pop(self, raw: bytes) -> Message | None:
        """Remove and return the message with these bytes.

        It is removed on the first hit, because with two connections there is only one copy.
        """
        return self._young.pop(raw, None) or self._old.pop(raw, None)
