"""Tests of recorded files: values are served byte for byte."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import requests

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import Market
from capture_pipeline.errors import ConfigError
from sandbox_exchange.constants import KLINES_HEADER
from sandbox_exchange.server.server import Sandbox, SandboxConfig, SandboxServer

NOVEMBER = 1730419200000
HOUR = 3_600_000


def rows(first_ms: int, count: int, *, micro: bool = False) -> str:
    """Build hours with unusual forms of values, which must not change."""
    factor, rest = (1000, 999) if micro else (1, 0)
    lines = [
        f"{(first_ms + number * HOUR) * factor},2511.8,2515.90000000,2510.10,2512.{number},12.500,"
        f"{(first_ms + (number + 1) * HOUR - 1) * factor + rest},31397.5,{100 + number},6.25,15698.750,0"
        for number in range(count)
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Create a futures CSV, a spot CSV in microseconds, and a spot zip with its checksum."""
    (tmp_path / "ETHUSDT-1h-2024-11.csv").write_text(f"{KLINES_HEADER}\n{rows(NOVEMBER, 720)}")
    (tmp_path / "BTCUSDT-1h-2025-01.csv").write_text(rows(1735689600000, 744, micro=True))
    (tmp_path / "notes.csv").write_text("something else")
    folder = tmp_path / "data/spot/daily/klines/ETHUSDT/1h"
    folder.mkdir(parents=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ETHUSDT-1h-2024-11-02.csv", rows(NOVEMBER + 24 * HOUR, 24))
    (folder / "ETHUSDT-1h-2024-11-02.zip").write_bytes(packed.getvalue())
    (folder / "ETHUSDT-1h-2024-11-02.zip.CHECKSUM").write_text("0" * 64 + "  ETHUSDT-1h-2024-11-02.zip")
    return tmp_path


def test_everything_is_published_and_byte_for_byte(directory: Path) -> None:
    """CSVs are served as zips with correct checksums; zips and their checksum files are unchanged."""
    with SandboxServer(SandboxConfig(recorded=directory)) as server:
        futures = requests.get(
            f"{server.url}/data/futures/um/monthly/klines/ETHUSDT/1h/ETHUSDT-1h-2024-11.zip", timeout=30
        )
        with zipfile.ZipFile(io.BytesIO(futures.content)) as archive:
            assert (
                archive.read("ETHUSDT-1h-2024-11.csv") == (directory / "ETHUSDT-1h-2024-11.csv").read_bytes()
            )
        checksum = requests.get(f"{futures.url}.CHECKSUM", timeout=30).text
        assert checksum == f"{hashlib.sha256(futures.content).hexdigest()}  ETHUSDT-1h-2024-11.zip\n"
        path = "data/spot/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2024-11-02.zip"
        assert requests.get(f"{server.url}/{path}", timeout=30).content == (directory / path).read_bytes()
        assert (
            requests.get(f"{server.url}/{path}.CHECKSUM", timeout=30).text
            == "0" * 64 + "  ETHUSDT-1h-2024-11-02.zip"
        )
        listed = requests.get(
            server.url, params={"prefix": path.rpartition("/")[0] + "/", "delimiter": "/"}, timeout=30
        ).text
        assert listed.count("<Key>") == 2


@pytest.mark.parametrize(
    ("root", "symbol", "first_ms"), [("/fapi/v1", "ETHUSDT", NOVEMBER), ("/api/v3", "BTCUSDT", 1735689600000)]
)
def test_rest_pages_hold_the_recorded_values(directory: Path, root: str, symbol: str, first_ms: int) -> None:
    """REST pages contain the recorded strings, with times in milliseconds."""
    with SandboxServer(SandboxConfig(recorded=directory)) as server:
        query: dict[str, str | int] = {"symbol": symbol, "interval": "1h", "startTime": 0, "limit": 3}
        page = requests.get(f"{server.url}{root}/klines", params=query, timeout=30).json()
        assert page[0] == [
            first_ms,
            "2511.8",
            "2515.90000000",
            "2510.10",
            "2512.0",
            "12.500",
            first_ms + HOUR - 1,
            "31397.5",
            100,
            "6.25",
            "15698.750",
            "0",
        ]
        last = requests.get(
            f"{server.url}{root}/klines", params=f"symbol={symbol}&interval=1h&limit=2", timeout=30
        ).json()
        assert last[0][4].startswith("2512.7")
        range_query = {**query, "startTime": first_ms + 5 * HOUR, "endTime": first_ms + 6 * HOUR}
        assert [
            row[4]
            for row in requests.get(f"{server.url}{root}/klines", params=range_query, timeout=30).json()
        ] == ["2512.5", "2512.6"]
        info = requests.get(f"{server.url}{root}/exchangeInfo", timeout=30).json()
        assert symbol in {entry["symbol"] for entry in info["symbols"]}
        assert requests.get(f"{server.url}{root}/depth?symbol={symbol}", timeout=30).json()["code"] == -1000


def test_a_market_can_be_forced_on_flat_files(directory: Path) -> None:
    """The given market applies to flat files only."""
    source = Sandbox(SandboxConfig(recorded=directory, market=Market.SPOT)).source
    assert [spec.symbol for spec in source.symbols(Market.SPOT)] == ["BTCUSDT", "ETHUSDT"]
    assert source.symbols(Market.UM) == []


def test_the_clock_starts_after_the_last_publication(directory: Path) -> None:
    """All recorded files are published by default; an earlier clock hides them."""
    assert Sandbox(SandboxConfig(recorded=directory, frozen=True)).clock.now_us() == parse_time(
        "2025-02-02T13:00"
    )
    settings = {"recorded": directory, "now": "2024-11-20", "frozen": True}
    with SandboxServer(SandboxConfig.model_validate(settings)) as server:
        answer = requests.get(
            f"{server.url}/data/futures/um/monthly/klines/ETHUSDT/1h/ETHUSDT-1h-2024-11.zip", timeout=30
        )
        assert answer.status_code == 404
        rows_then = requests.get(
            f"{server.url}/fapi/v1/klines?symbol=ETHUSDT&interval=1h&limit=1", timeout=30
        ).json()
        assert rows_then[0][0] == NOVEMBER + (19 * 24 - 1) * HOUR


def test_faults_work_on_recorded_files(directory: Path) -> None:
    """A recorded zip with a defect has a matching checksum."""
    path = "/data/spot/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2024-11-02.zip"
    settings = {"recorded": directory, "faults": [{"match": {"path": path}, "fault": "csv_bom"}]}
    with SandboxServer(SandboxConfig.model_validate(settings)) as server:
        body = requests.get(server.url + path, timeout=30).content
        assert (
            requests.get(f"{server.url}{path}.CHECKSUM", timeout=30).text.split()[0]
            == hashlib.sha256(body).hexdigest()
        )
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.read("ETHUSDT-1h-2024-11-02.csv").startswith(b"\xef\xbb\xbf")


def test_a_directory_without_kline_files_is_refused(tmp_path: Path) -> None:
    """A directory without kline files gives an error."""
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(ConfigError, match="contains no kline file"):
        Sandbox(SandboxConfig(recorded=tmp_path))
