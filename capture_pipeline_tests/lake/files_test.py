"""Publication, locks and paths: no partial files, no path outside the root, no loss after a failure."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest
from pydantic import BaseModel

from capture_pipeline.binance.periods import Interval, Month
from capture_pipeline.binance.urls import Market
from capture_pipeline.errors import ConfigError, LakeError, StorageError
from capture_pipeline.lake.files import (
    atomic_write,
    publish_bytes,
    publish_model,
    read_model,
    sha256_file,
)
from capture_pipeline.lake.paths import Lake, Partition

SPAWN = multiprocessing.get_context("spawn")


class Note(BaseModel):
    text: str


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """No temporary file is left."""
    target = tmp_path / "a" / "f"
    publish_bytes(target, b"before")

    def fail_halfway() -> None:
        with atomic_write(target) as beside:
            beside.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert target.read_bytes() == b"before"
    assert [path.name for path in target.parent.iterdir()] == ["f"]


def _write_beyond_limit(target: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        publish_bytes(target, b"x" * 5000)
    except StorageError:
        os._exit(7)
    os._exit(0)


def test_a_disk_that_takes_no_more_is_a_storage_error(tmp_path: Path) -> None:
    """The file size limit of the process causes a real short write; the earlier file is unchanged."""
    target = tmp_path / "f"
    publish_bytes(target, b"before")
    process = SPAWN.Process(target=_write_beyond_limit, args=(target,))
    process.start()
    process.join(30)
    assert process.exitcode == 7
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_model_comes_back_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    """A damaged manifest is never ignored."""
    file = tmp_path / "m.json"
    assert read_model(file, Note) is None
    publish_model(file, Note(text="é"))
    assert read_model(file, Note) == Note(text="é")
    file.write_text('{"text": 3}')
    with pytest.raises(LakeError, match=r"m\.json: is damaged: text"):
        read_model(file, Note)


def test_a_recorded_file_that_is_gone_is_told(tmp_path: Path) -> None:
    """The error contains a remedy."""
    with pytest.raises(LakeError, match="is recorded but missing"):
        sha256_file(tmp_path / "no")


def part(symbol: str = "BTCUSDT") -> Partition:
    return Partition(Market.SPOT, Interval.M1, symbol, Month(2024, 12))


def test_tables_lie_in_hive_folders(tmp_path: Path) -> None:
    """Any engine finds market, interval, symbol and month."""
    found = Lake(tmp_path).bars(part()).relative_to(tmp_path).as_posix()
    assert found == "lake/bars/market=spot/interval=1m/symbol=BTCUSDT/month=2024-12/bars.parquet"


@pytest.mark.parametrize("symbol", ["../../etc", "a/b", "X\0Y", "BTC\n"])
def test_a_symbol_cannot_lead_out_of_the_root(symbol: str, tmp_path: Path) -> None:
    """The cases contain dots and control characters."""
    with pytest.raises(ConfigError):
        Lake(tmp_path).bars(part(symbol))


@pytest.mark.parametrize("recorded", ["../x", "raw/../../x"])
def test_a_manifest_cannot_name_a_file_outside(recorded: str, tmp_path: Path) -> None:
    """Names in a manifest are checked like other data."""
    with pytest.raises(LakeError):
        Lake(tmp_path / "root").resolve(recorded)


def test_a_folder_beside_the_root_is_not_inside_it(tmp_path: Path) -> None:
    """The name of the folder begins with the name of the root."""
    with pytest.raises(LakeError, match=r"is outside storage\.root"):
        Lake(tmp_path / "root").resolve("../root2/x")


@pytest.mark.parametrize("is_made", [True, False])
def test_a_link_out_of_the_root_is_not_followed(is_made: bool, tmp_path: Path) -> None:
    """The raw folder of a symbol may not be elsewhere, whether or not the folder of the month exists."""
    root = tmp_path / "root"
    (root / "raw").mkdir(parents=True)
    (root / "raw" / "spot").symlink_to(tmp_path)
    if is_made:
        (tmp_path / "klines" / "1m" / "BTCUSDT" / "2024-12").mkdir(parents=True)
    with pytest.raises(LakeError, match=r"is outside storage\.root"):
        Lake(root).raw(part())
