"""Selection of the fault for a request: match, count and use up the rules of a script.

Other modules apply the fault.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox_exchange.faults.kinds import CHECKSUM, ON_RANGE_ONLY, FaultStage
from sandbox_exchange.faults.rules import FaultRule


@dataclass(frozen=True)
class RequestInfo:
    """Properties of a request that rules are matched against.

    Attributes:
        method: GET or HEAD.
        path: Path with its leading slash. For faults of files, a checksum file has the path of its zip.
        query: Query parameters; the last value of each name.
        has_range: Whether the request has a Range header.
    """

    method: str
    path: str
    query: Mapping[str, str]
    has_range: bool = False


@dataclass
class RuleState:
    """A rule and its counts.

    Attributes:
        rule: Rule of the script.
        matched: Number of requests or messages that the rule matched.
        injected: Number of injections.
        message_counts: Number of matching messages by connection; key 0 for rules about all connections.
        due_us: Market time of the next injection of a periodic stream fault.
    """

    rule: FaultRule
    matched: int = 0
    injected: int = 0
    message_counts: dict[int, int] = field(default_factory=dict)
    due_us: int | None = None

    def is_due(self) -> bool:
        """Return whether the rule applies to the next matching request."""
        number = self.matched - self.rule.after
        return number >= 0 and number % self.rule.every == 0 and self.injected < self.rule.max_injections

    def count_message(self, connection: int) -> bool:
        """Count a matching message of a connection and return whether the rule applies to it."""
        number = self.message_counts.get(connection, 0)
        self.message_counts[connection] = number + 1
        self.matched += 1
        number -= self.rule.after
        return number >= 0 and number % self.rule.every == 0 and self.injected < self.rule.max_injections


class FaultInjector:
    """Fault script with its counts; thread-safe."""

    def __init__(self, rules: tuple[FaultRule, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._states = [RuleState(rule) for rule in rules]
        self._manual_counts: Counter[str] = Counter()

    def replace(self, rules: tuple[FaultRule, ...]) -> None:
        """Replace the script and reset the counts."""
        with self._lock:
            self._states = [RuleState(rule) for rule in rules]

    def state(self) -> list[dict[str, Any]]:
        """Return each rule with the numbers of its matches and injections."""
        with self._lock:
            rules = [state.rule.model_dump(mode="json", exclude_none=True) for state in self._states]
            return [
                {**rule, "matched": state.matched, "injected": state.injected}
                for rule, state in zip(rules, self._states, strict=True)
            ]

    def count_injected(self, kind: str) -> int:
        """Return the number of injections of a kind."""
        with self._lock:
            by_rule = sum(state.injected for state in self._states if state.rule.fault == kind)
            return by_rule + self._manual_counts[kind]

    def record_manual_fault(self, kind: str) -> None:
        """Count a fault that the control endpoint injected without a rule."""
        with self._lock:
            self._manual_counts[kind] += 1

    @property
    def manual_counts(self) -> dict[str, int]:
        """Number of injections without a rule by kind."""
        with self._lock:
            return dict(self._manual_counts)

    def stream_rules(self) -> list[RuleState]:
        """Return the stream rules that are not used up; only the server thread changes their counts."""
        with self._lock:
            return [
                state
                for state in self._states
                if state.rule.stage is FaultStage.STREAM and state.injected < state.rule.max_injections
            ]

    def select(self, stage: FaultStage, request: RequestInfo) -> FaultRule | None:
        """Select the first rule of a stage that is due for a request; all matching rules count it."""
        with self._lock:
            chosen: FaultRule | None = None
            for state in self._matching(stage, request):
                if chosen is None and state.is_due():
                    chosen = state.rule
                    state.injected += 1
                state.matched += 1
            return chosen

    def select_all(self, request: RequestInfo) -> tuple[FaultRule, ...]:
        """Select all rules about the content of a file that are due for a request of the file."""
        with self._lock:
            chosen = []
            for state in self._matching(FaultStage.CONTENT, request):
                if state.is_due():
                    chosen.append(state.rule)
                    state.injected += 1
                state.matched += 1
            return tuple(chosen)

    def peek_all(self, request: RequestInfo) -> tuple[FaultRule, ...]:
        """Return what `select_all` would return, for checksum and listing, without counting."""
        with self._lock:
            return tuple(
                state.rule
                for state in self._matching(FaultStage.CONTENT, request, any_method=True)
                if state.is_due()
            )

    def peek(self, stage: FaultStage, request: RequestInfo) -> FaultRule | None:
        """Return what `select` would return, without counting."""
        with self._lock:
            return next(
                (state.rule for state in self._matching(stage, request, any_method=True) if state.is_due()),
                None,
            )

    def _matching(
        self, stage: FaultStage, request: RequestInfo, *, any_method: bool = False
    ) -> list[RuleState]:
        matching = []
        for state in self._states:
            rule = state.rule
            if rule.stage is not stage or (rule.fault in ON_RANGE_ONLY and not request.has_range):
                continue
            match = rule.match
            if stage in {FaultStage.CONTENT, FaultStage.CHECKSUM}:
                match = match.model_copy(update={"path": match.path.removesuffix(CHECKSUM)})
            method = match.method.upper() if any_method and match.method else request.method
            if match.matches_request(method, request.path, dict(request.query)):
                matching.append(state)
        return matching
