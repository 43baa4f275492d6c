"""Tests of clock, request log, configuration, command line, and start and end of the server."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.errors import ConfigError
from sandbox_exchange.cli import sandbox as command
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.server.server import SandboxConfig, SandboxServer, load_config

NOW = "2024-06-01T12:00:00Z"


def test_clock_runs_stands_jumps_and_changes_speed() -> None:
    """Sandbox time follows real time at its speed, and continues after a change of speed."""
    real = [100.0]
    clock = SandboxClock(1_000_000, speed=2, real_s=lambda: real[0])
    real[0] += 3
    assert clock.now_us() == 7_000_000
    clock.set_speed(0)
    real[0] += 50
    assert clock.now_us() == 7_000_000
    clock.advance(1.5)
    assert clock.now_us() == 8_500_000
    clock.set(0)
    assert clock.now_us() == 0


def test_clock_is_controlled_over_http() -> None:
    """The clock can be set, advanced and accelerated; the REST time follows."""
    with SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server:
        url = f"{server.url}/_sandbox/clock"
        assert requests.get(url, timeout=30).json() == {"now": NOW, "now_us": parse_time(NOW), "speed": 0}
        assert (
            requests.post(url, json={"advance_s": 3600}, timeout=30).json()["now"] == "2024-06-01T13:00:00Z"
        )
        assert (
            requests.post(url, json={"now": "2024-07-01"}, timeout=30).json()["now"] == "2024-07-01T00:00:00Z"
        )
        assert (
            requests.get(f"{server.url}/api/v3/time", timeout=30).json()["serverTime"]
            == parse_time("2024-07-01") // 1000
        )
        assert requests.post(url, json={"speed": 1000}, timeout=30).json()["speed"] == 1000
        time.sleep(0.05)
        assert requests.get(url, timeout=30).json()["now_us"] > parse_time("2024-07-01T00:00:40")
        for wrong in ({"now": "yesterday"}, {"pace": 2}, {"speed": -1}):
            assert requests.post(url, json=wrong, timeout=30).status_code == 400
        assert requests.post(url, data="no json", timeout=30).status_code == 400


def test_requests_are_logged_and_forgotten() -> None:
    """The log contains method, path, query, range, status and bytes, but no control requests."""
    with SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server:
        url = f"{server.url}/_sandbox/requests"
        requests.get(f"{server.url}/api/v3/klines?symbol=NOPE&interval=1h", timeout=30)
        requests.get(f"{server.url}/data/nothing", headers={"Range": "bytes=5-"}, timeout=30)
        first, second = requests.get(url, timeout=30).json()
        assert (first["method"], first["path"], first["query"], first["status"]) == (
            "GET",
            "/api/v3/klines",
            "symbol=NOPE&interval=1h",
            400,
        )
        assert (second["range"], second["status"], second["fault"]) == ("bytes=5-", 404, None)
        assert second["sent"] > 0
        assert second["at_us"] == parse_time(NOW)
        requests.delete(url, timeout=30)
        assert requests.get(url, timeout=30).json() == []


def test_server_ends_within_a_second_with_a_stalled_request() -> None:
    """A stalled request does not delay the end of the server."""
    with SandboxServer(SandboxConfig.model_validate({"faults": [{"fault": "timeout"}]})) as server:

        def ask() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.get(server.url, timeout=30)

        client = threading.Thread(target=ask)
        client.start()
        time.sleep(0.2)
        start = time.perf_counter()
    assert time.perf_counter() - start < 1
    client.join(5)
    assert not client.is_alive()


def test_a_taken_port_is_a_clear_error() -> None:
    """A second server on the same port reports the port."""
    with SandboxServer() as server, pytest.raises(ConfigError, match="cannot be used"):
        SandboxServer(port=server.port)


def test_configuration_is_read_from_yaml(tmp_path: Path) -> None:
    """A YAML file contains all settings, with times in any ISO form."""
    path = tmp_path / "sandbox.yaml"
    path.write_text(
        "seed: 5\nnow: 2025-03-01T00:00:00Z\n"
        "symbols: [BTCUSDT, {symbol: AAUSDT, base_price: 2, listed: 2024-02-01}]\n"
        "outages: [{start: 2024-03-01, end: 2024-03-01T02:00:00Z}]\n"
        "faults:\n  - {match: {path: '*.zip'}, fault: status_503, times: 2}\n"
    )
    config = load_config(path)
    assert config.now == parse_time("2025-03-01")
    assert config.outages[0].start == parse_time("2024-03-01")
    assert [spec.symbol for spec in config.all_symbols()] == ["BTCUSDT", "AAUSDT"]
    assert config.faults[0].max_injections == 2


@pytest.mark.parametrize(
    ("text", "error_text"),
    [
        ("sed: 5", "sed: Extra inputs"),
        ("outages: [{start: 2024-03-02, end: 2024-03-01}]", "outages.0: end must be later than start"),
        ("faults: [{fault: nonsense}]", "faults.0.fault: no such fault"),
        ("faults: [{fault: status_429, retry: 5}]", "'retry' is not a parameter"),
        ("faults: [{fault: redirect}]", "redirect needs `to`"),
        ("faults: [{fault: rest_hole}]", "rest_hole needs `start` and `end`"),
        (
            "faults: [{fault: rest_hole, start: yesterday, end: 2025-01-02}]",
            "start: 'yesterday' is not a date or time",
        ),
        (
            "faults: [{fault: rest_hole, start: 2025-01-03, end: 2025-01-02}]",
            "rest_hole must end after its start",
        ),
        (
            "faults: [{fault: rest_bad_row, value: nonsense}]",
            "value of rest_bad_row must be one of missing, nan, number, null, string_time",
        ),
        ("faults: [{fault: rest_bad_row, value: [nan]}]", "value of rest_bad_row must be one of missing"),
        ("faults: [{fault: csv_nan, field: nonsense}]", "field must be one of open_time, open,"),
        ("faults: [{fault: status_429, retry_after: .nan}]", "retry_after must be a number"),
        ("faults: [{fault: short_page, rows: -1}]", "rows must not be negative"),
        ("faults: [{fault: redirect, to: 'http://ü'}]", "to must be an ASCII address"),
        (
            "now: 2025-02-30",
            "is not YAML: line 1, column 6: a value that does not exist: day is out of range",
        ),
        ("- a", "valid dictionary"),
        (
            "symbols: [{symbol: AUSDT, tick_size: 0.00001, lot_size: 0.00001}]",
            "more than eight decimals together",
        ),
        ("now: soon", "'soon' is not a date or time"),
        ("[", "is not YAML"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, text: str, error_text: str) -> None:
    """The error is one line with the file and the key."""
    path = tmp_path / "sandbox.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert error_text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_command_refuses_on_one_line(tmp_path: Path) -> None:
    """An empty recorded directory gives one line on the terminal and exit code 2."""
    result = CliRunner().invoke(command, ["serve", "--port", "0", "--recorded", str(tmp_path)])
    assert result.exit_code == 2
    assert "contains no kline file" in result.output
    assert result.output.count("\n") == 1


def test_command_wants_keys_and_values(tmp_path: Path) -> None:
    """A list instead of settings, with or without a fault script, gives one line and exit code 2."""
    settings, faults = tmp_path / "sandbox.yaml", tmp_path / "faults.yaml"
    settings.write_text("- a\n")
    faults.write_text("- {fault: reset}\n")
    for more in ([], ["--faults", str(faults)]):
        result = CliRunner().invoke(command, ["serve", "--port", "0", "--config", str(settings), *more])
        assert (result.exit_code, "must contain keys and values" in result.output) == (2, True)
        assert result.output.count("\n") == 1


def test_command_serves_a_profile(tmp_path: Path) -> None:
    """--config overrides keys of the profile, and options override both."""
    settings = tmp_path / "sandbox.yaml"
    settings.write_text("symbols: [BTCUSDT]\n")
    options = ["--profile", "real-world", "--config", str(settings), "--frozen"]
    arguments = [
        sys.executable,
        "-c",
        "from sandbox_exchange.cli import sandbox; sandbox()",
        "serve",
        "--port",
        "0",
    ]
    with subprocess.Popen([*arguments, *options], stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if "CAPTURE_SANDBOX_URL" in line:
                break
        url = lines[-1].strip().partition("CAPTURE_VENUE=sandbox CAPTURE_SANDBOX_URL=")[2]
        assert requests.get(f"{url}/_sandbox/clock", timeout=30).json()["now"] == "2025-02-20T10:30:00Z"
        symbols = requests.get(f"{url}/api/v3/exchangeInfo", timeout=30).json()["symbols"]
        start = parse_time("2024-12-18T10:00") // 1000
        query: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": "1h", "startTime": start, "limit": 1}
        candle = requests.get(f"{url}/api/v3/klines", params=query, timeout=30).json()[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
    assert ([entry["symbol"] for entry in symbols], candle[0] - start) == (["BTCUSDT"], 1_694_789)
    assert "profile real-world" in "".join(lines)


def test_an_unknown_profile_is_refused() -> None:
    """The error contains the names of the profiles."""
    result = CliRunner().invoke(command, ["serve", "--profile", "tidy"])
    assert (result.exit_code, "'real-world'" in result.output) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """The command prints its variables, serves requests, and ends with 0 on either signal."""
    faults = tmp_path / "faults.yaml"
    faults.write_text("- {match: {path: /api/v3/time}, fault: status_503}\n")
    arguments = [
        sys.executable,
        "-c",
        "from sandbox_exchange.cli import sandbox; sandbox()",
        "serve",
        "--port",
        "0",
    ]
    with subprocess.Popen(
        [*arguments, "--now", NOW, "--frozen", "--faults", str(faults)], stdout=subprocess.PIPE, text=True
    ) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if "CAPTURE_SANDBOX_URL" in line:
                break
        url = lines[-1].strip().partition("CAPTURE_VENUE=sandbox CAPTURE_SANDBOX_URL=")[2]
        assert [requests.get(f"{url}/api/v3/time", timeout=30).status_code for _ in range(2)] == [503, 200]
        process.send_signal(number)
        assert process.wait(5) == 0
    assert "BTCUSDT" in "".join(lines)


VALUES = [
    "NaN",
    "-1e999",
    "1e308",
    "-1",
    "9" * 400,
    '"x"',
    "null",
    "true",
    "[]",
    "{}",
    "[" * 3000,
    '"\\ud800"',
    '"\\u0000"',
]
KEYS = {
    ("POST", "clock"): ('{"now": %s}', '{"advance_s": %s}', '{"speed": %s}'),
    ("PUT", "faults"): (
        '{"faults": %s}',
        '[{"fault": %s}]',
        '[{"fault": "status_429", "times": %s}]',
        '[{"fault": "reset", "match": %s}]',
    ),
    ("POST", "republish"): ('{"key": %s}',),
    ("POST", "streams"): (
        '{"connection": %s, "fault": "ws_close"}',
        '{"connection": "all", "fault": "ws_close", "code": %s}',
    ),
}


@pytest.mark.parametrize(("method", "what"), KEYS)
def test_control_answers_malformed_requests_with_400_or_404_and_goes_on(method: str, what: str) -> None:
    """No body causes a server error, and the next request succeeds."""
    with (
        SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server,
        requests.Session() as session,
    ):
        url = f"{server.url}/_sandbox/{what}"
        texts = [*VALUES, "", *(form % value for form in KEYS[method, what] for value in VALUES)]
        for body in [b"\xff\xfe", *(text.encode() for text in texts)]:
            answer = session.request(method, url, data=body, timeout=30)
            assert answer.status_code in {200, 400, 404}, (body, answer.text)
            assert session.get(f"{server.url}/_sandbox/faults", timeout=30).status_code == 200, body
            assert session.get(f"{server.url}/_sandbox/clock", timeout=30).status_code == 200, body
            if what == "clock":
                assert (
                    session.get(
                        f"{server.url}/?prefix=data/spot/monthly/klines/BTCUSDT/1d/", timeout=30
                    ).status_code
                    == 200
                ), body


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "["},
    ],
)
def test_control_refuses_pages_of_other_sites(headers: dict[str, str]) -> None:
    """A web page of another site cannot set the clock, even if its name resolves to loopback."""
    with SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server:
        answer = requests.post(
            f"{server.url}/_sandbox/clock", json={"advance_s": 60}, headers=headers, timeout=30
        )
        assert answer.status_code == 403
        assert requests.get(f"{server.url}/_sandbox/clock", timeout=30).json()["now"] == NOW
        assert (
            requests.post(
                f"{server.url}/_sandbox/clock", json={}, headers={"Origin": server.url}, timeout=30
            ).status_code
            == 200
        )
