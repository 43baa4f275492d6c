"""Each check of a registry is in Dagster's definitions and in the documentation, with its limits."""

import os
from collections.abc import Sequence
from operator import attrgetter

import dagster as dg
import pytest

from capture_pipeline.checks.feasibility import CRITERIA, GO, REGRESSIONS
from capture_pipeline.checks.klines import list_gates
from capture_pipeline.checks.model import CheckSpec, combine_specs
from capture_pipeline.checks.preflight import PREFLIGHT_CHECKS
from capture_pipeline.checks.recordings import PROOF_HOLDS, RECORDING_CHECKS
from capture_pipeline.settings.models import Gates, Settings
from capture_pipeline.settings.sessions import SessionGates
from capture_pipeline_tests.support.pages import DOCS, tables

PAGE = DOCS / "checks.md"
REGISTRIES: dict[str, Sequence[CheckSpec]] = {
    "Klines": list_gates(),
    "Recordings": (*RECORDING_CHECKS, PROOF_HOLDS),
    "Preflight": PREFLIGHT_CHECKS,
    "Feasibility": (*CRITERIA, *REGRESSIONS, GO),
}
ALL = [spec for registry in REGISTRIES.values() for spec in registry]
NO_LIMITS = {
    "gates.coverage_critical_below_percent",
    "gates.failing_rows_shown",
    "session_gates.quality_score_least",
}
"""Keys that set the level of an alert, a number of rows, and the score of a folder."""
HEAD = ("check", "asset", "severity", "blocks", "passes if", "limit", "remedy")


def test_every_check_is_in_dagster_and_no_other(definitions: dg.Definitions) -> None:
    """Preflights run outside Dagster. Several gates may be one asset check."""
    graph = definitions.resolve_asset_graph()
    expected = {
        dg.AssetCheckKey(dg.AssetKey(spec.asset), name): spec
        for asset in {spec.asset for spec in ALL if spec.asset}
        for name, spec in combine_specs([spec for spec in ALL if spec.asset == asset]).items()
    }
    assert graph.asset_check_keys == expected.keys()
    for key, spec in expected.items():
        found = graph.get_check_spec(key)
        assert (found.blocking, found.metadata["severity"]) == (spec.blocking, str(spec.severity)), key
        assert str(found.description).startswith(spec.description), key


@pytest.mark.parametrize("title", REGISTRIES)
def test_a_name_is_unique_in_its_registry(title: str) -> None:
    """An asset is a part of the name: several benchmarks have a check of regressions."""
    names = [(spec.asset, spec.name) for spec in REGISTRIES[title]]
    assert len(set(names)) == len(names)
    assert all(spec.description for spec in REGISTRIES[title])


def test_every_limit_of_the_settings_belongs_to_a_check() -> None:
    """A check names the keys of its limits; each key exists."""
    named = {key for spec in ALL for key in spec.settings}
    assert all(attrgetter(key)(Settings()) is not None for key in named)
    limits = {f"gates.{name}" for name in Gates.model_fields}
    limits |= {f"session_gates.{name}" for name in SessionGates.model_fields}
    assert named - {"recording.free_disk_gb"} == limits - NO_LIMITS


@pytest.mark.parametrize("title", REGISTRIES)
def test_the_page_of_checks_has_every_check(title: str) -> None:
    """`UPDATE_SNAPSHOTS=1` writes the table of a registry."""
    text = PAGE.read_text(encoding="utf-8")
    before, heading, rest = text.partition(f"\n## {title}\n")
    section, following, after = rest.partition("\n## ")
    intro, _, table = section.partition("\n| ")
    expected = "\n".join(map(format_row, [HEAD, ("---",) * len(HEAD), *map(list_cells, REGISTRIES[title])]))
    if os.environ.get("UPDATE_SNAPSHOTS"):
        PAGE.write_text(
            f"{before}{heading}{intro.rstrip()}\n\n{expected}\n{following}{after}", encoding="utf-8"
        )
    else:
        assert f"| {table}".strip() == expected


def list_cells(spec: CheckSpec) -> Sequence[str]:
    """Return the row of a check."""
    limits = [f"`{key}` ({attrgetter(key)(Settings()):,})" for key in spec.settings]
    limits += [str(spec.threshold)] if spec.threshold else []
    return (
        f"`{spec.name}`",
        f"`{spec.asset}`" if spec.asset else "",
        str(spec.severity),
        "yes" if spec.blocking else "",
        spec.description,
        ", ".join(limits),
        spec.remedy,
    )


def format_row(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def test_the_page_of_gates_explains_every_gate_with_its_severity() -> None:
    """Gates of the report of the lake have one severity, which the text states."""
    rows = [
        row for _, rows in tables(DOCS / "gates.md") for row in rows if row.get("gate", "").startswith("`")
    ]
    explained = {row["gate"].strip("`"): row.get("severity") for row in rows if "class" not in row}
    for spec in list_gates():
        assert explained[spec.name] in {str(spec.severity), None}, spec.name
