"""Selection of the messages and connections that stream rules apply to, without bytes and sockets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, Protocol

from capture_pipeline.binance.periods import parse_time
from sandbox_exchange.faults.matcher import FaultInjector, RuleState
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.faults.stream_rules import MESSAGE_KINDS
from sandbox_exchange.streams.messages import Message, OutgoingMessage

ALL_CONNECTIONS = 0
"""Number under which rules about all connections count messages."""
DelayedMessages = dict[str, OutgoingMessage]
"""Messages of `ws_reorder` by stream: each is sent after the next message of its stream."""


class Target(Protocol):
    """Properties of a connection that rules are matched against."""

    number: int
    path: str
    query: dict[str, str]


class ConnectionFault(NamedTuple):
    """Fault of a connection that is due.

    Attributes:
        rule: Rule of the fault.
        position: Index of the message at which the rule is due.
    """

    rule: FaultRule
    position: int


class AppliedFaults(NamedTuple):
    """Messages to send, and the fault of the connection after them; None without one."""

    items: list[OutgoingMessage]
    fault: ConnectionFault | None


class StreamFaults:
    """Stream rules of the fault script."""

    def __init__(self, injector: FaultInjector) -> None:
        self._injector = injector
        self._delayed: DelayedMessages = {}

    def apply_to_all(self, messages: Sequence[Message]) -> list[OutgoingMessage]:
        """Apply the rules about all connections to the messages of a window."""
        states = [
            state
            for state in self._rules_in_period(messages)
            if state.rule.match.is_for_all_connections and state.rule.fault in MESSAGE_KINDS
        ]
        items = [OutgoingMessage(message) for message in messages]
        return (
            apply_message_faults(states, items, ALL_CONNECTIONS, self._delayed).items
            if states or self._delayed
            else items
        )

    def rules_for(self, target: Target, messages: Sequence[Message]) -> list[RuleState]:
        """Return the rules that count the messages of one connection separately."""
        return [
            state
            for state in self._rules_in_period(messages)
            if _counts_per_connection(state.rule) and is_for_connection(state.rule, target)
        ]

    def periodic_rules(self) -> list[RuleState]:
        """Return the rules that apply to one connection after the other, every `every_s` seconds."""
        return [state for state in self._injector.stream_rules() if "every_s" in state.rule.parameters]

    def _rules_in_period(self, messages: Sequence[Message]) -> list[RuleState]:
        """Return the rules whose period contains one of the messages, which are in order of time."""
        if not messages:
            return []
        first, last = messages[0].time_us, messages[-1].time_us
        states = [state for state in self._injector.stream_rules() if "every_s" not in state.rule.parameters]
        return [state for state in states if _start_us(state.rule) <= last and first < _end_us(state.rule)]


def apply_message_faults(
    states: Sequence[RuleState], items: Sequence[OutgoingMessage], number: int, delayed: DelayedMessages
) -> AppliedFaults:
    """Apply message faults to items, up to the first fault of a connection.

    Args:
        states: Rules that may be due.
        items: Messages to send.
        number: Number of the connection whose messages are counted.
        delayed: Delayed messages; the caller keeps them between calls.
    """
    out: list[OutgoingMessage] = []
    for position, item in enumerate(items):
        rule = _select_due_rule(states, item.message, number)
        if rule is not None and rule.fault not in MESSAGE_KINDS:
            return AppliedFaults(out, ConnectionFault(rule, position))
        stream = item.message.key.stream
        if rule is not None and rule.fault == "ws_reorder" and stream not in delayed:
            delayed[stream] = item
            continue
        out += _apply_to_item(item, rule)
        if stream in delayed:
            out.append(delayed.pop(stream))
    return AppliedFaults(out, None)


def is_for_connection(rule: FaultRule, target: Target) -> bool:
    return rule.match.matches_connection(target.number, target.path, target.query)


def select_periodic_target(state: RuleState, open_targets: Iterable[Target], now_us: int) -> Target | None:
    """Select the oldest connection if a periodic rule is due.

    The interval is divided by the number of connections, so that two connections never fail at the same time.

    Args:
        state: A rule with `every_s`.
        open_targets: Connections that receive data, oldest first.
        now_us: Market time, microseconds UTC.
    """
    targets = [target for target in open_targets if is_for_connection(state.rule, target)]
    if not targets or not _start_us(state.rule) <= now_us < _end_us(state.rule):
        return None
    step = round(state.rule.number("every_s", 0) * 1e6 / len(targets))
    if state.due_us is None or state.due_us > now_us + 2 * step * len(targets):
        state.due_us = now_us + step
    if now_us < state.due_us or len(targets) < state.rule.number("least", 1):
        return None
    state.due_us = now_us + step
    state.matched += 1
    state.injected += 1
    return targets[0]


def _apply_to_item(item: OutgoingMessage, rule: FaultRule | None) -> list[OutgoingMessage]:
    if rule is None or rule.fault == "ws_reorder":
        return [item]
    if rule.fault == "ws_drop":
        return []
    return [item, item] if rule.fault == "ws_duplicate" else [OutgoingMessage(item.message, rule)]


def _select_due_rule(states: Sequence[RuleState], message: Message, number: int) -> FaultRule | None:
    """Return the first rule that is due for a message; count the message in every matching rule."""
    chosen: FaultRule | None = None
    for state in states:
        rule = state.rule
        is_in_period = _start_us(rule) <= message.time_us < _end_us(rule)
        if (
            is_in_period
            and _matches_stream(rule.match.stream, message.key.stream)
            and state.count_message(number)
            and chosen is None
        ):
            chosen = rule
            state.injected += 1
    return chosen


def _counts_per_connection(rule: FaultRule) -> bool:
    return rule.fault not in MESSAGE_KINDS or not rule.match.is_for_all_connections


@lru_cache(maxsize=4096)
def _matches_stream(glob: str | None, stream: str) -> bool:
    return glob is None or fnmatchcase(stream, glob)


@lru_cache(maxsize=1024)
def _parse_time_us(text: str) -> int:
    return parse_time(text)


def _start_us(rule: FaultRule) -> float:
    text = rule.text("start")
    return _parse_time_us(text) if text else float("-inf")


def _end_us(rule: FaultRule) -> float:
    text = rule.text("end")
    return _parse_time_us(text) if text else float("inf")
