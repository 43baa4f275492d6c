"""Backfills launched in the UI, with webserver, code server and daemon."""

import itertools
from collections import Counter
from collections.abc import Iterator

import dagster as dg
import pytest
import requests

from capture_pipeline_tests.support.dagster.stage import BTC, CHAIN, ETH, key
from capture_pipeline_tests.support.dagster.ui import (
    LOCATION,
    Ui,
    free_port,
    make_project,
    run_ui,
    suspend,
    wait_for_daemons,
)
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.waits import wait_for
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOW = "2024-05-10T12:00:30Z"
MONTHS = [f"2024-{month:02}" for month in range(1, 5)]
SETTINGS = {
    "CAPTURE_SYMBOLS": f"{BTC},{ETH}",
    "CAPTURE_HISTORY_START": f"{MONTHS[0]}-01",
    "CAPTURE_HISTORY_END": "2024-04-30",
    "CAPTURE_INTERVAL": "1d",
}


RELOAD = """mutation {reloadRepositoryLocation(repositoryLocationName: "capture_pipeline") {
  ... on WorkspaceLocationEntry {locationOrLoadError {__typename ... on PythonError {causes {message}}}}}
}"""

HEARTBEATS = "{instance {daemonHealth {allDaemonStatuses {daemonType lastHeartbeatTime}}}}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ui, SandboxDeployment]]:
    """Start `capture ui` with a sandbox exchange."""
    project, port = make_project(tmp_path_factory.mktemp("project")), free_port()
    (project / "pipeline.yaml").touch()
    with (
        SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server,
        run_ui(
            project,
            port,
            CAPTURE_SANDBOX_URL=server.url,
            CAPTURE_CONFIG=str(project / "pipeline.yaml"),
            **SETTINGS,
        ) as process,
    ):
        wait_for_daemons(port)
        yield (
            Ui(port, project / "dagster_home", process.pid),
            SandboxDeployment(server.url, project / "data", **SETTINGS),
        )


@pytest.fixture
def ui(site: tuple[Ui, SandboxDeployment]) -> Ui:
    return site[0]


def chosen(months: list[str], *symbols: str) -> list[str]:
    """Return the partitions of months, of both symbols if none is given."""
    return [key(month, symbol) for month, symbol in itertools.product(months, symbols or (BTC, ETH))]


def job(name: str) -> dict[str, object]:
    return {"selector": {"partitionSetName": f"{name}_partition_set", "repositorySelector": LOCATION}}


def assets(*names: str) -> dict[str, object]:
    return {"assetSelection": [{"path": [name]} for name in names]}


def test_a_backfill_makes_each_partition_that_was_chosen_once(ui: Ui) -> None:
    """Backfills of every partitioned job and of assets report success only for built partitions."""
    first, second, third, fourth = ([month] for month in MONTHS)
    launched: dict[str, tuple[tuple[str, ...], list[str]]] = {}
    for target, months in (
        (job("initial_backfill"), first + second),
        (job("daily_update"), third),
        (assets(*CHAIN), fourth),
    ):
        launched[ui.launch(chosen(months), **target)] = (CHAIN, chosen(months))
    assert {ui.wait_for_backfill(backfill) for backfill in launched} == {"COMPLETED_SUCCESS"}
    launched[ui.launch(chosen(first + second), **job("gap_fill"))] = (CHAIN[1:], chosen(first + second))
    launched[ui.launch(chosen(third), **job("month_close"))] = (
        (*CHAIN, "month_reconciliation"),
        chosen(third),
    )
    assert {ui.wait_for_backfill(backfill) for backfill in launched} == {"COMPLETED_SUCCESS"}
    for backfill, (expected, partitions) in launched.items():
        assert ui.count_materializations(backfill) == {name: Counter(partitions) for name in expected}


