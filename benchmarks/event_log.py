"""Dagster instance in which every partition is materialized once: one run of 48 partitions and its copies.

The copies are the rows that the storage of Dagster wrote for the run, with other symbols, months and ids.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._serdes import deserialize_value, serialize_value

from capture_pipeline.binance.periods import Month
from capture_pipeline.definitions import defs
from capture_pipeline.defs.shared.partitions import block_tags
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

LAST = Month(2025, 12)
NOW = "2026-01-10T00:00:00Z"
FIRST_SYMBOL = "BTCUSDT"
PER_RUN = 48
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
_ROOT = Path(__file__).parent.parent
_STORAGE_ID = re.compile(r'("storage_id": )(\d+)')
_MONTH = re.compile(r"20\d\d-\d\d")
POSTGRES = "DAGSTER_POSTGRES_URL"
_EVENTS = SqlEventLogStorageTable


@dataclass(frozen=True)
class Size:
    """Numbers of partitions.

    Attributes:
        symbols: Number of symbols.
        months: Number of months, a multiple of 12; of 48 if runs are copied.
        interval: Interval of the bars.
    """

    symbols: int
    months: int
    interval: str

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self.symbols * self.months

    @property
    def symbol_names(self) -> list[str]:
        """A symbol of the sandbox, and invented names of the same length."""
        return [FIRST_SYMBOL, *(f"S{number:03}USD" for number in range(1, self.symbols))]

    @property
    def month_list(self) -> list[Month]:
        """Months up to `LAST`, in order."""
        return Month.range(Month(LAST.year + 1 - self.months // 12, 1), LAST)

    def environment(self, home: Path, url: str) -> dict[str, str]:
        """Return the environment variables of a deployment of this size.

        Args:
            home: Folder of the Dagster instance, which also contains the lake.
            url: Address of the sandbox.
        """
        return {
            "CAPTURE_CONFIG": str(home / "pipeline.yaml"),
            "CAPTURE_VENUE": "sandbox",
            "CAPTURE_SANDBOX_URL": url,
            "CAPTURE_STORAGE_ROOT": str(home / "data"),
            "CAPTURE_INTERVAL": self.interval,
            "CAPTURE_SYMBOLS": ",".join(self.symbol_names),
            "CAPTURE_HISTORY_START": f"{self.month_list[0]}-01",
            "CAPTURE_HISTORY_END": f"{LAST}-31",
            "DAGSTER_HOME": str(home),
        }


@dataclass(frozen=True)
class RunTimes:
    """Wall-clock times of one run.

    Attributes:
        whole_s: Seconds from the first to the last event, without planning and queue.
        evaluations_s: Seconds from the first to the last check evaluation of each step, added up.
    """

    whole_s: float
    evaluations_s: float


@contextmanager
def exchange(extra_symbols: int = 0) -> Iterator[str]:
    """Run a sandbox that has published all months, and yield its address.

    Args:
        extra_symbols: Number of additional symbols, `SYN00USDT` and so on.
    """
    document = {"now": NOW, "frozen": True, "listed": "2016-01-01", "extra_symbols": extra_symbols}
    with SandboxServer(SandboxConfig.model_validate(document)) as server:
        yield server.url


def configure(home: Path) -> None:
    """Write `dagster.yaml` of the project, with the Postgres example if the environment names a database."""
    parts = ["dagster.yaml", *(["postgres.example.yaml"] if POSTGRES in os.environ else [])]
    text = "\n".join((_ROOT / "dagster_home" / part).read_text(encoding="utf-8") for part in parts)
    (home / "dagster.yaml").write_text(text, encoding="utf-8")


def fill_instance(instance: dg.DagsterInstance, size: Size) -> None:
    """Run the first months of the first symbol, and copy the run to all other partitions.

    Args:
        instance: Instance without events.
        size: Size with which the definitions are loaded.
    """
    months = size.month_list
    tags = block_tags(size.symbol_names, months[0], months[PER_RUN - 1])
    end = "dagster/asset_partition_range_end"
    tags[end] = tags[end].replace(size.symbol_names[-1], FIRST_SYMBOL)
    job = defs().resolve_job_def("initial_backfill")
    result = job.execute_in_process(instance=instance, tags=tags, run_config=_QUIET)
    run = instance.get_run_by_id(result.run_id)
    if not result.success or run is None:
        raise RuntimeError("the run to copy failed")
    _copy(instance, size, run)


def run_times(events: Sequence[EventLogEntry]) -> RunTimes:
    """Compute the times of a run from its events, starting with the launch of its process."""
    before_launch = {
        dg.DagsterEventType.RUN_ENQUEUED,
        dg.DagsterEventType.RUN_DEQUEUED,
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    }
    evaluated: dict[str, list[float]] = {}
    whole = [event.timestamp for event in events if event.dagster_event_type not in before_launch]
    for event in events:
        if event.dagster_event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluated.setdefault(str(event.step_key), []).append(event.timestamp)
    evaluations_s = sum(max(times) - min(times) for times in evaluated.values())
    return RunTimes(max(whole) - min(whole), evaluations_s)


def _copy(instance: dg.DagsterInstance, size: Size, run: DagsterRun) -> None:
    """Insert copies of the rows of the run for all other months and symbols."""
    storage = instance.event_log_storage
    months = [str(month) for month in size.month_list]
    whole = serialize_value(run)
    with _index(storage).begin() as index:
        tables = (_EVENTS, AssetCheckExecutionsTable, AssetEventTagsTable)
        events, executions, tags = (index.execute(sa.select(table)).mappings().all() for table in tables)
        per_run = max(int(row["id"]) for row in events)
        starts = [(symbol, start) for symbol in size.symbol_names for start in range(0, len(months), PER_RUN)]
        for number, (symbol, start) in enumerate(starts[1:], start=1):
            copied_months = dict(zip(months[:PER_RUN], months[start : start + PER_RUN], strict=True))
            copy = _Copy(run.run_id, str(uuid.uuid4()), symbol, copied_months, number * per_run)
            instance.run_storage.add_run(deserialize_value(str(copy.text(whole)), DagsterRun))
            index.execute(
                sa.insert(_EVENTS), [{**copy.row(dict(row)), "id": row["id"] + copy.shift} for row in events]
            )
            index.execute(sa.insert(AssetCheckExecutionsTable), [copy.row(dict(row)) for row in executions])
            index.execute(sa.insert(AssetEventTagsTable), [copy.row(dict(row)) for row in tags])
            if isinstance(storage, SqliteEventLogStorage):
                shard = storage.path_for_shard(copy.run_id)
                shutil.copy(storage.path_for_shard(run.run_id), shard)
                _replace_rows(shard, copy)
        if index.dialect.name == "postgresql":
            newest = sa.select(sa.func.max(_EVENTS.c.id)).scalar_subquery()
            index.execute(
                sa.select(sa.func.setval(sa.func.pg_get_serial_sequence(_EVENTS.name, "id"), newest))
            )


def _index(storage: EventLogStorage) -> sa.Engine:
    """Return the database with the events of all runs."""
    if isinstance(storage, SqliteEventLogStorage):
        return sa.create_engine(f"sqlite:///{storage.path_for_shard('index')}", poolclass=sa.NullPool)
    return sa.create_engine(os.environ[POSTGRES])


def _replace_rows(shard: str, copy: _Copy) -> None:
    """Replace the rows in the copied file of a run, and remove free pages."""
    engine = sa.create_engine(f"sqlite:///{shard}", isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as rows:
        for row in rows.execute(sa.select(_EVENTS)).mappings().all():
            rows.execute(sa.update(_EVENTS).where(_EVENTS.c.id == row["id"]).values(copy.row(dict(row))))
        rows.exec_driver_sql("vacuum")


@dataclass(frozen=True)
class _Copy:
    """Copy of a run.

    Attributes:
        original: Id of the copied run.
        run_id: Id of the copy.
        symbol: Symbol of the copy.
        months: Months of the copy by months of the copied run.
        shift: Number that is added to ids of events.
    """

    original: str
    run_id: str
    symbol: str
    months: Mapping[str, str]
    shift: int

    def text(self, value: str) -> str:
        """Replace the names and ids in a text by those of the copy."""
        copied = value.replace(self.original, self.run_id).replace(FIRST_SYMBOL, self.symbol)
        copied = _MONTH.sub(lambda match: self.months.get(match[0], match[0]), copied)
        return _STORAGE_ID.sub(lambda match: f"{match[1]}{int(match[2]) + self.shift}", copied)

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of the copy, without the id of the row."""
        return {name: self._value(name, value) for name, value in row.items() if name != "id"}

    def _value(self, name: str, value: Any) -> Any:  # noqa: ANN401 - value of any column
        if isinstance(value, str):
            return self.text(value)
        is_id = name.endswith(("_storage_id", "event_id"))
        return value + self.shift if is_id and value is not None else value


def copy_lake(home: Path, size: Size) -> None:
    """Create the files that `gap_fill_sensor` reads for each partition: manifest and window."""
    root = home / "data"
    raw = next(root.glob(f"raw/*/klines/*/{FIRST_SYMBOL}"))
    windows = next(root.glob(f"lake/bar_windows/*/*/symbol={FIRST_SYMBOL}"))
    first = str(size.month_list[0])
    content = json.loads((raw / first / "archives.json").read_text(encoding="utf-8"))
    for symbol in size.symbol_names:
        for month in size.month_list:
            folder = raw.parent / symbol / str(month)
            if folder.exists():
                continue
            folder.mkdir(parents=True)
            (file,) = content["files"]
            file |= {"start_us": month.start_us, "end_us": month.end_us}
            text = json.dumps(content, indent=1).replace(FIRST_SYMBOL, symbol).replace(first, str(month))
            (folder / "archives.json").write_text(text, encoding="utf-8")
            window = windows.parent / f"symbol={symbol}" / f"month={month}"
            window.mkdir(parents=True)
            os.link(windows / f"month={first}" / "window.parquet", window / "window.parquet")
