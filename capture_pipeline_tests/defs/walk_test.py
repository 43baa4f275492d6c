"""Modules that one partition passes on its way from its asset to its raw file and to its Parquet file."""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from types import FrameType

import pytest

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline_tests.support.dagster.stage import BTC, JANUARY, Stage, key

COUNTED = ("defs.", "klines.", "binance.", "lake.", "deployment.")
"""Packages whose modules are counted."""
NOT_COUNTED = (
    "binance.archive.frame_cache",
    "binance.archive.protocol",
    "binance.http.",
    "binance.periods",
    "binance.symbols",
    "binance.urls",
    "defs.shared.failures",
    "defs.shared.partitions",
    "deployment.deployment",
    "klines.quality.ranges",
    "lake.locks",
    "lake.manifests",
    "lake.paths",
)
"""Modules of values, models and errors, parsers, locks, and the transport.

Also not counted is what `binance` calls.
"""
MOST = 8


class Walk:
    """Modules that were entered after the function of the asset, up to the write of a file.

    Attributes:
        modules: Modules in the order in which they were entered first.
        chains: Modules of the calls from the asset to the write, by thread that takes part in it.
        opened: Number of reads by manifest.
    """

    def __init__(self, asset: str, pattern: str) -> None:
        """Start the walk at the function of an asset, and end it when a file that matches is published."""
        self.modules: list[str] = []
        self.chains: list[list[str]] = []
        self.opened: Counter[str] = Counter()
        self._asset, self._pattern, self._state = asset, pattern, "before"

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        """Record a call; set as the profile function of all threads."""
        if event != "call":
            return
        if self._state == "before" and frame.f_code.co_name == self._asset:
            self._state = "walk"
        name, caller = _module(frame), _module(frame.f_back)
        is_new = _is_counted(name) and not caller.startswith("binance.") and name not in self.modules
        if self._state == "walk" and is_new:
            self.modules.append(name)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """Count the reads of manifests, and end the walk when the file is published."""
        if self._state != "walk":
            return
        if event == "open" and fnmatch(str(arguments[0]), "*/raw/*.json") and arguments[1] == "r":
            self.opened[str(arguments[0]).rpartition("/")[2]] += 1
        elif event == "os.rename" and fnmatch(str(arguments[1]), self._pattern):
            self.chains = [_chain(frame) for frame in sys._current_frames().values()]
            self._state = "after"


def _module(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__", "")).removeprefix("capture_pipeline.")


def _is_counted(name: str) -> bool:
    return name.startswith(COUNTED) and not name.startswith(NOT_COUNTED)


def _chain(frame: FrameType | None) -> list[str]:
    """Return the modules of a stack, the outermost first, without repetitions of neighbours."""
    found: list[str] = []
    while frame is not None:
        name = _module(frame)
        if _is_counted(name) and (not found or found[-1] != name):
            found.append(name)
        frame = frame.f_back
    return found[::-1]


@contextmanager
def traced(walk: Walk) -> Iterator[None]:
    """Trace all calls of this thread and of new threads inside the `with` block."""
    sys.addaudithook(walk.audit)
    threading.setprofile(walk.profile)
    sys.setprofile(walk.profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.mark.parametrize(
    ("assets", "pattern", "manifests"),
    [
        (["kline_archives"], "*/raw/*.zip", ["archives.json"]),
        (["bars", "bar_conflicts", "bar_exclusions"], "*/bars/*.parquet", ["archives.json", "topups.json"]),
    ],
    ids=["raw file", "Parquet"],
)
def test_a_partition_enters_at_most_eight_modules_and_none_twice(
    assets: list[str], pattern: str, manifests: list[str], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each manifest is read once. The exchange's clock is read before: it belongs to the run."""
    now_us = stage.deployment.now_us()
    monkeypatch.setattr(Deployment, "now_us", lambda _: now_us)
    partition = key(JANUARY, BTC)
    if "bars" in assets:
        assert stage.materialize(["kline_archives", "kline_topups"], partition).success
    walk = Walk(assets[0], pattern)
    with traced(walk):
        assert stage.materialize(assets, partition, with_checks=False).success
    assert len(walk.modules) <= MOST, walk.modules
    assert walk.opened == dict.fromkeys(manifests, 1)
    assert any(walk.chains)
    for chain in walk.chains:
        assert len(chain) == len(set(chain)), chain
