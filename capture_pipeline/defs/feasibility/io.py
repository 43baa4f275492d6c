"""Asset of the disk benchmark: rates of the lake's disk, compared with the rate that a month needs."""

from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from capture_pipeline.checks.feasibility import DISK
from capture_pipeline.defs.feasibility.measurements import GROUP, MeasuredAsset
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.feasibility.benchmarks import measure_disk
from capture_pipeline.feasibility.disk_throughput.report import MAIN_FIGURES

_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn(
            "file", "string", "Codec, row group and encoding of the file, or lines of a recording"
        ),
        dg.TableColumn("way", "string", "Written whole, or in batches (streaming)"),
        dg.TableColumn("rows", "int", "Number of rows of golden_depth, or of lines"),
        dg.TableColumn("plain_mb", "float", "Size of the values in memory, MB (1e6 bytes)"),
        dg.TableColumn("stored_mb", "float", "Size of the file, MB"),
        dg.TableColumn("write_mb_s", "float", "Stored MB written per second, fsync included"),
        dg.TableColumn("read_mb_s", "float", "Stored MB read per second, with an empty page cache"),
        dg.TableColumn("plain_write_mb_s", "float", "MB of values written per second"),
        dg.TableColumn("plain_read_mb_s", "float", "MB of values read per second"),
        dg.TableColumn("cached", "string", "Share of the file that was still in the page cache"),
    ]
)
_MIB = 1 << 20
_MAX_ROWS = 100_000_000


class IoConfig(dg.Config):
    """Size of the benchmark."""

    rows: list[int] = Field(
        default=[500_000, 2_000_000, 8_000_000],
        min_length=1,
        max_length=10,
        description="Numbers of rows of the tables; the largest table must fit in memory",
    )
    medium_mib: int = Field(
        default=1024,
        ge=8,
        le=65_536,
        multiple_of=8,
        description="Size in MiB of the uncompressed file that measures the limit of the disk",
    )
    seed: int = Field(default=7, ge=0, lt=1 << 63, description="Seed of the generated rows")
    repeats: int = Field(
        default=3, ge=1, le=100, description="Attempts with the project's file format; the slowest counts"
    )

    @field_validator("rows")
    @classmethod
    def _check_limits(cls, rows: list[int]) -> list[int]:
        if not all(1 <= count <= _MAX_ROWS for count in rows):
            raise ValueError(f"each must be between 1 and {_MAX_ROWS:,}")
        return rows


@dg.asset(
    name=DISK.asset,
    group_name=GROUP,
    kinds={"parquet", "pyarrow"},
    code_version="1",
    description="Write rates (with fsync) and read rates of depth rows in Parquet, by codec, row group and "
    "encoding, whole and streaming, and of the lines of a recording; compared with the limit of the disk "
    "and with the need of 220 GB a month.",
    metadata={"dagster/column_schema": _SCHEMA},
)
def io_benchmark(
    context: dg.AssetExecutionContext, config: IoConfig, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Measure the rates and publish the evidence."""
    with domain_errors_as_dagster(context.op_execution_context):
        evidence = measure_disk(
            deployment.lake, config.rows, config.medium_mib * _MIB, config.seed, config.repeats
        )
    return outputs.materialization(DISK_RATES.metadata(deployment.lake, evidence))


DISK_RATES = MeasuredAsset(DISK.asset, MAIN_FIGURES, ("write_mb_s_", "read_mb_s_"))
io_checks = DISK_RATES.checks()
