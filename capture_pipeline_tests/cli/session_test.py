"""The commands `capture session …` against the streams of the sandbox."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from capture_pipeline.checks.preflight import PREFLIGHT_CHECKS
from capture_pipeline.cli.main import main
from capture_pipeline.recorder.lifecycle import create_plan, list_sessions, prepare, sessions_root
from capture_pipeline.sessions.lock import session_lock
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.sessions.status import read_status
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment
from capture_pipeline_tests.support.sessions.recorder import BUSY, QUICK

pytestmark = pytest.mark.slow


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[SandboxDeployment]:
    """Start a deployment whose market runs at twenty times the real speed."""
    with run_sandbox_deployment(
        tmp_path / "data", {"frozen": False, "speed": 20, "symbols": [BUSY]}
    ) as sandbox:
        yield sandbox


def capture(sandbox: SandboxDeployment, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        main, list(arguments), env=sandbox.environment(**QUICK, **environment), catch_exceptions=False
    )


def test_a_session_is_started_listed_shown_and_validated(exchange: SandboxDeployment) -> None:
    """Ids are missing during the session: the book is synchronised again, lost trades are downloaded.

    The summary at the end counts both.
    """
    drop = {"fault": "ws_drop", "times": 2, "after": 60}
    exchange.faults({**drop, "match": {"stream": "*@depth*"}}, {**drop, "match": {"stream": "*@trade"}})
    started = capture(
        exchange, "session", "start", "--symbol", "btcusdt", "--duration", "9s", "--regime", "custom"
    )
    assert started.exit_code == 0, started.output
    assert "complete:" in started.stdout
    folder = list_sessions(sessions_root(exchange.deployment.settings))[0]
    metadata = SessionMetadata.model_validate_json(folder.metadata.read_bytes())
    assert metadata.statistics["gaps"] == 2
    assert [audit["clean"] for audit in metadata.audits] == [True] * len(metadata.audits)
    status = read_status(folder.status)
    assert status is not None
    assert status.lag_ms is None  # the sandbox's clock is in another year
    listed = json.loads(capture(exchange, "session", "list", "--json").stdout)
    assert [(row["session"], row["state"], row["gaps"]) for row in listed] == [
        (folder.session, "complete", 2)
    ]
    assert folder.session in capture(exchange, "session", "list").stdout
    shown = capture(exchange, "session", "status", folder.session)
    assert shown.exit_code == 0
    assert "BTCUSDT synced" in shown.stdout
    assert shown.stdout.splitlines()[-1] == f"{folder.session}: complete"
    report = capture(exchange, "session", "validate", str(folder.path), "--json")
    checks = {check["name"]: check["verdict"] for check in json.loads(report.stdout)["checks"]}
    assert (report.exit_code, checks["ledger"], checks["streams"], checks["disk"]) == (
        1,
        "PASS",
        "PASS",
        "PASS",
    )


def test_a_session_at_work_is_stopped_from_elsewhere(exchange: SandboxDeployment) -> None:
    """The request is in a file, so that the recorder sees it even if a signal is lost."""

    def stop_soon() -> None:
        root = sessions_root(exchange.deployment.settings)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            folders = [
                folder
                for folder in list_sessions(root)
                if folder.growing.exists() and folder.growing.stat().st_size > 20_000
            ]
            if folders:
                folders[0].ending.write_text('{"state": "interrupted"}')
                return
            time.sleep(0.05)

    stopper = threading.Thread(target=stop_soon)
    stopper.start()
    started = capture(exchange, "session", "start", "--duration", "10m")
    stopper.join()
    assert started.exit_code == 0, started.output
    assert "interrupted:" in started.stdout


def test_what_was_left_is_finished_by_stop(exchange: SandboxDeployment) -> None:
    """Nothing was recorded: the session ends as empty and blocks no other session."""
    settings = exchange.deployment.settings
    folder = prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 600))
    open_ones = json.loads(capture(exchange, "session", "status", "--json").stdout)
    assert [(one["session"], one["state"]) for one in open_ones] == [(folder.session, "interrupted")]
    done = capture(exchange, "session", "stop", folder.session)
    assert (done.exit_code, str(folder.metadata) in done.stdout) == (0, True)
    assert "No session is open" in capture(exchange, "session", "status").stdout


def test_a_session_of_which_nothing_came_says_why_and_ends_with_1(exchange: SandboxDeployment) -> None:
    """No server answers: the recorder reports it once during the session and again at the end.

    The status contains the reason too.
    """
    result = capture(
        exchange, "session", "start", "--duration", "5s", CAPTURE_SANDBOX_URL="http://127.0.0.1:9"
    )
    folder = list_sessions(sessions_root(exchange.deployment.settings))[0]
    told = [line for line in result.stderr.splitlines() if "cannot connect to ws://127.0.0.1:9" in line]
    assert result.exit_code == 1, result.output
    assert len(told) == 2, result.stderr
    assert told[-1].startswith(f"Error: {folder.session} ended without a message: cannot connect")
    assert "Connect call failed" in told[-1]
    assert "messages" not in result.stdout
    status = read_status(folder.status)
    assert status is not None
    assert (status.state, "Connect call failed" in status.last_error) == ("empty", True)
    assert "Connect call failed" in capture(exchange, "session", "status", folder.session).output


def test_an_unknown_symbol_ends_with_2_before_anything_is_recorded(exchange: SandboxDeployment) -> None:
    """The recorder requests the symbol list; it creates no session and proposes a similar symbol."""
    result = capture(exchange, "session", "start", "--symbol", "BTCUSTD", "--duration", "60s")
    assert (result.exit_code, "does not know BTCUSTD" in result.stderr, "BTCUSDT" in result.stderr) == (
        2,
        True,
        True,
    ), result.output
    assert not list_sessions(sessions_root(exchange.deployment.settings))


def test_a_recording_does_not_wait_for_an_exchange_that_cannot_list_its_symbols(
    exchange: SandboxDeployment,
) -> None:
    """REST hangs and the streams deliver.

    The request times out, a line reports it, and the session is complete.
    """
    exchange.faults({"match": {"path": "*/exchangeInfo"}, "fault": "timeout", "times": "always"})
    result = capture(exchange, "session", "start", "--duration", "5s", CAPTURE_HTTP_READ_TIMEOUT_S="600")
    assert exchange.injected() == 1
    assert (result.exit_code, "could not be checked; the recording begins nevertheless" in result.stderr) == (
        0,
        True,
    ), result.output
    assert "complete:" in result.stdout


def test_a_recorder_without_a_message_says_so_after_ten_seconds(exchange: SandboxDeployment) -> None:
    """Connections open but deliver no message; snapshots from REST do not count."""
    exchange.faults({"match": {"stream": "*"}, "fault": "ws_drop", "times": "always"})
    result = capture(exchange, "session", "start", "--duration", "14s")
    told = [line for line in result.stderr.splitlines() if "no message was received within 10 s" in line]
    assert len(told) == 1, result.output
    assert "the recorder continues to try" in told[0]


def test_a_session_that_another_recorder_has_is_refused_and_nothing_else_is_told(
    exchange: SandboxDeployment,
) -> None:
    """No line reports a resumption."""
    settings = exchange.deployment.settings
    folder = prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 600))
    with session_lock(folder):
        started = capture(exchange, "session", "start", "--duration", "5s")
    assert (started.exit_code, started.stderr.count("\n"), "is being recorded by" in started.stderr) == (
        2,
        1,
        True,
    ), started.output


def test_without_sessions_the_list_says_so(exchange: SandboxDeployment) -> None:
    """The message replaces an empty table."""
    assert capture(exchange, "session", "list").stdout.startswith("There is no session in ")
    assert json.loads(capture(exchange, "session", "list", "--json").stdout) == []


@pytest.mark.parametrize("name", ["session.json", "metadata.json"])
def test_a_damaged_session_keeps_no_other_from_being_listed(name: str, exchange: SandboxDeployment) -> None:
    """The table, JSON and `status` name the session and its problem.

    The exit code is 1, as for every list with a damaged part.
    """
    settings = exchange.deployment.settings
    broken, sound = (
        prepare(sessions_root(settings), create_plan(settings, [symbol], "custom", 600))
        for symbol in ("ETHUSDT", "BTCUSDT")
    )
    (broken.path / name).write_text("{")
    listed = capture(exchange, "session", "list", "--json")
    rows = {row["session"]: row for row in json.loads(listed.stdout)}
    assert (listed.exit_code, rows[sound.session]["state"], rows[broken.session]["state"]) == (
        1,
        "interrupted",
        "damaged",
    )
    assert "is damaged" in rows[broken.session]["error"]
    shown = capture(exchange, "session", "list")
    assert (shown.exit_code, sound.session in shown.stdout, broken.session in shown.stdout) == (1, True, True)
    assert f"{broken.session} is damaged: {broken.path / name}" in shown.stderr
    status = capture(exchange, "session", "status", broken.session)
    assert (status.exit_code, "is damaged" in " ".join(status.output.replace("│", " ").split())) == (1, True)
    assert capture(exchange, "session", "status", sound.session).exit_code == 0
    everyone = capture(exchange, "session", "status", "--json")
    assert (everyone.exit_code, sound.session in everyone.stdout) == (int(name == "session.json"), True)


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["session", "start", "--duration", "9x"], {}, "is not a duration"),
        (["session", "start", "--symbol", "btc/usdt"], {}, "is not a symbol"),
        (["session", "start", "--regime", "../x"], {}, "is not a valid regime"),
        (["session", "start", "--duration", "99999d"], {}, "a session cannot last"),
        (
            ["session", "start"],
            {"CAPTURE_RECORDING_FREE_DISK_GB": "999999"},
            "but a session needs",
        ),
        (["session", "stop", "20260803T143000Z_btcusdt"], {}, "is not a session here"),
        (["session", "status", "nothing"], {}, "is not a session here"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], environment: dict[str, str], told: str, exchange: SandboxDeployment
) -> None:
    """No file is created."""
    env = exchange.environment(**{**QUICK, **environment})
    result = CliRunner().invoke(main, arguments, env=env, catch_exceptions=False)
    assert (result.exit_code, told in result.stderr) == (2, True), result.output
    assert not list_sessions(sessions_root(exchange.deployment.settings))


def test_the_plan_is_shown_as_a_calendar(exchange: SandboxDeployment) -> None:
    """The default plan has three sessions a week."""
    rows = json.loads(capture(exchange, "session", "plan", "--days", "7", "--json").stdout)
    assert {row["regime"] for row in rows} == {"high_volume", "low_volume", "special_event"}
    assert "options expiry" in capture(exchange, "session", "plan").stdout


def test_a_preflight_passes_against_an_exchange_that_answers(exchange: SandboxDeployment) -> None:
    """Each check prints its measurement."""
    result = capture(exchange, "session", "preflight", "--seconds", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line[:4] for line in lines] == ["PASS"] * 10 + ["SEEN"] * 9
    names = [line[6:20].strip() for line in lines]
    assert [*names[:10], names[-1]] == [spec.name for spec in PREFLIGHT_CHECKS]


def test_a_preflight_fails_with_a_remedy_where_nobody_answers(exchange: SandboxDeployment) -> None:
    """The exit code is 1; each failing check prints a remedy."""
    dead = exchange.environment(**QUICK, CAPTURE_SANDBOX_URL="http://127.0.0.1:9", CAPTURE_HTTP_ATTEMPTS="1")
    result = CliRunner().invoke(
        main, ["session", "preflight", "--seconds", "1", "--json"], env=dead, catch_exceptions=False
    )
    failed = {
        finding["name"]: finding["remedy"] for finding in json.loads(result.stdout) if not finding["passed"]
    }
    assert result.exit_code == 1
    assert failed.keys() == {"requests", "test capture"}
    assert all(failed.values())
    assert requests.get(f"{exchange.url}/api/v3/ping", timeout=5).status_code == 200
