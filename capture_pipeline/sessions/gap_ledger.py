"""The file of the gap ledger, `gaps.jsonl`: lenient reading, strict reading, replacement.

A later line of the same stream and `last_good_id` replaces an earlier one. A torn last line, which a kill may
leave, is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from capture_pipeline.errors import LakeError
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.models import Gap


def read_gaps(path: Path) -> list[Gap]:
    """Read the valid lines of a ledger; invalid ones are ignored, because a finish rewrites the ledger."""
    return _latest(gap for _, gap in _lines(path) if isinstance(gap, Gap))


def read_gaps_strictly(path: Path) -> list[Gap]:
    """Read a ledger that others rely on.

    Raises:
        LakeError: A whole line is not a valid gap.
    """
    return _latest(_require_gap(path, line) for line in _lines(path))


def ends_with_whole_line(path: Path) -> bool:
    """Return whether the ledger exists and ends with a whole line, so that lines can be appended."""
    return path.exists() and path.read_bytes()[-1:] in {b"", b"\n"}


def write_gaps(path: Path, gaps: list[Gap]) -> None:
    """Replace the ledger."""
    publish_bytes(path, "".join(gap.model_dump_json() + "\n" for gap in gaps).encode())


class _LedgerLine(NamedTuple):
    """Number of a line, and its gap or the reason why it is invalid."""

    number: int
    gap: Gap | str


def _lines(path: Path) -> Iterator[_LedgerLine]:
    """Yield each whole line."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        try:
            yield _LedgerLine(number, Gap.model_validate_json(line))
        except PARSE_ERRORS as error:
            yield _LedgerLine(number, explain(error))


def _require_gap(path: Path, line: _LedgerLine) -> Gap:
    if isinstance(line.gap, str):
        what = f"line {line.number} is not a gap: {line.gap}"
        raise LakeError(what, where=str(path), remedy="restore the file from a copy")
    return line.gap


def _latest(gaps: Iterator[Gap]) -> list[Gap]:
    latest = {(gap.stream, gap.last_good_id): gap for gap in gaps}
    return sorted(latest.values(), key=lambda gap: (gap.end_ns, gap.stream))
