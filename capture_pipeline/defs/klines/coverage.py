"""Asset of the coverage report of the whole lake: heat map, table, page, and the views of the catalog."""

import base64
import re
from dataclasses import asdict
from typing import Any

import dagster as dg

from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.automation import AFTER_UPSTREAM_IDLE, BY_THE_REPORT
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.table_metadata import build_schema, build_table
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.quality.coverage_report import CoverageReport, report_coverage
from capture_pipeline.reporting import markdown as md
from capture_pipeline.tables.klines.coverage import COVERAGE
from capture_pipeline.tables.registry import TABLES

_MAX_SVG_CHARACTERS = 400_000
_ROWS_SHOWN = 200
_TOOL_TIP = re.compile(r"<title>[^<]*</title>")


@dg.asset(
    group_name="klines",
    kinds={"duckdb", "html"},
    deps=["bar_gaps"],
    automation_condition=AFTER_UPSTREAM_IDLE,
    code_version="1",
    freshness_policy=BY_THE_REPORT,
    description="Number of expected and of present bars by symbol and month, for the whole lake. Also "
    "updates the views of the DuckDB catalog.",
    metadata={"dagster/column_schema": build_schema(COVERAGE)},
)
def coverage_report(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Refresh the catalog, and measure and publish the coverage."""
    from capture_pipeline.tables.catalog import refresh_views  # noqa: PLC0415 - only this step needs DuckDB

    with domain_errors_as_dagster(context.op_execution_context):
        views = refresh_views(deployment.lake, TABLES)
        coverage = report_coverage(deployment, deployment.now_us())
    return outputs.materialization(
        {
            **describe_report(deployment, coverage),
            "catalog": deployment.lake.catalog(),
            "views": ", ".join(views),
        }
    )


def describe_report(deployment: Deployment, coverage: CoverageReport) -> dict[str, Any]:
    """Return the metadata of a report."""
    summary = {name: value for name, value in asdict(coverage.summary).items() if value is not None}
    return {
        "heat_map": render_heat_map(coverage),
        **summary,
        "dagster/row_count": coverage.frame.height,
        "coverage": build_table(coverage.frame, _ROWS_SHOWN),
        "csv": coverage.csv,
        **outputs.page(coverage.html, deployment.lake.reports()),
    }


def render_heat_map(coverage: CoverageReport) -> md.Markdown:
    """Return the heat map as an embedded image, or its path if the image is too large for the event log.

    Tooltips are removed: browsers do not show them in an image, and they are most of its size.
    """
    svg = _TOOL_TIP.sub("", coverage.svg)
    if len(svg) > _MAX_SVG_CHARACTERS:
        return md.sentence("The heat-map is too large to show here; open ", md.code(coverage.html), ".")
    return md.image(
        "Coverage by symbol and month", f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    )
