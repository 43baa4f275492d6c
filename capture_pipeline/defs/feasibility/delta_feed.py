"""Whether the diffs of a session are whole, as an asset with a check."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from capture_pipeline.defs.feasibility.measured import GROUP
from capture_pipeline.defs.feasibility.session_reports import SCHEMA, checked, inputs_of, published, spec_of
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, folder_of
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.automation import AFTER_INPUT
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.feasibility.criteria import GAPS
from capture_pipeline.feasibility.sequence_gaps.measure import measure_feed
from capture_pipeline.feasibility.sequence_gaps.page import ASSET, TITLE, build_evidence, build_sections
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.tables.golden import DEPTH, SNAPSHOTS

_INPUTS = (DEPTH, SNAPSHOTS)


@dg.asset(
    name=ASSET,
    group_name=GROUP,
    kinds={"html", "pyarrow"},
    deps=[table.name for table in _INPUTS],
    partitions_def=SESSIONS,
    automation_condition=AFTER_INPUT,
    code_version="1",
    check_specs=[spec_of(ASSET, GAPS)],
    description="Missing update ids of the diffs of a session, as a ratio by three definitions (lost ids of all ids "
    "decides), by time, and the "
    "seconds until a snapshot made the book valid again.",
    metadata={"dagster/column_schema": SCHEMA},
)
def delta_feed_report(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Follow the ids of every symbol; publish evidence and page."""
    with domain_errors_as_dagster(context.op_execution_context):
        tables = GoldenTables(workspace.lake.tables(), folder_of(workspace, context.partition_key).session)
        feeds = [measure_feed(tables, symbol) for symbol in tables.symbols()]
        found = build_evidence(feeds, inputs_of(tables, _INPUTS))
        metadata = published(workspace, found, TITLE, tables.session, build_sections(feeds))
    yield outputs.materialization(metadata)
    yield from checked(found, (GAPS,))
