"""The table of mutations in the documentation, between two markers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from capture_pipeline_tests.mutations.listing import Mutation

BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"
NOT_RUN = "not run"


def update(page: Path, listed: list[Mutation], results: Mapping[str, tuple[str, str]]) -> None:
    """Write results into the table of a page; rows of mutations that were not run keep their result.

    Args:
        page: Markdown file with the two markers.
        listed: All mutations; the table gets a row for each of them and no other.
        results: Outcome and detail by id.

    Raises:
        ValueError: The page lacks the markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the markers {BEGIN} and {END}; add them where the table belongs")
    page.write_text(f"{before}{BEGIN}\n{table(listed, {**_results(old), **results})}{END}{after}")


def table(listed: list[Mutation], results: Mapping[str, tuple[str, str]]) -> str:
    """Return the table as Markdown."""
    rows = [_row(mutation, *results.get(mutation.id, (NOT_RUN, ""))) for mutation in listed]
    head = "| mutation | file | broken promise | tests | result |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def _row(mutation: Mutation, outcome: str, _: str) -> str:
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


def _results(old: str) -> dict[str, tuple[str, str]]:
    """Read the outcomes of an earlier table."""
    rows = [
        line.strip().strip("|").replace("\\|", "\0").split("|")
        for line in old.splitlines()
        if line.startswith("| `")
    ]
    return {cells[0].strip().strip("`"): (cells[-1].strip().partition(":")[0], "") for cells in rows}
