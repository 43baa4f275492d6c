"""The fault script: which requests are hit, how, and how often. Validated; does nothing by itself."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.errors import ConfigError
from sandbox_exchange.faults import stream_rules
from sandbox_exchange.market.kline_text import HEADER, TRADES_HEADER

CHECKSUM = ".CHECKSUM"


class Stage(StrEnum):
    """Where a fault acts."""

    HTTP = "http"
    """On the answer as a whole, whatever it is about."""
    CONTENT = "content"
    """On an archive file itself; its checksum is that of the faulty file."""
    CHECKSUM = "checksum"
    """On the checksum file alone."""
    CACHE = "cache"
    """On the zip as the archive's host serves it; the bucket behind it and the checksum are not concerned."""
    REST = "rest"
    """On what a REST answer says."""
    UPGRADE = "upgrade"
    """On the request that opens a stream connection."""
    STREAM = "stream"
    """On a stream connection and its messages."""


class ChecksumForm(StrEnum):
    """Forms of a checksum file with the right digest. `parse_checksum` reads the first four and refuses the others."""

    NO_NEWLINE = "no_newline"
    CRLF = "crlf"
    BINARY = "binary"
    UPPER_CASE = "upper_case"
    BOM = "bom"
    PATH = "path"
    TWO_LINES = "two_lines"
    DIGEST_ALONE = "digest_alone"
    BSD = "bsd"


_HTTP = (
    "status_429",
    "status_418",
    "status_400",
    "status_403",
    "status_408",
    "status_451",
    "status_500",
    "status_502",
    "status_503",
    "timeout",
    "reset",
    "truncated_body",
    "slow_body",
    "wrong_etag_on_range",
    "ignore_range",
    "html_200",
    "redirect",
    "gzip_bomb",
    "body_bit_flip",
)
_CONTENT = (
    "csv_empty",
    "csv_header",
    "csv_bom",
    "csv_crlf",
    "csv_missing_column",
    "csv_extra_column",
    "csv_mixed_units",
    "csv_duplicates",
    "csv_conflicting_duplicate",
    "csv_unordered",
    "csv_future",
    "csv_unaligned",
    "csv_unclosed",
    "csv_negative",
    "csv_nan",
    "csv_exponent",
    "csv_other_month",
    "zip_truncated",
    "zip_bit_flip",
    "zip_bomb",
    "zip_overlapping",
    "zip_two_entries",
    "zip_other_name",
    "zip_traversal",
)
_CHECKSUM = (
    "checksum_wrong",
    "checksum_missing",
    "checksum_malformed",
    *(f"checksum_{form}" for form in ChecksumForm),
    "stale_checksum",
)
_REST = (
    "short_page",
    "repeated_page",
    "standing_page",
    "rest_hole",
    "rest_bad_row",
    "bad_json",
    "clock_skew",
    "rest_lag",
    "rest_header",
)

STAGES: dict[str, Stage] = {
    **dict.fromkeys(_HTTP, Stage.HTTP),
    **dict.fromkeys(_CONTENT, Stage.CONTENT),
    **dict.fromkeys(_CHECKSUM, Stage.CHECKSUM),
    "stale_zip": Stage.CACHE,
    **dict.fromkeys(_REST, Stage.REST),
    **dict.fromkeys(stream_rules.UPGRADE_KINDS, Stage.UPGRADE),
    **dict.fromkeys(stream_rules.CONNECTION_KINDS + stream_rules.MESSAGE_KINDS, Stage.STREAM),
}
"""Every kind of fault and where it acts."""
_ONCE_REST = {"short_page", "rest_bad_row", "bad_json"}
ON_RANGE_ONLY = frozenset({"wrong_etag_on_range", "ignore_range"})
"""Kinds that hit only requests with a Range header."""
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
_FIELDS = (*HEADER.split(","), *TRADES_HEADER.split(","))
_TEXTS = {"to", "start", "end", "field", "value", "name"}
BAD_ROWS = ("missing", "nan", "number", "null", "string_time")
"""What `value` of rest_bad_row may be; by default the first."""


def _kind(value: object) -> object:
    if not isinstance(value, str) or value not in STAGES:
        raise ValueError(f"no such fault; there are {', '.join(STAGES)}")
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
        raise ValueError(f"to must be an address in ASCII, not {value!r}")


