"""Asset of the decimal benchmark: exactness and time of representations of prices and quantities."""

from typing import Any

import dagster as dg
from pydantic import Field

from capture_pipeline.checks.feasibility import EXACT
from capture_pipeline.defs.feasibility.measurements import GROUP, MeasuredAsset
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.feasibility.benchmarks import measure_decimals
from capture_pipeline.feasibility.decimal_precision.report import MAIN_FIGURES

_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("form", "string", "Representation of prices and quantities"),
        dg.TableColumn(
            "operation",
            "string",
            "Operation: sum, notional, VWAP, sums by minute, join by price, Parquet round trip",
        ),
        dg.TableColumn("seconds", "float", "Seconds: sum of the fastest attempt of each block"),
        dg.TableColumn("ratio", "float", "Ratio of the time to that of int64 ticks and lots"),
        dg.TableColumn("results", "int", "Number of results that were compared with exact integers"),
        dg.TableColumn("wrong", "int", "Number of results that differ from the exact ones"),
        dg.TableColumn(
            "refused", "int", "Number of results not computed, because of an overflow or too few digits"
        ),
    ]
)


class DecimalConfig(dg.Config):
    """Size of the benchmark."""

    rows: int = Field(
        default=8_000_000, ge=5, le=100_000_000, description="Number of rows for each representation"
    )
    block_rows: int = Field(
        default=1_000_000,
        ge=1,
        le=10_000_000,
        description="Rows of a block; the memory depends only on this number",
    )
    seed: int = Field(default=7, ge=0, lt=1 << 63, description="Seed of the generated rows")
    repeats: int = Field(default=3, ge=1, le=100, description="Attempts for each block; the fastest counts")


@dg.asset(
    name=EXACT.asset,
    group_name=GROUP,
    kinds={"polars", "pyarrow"},
    code_version="1",
    description="Compares representations of decimals in sums, notionals, VWAP, groups, joins and Parquet: "
    "time in seconds, and exactness of every result.",
    metadata={"dagster/column_schema": _SCHEMA},
)
def decimal_benchmark(
    context: dg.AssetExecutionContext, config: DecimalConfig, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Measure the representations and publish the evidence."""
    with domain_errors_as_dagster(context.op_execution_context):
        evidence = measure_decimals(
            deployment.lake, config.rows, config.block_rows, config.seed, config.repeats
        )
    return outputs.materialization(DECIMALS.metadata(deployment.lake, evidence))


DECIMALS = MeasuredAsset(EXACT.asset, MAIN_FIGURES, ("seconds_", "wrong_", "refused_"))
decimal_checks = DECIMALS.checks()
