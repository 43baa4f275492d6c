"""Asset and checks of the quality of a session's origin times."""

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
from capture_pipeline.feasibility.event_time.evidence import ASSET, build_evidence, build_report
from capture_pipeline.feasibility.event_time.measurement import measure_stream
from capture_pipeline.feasibility.event_time.page import TITLE, build_sections
from capture_pipeline.feasibility.event_time.streams import golden_streams
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.tables.registry import SESSION_TABLES


@dg.asset(
    name=ASSET,
    group_name=GROUP,
    kinds={"html", "polars"},
    deps=[table.name for table in SESSION_TABLES],
    partitions_def=SESSIONS,
    automation_condition=AFTER_INPUT,
    code_version="1",
    check_specs=build_criterion_specs(ASSET),
    description="Origin times of trades, diffs and snapshots of a session: numbers of missing, invalid, "
    "filled, rounded and unordered times, and their difference to the capture time in milliseconds, with "
    "and without the offset of the clocks.",
    metadata={"dagster/column_schema": SCHEMA},
)
def origin_time_report(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Measure all streams of all symbols; publish evidence and page."""
    with domain_errors_as_dagster(context.op_execution_context):
        tables = GoldenTables(
            deployment.lake.tables(), find_session_folder(deployment, context.partition_key).session
        )
        reports = [
            build_report(
                f"{tables.session} {symbol}",
                [measure_stream(stream) for stream in golden_streams(tables, symbol)],
            )
            for symbol in tables.symbols()
        ]
        found = build_evidence(reports, input_digests(tables, SESSION_TABLES))
        metadata = publish_report(deployment, found, TITLE, tables.session, build_sections(reports))
    clocks = {f"clock {report.subject.rpartition(' ')[2]}": str(report.clock) for report in reports}
    yield outputs.materialization({**metadata, **clocks})
    yield from judge_criteria(found)
