"""The report over the whole lake: a heat-map, a table, a page, and the catalogue's views."""

import base64
import re
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import schemas
from capture_pipeline.defs.klines.freshness import BY_THE_REPORT
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.automation import AFTER_UPSTREAM_IDLE
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.table_metadata import table_of
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.quality.measure import CoverageReport, report_coverage
from capture_pipeline.reporting import markdown as md
from capture_pipeline.tables.registry import refresh_catalog

_LARGEST_PICTURE = 400_000
_ROWS_SHOWN = 200
_TOOL_TIP = re.compile(r"<title>[^<]*</title>")


@dg.asset(
    group_name="klines",
    kinds={"duckdb", "html"},
    deps=["bar_gaps"],
    automation_condition=AFTER_UPSTREAM_IDLE,
    code_version="1",
    freshness_policy=BY_THE_REPORT,
    description="Number of expected and of present bars by symbol and month, for the whole lake. Also renews the views of the "
    "DuckDB catalogue.",
    metadata={"dagster/column_schema": schemas.COVERAGE},
)
def coverage_report(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[Any]:
    """Measure, publish, and show."""
    with domain_errors_as_dagster(context.op_execution_context):
        views = refresh_catalog(workspace.lake)
        made = report_coverage(workspace, workspace.now_us())
    return outputs.materialization(
        {**described(workspace, made), "catalog": workspace.lake.catalog(), "views": ", ".join(views)}
    )


def described(workspace: Workspace, made: CoverageReport) -> dict[str, Any]:
    """Collect the values of the materialization."""
    shown = {name: value for name, value in made.summary.items() if value is not None}
    return {
        "heat_map": picture(made),
        **shown,
        "dagster/row_count": made.frame.height,
        "coverage": table_of(made.frame, _ROWS_SHOWN),
        "csv": made.csv,
        **outputs.page(made.html, workspace.lake.reports()),
    }


def picture(made: CoverageReport) -> md.Markdown:
    """The heat-map inside the text; one that would bloat the event log is only pointed at.

    Tool-tips are left out: an image has none, and they are most of its size.
    """
    svg = _TOOL_TIP.sub("", made.svg)
    if len(svg) > _LARGEST_PICTURE:
        return md.sentence("The heat-map is too large to show here; open ", md.code(made.html), ".")
    return md.image(
        "Coverage by symbol and month", f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    )
