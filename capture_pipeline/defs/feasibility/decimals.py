"""The decimal benchmark: which form keeps prices and quantities exact, and what it costs."""

from typing import Any

import dagster as dg
from pydantic import Field

from capture_pipeline.defs import outputs
from capture_pipeline.defs.failures import told
from capture_pipeline.defs.feasibility.measured import GROUP, checks_of, described, measuring
from capture_pipeline.feasibility.criteria import EXACT
from capture_pipeline.feasibility.decimal_report import MAIN_FIGURES, evidence_of, markdown
from capture_pipeline.feasibility.decimals import benchmark
from capture_pipeline.klines.workspace import Workspace

_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("form", "string", "how prices and quantities are kept and summed"),
        dg.TableColumn("operation", "string", "sum, notional, VWAP, sums by minute, join by price, Parquet round trip"),
        dg.TableColumn("seconds", "float", "best of the attempts at each block, summed over all"),
        dg.TableColumn("ratio", "float", "to int64 ticks and lots"),
        dg.TableColumn("results", "int", "compared with exact ones"),
        dg.TableColumn("wrong", "int", "that differ"),
        dg.TableColumn("refused", "int", "not given: an overflow was found, or digits lack"),
    ]
)
_IN_THE_TABLE = ("seconds_", "wrong_", "refused_")


class DecimalConfig(dg.Config):
    """How much is compared."""

    rows: int = Field(default=8_000_000, ge=5, le=100_000_000, description="Rows that every form works on")
    block_rows: int = Field(default=1_000_000, ge=1, le=10_000_000, description="Rows worked on at once; memory depends on it alone")
    seed: int = Field(default=7, ge=0, lt=1 << 63, description="Of the made rows")
    repeats: int = Field(default=3, ge=1, le=100, description="Attempts at each block, of which the fastest counts")


@dg.asset(
    name=EXACT.asset,
    group_name=GROUP,
    kinds={"polars", "pyarrow"},
    code_version="1",
    description="Forms of decimals at sums, notionals, VWAP, groups, joins and Parquet: time, and every result against exact integers.",
    metadata={"dagster/column_schema": _SCHEMA},
)
def decimal_benchmark(
    context: dg.AssetExecutionContext, config: DecimalConfig, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[Any]:
    """Compare the forms and publish what was measured."""
    with told(context.op_execution_context), measuring(workspace) as store:
        found = benchmark(config.rows, config.block_rows, config.seed, config.repeats)
        evidence = evidence_of(found)
        store.publish(evidence)
    return outputs.materialization(described(store, evidence, markdown(found), _IN_THE_TABLE))


decimal_checks = checks_of(EXACT.asset, {"decimals_exact": EXACT}, MAIN_FIGURES)
