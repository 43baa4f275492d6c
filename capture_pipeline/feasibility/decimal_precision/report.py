"""Report on the decimal benchmark: evidence, figures, and the best representation for each operation."""

from __future__ import annotations

import re

from capture_pipeline.checks.feasibility import EXACT
from capture_pipeline.feasibility.decimal_precision.benchmark import BASE, PROJECT, Cell, DecimalBenchmark
from capture_pipeline.feasibility.decimal_precision.representations import Operation
from capture_pipeline.feasibility.evidence import Evidence, Reading, new_evidence
from capture_pipeline.reporting import markdown as md

MAIN_FIGURES = tuple(f"project_rows_per_s_{operation}" for operation in Operation)
"""Figures whose decrease is reported; higher is better."""
_TOLERANCE = 1.15
"""The project's representation is chosen up to this multiple of the fastest time: runs vary as much."""
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


def evidence_of(found: DecimalBenchmark) -> Evidence:
    """Build the evidence of exact results."""
    count = sum(cell.results for cell in found.cells if cell.form == PROJECT.name)
    note = f"of {count:,} results of: {PROJECT.name}"
    return new_evidence(
        EXACT.asset,
        [Reading(criterion=EXACT.name, measured=found.errors, note=note)],
        figures(found),
        {f"{found.rows:,} made rows": found.sha256},
        {"table": [_build_row(found, cell) for cell in found.cells], "choice": choices(found)},
        text=markdown(found),
    )


def figures(found: DecimalBenchmark) -> dict[str, float]:
    """Return all figures by name."""
    numbers: dict[str, float] = {"rows": found.rows, "decimal_errors": found.errors}
    for cell in found.cells:
        name = f"{slug(cell.form)}_{cell.operation}"
        numbers |= {f"seconds_{name}": cell.seconds, f"ratio_{name}": found.ratio(cell)}
        numbers |= {f"wrong_{name}": cell.wrong, f"refused_{name}": cell.refused}
    return numbers | {
        f"project_rows_per_s_{each}": found.rows / found.cell(PROJECT.name, each).seconds
        for each in Operation
    }


def choices(found: DecimalBenchmark) -> list[dict[str, str]]:
    """Return the representation to use for each operation, with the reasons."""
    return [_choose(found, operation) for operation in Operation]


def markdown(found: DecimalBenchmark) -> md.Markdown:
    """Render two tables as Markdown: the choices, and all results."""
    head = ["form", "operation", "seconds", f"to {BASE.name}", "results"]
    rows = [
        [cell.form, str(cell.operation), f"{cell.seconds:.4f}", f"{found.ratio(cell):.2f}", cell.summary]
        for cell in sorted(found.cells, key=lambda cell: list(Operation).index(cell.operation))
    ]
    chosen = [[one["operation"], one["use"], one["why"]] for one in choices(found)]
    return md.document(md.table(["operation", "use", "why"], chosen), md.table(head, rows))


def slug(text: str) -> str:
    """Convert a text to a part of a figure's name."""
    return _NOT_A_NAME.sub("_", text.lower()).strip("_")


def _choose(found: DecimalBenchmark, operation: Operation) -> dict[str, str]:
    exact = found.find_exact(operation)
    project = found.cell(PROJECT.name, operation)
    limit = exact[0].seconds * _TOLERANCE if exact else float("inf")
    best = project if project in exact and project.seconds <= limit else exact[0] if exact else None
    names = {cell.form for cell in exact}
    others = [
        cell
        for cell in found.cells
        if cell.operation is operation and cell.form not in names and cell.seconds < limit
    ]
    against = [
        f"not {cell.form}: {cell.summary if not cell.is_exact else 'its sums or notionals are not exact'}"
        for cell in others
    ]
    if best is None:
        return {"operation": operation, "use": "none", "why": "; ".join(["no form is exact", *against])}
    reasons = [f"exact, {found.ratio(best):.2f} times {BASE.name}"]
    if best is not exact[0]:
        reasons.append(f"as fast as {exact[0].form} within {_TOLERANCE - 1:.0%}")
    if best is not project:
        reasons.append(
            f"the project's form: {project.summary}, {project.seconds / best.seconds:.2f} times its time"
        )
    return {"operation": operation, "use": best.form, "why": "; ".join(reasons + against)}


def _build_row(found: DecimalBenchmark, cell: Cell) -> dict[str, str | float]:
    return {
        "form": cell.form,
        "operation": cell.operation,
        "seconds": cell.seconds,
        "ratio": found.ratio(cell),
        "results": cell.results,
        "wrong": cell.wrong,
        "refused": cell.refused,
        "wrong_in": ", ".join(sorted(cell.markets["wrong"])),
        "refused_in": ", ".join(sorted(cell.markets["refused"])),
    }
