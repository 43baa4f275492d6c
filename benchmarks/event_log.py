"""A Dagster instance in which every partition was made once: one real run of twelve partitions, copied to all other months and symbols.

The events of the copies are the product's own, with other symbols, months and run ids. Dagster's storage writes them; only its connections
are kept open, because it opens one for each event.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import deserialize_value, serialize_value
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection

from capture_pipeline.binance.periods import Month
from capture_pipeline.sandbox.server import SandboxServer
from capture_pipeline.sandbox.settings import SandboxConfig

LAST = Month(2025, 12)
NOW = "2026-01-10T00:00:00Z"
FIRST_SYMBOL = "BTCUSDT"
PER_RUN = 12
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
_TARGET = re.compile(r'("storage_id": )(\d+)')
_MONTH = re.compile(r"20\d\d-\d\d")


@dataclass(frozen=True)
class Size:
    """Numbers of partitions.

    Attributes:
        symbols: Number of symbols.
        months: Number of months, a multiple of 12.
        interval: Of the bars in the run that is copied.
    """

    symbols: int
    months: int
    interval: str

    @property
    def partitions(self) -> int:
        """The product."""
        return self.symbols * self.months

    @property
    def symbol_names(self) -> list[str]:
        """A known symbol of the sandbox, then names of the same length."""
        return [FIRST_SYMBOL, *(f"S{number:03}USD" for number in range(1, self.symbols))]

    @property
    def month_list(self) -> list[Month]:
        """The last months up to `LAST`."""
        return Month.range(Month(LAST.year + 1 - self.months // 12, 1), LAST)

    def environment(self, home: Path, url: str) -> dict[str, str]:
        """Variables of a deployment of that size.

        Args:
            home: Folder of the Dagster instance; the lake is in it.
            url: Of the sandbox exchange.
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
    """Seconds on the clock of the run that is copied.

    Attributes:
        whole_s: From its first to its last event.
        evaluations_s: From the first to the last evaluation of each step of checks.
        evaluations: Number of evaluations.
    """

    whole_s: float
    evaluations_s: float
    evaluations: int


@contextmanager
def exchange() -> Iterator[str]:
    """The address of a sandbox exchange at which all months are published."""
    with SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True, "listed": "2016-01-01"})) as server:
        yield server.url


def fill(instance: dg.DagsterInstance, size: Size) -> RunTimes:
    """Make the first year of the first symbol by a run, and copy that run to all other partitions.

    Args:
        instance: With sqlite storage.
        size: As the definitions were loaded.
    """
    from capture_pipeline.definitions import defs  # noqa: PLC0415 - reads the settings when it is imported
    from capture_pipeline.defs.partitions import block_tags  # noqa: PLC0415 - likewise

    months = size.month_list
    tags = block_tags(months[0], months[PER_RUN - 1])
    end = "dagster/asset_partition_range_end"
    tags[end] = tags[end].replace(size.symbol_names[-1], FIRST_SYMBOL)
    job = defs.resolve_job_def("initial_backfill")
    made = job.execute_in_process(instance=instance, tags=tags, run_config=_QUIET)
    run = instance.get_run_by_id(made.run_id)
    if not made.success or run is None:
        raise RuntimeError("the run that is to be copied failed")
    events = instance.all_logs(run.run_id)
    _copy(instance, size, run, [serialize_value(event) for event in events])
    return _times(events)


def _times(events: Sequence[EventLogEntry]) -> RunTimes:
    judged: dict[str, list[float]] = {}
    whole = [event.timestamp for event in events]
    for event in events:
        if event.dagster_event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            judged.setdefault(str(event.step_key), []).append(event.timestamp)
    spent = sum(max(times) - min(times) for times in judged.values())
    return RunTimes(max(whole) - min(whole), spent, sum(len(times) for times in judged.values()))


def _copy(instance: dg.DagsterInstance, size: Size, run: DagsterRun, events: list[str]) -> None:
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        raise TypeError(storage)
    months = size.month_list
    originals = [str(month) for month in months[:PER_RUN]]
    whole = serialize_value(run)
    with _open_connections(storage) as connections:
        per_run = connections.newest_id()
        for number, (symbol, start) in enumerate((s, m) for s in size.symbol_names for m in range(0, len(months), PER_RUN)):
            if not number:
                continue
            others = dict(zip(originals, map(str, months[start : start + PER_RUN]), strict=True))
            run_id, shift = str(uuid.uuid4()), number * per_run

            def moved(text: str, run_id: str = run_id, others: dict[str, str] = others, symbol: str = symbol) -> str:
                text = text.replace(run.run_id, run_id).replace(FIRST_SYMBOL, symbol)
                return _MONTH.sub(lambda found: others.get(found[0], found[0]), text)

            instance.run_storage.add_run(deserialize_value(moved(whole), DagsterRun))
            with connections.shard(run_id):
                for event in events:
                    text = _TARGET.sub(lambda found, shift=shift: f"{found[1]}{int(found[2]) + shift}", moved(event))  # type: ignore[misc]
                    storage.store_event(deserialize_value(text, EventLogEntry))


@dataclass
class _Connections:
    """The connections that stand in for those of a storage."""

    storage: SqliteEventLogStorage
    index: Connection
    current: Connection | None = None

    def newest_id(self) -> int:
        """The number of events in the index so far."""
        return int(self.index.exec_driver_sql("select max(id) from event_logs").scalar_one())

    @contextmanager
    def shard(self, run_id: str) -> Iterator[None]:
        """Write the events of one run in one transaction."""
        path = Path(self.storage.path_for_shard(run_id))
        shutil.copy(self.storage.path_for_shard("empty"), path)
        with create_engine(self.storage.conn_string_for_shard(run_id)).connect() as connection:
            self.current = connection
            yield
            connection.commit()
        self.index.commit()

    @contextmanager
    def connect(self, shard: str) -> Iterator[Connection | None]:
        """Give the open connection."""
        yield self.index if shard == "index" else self.current


@contextmanager
def _open_connections(storage: SqliteEventLogStorage) -> Iterator[_Connections]:
    with storage.run_connection("empty"):
        pass
    with ExitStack() as stack:
        index = stack.enter_context(create_engine(storage.conn_string_for_shard("index")).connect())
        stack.callback(setattr, storage, "_connect", storage._connect)  # noqa: SLF001 - the reason is in the module's docstring
        connections = _Connections(storage, index)
        storage._connect = connections.connect  # type: ignore[method-assign, assignment]  # noqa: SLF001
        yield connections
    Path(storage.path_for_shard("empty")).unlink()


def copy_lake(home: Path, size: Size) -> None:
    """Give every partition what `gap_fill_sensor` reads: a manifest of one whole monthly file, and a window."""
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
