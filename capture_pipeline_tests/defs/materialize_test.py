"""Materialization in this process against the sandbox exchange, of one and of many partitions."""

from pathlib import Path

import dagster as dg
import polars as pl

from capture_pipeline.lake.files import sha256_file
from capture_pipeline.tables.klines.raw import RAW_KLINES
from capture_pipeline_tests.support.dagster.stage import (
    BTC,
    CHAIN,
    ETH,
    FEBRUARY,
    JANUARY,
    MARCH,
    Stage,
    block,
    key,
)

ALL = {key(month, symbol) for month in (JANUARY, FEBRUARY) for symbol in (BTC, ETH)}


def records(metadata: object) -> list[dict[str, object]]:
    assert isinstance(metadata, dg.JsonMetadataValue)
    assert isinstance(metadata.value, list)
    return metadata.value


def test_one_partition_goes_through_all_assets(stage: Stage) -> None:
    """The job `month_close` materializes every partitioned asset; the bars are those of the month."""
    result = stage.run("month_close", key(JANUARY, BTC))
    assert result.success
    for asset in (*CHAIN, "month_reconciliation"):
        assert set(stage.materializations(asset)) == {key(JANUARY, BTC)}
    metadata = stage.materializations("bars")[key(JANUARY, BTC)].metadata
    frame = pl.read_parquet(str(metadata["dagster/uri"].value))
    assert frame.height == metadata["dagster/partition_row_count"].value == 31 * 24
    assert metadata["by_source"].value == {"monthly": 31 * 24}
    made_of = metadata["made_of"].value
    assert isinstance(made_of, dict)
    assert {path: sha256_file(stage.deployment.lake.root / path) for path in made_of} == made_of
    assert "dagster/column_lineage" not in metadata  # 3.5 KB that are the same for each partition
    lineage = (
        stage.definitions.resolve_asset_graph().get(dg.AssetKey("bars")).metadata["dagster/column_lineage"]
    )
    assert isinstance(lineage, dg.TableColumnLineage)
    assert set(lineage.deps_by_column) == set(frame.columns) - {
        "source",
        "market",
        "interval",
        "symbol",
        "month",
    }
    sent = {column.name for column in RAW_KLINES.columns}
    assert {dep.column_name for deps in lineage.deps_by_column.values() for dep in deps} <= sent


def test_archives_are_shown_with_all_that_proves_them(stage: Stage) -> None:
    """The metadata contain bytes, both SHA-256, ETag, speed, attempts and URL."""
    stage.materialize(["kline_archives"], key(JANUARY, BTC))
    metadata = stage.materializations("kline_archives")[key(JANUARY, BTC)].metadata
    (file,) = records(metadata["archive_files"])
    manifest = stage.deployment.lake.root.joinpath(
        "raw/spot/klines/1h/BTCUSDT/2024-01/archives.json"
    ).read_text()
    assert file["sha256_own"] == file["sha256_published"]
    assert str(file["sha256_own"]) in manifest
    assert file["url"] == f"{stage.sandbox.url}/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
    assert str(file["etag"]).startswith('"')
    assert file["bytes"] == metadata["bytes"].value
    assert (file["attempts"], metadata["attempts"].value, metadata["fetched_now"].value) == (1, 1, 1)
    assert float(str(metadata["mb_per_s"].value)) > 0


def test_a_block_of_partitions_in_one_run_gets_a_materialization_each(stage: Stage) -> None:
    """Each materialization has its own metadata; all belong to one run."""
    result = stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY))
    assert result.success
    for asset in CHAIN:
        materializations = stage.materializations(asset)
        assert set(materializations) == ALL
        assert {
            (materialization.tags or {})["dagster/partition/symbol"]
            for materialization in materializations.values()
        } == {BTC, ETH}
    bars = stage.materializations("bars")
    hours = {
        partition: materialization.metadata["dagster/partition_row_count"].value
        for partition, materialization in bars.items()
    }
    assert hours == {partition: (744 if JANUARY in partition else 696) for partition in ALL}
    assert len({str(materialization.metadata["sha256"].value) for materialization in bars.values()}) == len(
        ALL
    )
    evaluated = {
        (evaluation.check_name, evaluation.partition) for evaluation in result.get_asset_check_evaluations()
    }
    names = {name for name, _ in evaluated}
    assert len(evaluated) == len(result.get_asset_check_evaluations()) == len(names) * len(ALL)
    assert {"timestamps", "raw_checksums", "coverage"} <= names


def test_a_verdict_names_the_materialization_that_it_judged(stage: Stage) -> None:
    """An evaluation refers to the materialization of its partition, not to the newest of the asset."""
    result = stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY))
    newest = {
        str(record.partition_key): record.storage_id
        for record in stage.instance.fetch_materializations(dg.AssetKey("bars"), limit=100).records
    }
    judged = {
        str(evaluation.partition): evaluation.target_materialization_data
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == "timestamps"
    }
    assert {partition: data.storage_id for partition, data in judged.items() if data} == newest


def test_the_open_month_is_a_partition_and_is_topped_up(stage: Stage) -> None:
    """Klines of yesterday come from daily files, klines of today from REST."""
    result = stage.run("daily_update", tags=block(MARCH, MARCH))
    assert result.success
    metadata = stage.materializations("bars")[key(MARCH, ETH)].metadata
    assert metadata["by_source"].value == {"daily": 9 * 24, "rest": 12}
    gaps = stage.materializations("bar_gaps")[key(MARCH, ETH)].metadata
    assert (gaps["expected"].value, gaps["missing"].value) == (9 * 24 + 12, 0)
    topups = stage.materializations("kline_topups")[key(MARCH, ETH)].metadata
    assert topups["rows_now"].value == 12
    assert str(records(topups["newest_answers"])[0]["url"]).startswith(
        "klines?symbol=ETHUSDT&interval=1h&startTime="
    )


def test_nothing_is_pickled(stage: Stage) -> None:
    """Dagster's storage of outputs stays empty."""
    result = stage.run("initial_backfill", key(JANUARY, BTC))
    assert result.success
    storage = Path(stage.instance.storage_directory())
    assert [path for path in storage.rglob("*") if path.is_file() and "compute_logs" not in path.parts] == []
    kinds = {event.event_type for event in result.all_events}
    assert dg.DagsterEventType.ASSET_MATERIALIZATION in kinds
    assert dg.DagsterEventType.HANDLED_OUTPUT not in kinds


def test_progress_is_logged_at_the_end_and_not_for_each_partition(stage: Stage) -> None:
    """A step of four partitions in less than 15 s logs at most three progress lines."""
    result = stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY))
    lines: dict[str | None, list[str]] = {}
    for event in stage.instance.all_logs(result.run_id):
        if " partitions; the last one is " in event.user_message:
            lines.setdefault(event.step_key, []).append(event.user_message)
    assert len(lines) == 4
    for messages in lines.values():
        assert messages[-1].startswith("4 of 4 partitions")
        assert len(messages) < 4
