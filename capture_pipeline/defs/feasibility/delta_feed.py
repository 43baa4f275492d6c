"""Asset and check of the completeness of a session's depth diffs."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from capture_pipeline.defs.feasibility.measurements import GROUP
from capture_pipeline.defs.feasibility.session_reports import (
    SCHEMA,
    build_criterion_specs,
    input_digests,
    judge_criteria,
    publish_report,
)
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, find_session_folder
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.automation import AFTER_INPUT
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.feasibility.sequence_gaps.measurement import measure_feed
from capture_pipeline.feasibility.sequence_gaps.page import ASSET, TITLE, build_evidence, build_sections
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS

_INPUTS = (DEPTH, SNAPSHOTS)


@dg.asset(
    name=ASSET,
    group_name=GROUP,
    kinds={"html", "pyarrow"},
    deps=[table.name for table in _INPUTS],
    partitions_def=SESSIONS,
    automation_condition=AFTER_INPUT,
    code_version="1",
    check_specs=build_criterion_specs(ASSET),
    description="Missing update ids of the diffs of a session: ratios by three definitions (the criterion "
    "uses lost ids of all ids), losses by time, and seconds until a snapshot made the book valid again.",
    metadata={"dagster/column_schema": SCHEMA},
)
def delta_feed_report(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Check the sequence of ids of every symbol; publish evidence and page."""
    with domain_errors_as_dagster(context.op_execution_context):
        tables = GoldenTables(
            deployment.lake.tables(), find_session_folder(deployment, context.partition_key).session
        )
        feeds = [measure_feed(tables, symbol) for symbol in tables.symbols()]
        found = build_evidence(feeds, input_digests(tables, _INPUTS))
        metadata = publish_report(deployment, found, TITLE, tables.session, build_sections(feeds))
    yield outputs.materialization(metadata)
    yield from judge_criteria(found)
