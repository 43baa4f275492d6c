"""Report of an import, for the metadata of its session and for the user."""

from __future__ import annotations

from capture_pipeline.golden.imports.sources import Source
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.sessions.models import SessionMetadata


def provenance(source: Source, raised: int, raised_most_ns: int) -> dict[str, object]:
    """Build the report for the metadata of the session.

    Args:
        source: The imported source.
        raised: Number of stamps that were raised to the previous one because they were lower.
        raised_most_ns: Largest such change.
    """
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in source.files
    ]
    notes, evidence = source.notes, source.evidence
    return {
        "imported_from": str(source.origin),
        "sources": files,
        "stamps_raised": raised,
        "stamps_raised_most_ns": raised_most_ns,
        "stamp_units": list(notes.units),
        "stamps_far": notes.far,
        "skipped": dict(notes.skipped),
        "errors": notes.errors,
        "left_out": [str(part) for part in notes.left_out],
        "faulty_rows": notes.faulty_rows,
        "faulty": notes.faulty,
        "market_by": [str(said) for said in evidence.markets.values()],
        "venue_by": [str(said) for said in evidence.venues.values()],
    }


def import_summary(metadata: SessionMetadata) -> list[str]:
    """Format the report for the user, as lines."""
    of, plan = metadata.configuration, metadata.plan
    lines = [
        (
            f"market {plan.market} by {', '.join(of['market_by'])}; venue {plan.venue} by "
            f"{', '.join(of['venue_by'])}"
        )
    ]
    lines.append(f"stamps in {', '.join(of['stamp_units'])}")
    if of["stamps_raised"]:
        most_s = of["stamps_raised_most_ns"] / 1e9
        lines.append(
            f"{of['stamps_raised']:,} stamps were lower than the previous one and were raised to it, "
            f"by {most_s:,.9g} s at most"
        )
    if of["skipped"]:
        lines.append("skipped: " + ", ".join(f"{count:,} {kind}" for kind, count in of["skipped"].items()))
    lines += [f"error object: {text}" for text in of["errors"]]
    lines += [f"left out: {part}" for part in of["left_out"]] + of["stamps_far"]
    if of["faulty_rows"]:
        lines.append(f"{of['faulty_rows']:,} faulty rows were kept as lines that validation fails")
        lines += [f"faulty: {row}" for row in of["faulty"]]
    return lines
