"""The systemd units in `deploy/systemd`: their form, and their commands as real processes that are ended as systemd ends them."""

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
from capture_pipeline_tests.defs.recordings_test import BUSY, SETTINGS, Desk, recorded, starts
from capture_pipeline_tests.defs.ui import ROOT, Ui, daemons, environment, free_port, make_project
from capture_pipeline_tests.deployment import Deployment
from capture_pipeline_tests.waiting import wait_for
from sandbox_exchange.config import SandboxConfig
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
    """The settings of a unit's sections, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_every_service_leaves_the_processes_that_it_started() -> None:
    """A stop ends the main process alone, a death is followed by a restart, and the guide names each unit."""
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
    """Every setting is known to systemd, and every command is there; in the place of /opt/capture_pipeline this folder."""
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
        """Give the project its ports."""
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
        """Kill all that the commands started, whoever its parent is."""
        for pid in processes_of(self.project):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._running:
            process.wait()

    def stop(self, unit: str, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM to the main process, and SIGKILL to it alone where that does not end it in time."""
        process.terminate()
        try:
            process.wait(int(settings_of(unit)["TimeoutStopSec"][0]))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processes_of(project: Path) -> list[int]:
    """Every process with the environment of a project, whoever its parent is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"DAGSTER_HOME={project}/".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def services(tmp_path: Path) -> Iterator[tuple[Services, Deployment]]:
    """The services of a deployment at an exchange whose clock runs; nothing of them is left at the end."""
    project = make_project(tmp_path)
    with SandboxServer(
        SandboxConfig.model_validate({"now": "2025-02-20T10:30:00Z", "speed": 20, "symbols": BUSY})
    ) as server:
        made = Services(project, {**SETTINGS, "CAPTURE_SANDBOX_URL": server.url})
        try:
            yield made, Deployment(server.url, project / "data", **SETTINGS)
        finally:
            made.end()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_and_recorders_go_on_while_the_services_are_restarted(
    services: tuple[Services, Deployment],
) -> None:
    """The same recorder and the same run before and after; the run succeeds once the session ends."""
    made, deployment = services
    assert made.run(CODE_SERVER, "ExecStartPre").wait() == 0
    running = {unit: made.run(unit) for unit in (CODE_SERVER, DAEMON, WEBSERVER)}
    desk = Desk(Ui(int(made.ports["3000"]), made.project / "dagster_home"), deployment)
    daemons(desk.ui.port)
    wait_for(lambda: "golden_samples" in str(desk.ui.ask(LOADED)), 240)
    folder = desk.session("BTCUSDT")
    run = desk.materialize(folder)
    recorder = recorded(folder)
    wait_for(lambda: desk.run(run)["status"] == "STARTED", 240)
    follower = desk.process(run)

    for unit, process in running.items():
        made.stop(unit, process)
    assert {recorder, follower} < set(processes_of(made.project))
    for unit in running:
        made.run(unit)
    daemons(desk.ui.port)
    assert recorded(folder) == recorder
    assert [(each["runId"], each["status"]) for each in desk.runs(folder)] == [(run, "STARTED")]
    desk.end(folder)
    assert starts(folder) == 1
    assert folder.gaps.read_text() == ""


@pytest.mark.slow
def test_the_recorder_unit_resumes_its_session(services: tuple[Services, Deployment]) -> None:
    """After a kill, by the restart of systemd; after a stop, by the next start. The exit code of a stop is no failure."""
    made, deployment = services
    settings = settings_of(RECORDER)
    assert settings["Restart"] == ["on-failure"]
    process = made.run(RECORDER, instance="BTCUSDT")
    root = sessions_root(deployment.workspace.settings)
    wait_for(lambda: len(list_sessions(root)) == 1, 240)
    (folder,) = list_sessions(root)
    assert recorded(folder) == process.pid
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process = made.run(RECORDER, instance="BTCUSDT")
    assert recorded(folder) == process.pid
    made.stop(RECORDER, process)
    assert [str(process.returncode)] == settings["SuccessExitStatus"]
    made.run(RECORDER, instance="BTCUSDT")
    recorded(folder)
    assert starts(folder) == 3
    assert list_sessions(root) == [folder]
