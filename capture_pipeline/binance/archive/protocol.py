"""Protocol of the archive: parsers of checksum files and listings, and the evaluation of digests (sans-I/O).

Source: the exchange's public-data README. A number with # is an issue of binance/binance-public-data.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from capture_pipeline.binance.periods import HOUR_US, day_bounds, to_us
from capture_pipeline.errors import MalformedDataError, ProtocolViolationError
from capture_pipeline.parsing import guard_parser

_CHECKSUM = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S+)\s*")
_CHECKSUM_CAP = 1000
_SHOWN = 80
_OTHER_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("is empty", re.compile(r"\s*")),
    ("begins with a byte order mark", re.compile(r"(?s)\ufeff.*")),
    ("is not UTF-8", re.compile(r"(?s).*\ufffd.*")),
    ("is a page of HTML or XML", re.compile(r"(?s)\s*<.*")),
    ("has several lines", re.compile(r"(?s)\s*\S[^\n]*\n\s*\S.*")),
    ("is in the BSD form, SHA256 (name) = digest", re.compile(r"(?i)\s*sha-?256 ?\(.*\) ?= ?[0-9a-f]*\s*")),
    ("contains a digest without a file name", re.compile(r"\s*[0-9a-fA-F]{64}\s*")),
    ("contains a digest that is not of SHA-256", re.compile(r"\s*[0-9a-fA-F]{8,}\s+\S+\s*")),
)
"""Wrong forms of a checksum file, in the order in which they are tested."""


PUBLISHED_AFTER_US = 5 * HOUR_US
"""Expected delay of a day's files. They appear four to six hours after midnight, sometimes days later."""


class Trust(StrEnum):
    """State of the verification of an archive file."""

    OK = "ok"
    """The SHA-256 of the file is the published one."""
    PINNED = "pinned"
    """The SHA-256 of the file is the one in the settings, used if the published checksum is wrong."""
    CHECKSUM_MISSING = "checksum_missing"
    """No usable checksum is published; used only where the settings allow it."""
    MISMATCH = "mismatch"
    """The SHA-256 is not the published one, also after a second download; the file is in the quarantine."""
    MALFORMED = "malformed"
    """The SHA-256 is correct, but the content is not a kline file; the file is in the quarantine."""
    NOT_PUBLISHED = "not_published"
    """The archive does not have the file (yet)."""
    REPUBLISHED = "republished"
    """A newer version is published. The older one remains."""


class NextStep(StrEnum):
    """Next step after the evaluation of a download's digest."""

    ACCEPT = "accept"
    FETCH_AFRESH = "fetch_afresh"
    QUARANTINE = "quarantine"


class DigestDecision(NamedTuple):
    """State of the verification of a download, and the next step."""

    trust: Trust
    next_step: NextStep


def parse_checksum(text: str, name: str) -> str:
    """Parse a `.CHECKSUM` file.

    Args:
        text: `<64 hex><two spaces><name>`, with or without the final newline (#43).
        name: Name of the zip.

    Returns:
        64 hex digits in lower case.

    Raises:
        MalformedDataError: The text has another form, or names another file.
    """
    found = _CHECKSUM.fullmatch(text) if len(text) <= _CHECKSUM_CAP else None
    if not found or found[2] != name:
        problem = _describe_problem(text, found, name)
        raise MalformedDataError(f"{problem}: {text[:_SHOWN]!r}", where=f"{name}.CHECKSUM")
    return found[1].lower()


def _describe_problem(text: str, found: re.Match[str] | None, name: str) -> str:
    """Describe why a text is not the checksum file of `name`."""
    if found:
        return "names the file with a path" if found[2].endswith(f"/{name}") else "names another file"
    if len(text) > _CHECKSUM_CAP:
        return f"is longer than {_CHECKSUM_CAP} characters"
    return next((form for form, pattern in _OTHER_FORMS if pattern.fullmatch(text)), "is in an unknown form")


def evaluate_digest(own: str, published: str | None, pinned: str | None, *, fresh: bool) -> DigestDecision:
    """Compare the digest of a downloaded zip with the expected one and decide the next step.

    Args:
        own: SHA-256 of the downloaded bytes.
        published: SHA-256 in the `.CHECKSUM` file; None without a usable one.
        pinned: SHA-256 in the settings for this name, if any; it replaces the published one.
        fresh: Checksum and zip are the second download, after a mismatch of the first one.
    """
    if pinned:
        if own == pinned:
            return DigestDecision(Trust.PINNED, NextStep.ACCEPT)
    elif published is None:
        return DigestDecision(Trust.CHECKSUM_MISSING, NextStep.ACCEPT)
    elif own == published:
        return DigestDecision(Trust.OK, NextStep.ACCEPT)
    return DigestDecision(Trust.MISMATCH, NextStep.QUARANTINE if fresh else NextStep.FETCH_AFRESH)


@dataclass(frozen=True)
class ListedFile:
    """One key of a bucket listing.

    Attributes:
        key: Path below the archive's host.
        size: Bytes.
        etag: ETag without quotes.
        modified_us: Last modification, microseconds UTC.
    """

    key: str
    size: int
    etag: str
    modified_us: int


@dataclass(frozen=True)
class ListingPage:
    """One page of a bucket listing.

    Attributes:
        files: Keys in order.
        folders: Common prefixes.
        next_marker: Marker of the next page; None on the last page.
    """

    files: list[ListedFile]
    folders: list[str]
    next_marker: str | None


def parse_listing(body: bytes) -> ListingPage:
    """Parse a page of a bucket listing, `ListBucketResult`.

    Raises:
        ProtocolViolationError: The body is not a `ListBucketResult`.
    """
    with guard_parser("archive listing", f"is no bucket listing: {body[:60]!r}", kind=ProtocolViolationError):
        # The text is parsed, not the bytes: another encoding could hide a document type, whose entities may
        # expand.
        text = body.decode()
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ProtocolViolationError("a listing with a document type is refused", where="archive listing")
        root = ET.fromstring(text)  # noqa: S314, TID251 - guarded
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if root.tag != f"{space}ListBucketResult":
        raise ProtocolViolationError(f"is no bucket listing: <{root.tag[:60]}>", where="archive listing")
    files = [_parse_entry(item, space) for item in root.iter(f"{space}Contents")]
    folders = [item.findtext(f"{space}Prefix") or "" for item in root.iter(f"{space}CommonPrefixes")]
    truncated = root.findtext(f"{space}IsTruncated") == "true"
    last = max([file.key for file in files] + folders, default="")
    return ListingPage(files, folders, (root.findtext(f"{space}NextMarker") or last) if truncated else None)


def _parse_entry(item: ET.Element, space: str) -> ListedFile:
    with guard_parser("archive listing", "has an entry without size or date", kind=ProtocolViolationError):
        modified = datetime.fromisoformat(item.findtext(f"{space}LastModified") or "")
        etag = (item.findtext(f"{space}ETag") or "").strip('"')
        return ListedFile(
            item.findtext(f"{space}Key") or "",
            int(item.findtext(f"{space}Size") or ""),
            etag,
            to_us(modified),
        )


def due_us(day: date) -> int:
    """Return the time by which the files of a day are expected, microseconds UTC."""
    return day_bounds(day)[1] + PUBLISHED_AFTER_US
