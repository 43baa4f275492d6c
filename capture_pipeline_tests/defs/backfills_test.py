"""Backfills as the UI launches them: `capture ui` with webserver, code server and daemon, and what became of each chosen partition."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from capture_pipeline.sandbox.server import SandboxServer
from capture_pipeline.sandbox.settings import SandboxConfig
from capture_pipeline_tests.defs.stage import BTC, CHAIN, ETH, key
from capture_pipeline_tests.defs.ui import LOCATION, Ui, daemons, free_port, make_project, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOW = "2024-05-10T12:00:30Z"
MONTHS = [f"2024-{month:02}" for month in range(1, 5)]
SETTINGS = {
    "CAPTURE_SYMBOLS": f"{BTC},{ETH}",
    "CAPTURE_HISTORY_START": f"{MONTHS[0]}-01",
    "CAPTURE_HISTORY_END": "2024-04-30",
    "CAPTURE_INTERVAL": "1d",
}


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """`capture ui` at a sandbox exchange."""
    project, port = make_project(tmp_path_factory.mktemp("project")), free_port()
    with (
        SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server,
        running(project, port, CAPTURE_SANDBOX_URL=server.url, **SETTINGS),
    ):
        daemons(port)
        yield Ui(port, project / "dagster_home")


def wait(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.5)


def chosen(months: list[str]) -> list[str]:
    return [key(month, symbol) for month, symbol in itertools.product(months, (BTC, ETH))]


def job(name: str) -> dict[str, object]:
    return {"selector": {"partitionSetName": f"{name}_partition_set", "repositorySelector": LOCATION}}


def assets(*names: str) -> dict[str, object]:
    return {"assetSelection": [{"path": [name]} for name in names]}


def test_a_backfill_makes_each_partition_that_was_chosen_once(ui: Ui) -> None:
    """From a job's page and from the assets', for every partitioned job; success is told only of partitions that were made."""
    first = ui.launch(chosen(MONTHS), **job("initial_backfill"))
    wait(lambda: ui.status(first) not in {"REQUESTED", "COMPLETED"} or ui.status(first).startswith("COMPLETED_"))
    backfills: dict[str, tuple[tuple[str, ...], list[str]]] = {first: (CHAIN, chosen(MONTHS))}
    for name, made, months in (
        ("daily_update", CHAIN, MONTHS[:1]),
        ("gap_fill", CHAIN[1:], MONTHS[1:2]),
        ("month_close", (*CHAIN, "month_reconciliation"), MONTHS[2:3]),
    ):
        backfills[ui.launch(chosen(months), **job(name))] = (made, chosen(months))
    backfills[ui.launch(chosen(MONTHS[3:]), **assets(*CHAIN))] = (CHAIN, chosen(MONTHS[3:]))
    for backfill, (expected, partitions) in backfills.items():
        wait(lambda backfill=backfill: ui.status(backfill).startswith("COMPLETED_"))  # type: ignore[misc]
        assert ui.status(backfill) == "COMPLETED_SUCCESS"
        assert ui.made(backfill) == {name: Counter(partitions) for name in expected}
