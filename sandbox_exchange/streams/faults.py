"""Which messages and connections a fault script hits, counted message by message. Bytes and sockets stand elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, Protocol

from capture_pipeline.binance.periods import parse_time
from sandbox_exchange.faults.matcher import FaultBook, Line
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.faults.stream_rules import MESSAGE_KINDS
from sandbox_exchange.streams.messages import Item, Message

ALL = 0
"""Stands for all connections where messages are counted."""
Held = dict[str, Item]
"""Messages by stream that wait for the next one of their stream, to come after it."""


class Target(Protocol):
    """A connection as rules see it."""

    number: int
    path: str
    query: dict[str, str]


class Hit(NamedTuple):
    """A fault of a connection that is due.

    Attributes:
        rule: What to do.
        at: Position of the message at which it came.
    """

    rule: FaultRule
    at: int


class StreamFaults:
    """The rules about streams at work."""

    def __init__(self, book: FaultBook) -> None:
        """Keep the script, which may be replaced at any time."""
        self._book = book
        self._held: Held = {}

    def on_streams(self, messages: Sequence[Message]) -> list[Item]:
        """The messages of a window as all connections get them."""
        lines = [
            line
            for line in self._lines(messages)
            if line.rule.match.is_of_all_connections and line.rule.fault in MESSAGE_KINDS
        ]
        items = [Item(message) for message in messages]
        return applied(lines, items, ALL, self._held)[0] if lines or self._held else items

    def lines_of(self, target: Target, messages: Sequence[Message]) -> list[Line]:
        """The rules that count the messages of a connection by themselves."""
        return [line for line in self._lines(messages) if _is_single(line.rule) and hits(line.rule, target)]

    def periodic(self) -> list[Line]:
        """The rules that hit connections in turns."""
        return [line for line in self._book.stream_lines() if "every_s" in line.rule.parameters]

    def _lines(self, messages: Sequence[Message]) -> list[Line]:
        """The rules that may hit one of some messages, which are in order of time."""
        if not messages:
            return []
        first, last = messages[0].time_us, messages[-1].time_us
        lines = [line for line in self._book.stream_lines() if "every_s" not in line.rule.parameters]
        return [line for line in lines if _start(line.rule) <= last and first < _end(line.rule)]


def applied(
    lines: Sequence[Line], items: Sequence[Item], number: int, held: Held
) -> tuple[list[Item], Hit | None]:
    """Items with the faults of messages, up to the first fault of a connection.

    Args:
        lines: Rules that may be due.
        items: What would be sent.
        number: Connection whose messages are counted.
        held: Kept by the caller from one call to the next.
    """
    out: list[Item] = []
    for at, item in enumerate(items):
        rule = _due(lines, item.message, number)
        if rule is not None and rule.fault not in MESSAGE_KINDS:
            return out, Hit(rule, at)
        stream = item.message.key.stream
        if rule is not None and rule.fault == "ws_reorder" and stream not in held:
            held[stream] = item
            continue
        out += _copies(item, rule)
        if stream in held:
            out.append(held.pop(stream))
    return out, None


def hits(rule: FaultRule, target: Target) -> bool:
    """Whether a rule is about a connection."""
    return rule.match.hits_connection(target.number, target.path, target.query)


def in_turn(line: Line, living: Iterable[Target], now_us: int) -> Target | None:
    """The connection that a periodic rule hits now: the oldest one, so that each has its turn and none falls beside another.

    Args:
        line: A rule with `every_s`.
        living: Connections that receive data, oldest first.
        now_us: Market time.
    """
    meant = [target for target in living if hits(line.rule, target)]
    if not meant or not _start(line.rule) <= now_us < _end(line.rule):
        return None
    step = round(line.rule.number("every_s", 0) * 1e6 / len(meant))
    if line.due_us is None or line.due_us > now_us + 2 * step * len(meant):
        line.due_us = now_us + step
    if now_us < line.due_us or len(meant) < line.rule.number("least", 1):
        return None
    line.due_us = now_us + step
    line.matched += 1
    line.injected += 1
    return meant[0]


def _copies(item: Item, rule: FaultRule | None) -> list[Item]:
    if rule is None or rule.fault == "ws_reorder":
        return [item]
    if rule.fault == "ws_drop":
        return []
    return [item, item] if rule.fault == "ws_duplicate" else [Item(item.message, rule)]


def _due(lines: Sequence[Line], message: Message, number: int) -> FaultRule | None:
    """The first rule that is due; every rule that matches counts the message."""
    chosen: FaultRule | None = None
    for line in lines:
        rule = line.rule
        in_time = _start(rule) <= message.time_us < _end(rule)
        if (
            in_time
            and _is_named(rule.match.stream, message.key.stream)
            and line.counts(number)
            and chosen is None
        ):
            chosen = rule
            line.injected += 1
    return chosen


def _is_single(rule: FaultRule) -> bool:
    return rule.fault not in MESSAGE_KINDS or not rule.match.is_of_all_connections


@lru_cache(maxsize=4096)
def _is_named(glob: str | None, stream: str) -> bool:
    return glob is None or fnmatchcase(stream, glob)


@lru_cache(maxsize=1024)
def _time(text: str) -> int:
    return parse_time(text)


def _start(rule: FaultRule) -> float:
    text = rule.text("start")
    return _time(text) if text else float("-inf")


def _end(rule: FaultRule) -> float:
    text = rule.text("end")
    return _time(text) if text else float("inf")
