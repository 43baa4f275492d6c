"""Shared fixtures, and a hypothesis profile without deadlines for slow machines."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data"

# A shell that starts the tests in the background makes them, and the programs they start, deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "default", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Return the folder of real recordings, which are no part of the project."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings at {RECORDINGS}")
    return RECORDINGS


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's CAPTURE_ variables, proxies and certificates from the environment."""
    import os  # noqa: PLC0415 - only here

    from capture_pipeline_tests.support.exchange.network import clear_environment  # noqa: PLC0415

    for name in [name for name in os.environ if name.startswith("CAPTURE_")]:
        monkeypatch.delenv(name)
    clear_environment(monkeypatch)


_WARM_UP = {
    "klines": "from capture_pipeline_tests.support.kernels import klines as warm_up; warm_up()",
    "books": "from capture_pipeline_tests.support.kernels import books as warm_up; warm_up()",
    "streams": "from capture_pipeline_tests.support.kernels import streams as warm_up; warm_up()",
}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels before the workers start.

    Otherwise each worker compiles them at the same time. Later runs read them from a cache.
    """
    if hasattr(session.config, "workerinput") or not getattr(session.config.option, "numprocesses", None):
        return
    root = Path(__file__).resolve().parents[1]
    for process in [subprocess.Popen([sys.executable, "-c", code], cwd=root) for code in _WARM_UP.values()]:
        process.wait()


_DEPLOYMENTS = {
    "deployments 1": (
        "defs/pages_test.py",
        "defs/recordings_test.py",
        "defs/services_test.py",
        "defs/new_month_test.py",
    ),
    "deployments 2": (
        "defs/backfills_test.py",
        "defs/alerts_test.py",
        "defs/arrivals_ui_test.py",
        "defs/workspace_test.py",
    ),
}
"""Modules that run webserver, code server, daemon and runs, below this folder.

One worker runs all modules of a group, one after the other.
"""
_LONGEST = (
    "defs/sessions_test.py",
    "recorder/limits_test.py",
    "cli/demo_test.py",
    "recorder/quiet_test.py",
    "klines/rest_faults_test.py",
    "recorder/session_test.py",
    "recorder/combined_faults_test.py",
    "recorder/status_test.py",
    "cli/session_test.py",
    "cli/fetch_test.py",
    "golden/prove_test.py",
    "recorder/refills_test.py",
    "recorder/accounting_test.py",
    "klines/archive_faults_test.py",
    "recorder/hostile_test.py",
)
"""The other modules of more than 40 s, the longest first, below this folder."""


class _Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A worker takes a whole module, or a whole group of `_DEPLOYMENTS`.

    A deployment is ten processes. More than two deployments at once delay each other and what the other tests
    wait for.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = str(super()._split_scope(nodeid))
        return next((group for group, modules in _DEPLOYMENTS.items() if module.endswith(modules)), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Distribute the modules among the workers."""
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first.

    A worker that started one of them last would be the only busy worker at the end.
    """
    names = (*(name for modules in _DEPLOYMENTS.values() for name in modules), *_LONGEST)
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(names)}
    assert all(path.is_file() for path in ranks), "a module that is named here is gone"
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish() -> None:
    """Exclude modules and collected tests from the garbage collector, which would look at them often."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Return all objects to the collector: DuckDB reports those that are left at the end of a process."""
    gc.unfreeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name cases of bytes by their argument.

    The bytes of a zip contain a time, so that a name made from them would differ between workers.
    """
    return argname if isinstance(val, bytes) else None
