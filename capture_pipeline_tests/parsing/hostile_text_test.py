"""Tests that hostile text from any source is escaped and cut, or rejected."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.console import emit_table, output_console
from capture_pipeline.cli.main import main
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline_tests.support.attack import ATTACK, LONG, MARK, check_printable, check_shown
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.exchange.answers import answer, close_web_socket, server

CAPTURE = str(Path(sys.executable).with_name("capture"))
NAME = ATTACK.replace("/", "") + "A" * 60
"""The same as the name of a file: no slash, at most 255 bytes."""
PLAIN_NAME = NAME.replace("\r\n", "")
"""The same without a line end: a folder is searched for names of one line."""
REASON = f"{MARK}\x1b[31m\x1b]8;;http://evil\x07\u009b0m\u202e\r\n[bold]b[/bold]<script>"
QUICK = {
    "CAPTURE_HTTP_ATTEMPTS": "1",
    "CAPTURE_RECORDING_FREE_DISK_GB": "0.001",
    "CAPTURE_RECORDING_STEADY_S": "1",
}


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=environment, catch_exceptions=False)


def deployment_at(url: str, root: Path) -> dict[str, str]:
    return SandboxDeployment(url, root, **QUICK).environment()


def refuse(connection: socket.socket, _: str) -> None:
    answer(connection, {"code": -1100, "msg": LONG[:5000]}, "400 Bad Request")


def redirect(connection: socket.socket, _: str) -> None:
    answer(connection, {}, "302 Found", Location=f"http://evil/{MARK}\x1b[31m\x7f{'A' * 5000}")


def list_names(connection: socket.socket, request: str) -> None:
    """Return a listing of hostile keys whose next page does not advance, or a hostile checksum file."""
    if ".CHECKSUM" in request.partition("\n")[0]:
        answer(connection, LONG.encode())
    elif "prefix=" in request.partition("\n")[0]:
        key = f"{MARK}&#x9b;31m&#x202e;" + "A" * 5000
        item = (
            f"<Contents><Key>{key}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            "<Size>1</Size><ETag>x</ETag></Contents>"
        )
        answer(
            connection, f"<ListBucketResult><IsTruncated>true</IsTruncated>{item}</ListBucketResult>".encode()
        )
    elif "/time" in request:
        answer(connection, {"serverTime": 1_740_047_400_000})
    else:
        answer(connection, LONG.encode())


@pytest.mark.parametrize("handle", [refuse, redirect, list_names])
@pytest.mark.parametrize(
    "command", [("klines", "backfill"), ("klines", "topup"), ("klines", "backfill", "--json")]
)
def test_an_answer_of_rest_or_of_the_archive(
    handle: object, command: tuple[str, ...], tmp_path: Path
) -> None:
    with server(handle) as url:  # type: ignore[arg-type]
        result = run(*command, **deployment_at(url, tmp_path))
    assert result.exit_code != 0
    check_shown(result.stderr) if handle is not list_names else check_printable(result.stderr)
    check_printable(result.stdout)


def test_a_symbol_that_the_exchange_lists(tmp_path: Path) -> None:
    """The listed symbol is similar to the requested one, so that the error suggests it."""

    def handle(connection: socket.socket, request: str) -> None:
        if "symbols=" in request.partition("\n")[0]:
            answer(connection, {"code": -1121, "msg": "Invalid symbol."}, "400 Bad Request")
        elif "exchangeInfo" in request:
            answer(connection, {"symbols": [{"symbol": f"{MARK}USDT\x1b\u202e", "status": "TRADING"}]})
        else:
            answer(connection, {"serverTime": int(time.time() * 1000)})

    with server(handle) as url:
        result = run(
            "session",
            "preflight",
            "--symbol",
            f"{MARK}USDT",
            "--seconds",
            "1",
            **deployment_at(url, tmp_path),
        )
    assert result.exit_code == 1
    assert f"did you mean {MARK}USDT\\x1b\\u202e?" in result.stdout
    check_shown(result.stdout)


def read_status(folder: Path) -> str:
    path = next(folder.rglob("status.json"), None)
    with_error = path.read_text() if path else ""
    return with_error if MARK in with_error else ""


def test_the_reason_of_a_closed_connection(tmp_path: Path) -> None:
    """The reason appears on standard error, in `status.json`, in the status command and in the log."""

    def handle(connection: socket.socket, request: str) -> None:
        if "upgrade: websocket" in request.lower():
            close_web_socket(connection, request, 4000, REASON)
        elif "exchangeInfo" in request:
            answer(connection, {"symbols": [{"symbol": "BTCUSDT", "status": "TRADING"}]})
        else:
            answer(connection, {"serverTime": int(time.time() * 1000)})

    with server(handle) as url:
        told = deployment_at(url, tmp_path)
        command = [CAPTURE, "session", "start", "--symbol", "BTCUSDT", "--duration", "5m"]
        said = tmp_path / "said"
        with (
            said.open("wb") as log,
            subprocess.Popen(command, env={**os.environ, **told}, stderr=log) as process,
        ):
            try:
                deadline = time.monotonic() + 60
                while (
                    not ((status := read_status(tmp_path)) and MARK in said.read_text())
                    and time.monotonic() < deadline
                ):
                    assert process.poll() is None, said.read_text()
                    time.sleep(0.05)
                shown = run("session", "status", **told)
                document = run("session", "status", "--json", **told)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(60)
    check_shown(status)
    check_shown(shown.stdout)
    check_printable(document.stdout)
    check_shown(said.read_text())
    check_printable(next(tmp_path.rglob("events.jsonl")).read_text())


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """Create a folder with a recording of a hostile name and a hostile stream."""
    folder = tmp_path / "captures"
    folder.mkdir()
    line = json.dumps({"capture_ns": 1_740_047_400_000_000_000, "stream": LONG, "data": {"e": LONG}})
    (folder / f"{NAME}.jsonl.gz").write_bytes(gzip.compress(line.encode() + b"\n"))
    (folder / f"{PLAIN_NAME}.jsonl.gz").write_bytes(gzip.compress(line.encode() + b"\n"))
    (folder / "torn.jsonl.gz").write_bytes(gzip.compress(LONG.encode() + b"\n"))
    return folder


def test_names_and_streams_of_recordings(captures: Path, tmp_path: Path) -> None:
    """`diagnose`, `validate` and `import` print names of files and streams, and numbers of lines."""
    for file in captures.iterdir():
        check_printable(run("session", "validate", str(file)).output)
    check_shown(run("session", "validate", str(captures / f"{NAME}.jsonl.gz")).output)
    check_shown(run("session", "diagnose", str(captures)).output)
    check_printable(run("session", "diagnose", "--json", str(captures)).output)
    for origin in ("hftbacktest", "cryptofeed", "binance-data-processor"):
        names = [str(file) for file in captures.iterdir()]
        result = run("session", "import", "--format", origin, "--out", str(tmp_path / "out"), *names)
        check_printable(result.output)


def test_a_file_of_another_tool_with_a_hostile_stream(tmp_path: Path) -> None:
    """The stream is rejected, and the error contains its cut name."""
    message = {"stream": f"btcusdt@trade{LONG}", "data": {"e": "trade", "s": "BTCUSDT"}}
    path = tmp_path / "capture"
    path.write_text("1740047400000000000 " + json.dumps(message) + "\n")
    result = run("session", "import", "--format", "hftbacktest", "--out", str(tmp_path / "out"), str(path))
    assert result.exit_code == 2
    check_shown(result.output)


def test_names_that_the_command_line_itself_refuses(tmp_path: Path) -> None:
    """The library click quotes a missing file, an unknown option and an unknown command."""
    for arguments in (
        ("session", "validate", str(tmp_path / NAME)),
        ("session", "validate", f"--{NAME}"),
        (f"{NAME}",),
        (f"--{LONG}",),
        (LONG,),
        ("session", "validate", f"--{LONG}"),
        ("session", "replay", NAME),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        check_shown(result.output)


def test_values_of_settings(tmp_path: Path) -> None:
    """The values are in the environment and in the file, whose own name may be hostile too."""
    path = tmp_path / f"{NAME}.yaml"
    path.write_text(json.dumps({"interval": LONG, LONG: 1}))
    check_shown(run("config", "show", "--config", str(path)).output)
    check_shown(run("config", "show", CAPTURE_SYMBOLS=ATTACK.replace("\x00", "")).output)


def test_a_junit_file_is_xml_whatever_its_errors_quote(tmp_path: Path) -> None:
    """The root of the lake has a hostile name, and a file is in the place of a folder."""
    root = tmp_path / NAME
    root.mkdir()
    (root / "state").write_text("no folder")
    junit = tmp_path / "junit.xml"
    with server(refuse) as url:
        result = run("check", "--junit", str(junit), **deployment_at(url, root))
    assert result.exit_code == 2
    check_shown(result.output)
    told = ET.fromstring(junit.read_bytes())
    check_shown(str([error.get("message") for error in told.iter("error")]))
    assert all(letter.isprintable() or letter == "\n" for letter in junit.read_text())


def test_a_table_and_a_line_of_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    """Cells, headings and titles are escaped, and markup of rich is printed as text."""
    emit_table(ATTACK, (ATTACK, "b"), [{ATTACK: LONG, "b": ATTACK}])
    emit_table(ATTACK, (ATTACK,), [{ATTACK: LONG}], plain=True)
    output_console().print(ATTACK)
    shown = capsys.readouterr().out
    check_shown(shown)
    assert "[bold]b[/bold]" in shown


def test_a_folder_of_sessions_with_a_hostile_name(tmp_path: Path) -> None:
    """`session list` and `session status` read the folder."""
    folder = SessionFolder(tmp_path / "sessions" / "custom" / NAME[:100])
    folder.path.mkdir(parents=True)
    folder.plan.write_text("{")
    for command in ("list", "status"):
        check_printable(
            run("session", command, "--out", str(tmp_path / "sessions"), CAPTURE_CONFIG="").output
        )


def test_no_raw_character_is_in_the_line_of_an_error() -> None:
    """The error class escapes its own text."""
    result = run("sql", f"select '{MARK}' as \"\x1b\u202e\"", "--config", "/nowhere\x1b/x.yaml")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", result.output)
