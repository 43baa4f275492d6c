"""The file of the gap ledger, `gaps.jsonl`: read as far as it goes, read strictly, published anew.

A later line of the same stream and `last_good_id` supersedes an earlier one. What a kill leaves of a last line is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from capture_pipeline.errors import LakeError
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.models import Gap


def read_gaps(path: Path) -> list[Gap]:
    """What can be read of a ledger: a line that is no gap is left out, for a recorder goes on and a finish makes the ledger anew."""
    return _latest(gap for _, gap in _lines(path) if isinstance(gap, Gap))


def read_gaps_strictly(path: Path) -> list[Gap]:
    """All of a ledger that others rely on.

    Raises:
        LakeError: A whole line of it is no gap.
    """
    return _latest(_sound(path, number, gap) for number, gap in _lines(path))


def ends_with_whole_line(path: Path) -> bool:
    """Whether a ledger is there and ends with a whole line: half a one, as a kill leaves it, must not get lines behind it."""
    return path.exists() and path.read_bytes()[-1:] in {b"", b"\n"}


def write_gaps(path: Path, gaps: list[Gap]) -> None:
    """Publish the ledger anew."""
    publish_bytes(path, "".join(gap.model_dump_json() + "\n" for gap in gaps).encode())


def _lines(path: Path) -> Iterator[tuple[int, Gap | str]]:
    """Each whole line with its number: the gap, or why it is none."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        try:
            yield number, Gap.model_validate_json(line)
        except PARSE_ERRORS as error:
            yield number, explain(error)


def _sound(path: Path, number: int, gap: Gap | str) -> Gap:
    if isinstance(gap, str):
        raise LakeError(f"line {number} is no gap: {gap}", where=str(path), remedy="restore the ledger")
    return gap


def _latest(gaps: Iterator[Gap]) -> list[Gap]:
    latest = {(gap.stream, gap.last_good_id): gap for gap in gaps}
    return sorted(latest.values(), key=lambda gap: (gap.end_ns, gap.stream))
