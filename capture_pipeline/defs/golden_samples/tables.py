"""Assets of the tables of a session, and of the comparison of all sessions."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from capture_pipeline.defs.golden_samples.sessions import SESSIONS, find_session_folder, sessions_folder
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.automation import AFTER_INPUT, AFTER_UPSTREAM_IDLE
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.table_metadata import ROWS, describe_table
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.golden.comparison.figures import ComparedSession, compare_sessions
from capture_pipeline.golden.comparison.report import markdown, page
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenManifest, GoldenTables
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.recorder.lifecycle import list_sessions
from capture_pipeline.recorder.process import read_finished_metadata
from capture_pipeline.tables.registry import SESSION_TABLES
from capture_pipeline.tables.table import Table


@dg.multi_asset(
    name="golden_tables",
    partitions_def=SESSIONS,
    specs=[
        dg.AssetSpec(
            table.name,
            deps=["golden_samples"],
            group_name="golden_samples",
            kinds={"parquet", "pyarrow"},
            description=table.description,
            code_version="1",
            automation_condition=AFTER_INPUT,
            metadata=describe_table(table),
        )
        for table in SESSION_TABLES
    ],
    description="Reads the recording once and writes the tables of trades, diffs and snapshots.",
)
def golden_tables(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Convert a finished session."""
    with domain_errors_as_dagster(context.op_execution_context):
        folder = find_session_folder(deployment, context.partition_key)
        read_finished_metadata(folder)
        manifest = convert(folder.recording, folder.session, deployment.lake.tables())
    for table in SESSION_TABLES:
        yield outputs.materialization(_describe(deployment, table, manifest), asset=table.name)


def _describe(deployment: Deployment, table: Table, manifest: GoldenManifest) -> dict[str, Any]:
    files = [file for file in manifest.files if file.table == table.name]
    return {
        ROWS: manifest.rows[table.name],
        "dagster/uri": deployment.lake.tables() / table.name,
        "bytes": sum(file.bytes for file in files),
        "files": len(files),
        "recording_sha256": manifest.recording_sha256,
        "fallback_lines": manifest.fallback_lines,
    }


@dg.asset(
    name="regime_comparison",
    group_name="golden_samples",
    kinds={"html", "polars"},
    deps=[table.name for table in SESSION_TABLES],
    automation_condition=AFTER_UPSTREAM_IDLE,
    code_version="1",
    description="Page with plots that compares all sessions: messages per second, latency, spread, depth, "
    "volatility, gaps and reconnects.",
    metadata={
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn("figure", "string", "Name of the figure, with its unit"),
                dg.TableColumn("session", "string", "Value of the figure; one column per session"),
            ]
        )
    },
)
def regime_comparison_report(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Compare all sessions that have tables."""
    with domain_errors_as_dagster(context.op_execution_context):
        compared = _sessions_with_tables(deployment)
        comparison = compare_sessions(compared)
        path = deployment.lake.reports() / "regime_comparison.html"
        publish_bytes(path, page(comparison).encode())
    shown = outputs.page(path, deployment.lake.reports())
    return outputs.materialization(
        {"comparison": markdown(comparison), "sessions": len(comparison.sessions), **shown}
    )


def _sessions_with_tables(deployment: Deployment) -> list[ComparedSession]:
    found = []
    for folder in reversed(list_sessions(sessions_folder(deployment))):
        tables = GoldenTables(deployment.lake.tables(), folder.session)
        if tables.manifest_path.exists() and folder.metadata.exists():
            metadata = read_finished_metadata(folder)
            found += [ComparedSession(tables, symbol, metadata) for symbol in tables.symbols()]
    return found
