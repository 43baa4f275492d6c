"""Which fault hits which request: rules are matched, counted and consumed here; what they do stands in `fault_*.py`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox_exchange.faults.rules import CHECKSUM, ON_RANGE_ONLY, FaultRule, Stage


@dataclass(frozen=True)
class RequestInfo:
    """What a rule is matched against.

    Attributes:
        method: GET or HEAD.
        path: With its leading slash; of a checksum file that of its zip, where faults of files are asked for.
        query: Query parameters, the last of each name.
        has_range: Whether a Range header was sent.
    """

    method: str
    path: str
    query: Mapping[str, str]
    has_range: bool = False


@dataclass
class Line:
    """A rule and what became of it.

    Attributes:
        rule: The rule.
        matched: Requests or messages it matched.
        injected: How often it was injected.
        seen: Of stream faults: matching messages by connection; 0 where all connections are meant.
        due_us: Of periodic stream faults: market time of the next one.
    """

    rule: FaultRule
    matched: int = 0
    injected: int = 0
    seen: dict[int, int] = field(default_factory=dict)
    due_us: int | None = None

    def is_due(self) -> bool:
        """Whether the next matching request is hit."""
        number = self.matched - self.rule.after
        return number >= 0 and number % self.rule.every == 0 and self.injected < self.rule.most

    def counts(self, connection: int) -> bool:
        """Count a matching message of a connection; whether it is hit."""
        number = self.seen.get(connection, 0)
        self.seen[connection] = number + 1
        self.matched += 1
        number -= self.rule.after
        return number >= 0 and number % self.rule.every == 0 and self.injected < self.rule.most


class FaultBook:
    """The fault script at work; safe to use from several threads."""

    def __init__(self, rules: tuple[FaultRule, ...] = ()) -> None:
        """Start with a script, nothing counted."""
        self._lock = threading.Lock()
        self._lines = [Line(rule) for rule in rules]
        self._asked: Counter[str] = Counter()

    def replace(self, rules: tuple[FaultRule, ...]) -> None:
        """Take another script; all counts start again."""
        with self._lock:
            self._lines = [Line(rule) for rule in rules]

    def state(self) -> list[dict[str, Any]]:
        """Each rule with how many requests it matched and how often it was injected."""
        with self._lock:
            shown = [line.rule.model_dump(mode="json", exclude_none=True) for line in self._lines]
            return [
                {**rule, "matched": line.matched, "injected": line.injected}
                for rule, line in zip(shown, self._lines, strict=True)
            ]

    def injected(self, kind: str) -> int:
        """How often a kind was injected."""
        with self._lock:
            return sum(line.injected for line in self._lines if line.rule.fault == kind) + self._asked[kind]

    def note(self, kind: str) -> None:
        """Count a fault that was asked for by hand, without a rule."""
        with self._lock:
            self._asked[kind] += 1

    @property
    def by_hand(self) -> dict[str, int]:
        """How often each kind was injected without a rule."""
        with self._lock:
            return dict(self._asked)

    def stream_lines(self) -> list[Line]:
        """The rules about streams that are not used up; they are counted by whoever applies them, in one thread."""
        with self._lock:
            return [
                line
                for line in self._lines
                if line.rule.stage is Stage.STREAM and line.injected < line.rule.most
            ]

    def take(self, stage: Stage, ask: RequestInfo) -> FaultRule | None:
        """The first rule of a stage that is due for a request; every rule that matches counts it."""
        with self._lock:
            chosen: FaultRule | None = None
            for line in self._matching(stage, ask):
                if chosen is None and line.is_due():
                    chosen = line.rule
                    line.injected += 1
                line.matched += 1
            return chosen

    def take_all(self, ask: RequestInfo) -> tuple[FaultRule, ...]:
        """All rules about a file's content that are due for a request of the file; they are consumed."""
        with self._lock:
            chosen = []
            for line in self._matching(Stage.CONTENT, ask):
                if line.is_due():
                    chosen.append(line.rule)
                    line.injected += 1
                line.matched += 1
            return tuple(chosen)

    def peek_all(self, ask: RequestInfo) -> tuple[FaultRule, ...]:
        """The rules that the next request of the file would meet, for its checksum and its listing; nothing is consumed."""
        with self._lock:
            return tuple(
                line.rule for line in self._matching(Stage.CONTENT, ask, any_method=True) if line.is_due()
            )

    def peek(self, stage: Stage, ask: RequestInfo) -> FaultRule | None:
        """The rule of a stage that the next request would meet; nothing is consumed."""
        with self._lock:
            return next(
                (line.rule for line in self._matching(stage, ask, any_method=True) if line.is_due()), None
            )

    def _matching(self, stage: Stage, ask: RequestInfo, *, any_method: bool = False) -> list[Line]:
        found = []
        for line in self._lines:
            rule = line.rule
            if rule.stage is not stage or (rule.fault in ON_RANGE_ONLY and not ask.has_range):
                continue
            match = rule.match
            if stage in {Stage.CONTENT, Stage.CHECKSUM}:
                match = match.model_copy(update={"path": match.path.removesuffix(CHECKSUM)})
            method = match.method.upper() if any_method and match.method else ask.method
            if match.hits(method, ask.path, dict(ask.query)):
                found.append(line)
        return found