class Match(BaseModel):
    """Which requests a rule is about.

    Attributes:
        path: Glob over the whole path; `*` also matches slashes. For faults of a file it is the zip's path.
        method: GET or HEAD; None for both.
        query: Globs over query parameters, each of which must be there.
        stream: Glob over the stream's name; None for all. Of stream faults only, as the next one.
        connection: Numbers of stream connections, counted from 1; None for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = "*"
    method: str | None = None
    query: dict[str, str] = {}
    stream: str | None = None
    connection: int | tuple[int, ...] | None = None

    @property
    def is_of_all_connections(self) -> bool:
        """Whether it leaves open which connection is meant."""
        return self.path == "*" and not self.query and self.connection is None

    def hits_connection(self, number: int, path: str, query: dict[str, str]) -> bool:
        """Whether a stream connection is meant."""
        numbers = (self.connection,) if isinstance(self.connection, int) else self.connection
        return (numbers is None or number in numbers) and self.hits(self.method or "GET", path, query)

    def hits(self, method: str, path: str, query: dict[str, str]) -> bool:
        """Whether a request is meant."""
        if self.method is not None and self.method.upper() != method:
            return False
        if not fnmatchcase(path, self.path if self.path.startswith(("/", "*")) else "/" + self.path):
            return False
        return all(name in query and fnmatchcase(query[name], glob) for name, glob in self.query.items())


class FaultRule(BaseModel):
    """One line of the script; further keys are the fault's parameters.

    Attributes:
        match: Which requests.
        fault: Kind.
        times: How often it is injected; by default once for HTTP and stream faults, always for faults of files and those with `every_s`.
        after: How many matching requests pass before; of stream faults messages, counted on each connection by itself.
        every: After them, only each n-th matching request or message is hit.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    match: Match = Match()
    fault: Annotated[str, BeforeValidator(_kind)]
    times: int | Literal["always"] | None = None
    after: int = Field(0, ge=0)
    every: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _known_parameters(self) -> FaultRule:
        for name, value in self.parameters.items():
            if name not in _NUMBERS | _TEXTS:
                raise ValueError(
                    f"{name!r} is no parameter of a fault; there are {', '.join(sorted(_NUMBERS | _TEXTS))}"
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
        if (self.match.stream, self.match.connection) != (None, None) and self.stage is not Stage.STREAM:
            raise ValueError("match.stream and match.connection belong to faults of streams")
        # `code` of an HTTP answer is the exchange's error code, that of a stream a close code.
        stream_rules.check(
            self.fault,
            {
                name: value
                for name, value in self.parameters.items()
                if self.stage is not Stage.HTTP or name != "code"
            },
        )
        if self.fault == "rest_bad_row" and self.parameters.get("value", BAD_ROWS[0]) not in BAD_ROWS:
            raise ValueError(
                f"value of rest_bad_row must be one of {', '.join(BAD_ROWS)}, not {self.parameters['value']!r}"
            )
        return self

    def _check_hole(self) -> None:
        if not {"start", "end"} <= self.parameters.keys():
            raise ValueError("rest_hole needs `start` and `end`")
        if parse_time(self.text("end")) <= parse_time(self.text("start")):
            raise ValueError("rest_hole must end after its start")

    @property
    def stage(self) -> Stage:
        """Where it acts."""
        return STAGES[self.fault]

    @property
    def most(self) -> float:
        """How often it is injected at most."""
        if self.times is None:
            once = self.stage in {Stage.HTTP, Stage.UPGRADE, Stage.STREAM} or self.fault in _ONCE_REST
            return 1 if once and "every_s" not in self.parameters else float("inf")
        return float("inf") if self.times == "always" else self.times

    @property
    def parameters(self) -> dict[str, Any]:
        """The fault's own parameters."""
        return dict(self.model_extra or {})

    def number(self, name: str, default: float) -> float:
        """A parameter that is a number."""
        return float(self.parameters.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        """A parameter that is text; times of YAML come out in their ISO form."""
        return str(self.parameters.get(name, default))


class FaultScript(BaseModel):
    """A list of rules; in each stage the first one that is due hits a request, of file faults all that are due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faults: tuple[FaultRule, ...] = ()
