"""A lake that shell commands built, as the pages of `capture ui` show it."""

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capture_pipeline_tests.support.dagster.stage import BTC, CHAIN, ETH, key
from capture_pipeline_tests.support.dagster.ui import (
    PROGRAMS,
    Ui,
    environment,
    free_port,
    make_project,
    run_ui,
    wait_for_daemons,
)
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment
from capture_pipeline_tests.support.waits import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MONTHS = ["2024-12", "2025-01"]
SETTINGS = {
    "CAPTURE_SYMBOLS": f"{BTC},{ETH}",
    "CAPTURE_HISTORY_START": "2024-12-01",
    "CAPTURE_HISTORY_END": "2025-01-31",
}
FOUR = sorted(key(month, symbol) for month in MONTHS for symbol in (BTC, ETH))
MONTHLY = "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-12.zip"
ASSETS = """query ($keys: [AssetKeyInput!]) {assetNodes(assetKeys: $keys) {
  assetKey {path} partitionStats {numMaterialized numFailed numPartitions}
  assetMaterializations(limit: 100) {runId partition metadataEntries {label ... on TextMetadataEntry {text}}}
  assetChecksOrError {... on AssetChecks {checks {name executionForLatestMaterialization {
    status runId evaluation {success partition targetMaterialization {storageId}}}}}}}}"""
HISTORY = """query ($asset: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $asset, checkName: $check, limit: 100) {
    runId partition status evaluation {success}}}"""
RUNS = "{runsOrError {... on Runs {results {pipelineName assetSelection {path}}}}}"


def shell(project: Path, url: str, *arguments: str) -> None:
    """Run a command of the project to its end."""
    command = [str(PROGRAMS / "capture"), *arguments]
    done = subprocess.run(
        command,
        cwd=project,
        env=environment(project, CAPTURE_SANDBOX_URL=url, **SETTINGS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def nodes(ui: Ui) -> dict[str, Any]:
    """Return the nodes of the assets by name."""
    keys = [{"path": [name]} for name in (*CHAIN, "coverage_report")]
    return {node["assetKey"]["path"][0]: node for node in ui.query(ASSETS, keys=keys)["assetNodes"]}


def runs(ui: Ui) -> list[str]:
    """Return the assets of each run."""
    return [
        ",".join(sorted(each["path"][0] for each in run["assetSelection"] or []))
        for run in ui.query(RUNS)["runsOrError"]["results"]
    ]


def history(ui: Ui, asset: str, check: str) -> dict[str, list[bool]]:
    """Return the results of a check by partition, newest first."""
    found: dict[str, list[bool]] = {}
    for each in ui.query(HISTORY, asset={"path": [asset]}, check=check)["assetCheckExecutions"]:
        assert each["runId"] == ""
        found.setdefault(each["partition"], []).append(each["evaluation"]["success"])
    return found


def digest(ui: Ui, partition: str) -> str:
    """Return the SHA-256 of the bars of a partition, as its page shows it."""
    materialization = next(
        each for each in nodes(ui)["bars"]["assetMaterializations"] if each["partition"] == partition
    )
    return next(
        str(entry["text"]) for entry in materialization["metadataEntries"] if entry["label"] == "sha256"
    )


def soon(condition: Callable[[], bool]) -> None:
    """Wait for a condition, and ignore pages that are not complete yet."""

    def holds() -> bool:
        with contextlib.suppress(StopIteration, KeyError, TypeError):
            return condition()
        return False

    wait_for(holds, 600, every_s=1)


def test_a_lake_of_the_shell_is_on_the_pages(tmp_path: Path) -> None:
    """Every asset has metadata and checks but no run; a new version of a file is reported."""
    project, port = make_project(tmp_path), free_port()
    with run_sandbox_deployment(project / "data", None, **SETTINGS) as exchange:
        shell(project, exchange.url, "klines", "backfill")
        shell(project, exchange.url, "klines", "coverage")
        with run_ui(project, port, CAPTURE_SANDBOX_URL=exchange.url, **SETTINGS):
            wait_for_daemons(port)
            ui = Ui(port, project / "dagster_home")
            soon(
                lambda: (
                    len(history(ui, "bar_gaps", "coverage")) == len(FOUR)
                    and bool(nodes(ui)["coverage_report"]["assetMaterializations"])
                )
            )
            check_pages(ui)
            assert runs(ui) == []
            republish(ui, exchange, project)
            assert set(runs(ui)) <= {"coverage_report"}


def check_pages(ui: Ui) -> None:
    """Check the page of every asset and check."""
    found = nodes(ui)
    for name in CHAIN:
        node = found[name]
        assert node["partitionStats"] == {
            "numMaterialized": len(FOUR),
            "numFailed": 0,
            "numPartitions": len(FOUR),
        }
        assert sorted(each["partition"] for each in node["assetMaterializations"]) == FOUR, (
            "each is reported once"
        )
        assert all(each["runId"] == "" and each["metadataEntries"] for each in node["assetMaterializations"])
    assert "heat_map" in {
        entry["label"] for entry in found["coverage_report"]["assetMaterializations"][0]["metadataEntries"]
    }
    for name in ("bars", "bar_gaps", "coverage_report"):
        for check in found[name]["assetChecksOrError"]["checks"]:
            latest = check["executionForLatestMaterialization"]
            assert (latest["status"], latest["evaluation"]["success"]) == ("SUCCEEDED", True), check
            if name != "coverage_report":
                assert history(ui, name, check["name"]) == {partition: [True] for partition in FOUR}


def republish(ui: Ui, exchange: SandboxDeployment, project: Path) -> None:
    """Publish another version of a file, download it in the shell, and check the pages."""
    changed = key("2024-12", BTC)
    before = digest(ui, changed)
    exchange.republish(MONTHLY)
    shell(project, exchange.url, "klines", "recheck", "--all")
    shell(project, exchange.url, "klines", "backfill")
    shell(project, exchange.url, "klines", "coverage")
    soon(lambda: digest(ui, changed) != before)
    soon(lambda: len(nodes(ui)["coverage_report"]["assetMaterializations"]) == 2)
    assert sorted(each["partition"] for each in nodes(ui)["bars"]["assetMaterializations"]) == sorted(
        [*FOUR, changed]
    )
    assert history(ui, "bars", "values") == {name: [True] for name in FOUR}
