"""Refusal to mix data of two exchanges in one lake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from capture_pipeline.cli.main import main
from capture_pipeline.deployment import lake_guard
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import ensure_venue
from capture_pipeline.errors import BusyError, ConfigError
from capture_pipeline.klines.backfill import backfill
from capture_pipeline.klines.gaps import update_gaps
from capture_pipeline.klines.ingest.archives import fetch_archives, recheck_partition
from capture_pipeline.klines.ingest.rest_fill import fill_from_rest
from capture_pipeline.lake.locks import file_lock
from capture_pipeline_tests.support.command import Run
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

BINANCE = {"venue": "binance", "archive": "https://data.binance.vision"}


def origin(sandbox: SandboxDeployment) -> Path:
    return sandbox.root / "state" / "origin.json"


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_first_fetch_says_whose_the_lake_is(filled: SandboxDeployment, tmp_path: Path) -> None:
    """The sandbox counts as one exchange, whatever its port.

    The origin of the real exchange includes the address of its archive.
    """
    assert json.loads(origin(filled).read_text()) == {"venue": "sandbox", "archive": None}
    real = SandboxDeployment(filled.url, tmp_path, CAPTURE_VENUE="binance")
    ensure_venue(real.deployment)
    assert json.loads(origin(real).read_text()) == BINANCE


def test_another_port_of_the_sandbox_is_the_same_exchange(sandbox: SandboxDeployment) -> None:
    """The port of the sandbox changes at each start."""
    with run_sandbox_deployment(sandbox.root) as again:
        assert again.url != sandbox.url
        assert (
            CliRunner()
            .invoke(main, ["klines", "topup"], env=again.environment(), catch_exceptions=False)
            .exit_code
            == 0
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ("klines", "backfill"),
        ("klines", "topup"),
        ("klines", "gaps"),
        ("klines", "gaps", "--fill"),
        ("klines", "recheck", "--all"),
    ],
    ids=" ".join,
)
def test_another_exchange_is_refused_on_one_line(
    arguments: tuple[str, ...], run: Run, sandbox: SandboxDeployment
) -> None:
    """The command prints the file and the remedy on one line and exits with 2.

    It downloads nothing and changes no file.
    """
    origin(sandbox).write_text(json.dumps(BINANCE))
    before = contents(sandbox.root)
    sandbox.forget_requests()
    result = run(*arguments)
    assert (result.exit_code, len(result.stderr.strip().splitlines()), result.stdout) == (2, 1, "")
    for said in (str(origin(sandbox)), "venue binance", "venue sandbox", "CAPTURE_STORAGE_ROOT"):
        assert said in result.stderr
    assert {entry["path"] for entry in sandbox.requests()} <= {"/api/v3/time"}
    assert contents(sandbox.root) == before


@pytest.mark.parametrize("step", [fetch_archives, fill_from_rest, recheck_partition, update_gaps])
def test_no_single_step_touches_the_lake_of_another_exchange(
    step: object, sandbox: SandboxDeployment
) -> None:
    """Dagster runs the steps separately."""
    origin(sandbox).write_text(json.dumps(BINANCE))
    before = contents(sandbox.root)
    deployment = sandbox.reopened()
    (january,) = deployment.partitions(["BTCUSDT"], deployment.months(deployment.now_us())[:1])
    with pytest.raises(ConfigError, match="venue binance"):
        step(deployment, january, deployment.now_us())  # type: ignore[operator]
    assert contents(sandbox.root) == before


def test_a_lake_of_before_gets_its_origin_with_the_next_fetch(run: Run, sandbox: SandboxDeployment) -> None:
    """Steps that only compute do not write the origin."""
    origin(sandbox).unlink()
    assert run("klines", "gaps").exit_code == 0
    assert not origin(sandbox).exists()
    assert run("klines", "topup").exit_code == 0
    assert json.loads(origin(sandbox).read_text())["venue"] == "sandbox"


@pytest.mark.parametrize("content", ["", "{}", '{"venue": ""}', "[]"])
def test_a_damaged_origin_is_one_line(content: str, run: Run, sandbox: SandboxDeployment) -> None:
    """The line contains the file and the remedy."""
    origin(sandbox).write_text(content)
    result = run("klines", "topup")
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
    assert f"{origin(sandbox)}: is damaged" in result.stderr
    assert "write the exchange of this lake into it" in result.stderr


def test_spot_and_futures_stand_beside_each_other(run: Run, sandbox: SandboxDeployment) -> None:
    """A download for one market changes no file of the other.

    Both markets have the same symbols, interval and months.
    """
    kept = {
        path: content
        for path, content in contents(sandbox.root).items()
        if "spot" in str(path.relative_to(sandbox.root))
    }
    assert kept
    assert run("klines", "backfill", CAPTURE_MARKET="um").exit_code == 0
    after = contents(sandbox.root)
    assert {path: after[path] for path in kept} == kept
    assert any("market=um" in str(path) for path in after)


def test_of_two_exchanges_that_begin_at_once_one_is_refused(
    sandbox: SandboxDeployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process with the lock writes the origin; the other one waits and then reads it."""
    root = tmp_path / "new"
    first, second = (
        SandboxDeployment(sandbox.url, root, CAPTURE_VENUE=venue).deployment
        for venue in ("sandbox", "binance")
    )
    monkeypatch.setattr(lake_guard, "_ORIGIN_TIMEOUT_S", 0.1)
    with file_lock(first.lake.origin_lock()), pytest.raises(BusyError):
        ensure_venue(first)
    ensure_venue(first)
    assert _refused(second)
    shutil.rmtree(root)
    ensure_venue(second)
    assert _refused(first)


def _refused(deployment: Deployment) -> bool:
    with pytest.raises(ConfigError):
        list(
            backfill(
                deployment,
                deployment.partitions(["BTCUSDT"], deployment.months(1_740_000_000_000_000)),
                1_740_000_000_000_000,
            )
        )
    return True
