"""Table of mutations in the documentation, between two markers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from capture_pipeline_tests.mutations.listing import Mutation

BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"
NOT_RUN = "not run"


def update_table(page: Path, mutations: list[Mutation], results: Mapping[str, tuple[str, str]]) -> None:
    """Write results to the table of a page; mutations that were not run keep their result.

    Args:
        page: Markdown file with the two markers.
        mutations: All mutations, the rows of the table.
        results: Outcome and detail by id.

    Raises:
        ValueError: The page does not contain both markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the markers {BEGIN} and {END}; add them where the table belongs")
    page.write_text(
        f"{before}{BEGIN}\n{format_table(mutations, {**_parse_outcomes(old), **results})}{END}{after}"
    )


def format_table(mutations: list[Mutation], results: Mapping[str, tuple[str, str]]) -> str:
    """Format the table as Markdown."""
    rows = [_format_row(mutation, *results.get(mutation.id, (NOT_RUN, ""))) for mutation in mutations]
    head = "| mutation | file | broken promise | tests | result |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def _format_row(mutation: Mutation, outcome: str, _: str) -> str:
    tests = ", ".join(f"`{node.removeprefix('capture_pipeline_tests/')}`" for node in mutation.nodes)
    result = f"{outcome}: {mutation.guard}" if mutation.guard else outcome
    cells = (
        f"`{mutation.id}`",
        f"`{mutation.file.removeprefix('capture_pipeline/')}`",
        mutation.why,
        tests,
        result,
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _parse_outcomes(old: str) -> dict[str, tuple[str, str]]:
    """Parse the outcomes of the old table by id."""
    rows = [
        line.strip().strip("|").replace("\\|", "\0").split("|")
        for line in old.splitlines()
        if line.startswith("| `")
    ]
    return {cells[0].strip().strip("`"): (cells[-1].strip().partition(":")[0], "") for cells in rows}
