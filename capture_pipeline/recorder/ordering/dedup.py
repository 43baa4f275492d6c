"""Messages that were let through lately, by their bytes: the same bytes again, by another connection, need no second look."""

from __future__ import annotations

from capture_pipeline.recorder.ordering.merger import Message

_GENERATION = 4096


class DuplicateFilter:
    """Remembers a bounded number of messages, in two generations, so that forgetting costs nothing a message."""

    def __init__(self) -> None:
        """Start with none."""
        self._young: dict[bytes, Message] = {}
        self._old: dict[bytes, Message] = {}

    def add(self, message: Message) -> None:
        """It was let through; every other connection will bring it too."""
        if len(self._young) >= _GENERATION:
            self._young, self._old = {}, self._young
        self._young[message.raw] = message

    def pop(self, raw: bytes) -> Message | None:
        """The message of these bytes, if it was let through lately; it is forgotten then, for with two connections no third one comes."""
        return self._young.pop(raw, None) or self._old.pop(raw, None)