def test_a_failed_check_holds_back_its_own_partition_alone_and_the_next_run_by_hand_heals_it(
    site: tuple[Ui, SandboxDeployment],
) -> None:
    """The run ends at the blocking check of one partition; the automation completes the others.

    An earlier version of a raw file is altered on the disk; the check `raw_checksums` fails.
    """
    ui, exchange = site
    bad, everything = key(MONTHS[3], BTC), chosen(MONTHS[3:])
    assert ui.wait_for_backfill(ui.launch(everything, **job("initial_backfill"))) == "COMPLETED_SUCCESS"
    exchange.republish(f"data/spot/monthly/klines/{BTC}/1d/{BTC}-1d-{MONTHS[3]}.zip")
    (first,) = (exchange.root / "raw").rglob(f"{BTC}-1d-{MONTHS[3]}.*.zip")
    assert ui.run("initial_backfill", bad) == "SUCCESS"
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)

    before = ui.newest_ids("bar_gaps")
    assert ui.wait_for_backfill(ui.launch(everything, **job("gap_fill"))) == "COMPLETED_FAILED"
    completed = set(everything) - {bad}
    wait_for(
        lambda: (
            completed <= {name for name, number in ui.newest_ids("bar_gaps").items() if number > before[name]}
        ),
        180,
        every_s=1,
    )
    assert ui.newest_ids("bar_gaps")[bad] == before[bad]

    assert ui.run("initial_backfill", bad) == "SUCCESS"
    assert ui.newest_ids("bar_gaps")[bad] > before[bad]


def test_a_report_opens_in_the_browser(ui: Ui) -> None:
    """The webserver answers the link of the materialization; the page cannot run scripts."""
    assert ui.run("coverage") == "SUCCESS"
    with dg.DagsterInstance.from_config(str(ui.home)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("coverage_report"))
    assert event is not None
    assert event.asset_materialization is not None
    link = str(event.asset_materialization.metadata["open"].value)
    page = requests.get(f"http://127.0.0.1:{ui.port}{link}", timeout=30)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert BTC in page.text
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    for path in (
        "/reports/%2e%2e/catalog.duckdb",
        "/reports/..%2fcatalog.duckdb",
        "/reports//etc/passwd",
        "/reports/",
    ):
        assert requests.get(f"http://127.0.0.1:{ui.port}{path}", timeout=30).status_code == 404, path


def heartbeat(ui: Ui) -> float:
    """Return the time of the newest heartbeat of the daemon that launches runs of backfills."""
    found = ui.query(HEARTBEATS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    return max(float(daemon["lastHeartbeatTime"]) for daemon in found if daemon["daemonType"] == "BACKFILL")


def test_a_half_written_configuration_ends_no_backfill(ui: Ui) -> None:
    """One line names the file; after a repair and a reload, every partition is built once.

    The daemon is suspended, so that no run of the backfill begins before.
    """
    configuration = ui.home.parent / "pipeline.yaml"
    try:
        with suspend(ui.daemon()):
            backfill = ui.launch(chosen(MONTHS[:2], BTC), **job("daily_update"))
            configuration.write_text("interval: 1d\nhttp: {attempts: [")
            shown = ui.query(RELOAD)["reloadRepositoryLocation"]["locationOrLoadError"]
            assert shown["__typename"] == "PythonError"
            assert f"ConfigError: {configuration}: " in shown["causes"][-1]["message"]
            before = heartbeat(ui)
        wait_for(lambda: heartbeat(ui) > before, 180, "the daemon of backfills does not go on", every_s=1)
    finally:
        configuration.write_text("interval: 1d\n")
    assert (
        ui.query(RELOAD)["reloadRepositoryLocation"]["locationOrLoadError"]["__typename"]
        == "RepositoryLocation"
    )
    assert ui.wait_for_backfill(backfill) == "COMPLETED_SUCCESS"
    assert ui.count_materializations(backfill) == {name: Counter(chosen(MONTHS[:2], BTC)) for name in CHAIN}
