"""Models of the fault script: the matched requests, the fault and the number of injections of each rule."""

from __future__ import annotations

import math
import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.errors import ConfigError
from sandbox_exchange.constants import KLINES_HEADER, TRADES_HEADER
from sandbox_exchange.faults import stream_rules
from sandbox_exchange.faults.kinds import ONCE, STAGES, FaultStage

_NUMBERS = {
    "retry_after",
    "stall_s",
    "at",
    "bytes_per_s",
    "inflate_mb",
    "row",
    "rows",
    "skew_s",
    "cut",
    "code",
    "lag_s",
} | stream_rules.NUMBERS
_HEADER = re.compile(r"[A-Za-z0-9-]{1,60}:[ -~]{0,1000}")
_FIELDS = (*KLINES_HEADER.split(","), *TRADES_HEADER.split(","))
_TEXTS = {"to", "start", "end", "field", "value", "name"}
BAD_ROWS = ("missing", "nan", "number", "null", "string_time")
"""Valid values of the parameter `value` of rest_bad_row; the first is the default."""


def _check_kind(value: object) -> object:
    if not isinstance(value, str) or value not in STAGES:
        raise ValueError(f"no such fault; use one of {', '.join(STAGES)}")
    return value


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, not {value!r}")
    if value < 0 and name not in {"skew_s", "code"}:
        raise ValueError(f"{name} must not be negative")


def _check_text(name: str, value: object) -> None:
    if name in {"start", "end"}:
        try:
            parse_time(str(value))
        except ConfigError as error:
            raise ValueError(f"{name}: {error}") from None
    if name == "field" and value not in _FIELDS:
        raise ValueError(f"field must be one of {', '.join(_FIELDS)}, not {value!r}")
    if name == "to" and not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise ValueError(f"to must be an ASCII address, not {value!r}")


class RequestMatch(BaseModel):
    """Requests that a rule applies to.

    Attributes:
        path: Glob for the whole path; `*` also matches slashes. For faults of a file, the path of the zip.
        method: GET or HEAD; None for both.
        query: Globs for query parameters; a request without one of the parameters does not match.
        stream: Glob for the stream name; None for all streams. For stream faults only.
        connection: Numbers of stream connections, counted from 1; None for all. For stream faults only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = "*"
    method: str | None = None
    query: dict[str, str] = {}
    stream: str | None = None
    connection: int | tuple[int, ...] | None = None

    @property
    def is_for_all_connections(self) -> bool:
        """True if the rule applies to every connection: it has no condition on path, query or number."""
        return self.path == "*" and not self.query and self.connection is None

    def matches_connection(self, number: int, path: str, query: dict[str, str]) -> bool:
        numbers = (self.connection,) if isinstance(self.connection, int) else self.connection
        return (numbers is None or number in numbers) and self.matches_request(
            self.method or "GET", path, query
        )

    def matches_request(self, method: str, path: str, query: dict[str, str]) -> bool:
        if self.method is not None and self.method.upper() != method:
            return False
        if not fnmatchcase(path, self.path if self.path.startswith(("/", "*")) else "/" + self.path):
            return False
        return all(name in query and fnmatchcase(query[name], glob) for name, glob in self.query.items())


class FaultRule(BaseModel):
    """Rule of the script; additional keys are parameters of the fault.

    Attributes:
        match: Requests that the rule applies to.
        fault: Kind of fault.
        times: Number of injections. The default is once for HTTP and stream faults, and always for faults of
            files and for faults with `every_s`.
        after: Number of matching requests without a fault before the first injection. For stream faults the
            number of messages, counted for each connection.
        every: After `after`, the rule applies to every n-th matching request or message.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    match: RequestMatch = RequestMatch()
    fault: Annotated[str, BeforeValidator(_check_kind)]
    times: int | Literal["always"] | None = None
    after: int = Field(0, ge=0)
    every: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _check_parameters(self) -> FaultRule:
        for name, value in self.parameters.items():
            if name not in _NUMBERS | _TEXTS:
                raise ValueError(
                    f"{name!r} is not a parameter of a fault; "
                    f"use one of {', '.join(sorted(_NUMBERS | _TEXTS))}"
                )
            _check_number(name, value) if name in _NUMBERS else _check_text(name, value)
        if self.fault == "redirect" and "to" not in self.parameters:
            raise ValueError("redirect needs `to`, an address")
        if self.fault == "rest_hole":
            self._check_hole()
        if self.fault == "rest_header" and not _HEADER.fullmatch(
            f"{self.text('name', 'X')}:{self.text('value')}"
        ):
            raise ValueError(
                "rest_header needs a name of letters, digits and -, and a value in printable ASCII"
            )
        if (self.match.stream, self.match.connection) != (None, None) and self.stage is not FaultStage.STREAM:
            raise ValueError("match.stream and match.connection apply to faults of streams only")
        # `code` is an error code of the exchange in HTTP faults, and a WebSocket close code in stream faults.
        stream_rules.check_parameters(
            self.fault,
            {
                name: value
                for name, value in self.parameters.items()
                if self.stage is not FaultStage.HTTP or name != "code"
            },
        )
        if self.fault == "rest_bad_row" and self.parameters.get("value", BAD_ROWS[0]) not in BAD_ROWS:
            raise ValueError(
                f"value of rest_bad_row must be one of {', '.join(BAD_ROWS)}, "
                f"not {self.parameters['value']!r}"
            )
        return self

    def _check_hole(self) -> None:
        if not {"start", "end"} <= self.parameters.keys():
            raise ValueError("rest_hole needs `start` and `end`")
        if parse_time(self.text("end")) <= parse_time(self.text("start")):
            raise ValueError("rest_hole must end after its start")

    @property
    def stage(self) -> FaultStage:
        """Stage of the fault."""
        return STAGES[self.fault]

    @property
    def max_injections(self) -> float:
        """Maximum number of injections."""
        if self.times is None:
            once = (
                self.stage in {FaultStage.HTTP, FaultStage.UPGRADE, FaultStage.STREAM} or self.fault in ONCE
            )
            return 1 if once and "every_s" not in self.parameters else float("inf")
        return float("inf") if self.times == "always" else self.times

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the fault."""
        return dict(self.model_extra or {})

    def number(self, name: str, default: float) -> float:
        """Return a parameter that is a number."""
        return float(self.parameters.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter that is text; a time in YAML is converted to ISO format."""
        return str(self.parameters.get(name, default))


class FaultScript(BaseModel):
    """List of rules.

    In each stage, the first rule that is due applies to a request. Of file faults all that are due apply.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    faults: tuple[FaultRule, ...] = ()
