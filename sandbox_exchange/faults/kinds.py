"""Kinds of faults, and the part of the exchange that each of them changes."""

from __future__ import annotations

from enum import StrEnum

from sandbox_exchange.faults import stream_rules

CHECKSUM = ".CHECKSUM"


class FaultStage(StrEnum):
    """Part of the exchange that a fault changes."""

    HTTP = "http"
    """A whole HTTP response of any kind."""
    CONTENT = "content"
    """Content of an archive file; the checksum is that of the faulty file."""
    CHECKSUM = "checksum"
    """The checksum file only."""
    CACHE = "cache"
    """The zip as the host of the archive serves it; the bucket and the checksum do not change."""
    REST = "rest"
    """Content of a REST response."""
    UPGRADE = "upgrade"
    """The request that opens a stream connection."""
    STREAM = "stream"
    """A stream connection and its messages."""


class ChecksumForm(StrEnum):
    """Forms of a checksum file with the correct digest. `parse_checksum` accepts the first four only."""

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

STAGES: dict[str, FaultStage] = {
    **dict.fromkeys(_HTTP, FaultStage.HTTP),
    **dict.fromkeys(_CONTENT, FaultStage.CONTENT),
    **dict.fromkeys(_CHECKSUM, FaultStage.CHECKSUM),
    "stale_zip": FaultStage.CACHE,
    **dict.fromkeys(_REST, FaultStage.REST),
    **dict.fromkeys(stream_rules.UPGRADE_KINDS, FaultStage.UPGRADE),
    **dict.fromkeys(stream_rules.CONNECTION_KINDS + stream_rules.MESSAGE_KINDS, FaultStage.STREAM),
}
"""Every kind of fault and its stage."""
ONCE = {"short_page", "rest_bad_row", "bad_json"}
ON_RANGE_ONLY = frozenset({"wrong_etag_on_range", "ignore_range"})
"""Kinds that apply only to requests with a Range header."""
