"""Asset of the replay benchmark: speed and memory of the reconstruction of an order book."""

from typing import Any

import dagster as dg
from pydantic import Field

from capture_pipeline.checks.feasibility import THROUGHPUT
from capture_pipeline.defs.feasibility.measurements import GROUP, MeasuredAsset
from capture_pipeline.defs.golden_samples.sessions import find_session_folder
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.feasibility.benchmarks import measure_replay, measure_synthetic_replay
from capture_pipeline.feasibility.replay_throughput.benchmark import HOUR_EVENTS, MAIN_FIGURES, session_input
from capture_pipeline.replay.sources.factory import open_session_tables

_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn(
            "from", "string", "Source of the replay: memory, Parquet, or the raw recording (JSONL.gz)"
        ),
        dg.TableColumn("events", "float", "Level updates per second"),
        dg.TableColumn("messages", "float", "Messages per second"),
        dg.TableColumn("peak", "float", "Largest resident memory, MB"),
        dg.TableColumn("p95", "float", "95th percentile of resident memory, MB; sampled every 10 ms"),
    ]
)


class ReplayConfig(dg.Config):
    """Input of the benchmark."""

    session: str = Field(
        default="", description="Session with tables; if empty, an hour of level updates is generated"
    )
    symbol: str = Field(default="", description="Symbol of the book, if the session has several symbols")
    events: int = Field(
        default=HOUR_EVENTS, ge=1, le=100_000_000, description="Number of level updates to generate"
    )
    repeats: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Runs for each source; the fastest run and the largest memory count",
    )
    cap_mb: int = Field(
        default=2048,
        ge=1,
        le=1 << 20,
        description="Memory in MB that the run with limited memory may use, in addition to the program "
        "itself",
    )


@dg.asset(
    name=THROUGHPUT.asset,
    group_name=GROUP,
    kinds={"numba", "parquet"},
    code_version="1",
    description="Speed of the reconstruction of an order book from memory, Parquet and a raw recording: "
    "level updates per second and memory in MB, also with limited memory.",
    metadata={"dagster/column_schema": _SCHEMA},
)
def replay_benchmark(
    context: dg.AssetExecutionContext, config: ReplayConfig, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Replay the updates and publish the evidence."""
    with domain_errors_as_dagster(context.op_execution_context):
        if config.session:
            tables, symbol = open_session_tables(config.session, config.symbol, deployment.lake.tables())
            recorded = session_input(
                tables, symbol, find_session_folder(deployment, config.session).recording, config.events
            )
            evidence = measure_replay(deployment.lake, recorded, config.repeats, config.cap_mb)
        else:
            evidence = measure_synthetic_replay(deployment.lake, config.events, config.repeats, config.cap_mb)
    return outputs.materialization(REPLAY.metadata(deployment.lake, evidence))


REPLAY = MeasuredAsset(THROUGHPUT.asset, MAIN_FIGURES)
replay_checks = REPLAY.checks()
