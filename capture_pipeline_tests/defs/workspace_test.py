"""workspace.yaml and the instance settings, as Dagster loads them, and the processes of `capture ui`."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE, STDOUT

import dagster as dg
import pytest
import yaml

from capture_pipeline_tests.support.dagster.ui import (
    PROGRAMS,
    ROOT,
    environment,
    free_port,
    make_project,
    query_graphql,
    run_ui,
    wait_for_daemons,
)

LOOPBACK = "0100007F"
SENSORS = "{repositoriesOrError {... on RepositoryConnection {nodes {sensors {name}}}}}"
STAND_IN = f"""#!{sys.executable}
import pathlib, signal, socket, sys, time
name = "code-server" if "code-server" in sys.argv else pathlib.Path(sys.argv[0]).name
here = pathlib.Path(sys.argv[0]).parent
def end(*_):
    (here / (name + ".ended")).touch()
    sys.exit(0)
signal.signal(signal.SIGINT, end)
if name == "code-server":
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[-1])
    server.listen()
(here / (name + ".up")).touch()
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


def validate(project: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / "dagster"), "definitions", "validate", "-m", "capture_pipeline.definitions"]
    return subprocess.run(
        command,
        cwd=project,
        env=environment(project, **more),
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_workspace_loads(project: Path) -> None:
    """It loads in another folder than the repository, with a code server on a free port."""
    workspace, port = yaml.safe_load((project / "workspace.yaml").read_text()), free_port()
    server = workspace["load_from"][0]["grpc_server"]
    assert (server["host"], server["port"]) == ("127.0.0.1", 4266)
    server["port"] = port
    (project / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    command = [
        str(PROGRAMS / "dagster"),
        "code-server",
        "start",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-m",
        "capture_pipeline.definitions",
    ]
    with subprocess.Popen(command, cwd=project, env=environment(project)) as code_server:
        try:
            deadline = time.monotonic() + 120
            while not addresses(port):
                assert code_server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            list_jobs = [str(PROGRAMS / "dagster"), "job", "list", "-w", "workspace.yaml"]
            result = subprocess.run(
                list_jobs,
                cwd=project,
                env=environment(project),
                stdout=PIPE,
                stderr=STDOUT,
                text=True,
                check=False,
            )
            assert result.returncode == 0, result.stdout
            assert "initial_backfill" in result.stdout
        finally:
            code_server.terminate()


@pytest.mark.slow
def test_loading_warns_of_nothing(project: Path) -> None:
    """Preview and beta features are used on purpose; warnings would hide other messages."""
    program = "import capture_pipeline.definitions as loaded; loaded.defs().get_repository_def()"
    command = [sys.executable, "-W", "always", "-c", program]
    result = subprocess.run(
        command, cwd=project, env=environment(project), stdout=PIPE, stderr=STDOUT, text=True, check=True
    )
    assert [
        line for line in result.stdout.splitlines() if "PreviewWarning" in line or "BetaWarning" in line
    ] == []


@pytest.mark.slow
def test_a_wrong_setting_shows_as_its_one_line(project: Path) -> None:
    """The line contains file, key and suggestion."""
    wrong = project / "pipeline.yaml"
    wrong.write_text("symbls: [BTCUSDT]\n")
    result = validate(project, CAPTURE_CONFIG=str(wrong))
    assert result.returncode == 1
    lines = [line for line in result.stdout.splitlines() if "symbls" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"capture_pipeline.errors.ConfigError: {wrong}: symbls: unknown key; did you mean symbols? "
        "allowed: alerts, archive, "
    )


def test_the_instance_is_as_it_should_be(project: Path) -> None:
    """Telemetry and nux are off; queue, pools, monitoring and retention are as written."""
    with dg.DagsterInstance.from_config(str(project / "dagster_home")) as instance:
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False
        queue = instance.get_concurrency_config()
        assert queue.run_queue_config is not None
        assert queue.run_queue_config.max_concurrent_runs == 7
        assert queue.run_queue_config.max_user_code_failure_retries == 60
        assert queue.pool_config.default_pool_limit == 3
        assert instance.run_monitoring_enabled is True
        assert instance.run_retries_enabled is True
        assert instance.run_retries_max_retries == 1
        assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False


def test_the_example_for_postgres_is_a_storage_key(project: Path) -> None:
    """It can be added to dagster.yaml unchanged, and contains no secret."""
    example = yaml.safe_load((ROOT / "dagster_home" / "postgres.example.yaml").read_text())
    assert example == {"storage": {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}}
    assert "storage" not in yaml.safe_load((project / "dagster_home" / "dagster.yaml").read_text())


def addresses(port: int) -> set[str]:
    """Return the addresses that listen on a port, as the kernel writes them."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {
        line[1].split(":")[0] for line in lines if line[3] == "0A" and int(line[1].split(":")[1], 16) == port
    }


@pytest.mark.slow
def test_the_ui_listens_on_loopback_alone(project: Path) -> None:
    """All daemons are healthy, no other address listens, and Ctrl-C ends all processes."""
    port = free_port()
    with run_ui(project, port) as process:
        found = wait_for_daemons(port)
        assert {"SENSOR", "SCHEDULER", "ASSET", "BACKFILL", "QUEUED_RUN_COORDINATOR", "MONITORING"} <= {
            daemon["daemonType"] for daemon in found
        }
        assert [daemon["lastHeartbeatErrors"] for daemon in found if daemon["lastHeartbeatErrors"]] == []
        (repository,) = query_graphql(port, SENSORS)["repositoriesOrError"]["nodes"]
        assert {"month_close_sensor", "gap_fill_sensor"} <= {
            sensor["name"] for sensor in repository["sensors"]
        }
        assert addresses(port) == {LOOPBACK}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert addresses(port) == set()
    assert "Traceback" not in (project / "ui.log").read_text()


@pytest.mark.slow
def test_the_instance_is_made_before_the_two_processes_look_for_it(project: Path) -> None:
    """Two processes would damage each other's files; a failure is reported in one line."""
    (project / "dagster_home" / "dagster.yaml").write_text("telemetrie: {enabled: false}\n")
    with run_ui(project, 1) as process:
        assert process.wait(60) == 2
    (line,) = (project / "ui.log").read_text().splitlines()
    assert line.startswith(
        f"Error: Dagster's instance in {project / 'dagster_home'} cannot be loaded: Error 1: "
    )
    assert 'unexpected config entry "telemetrie"' in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes_and_the_ui_with_0(number: signal.Signals, project: Path) -> None:
    """Each process gets a signal; stand-ins replace Dagster's programs."""
    programs = [project / name for name in ("code-server", "python", "dagster-daemon")]
    for path in (project / "dagster", *programs[1:]):  # the webserver and the code server are modules
        path.write_text("#!/bin/sh\n" if path.name == "dagster" else STAND_IN)
        path.chmod(0o755)
    code = (
        f"import sys; sys.executable = {str(project / 'python')!r}; "
        "from capture_pipeline.cli.main import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "ui"], cwd=project, env=environment(project), stdout=PIPE
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not all(path.with_name(f"{path.name}.up").exists() for path in programs):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert all(path.with_name(f"{path.name}.ended").exists() for path in programs)
