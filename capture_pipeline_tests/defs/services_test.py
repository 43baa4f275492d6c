"""The systemd units in `deploy/systemd`: their syntax, and their commands with the signals of systemd."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture_pipeline.recorder.lifecycle import list_sessions, sessions_root
from capture_pipeline_tests.support.dagster.recordings import BUSY, SETTINGS, Desk, recorded, starts
from capture_pipeline_tests.support.dagster.ui import (
    ROOT,
    Ui,
    environment,
    free_port,
    make_project,
    wait_for_daemons,
)
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.waits import wait_for
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

UNITS = ROOT / "deploy" / "systemd"
NAMES = [
    "capture-code-server.service",
    "capture-daemon.service",
    "capture-recorder@.service",
    "capture-webserver.service",
]
CODE_SERVER, DAEMON, RECORDER, WEBSERVER = NAMES
ANALYZE = shutil.which("systemd-analyze")
INSTALLED = "/opt/capture_pipeline"
LOADED = "{assetNodes {assetKey {path}}}"


def settings_of(unit: str) -> dict[str, list[str]]:
    """Return the values of the settings of a unit by section, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_every_service_leaves_the_processes_that_it_started() -> None:
    """A stop ends only the main process, systemd restarts a dead one, and the guide names each unit."""
    assert sorted(path.name for path in UNITS.iterdir()) == NAMES
    guide = (ROOT / "docs" / "deployment.md").read_text()
    for name in NAMES:
        settings = settings_of(name)
        assert settings["KillMode"] == ["process"], name
        assert settings["Restart"] in (["always"], ["on-failure"]), name
        assert name.removesuffix(".service") in guide, name
    assert settings_of(RECORDER)["StartLimitBurst"] == ["60"]


if ANALYZE is None and os.environ.get("TEST_TOOLS") == "required":
    raise RuntimeError("systemd-analyze is missing, and TEST_TOOLS=required")


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Systemd knows every setting, and every command exists; this folder replaces /opt/capture_pipeline."""
    assert ANALYZE is not None
    for name in NAMES:
        (tmp_path / name).write_text(
            (UNITS / name).read_text().replace(INSTALLED, str(ROOT)).replace("User=capture", "User=root")
        )
    names = [name.replace("@", "@BTCUSDT") for name in NAMES]
    shutil.copy(tmp_path / RECORDER, tmp_path / RECORDER.replace("@", "@BTCUSDT"))
    command = [ANALYZE, "verify", "--man=no", *(str(tmp_path / name) for name in names)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in (result.stdout + result.stderr).splitlines() if "capture-" in line] == []
    assert result.returncode == 0


class Services:
    """The commands of the units on free ports, with the signals of KillMode=process."""

    def __init__(self, project: Path, variables: dict[str, str]) -> None:
        """Select free ports for the project."""
        self.project, self._variables = project, variables
        self.ports = {"4266": str(free_port()), "3000": str(free_port())}
        workspace = project / "workspace.yaml"
        workspace.write_text(workspace.read_text().replace("4266", self.ports["4266"]))
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, unit: str, key: str = "ExecStart", instance: str = "") -> subprocess.Popen[bytes]:
        """Start a command of a unit in the project's folder, with the variables of its environment file."""
        settings = settings_of(unit)
        assert settings["WorkingDirectory"] == [INSTALLED]
        options = dict(shlex.split(value)[0].partition("=")[::2] for value in settings["Environment"])
        text = settings[key][0].replace(INSTALLED, str(ROOT)).replace("%i", instance)
        for name, value in options.items():
            text = text.replace(f"${name}", value)
        command = [self.ports.get(word, word) for word in shlex.split(text)]
        variables = environment(self.project, **self._variables)
        with (self.project / "services.log").open("a") as log:
            process = subprocess.Popen(command, cwd=self.project, env=variables, stdout=log, stderr=log)
        self._running.append(process)
        return process

    def end(self) -> None:
        """Kill all processes that the commands started, also orphans."""
        for pid in processes_of(self.project):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._running:
            process.wait()

    def stop(self, unit: str, process: subprocess.Popen[bytes]) -> None:
        """Send SIGTERM to the main process, and SIGKILL if it does not end in time."""
        process.terminate()
        try:
            process.wait(int(settings_of(unit)["TimeoutStopSec"][0]))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processes_of(project: Path) -> list[int]:
    """Return every process with the environment of a project, also orphans."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"DAGSTER_HOME={project}/".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def services(tmp_path: Path) -> Iterator[tuple[Services, SandboxDeployment]]:
    """Start the services of a deployment at an exchange with a running clock; kill them at the end."""
    project = make_project(tmp_path)
    with SandboxServer(
        SandboxConfig.model_validate({"now": "2025-02-20T10:30:00Z", "speed": 20, "symbols": BUSY})
    ) as server:
        units = Services(project, {**SETTINGS, "CAPTURE_SANDBOX_URL": server.url})
        try:
            yield units, SandboxDeployment(server.url, project / "data", **SETTINGS)
        finally:
            units.end()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_and_recorders_go_on_while_the_services_are_restarted(
    services: tuple[Services, SandboxDeployment],
) -> None:
    """Recorder and run stay the same; the run succeeds after the end of the session."""
    units, sandbox = services
    assert units.run(CODE_SERVER, "ExecStartPre").wait() == 0
    running = {unit: units.run(unit) for unit in (CODE_SERVER, DAEMON, WEBSERVER)}
    desk = Desk(Ui(int(units.ports["3000"]), units.project / "dagster_home"), sandbox)
    wait_for_daemons(desk.ui.port)
    wait_for(lambda: "golden_samples" in str(desk.ui.query(LOADED)), 240)
    folder = desk.session("BTCUSDT")
    run = desk.materialize(folder)
    recorder = recorded(folder)
    wait_for(lambda: desk.run(run)["status"] == "STARTED", 240)
    follower = desk.process(run)

    for unit, process in running.items():
        units.stop(unit, process)
    assert {recorder, follower} < set(processes_of(units.project))
    for unit in running:
        units.run(unit)
    wait_for_daemons(desk.ui.port)
    assert recorded(folder) == recorder
    assert [(each["runId"], each["status"]) for each in desk.runs(folder)] == [(run, "STARTED")]
    desk.end(folder)
    assert starts(folder) == 1
    assert folder.gaps.read_text() == ""


@pytest.mark.slow
def test_the_recorder_unit_resumes_its_session(services: tuple[Services, SandboxDeployment]) -> None:
    """After a kill systemd restarts it; after a stop the next start resumes. A stop exits with success."""
    units, sandbox = services
    settings = settings_of(RECORDER)
    assert settings["Restart"] == ["on-failure"]
    process = units.run(RECORDER, instance="BTCUSDT")
    root = sessions_root(sandbox.deployment.settings)
    wait_for(lambda: len(list_sessions(root)) == 1, 240)
    (folder,) = list_sessions(root)
    assert recorded(folder) == process.pid
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process = units.run(RECORDER, instance="BTCUSDT")
    assert recorded(folder) == process.pid
    units.stop(RECORDER, process)
    assert [str(process.returncode)] == settings["SuccessExitStatus"]
    units.run(RECORDER, instance="BTCUSDT")
    recorded(folder)
    assert starts(folder) == 3
    assert list_sessions(root) == [folder]
