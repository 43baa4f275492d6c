"""Report on the disk benchmark: evidence, figures for plots, and tables."""

from __future__ import annotations

from capture_pipeline.checks.feasibility import DISK
from capture_pipeline.feasibility.decimal_precision.report import slug
from capture_pipeline.feasibility.disk_throughput.benchmark import LINES, NEEDED_RATE, PROJECT, IoBenchmark
from capture_pipeline.feasibility.disk_throughput.timing import Timing
from capture_pipeline.feasibility.evidence import Evidence, Reading, new_evidence
from capture_pipeline.reporting import markdown as md

MAIN_FIGURES = (
    "sustained_write_mb_s",
    "sustained_read_mb_s",
    "lines_write_mb_s",
    "medium_write_mb_s",
    "medium_read_mb_s",
)
"""Figures whose decrease is reported; higher is better."""
_MB = 1e6


def evidence_of(found: IoBenchmark) -> Evidence:
    """Build the evidence of the disk's rate."""
    direct = "past the page cache" if found.medium.direct_read_s else "after dropping its pages"
    note = (
        f"stored bytes of: {PROJECT.name}, {found.sizes[-1]:,} rows, the slowest of {len(found.sustained)}; "
        f"plain files read {direct}"
    )
    return new_evidence(
        DISK.asset,
        [Reading(criterion=DISK.name, measured=found.margin, note=note)],
        figures(found),
        {f"{rows:,} made rows of golden_depth": digest for rows, digest in found.sha256.items()},
        {"table": [_build_row(each) for each in found.timings], "medium": _list_rates(found)},
        text=markdown(found),
    )


def figures(found: IoBenchmark) -> dict[str, float]:
    """Return all figures by name. A megabyte is 1e6 stored bytes; in names with `plain`, 1e6 plain bytes."""
    medium = found.medium
    numbers = {
        "needed_mb_s": NEEDED_RATE / _MB,
        "disk_rate": found.margin,
        "sustained_write_mb_s": found.write_rate / _MB,
        "sustained_read_mb_s": found.read_rate / _MB,
        "sustained_write_rows_s": min(each.rows / each.write_s for each in found.sustained),
        "sustained_read_rows_s": min(each.rows / each.read_s for each in found.sustained),
        "sustained_write_plain_mb_s": min(each.plain_bytes / each.write_s for each in found.sustained) / _MB,
        "sustained_read_plain_mb_s": min(each.plain_bytes / each.read_s for each in found.sustained) / _MB,
        "medium_write_mb_s": medium.write_rate / _MB,
        "medium_read_mb_s": medium.read_rate / _MB,
        "write_share_of_medium": found.write_rate / medium.write_rate,
        "read_share_of_medium": found.read_rate / medium.read_rate,
    }
    lines = max((each for each in found.timings if each.what == LINES), key=lambda each: each.rows)
    numbers |= {"lines_write_mb_s": lines.write_rate / _MB, "lines_read_mb_s": lines.read_rate / _MB}
    for each in found.timings:
        if each.rows == found.sizes[-1]:
            name = f"{slug(each.what)}_{each.way}"
            for what, rate in (("write", each.write_rate), ("read", each.read_rate)):
                numbers[f"{what}_mb_s_{name}"] = min(
                    rate / _MB, numbers.get(f"{what}_mb_s_{name}", rate / _MB)
                )
    return numbers


def markdown(found: IoBenchmark) -> md.Markdown:
    """Render two tables as Markdown: rates of the disk and of the project's layout, and every file."""
    head = [
        "file",
        "way",
        "rows",
        "plain MB",
        "stored MB",
        "write MB/s",
        "read MB/s",
        "plain write MB/s",
        "plain read MB/s",
        "cached",
    ]
    rows = [[str(value) for value in _build_row(each).values()] for each in found.timings]
    limits = [[name, f"{value:,.3f}"] for name, value in _list_rates(found).items()]
    return md.document(md.table(["MB/s", ""], limits), md.table(head, rows))


def _list_rates(found: IoBenchmark) -> dict[str, float]:
    medium = found.medium
    rates = {
        "needed for 220 GB a month": NEEDED_RATE,
        "sustained write of the project's layout": found.write_rate,
        "sustained read of the project's layout": found.read_rate,
        "plain file, write and fsync": medium.bytes / medium.write_s,
        "plain file, read after its pages were dropped": medium.bytes / medium.read_s,
    }
    if medium.direct_write_s and medium.direct_read_s:
        rates |= {
            "plain file past the page cache, write and fsync": medium.bytes / medium.direct_write_s,
            "plain file past the page cache, read": medium.bytes / medium.direct_read_s,
        }
    return {name: rate / _MB for name, rate in rates.items()}


def _build_row(each: Timing) -> dict[str, str | float]:
    return {
        "file": each.what,
        "way": each.way,
        "rows": each.rows,
        "plain_mb": round(each.plain_bytes / _MB, 2),
        "stored_mb": round(each.stored_bytes / _MB, 2),
        "write_mb_s": round(each.write_rate / _MB, 1),
        "read_mb_s": round(each.read_rate / _MB, 1),
        "plain_write_mb_s": round(each.plain_bytes / each.write_s / _MB, 1),
        "plain_read_mb_s": round(each.plain_bytes / each.read_s / _MB, 1),
        "cached": "unknown" if each.cached is None else f"{each.cached:.0%}",
    }
