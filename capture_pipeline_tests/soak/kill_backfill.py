"""Test of `capture klines backfill` with SIGKILL at random times.

The lake must equal that of a normal run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.exchange.process import exchange

_COMMAND = [sys.executable, "-c", "from capture_pipeline.cli.main import main; main()"]
_MONTHS = ("--from", "2024-09", "--to", "2024-12")
_SYMBOLS = "BTCUSDT,ETHUSDT"
_SLOW = {"match": {"path": "*.zip"}, "fault": "slow_body", "bytes_per_s": 60_000, "times": "always"}
_TIMEOUT_S = 120.0


@dataclass
class BackfillKills:
    """Results of the test.

    Attributes:
        kills: Number of killed backfills.
        lakes: Number of completed lakes.
        files: Number of downloaded archive files.
        errors: Differences from the expected results.
        seconds: Duration.
    """

    kills: int = 0
    lakes: int = 0
    files: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary in one line."""
        return (
            f"backfill: {self.kills} kills in {self.seconds:.0f} s, {self.lakes} lakes with "
            f"{self.files:,} downloaded archive files compared with an uninterrupted run, "
            f"{len(self.errors)} errors"
        )


def kill_backfill(root: Path, *, kills: int, seed: int, max_kills_per_lake: int = 8) -> BackfillKills:
    """Fill lakes with killed and repeated backfills.

    Each lake is compared with that of an uninterrupted run.

    Args:
        root: Empty folder.
        kills: Number of kills.
        seed: Seed of the random times.
        max_kills_per_lake: Number of kills after which a backfill of a lake may finish.
    """
    start_s, rng, result = time.monotonic(), random.Random(seed), BackfillKills()  # noqa: S311 - not secret
    with exchange(root, {"frozen": True}) as sandbox:
        sandbox.faults(_SLOW)
        uninterrupted = _create_lake(sandbox, root / "uninterrupted")
        start = time.monotonic()
        _run_to_end(uninterrupted)
        usual_s, expected = time.monotonic() - start, _tables(uninterrupted.root)
        assert expected, "an uninterrupted backfill wrote no table"
        while result.kills < kills:
            lake = _create_lake(sandbox, root / f"lake{result.lakes}")
            usual_s = _fill(lake, rng, usual_s, min(max_kills_per_lake, kills - result.kills), result)
            result.lakes += 1
            differs = [path for path, digest in expected.items() if _tables(lake.root).get(path) != digest]
            result.errors += [
                f"{lake.root.name}: {path} differs from that of the uninterrupted run" for path in differs
            ]
    result.seconds = time.monotonic() - start_s
    return result


def _fill(
    lake: SandboxDeployment, rng: random.Random, usual_s: float, kills: int, result: BackfillKills
) -> float:
    """Run backfills of one lake until one finishes; kill up to `kills` of them.

    Returns:
        Usual duration of a backfill in seconds: that of this lake if no backfill was killed, because the load
            of
        the machine changes.
    """
    verified: set[str] = set()
    for number in range(kills + 1):
        lake.forget_requests()
        start = time.monotonic()
        process = _start(lake)
        if number < kills:
            try:
                process.wait(rng.uniform(0, usual_s))
            except subprocess.TimeoutExpired:
                process.kill()
                result.kills += 1
        code = process.wait(_TIMEOUT_S)
        downloaded = [Path(entry["path"]).name for entry in lake.requests() if entry["path"].endswith(".zip")]
        result.files += len(downloaded)
        result.errors += [
            f"{lake.root.name}: {name} is verified and was downloaded again"
            for name in sorted(verified & set(downloaded))
        ]
        result.errors += [f"{lake.root.name}: {text}" for text in _describe_damaged(lake.root)]
        verified = set(_verified_names(lake.root))
        if code == 0:
            return time.monotonic() - start if number == 0 else usual_s
        if code > 0:
            result.errors.append(f"{lake.root.name}: a backfill ended with {code}")
    return usual_s


def _create_lake(sandbox: SandboxDeployment, root: Path) -> SandboxDeployment:
    return SandboxDeployment(sandbox.url, root, CAPTURE_SYMBOLS=_SYMBOLS)


def _start(lake: SandboxDeployment) -> subprocess.Popen[bytes]:
    command, env = [*_COMMAND, "klines", "backfill", *_MONTHS], {**os.environ, **lake.environment()}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _run_to_end(lake: SandboxDeployment) -> None:
    assert _start(lake).wait(_TIMEOUT_S) == 0, "an uninterrupted backfill failed"


def _tables(root: Path) -> dict[str, str]:
    """Return the digests of all published tables by path."""
    return {str(path.relative_to(root)): _sha256(path) for path in _visible_files(root, "lake/**/*.parquet")}


def _verified_names(root: Path) -> Iterator[str]:
    """Yield the names of the archive files that the manifests record as usable."""
    for path in _visible_files(root, "raw/**/archives.json"):
        yield from (record["name"] for record in json.loads(path.read_text())["files"] if record["usable"])


def _describe_damaged(root: Path) -> Iterator[str]:
    """Describe published files that are incomplete or damaged."""
    for path in _visible_files(root, "lake/**/*.parquet"):
        try:
            pq.read_table(path)
        except (OSError, ValueError) as error:
            yield f"{path.name} cannot be read: {error}"
    for path in _visible_files(root, "raw/**/*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            yield f"{path.name} is not JSON: {error}"
    for pattern in ("raw/**/archives/*.zip", "raw/**/rest/*.json"):
        for path in _visible_files(root, pattern):
            if not _sha256(path).startswith(path.name.split(".")[-2]):
                yield f"{path.name} does not have the digest in its name"


def _visible_files(root: Path, pattern: str) -> list[Path]:
    """Return files whose names do not begin with a dot; a dot marks files that are incomplete."""
    return [path for path in root.glob(pattern) if not path.name.startswith(".")]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
