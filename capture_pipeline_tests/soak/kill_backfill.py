"""`capture klines backfill` killed with -9 at random instants and run again until it is done: the lake is that of an undisturbed run."""

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

from capture_pipeline_tests.deployment import Deployment
from capture_pipeline_tests.recorder.exchange import exchange

_COMMAND = [sys.executable, "-c", "from capture_pipeline.cli.main import main; main()"]
_MONTHS = ("--from", "2024-09", "--to", "2024-12")
_SYMBOLS = "BTCUSDT,ETHUSDT"
_SLOW = {"match": {"path": "*.zip"}, "fault": "slow_body", "bytes_per_s": 60_000, "times": "always"}
_PATIENCE_S = 120.0


@dataclass
class BackfillKills:
    """What came of it.

    Attributes:
        kills: How often a backfill was killed.
        lakes: How many lakes were filled to the end.
        files: Archive files that were fetched.
        wrong: Everything that does not hold.
        seconds: Duration.
    """

    kills: int = 0
    lakes: int = 0
    files: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """One line."""
        return (
            f"backfill: {self.kills} kills in {self.seconds:.0f} s, {self.lakes} lakes filled with {self.files:,} archive files, "
            f"each the same bytes as one undisturbed, {len(self.wrong)} wrong"
        )


def kill_backfill(root: Path, *, kills: int, seed: int, most_kills_a_lake: int = 8) -> BackfillKills:
    """Fill lakes, kill and run again, and compare each lake with one that was filled undisturbed.

    Args:
        root: Empty folder.
        kills: How often to kill.
        seed: Of the instants.
        most_kills_a_lake: After so many kills a lake's next run is left alone.
    """
    began, instants, found = time.monotonic(), random.Random(seed), BackfillKills()  # noqa: S311 - instants, no secret
    with exchange(root, {"frozen": True}) as deployment:
        deployment.faults(_SLOW)
        whole = _lake(deployment, root / "undisturbed")
        start = time.monotonic()
        _finish(whole)
        usual_s, expected = time.monotonic() - start, _tables(whole.root)
        assert expected, "an undisturbed backfill wrote no table"
        while found.kills < kills:
            lake = _lake(deployment, root / f"lake{found.lakes}")
            usual_s = _fill(lake, instants, usual_s, min(most_kills_a_lake, kills - found.kills), found)
            found.lakes += 1
            differs = [path for path, digest in expected.items() if _tables(lake.root).get(path) != digest]
            found.wrong += [f"{lake.root.name}: {path} differs from the undisturbed one" for path in differs]
    found.seconds = time.monotonic() - began
    return found


def _fill(
    lake: Deployment, instants: random.Random, usual_s: float, kills: int, found: BackfillKills
) -> float:
    """Run backfills of one lake until one ends; kill the first of them.

    Returns:
        How long the next one may take: so long as this one, if it was not killed. A machine is not equally busy all the time.
    """
    verified: set[str] = set()
    for number in range(kills + 1):
        lake.forget_requests()
        start = time.monotonic()
        process = _started(lake)
        if number < kills:
            try:
                process.wait(instants.uniform(0, usual_s))
            except subprocess.TimeoutExpired:
                process.kill()
                found.kills += 1
        code = process.wait(_PATIENCE_S)
        asked = [Path(entry["path"]).name for entry in lake.requests() if entry["path"].endswith(".zip")]
        found.files += len(asked)
        found.wrong += [
            f"{lake.root.name}: {name} is verified and was fetched again"
            for name in sorted(verified & set(asked))
        ]
        found.wrong += [f"{lake.root.name}: {what}" for what in _visible_parts(lake.root)]
        verified = set(_verified(lake.root))
        if code == 0:
            return time.monotonic() - start if number == 0 else usual_s
        if code > 0:
            found.wrong.append(f"{lake.root.name}: a backfill ended with {code}")
    return usual_s


def _lake(deployment: Deployment, root: Path) -> Deployment:
    return Deployment(deployment.url, root, CAPTURE_SYMBOLS=_SYMBOLS)


def _started(lake: Deployment) -> subprocess.Popen[bytes]:
    command, env = [*_COMMAND, "klines", "backfill", *_MONTHS], {**os.environ, **lake.environment()}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _finish(lake: Deployment) -> None:
    assert _started(lake).wait(_PATIENCE_S) == 0, "an undisturbed backfill failed"


def _tables(root: Path) -> dict[str, str]:
    """Digests of all published tables."""
    return {str(path.relative_to(root)): _sha256(path) for path in _visible(root, "lake/**/*.parquet")}


def _verified(root: Path) -> Iterator[str]:
    """Names of the archive files that are recorded as usable."""
    for path in _visible(root, "raw/**/archives.json"):
        yield from (record["name"] for record in json.loads(path.read_text())["files"] if record["usable"])


def _visible_parts(root: Path) -> Iterator[str]:
    """Published files that are not whole."""
    for path in _visible(root, "lake/**/*.parquet"):
        try:
            pq.read_table(path)
        except (OSError, ValueError) as error:
            yield f"{path.name} cannot be read: {error}"
    for path in _visible(root, "raw/**/*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            yield f"{path.name} is no JSON: {error}"
    for pattern in ("raw/**/archives/*.zip", "raw/**/rest/*.json"):
        for path in _visible(root, pattern):
            if not _sha256(path).startswith(path.name.split(".")[-2]):
                yield f"{path.name} has not the digest of its name"


def _visible(root: Path, pattern: str) -> list[Path]:
    """Files whose names do not begin with a dot; those that do are being written, or were when their writer was killed."""
    return [path for path in root.glob(pattern) if not path.name.startswith(".")]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
