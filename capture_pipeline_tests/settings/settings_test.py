"""Settings: defaults, environment, and mistakes, which are reported in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture_pipeline.binance.periods import DAY_US, Interval, Month, parse_time
from capture_pipeline.calendars.outages import load_calendar
from capture_pipeline.errors import ConfigError
from capture_pipeline.settings.loader import environment_names, json_schema, load_settings
from capture_pipeline.settings.models import DEFAULT_SYMBOLS

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_file_is_the_default_deployment() -> None:
    """The file sets the market-data hosts of Binance and 1m bars of ten symbols."""
    settings = load_settings(ROOT / "pipeline.yaml", {})
    assert (settings.venue, settings.market, settings.interval, settings.symbols) == (
        "binance",
        "spot",
        Interval.M1,
        DEFAULT_SYMBOLS,
    )
    assert settings.archive_url == "https://data.binance.vision"
    assert settings.listing_url == "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision"
    assert settings.rest_url == "https://data-api.binance.vision"
    assert settings.storage.root == ROOT / "data"


def test_futures_have_their_own_hosts(tmp_path: Path) -> None:
    """USD-M futures have other hosts than spot; the sandbox uses other paths."""
    file = tmp_path / "x.yaml"
    file.write_text("market: um\n")
    settings = load_settings(file, {})
    assert (settings.rest_url, settings.stream_url) == (
        "https://fapi.binance.com",
        "wss://fstream.binance.com/{route}",
    )
    sandbox = {"CAPTURE_VENUE": "sandbox", "CAPTURE_SANDBOX_URL": "http://127.0.0.1:1"}
    assert load_settings(file, sandbox).stream_url == "ws://127.0.0.1:1/fstream/{route}"
    assert load_settings(file, {**sandbox, "CAPTURE_MARKET": "spot"}).stream_url == "ws://127.0.0.1:1"


def test_the_environment_wins(tmp_path: Path) -> None:
    """Variables override the file; lists are separated by commas."""
    file = tmp_path / "p.yaml"
    file.write_text("interval: 1h\nsymbols: [BTCUSDT]\n")
    environ = {
        "CAPTURE_CONFIG": str(file),
        "CAPTURE_VENUE": "sandbox",
        "CAPTURE_SANDBOX_URL": "http://127.0.0.1:1",
        "CAPTURE_SYMBOLS": "ETHUSDT, BNBUSDT",
    }
    settings = load_settings(
        environ={
            **environ,
            "CAPTURE_GATES_LONG_GAP_HOURS": "3.5",
            "CAPTURE_STORAGE_ROOT": str(tmp_path / "s"),
        }
    )
    assert (settings.interval, settings.symbols, settings.gates.long_gap_hours) == (
        Interval.H1,
        ["ETHUSDT", "BNBUSDT"],
        3.5,
    )
    assert {settings.archive_url, settings.rest_url} == {"http://127.0.0.1:1"}
    assert settings.listing_url == "http://127.0.0.1:1/data.binance.vision"
    assert settings.storage.root == tmp_path / "s"


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("symbls: [A]\n", {}, "symbls: unknown key; did you mean symbols? allowed: alerts, archive, "),
        ("gates: {long_gap: 1}\n", {}, "gates.long_gap: unknown key; did you mean long_gap_hours?"),
        ("interval: 7m\n", {}, "interval: Input should be '1s', '1m'"),
        ("interval: 1w\n", {}, "interval: Input should be"),
        (
            "symbols: [btc/usdt]\n",
            {},
            "symbols.0: 'BTC/USDT' is not a symbol: '/' is none of letters, digits and _",
        ),
        ("symbols: [BTCUSDT, btcusdt]\n", {}, "a symbol is listed twice"),
        (
            "market: um\ninterval: 1s\n",
            {},
            "interval: USD-M futures have no klines of 1s; set interval to 1m or longer",
        ),
        ("market: um\n", {"CAPTURE_INTERVAL": "1s"}, "interval: USD-M futures have no klines of 1s"),
        ("symbols: [../../etc]\n", {}, "is not a symbol"),
        ("symbols: [BTCUSDT, BTCUSDT]\n", {}, "a symbol is listed twice"),
        ("symbols: []\n", {}, "symbols: List should have at least 1 item"),
        (
            "gates: {coverage_error_below_percent: 101}\n",
            {},
            "gates.coverage_error_below_percent: Input should be less than or equal to 100, not 101",
        ),
        ("history: {start: 2024-02-01, end: 2024-01-01}\n", {}, "end is before start"),
        ("history: {start: soon}\n", {}, "history.start: "),
        (
            "endpoints: {archive: 'http://data.binance.vision'}\n",
            {},
            "endpoints.archive: 'http://data.binance.vision' must be https://",
        ),
        ("endpoints: {rest_spot: 'https://example.com'}\n", {}, "must be https:// on one of binance.com"),
        (
            "endpoints: {rest_spot: 'https://binance.com.example.com'}\n",
            {},
            "must be https:// on one of binance.com",
        ),
        (
            "endpoints: {rest_spot: 'https://binance.com@example.com'}\n",
            {},
            "must be https:// on one of binance.com",
        ),
        ("endpoints: {rest_spot: 'https://mybinance.com'}\n", {}, "must be https:// on one of binance.com"),
        (
            "endpoints: {archive: 'https://somebody@data.binance.vision'}\n",
            {},
            "must be https:// on one of binance.com",
        ),
        (
            "endpoints: {stream_spot: 'ws://data-stream.binance.vision'}\n",
            {},
            "must be wss:// on one of binance.com",
        ),
        (
            "venue: sandbox\nsandbox_url: 'http://10.0.0.1'\n",
            {},
            "sandbox_url: 'http://10.0.0.1' must be http:// on one of",
        ),
        ("- a\n", {}, "must contain keys and values"),
        ("a: [\n", {}, "is not YAML"),
        (
            "history: {start: 2025-02-30}\n",
            {},
            (
                "p.yaml: is not YAML: line 1, column 18: a value that does not exist: day is out of "
                "range for month"
            ),
        ),
        ("gates: 3\n", {"CAPTURE_GATES_LONG_GAP_HOURS": "1"}, "gates must contain keys and values"),
        ("", {"CAPTURE_VENUE": "kraken"}, "(set by CAPTURE_VENUE)"),
        (
            "",
            {"CAPTURE_ARCHIVE_PINNED_CHECKSUMS": "abc"},
            "CAPTURE_ARCHIVE_PINNED_CHECKSUMS: 'abc' is not a pair",
        ),
        ("", {"CAPTURE_ARCHIVE_PINNED_CHECKSUMS": "a.zip=abc"}, "(set by CAPTURE_ARCHIVE_PINNED_CHECKSUMS)"),
        (
            "",
            {"CAPTURE_SYMBOL": "BTCUSDT"},
            "CAPTURE_SYMBOL is not a setting (did you mean CAPTURE_SYMBOLS?)",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(
    text: str, environ: dict[str, str], message: str, tmp_path: Path
) -> None:
    """The line also names the allowed values."""
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    """The settings and the outage calendar report it in one line with the name of the file."""
    file = tmp_path / "latin.yaml"
    file.write_bytes("venue: Zürich\n".encode("latin-1"))
    for read in (load_settings, load_calendar):
        with pytest.raises(ConfigError, match=r"latin\.yaml: is not UTF-8") as caught:
            read(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("start: 2025-02-30, end: 2025-03-01", "a value that does not exist: day is out of range for month"),
        ("start: 2025-02-02, end: 2025-02-01", "outages.0: end must be after start"),
        (
            "start: 2025-02-01, end: 2025-02-02, symbols: [btc-usdt]",
            "outages.0.symbols.0: 'BTC-USDT' is not a symbol",
        ),
        ("start: 2025-02-01, end: 2025-02-02, kind: suspension", "outages.0: a suspension needs symbols"),
        (
            "start: 2025-02-01, end: 2025-02-02, kind: holiday",
            "outages.0.kind: Input should be 'outage' or 'suspension'",
        ),
        ("start: 2025-02-01, end: 2025-02-02, edges: guessed", "outages.0.edges: Input should be"),
    ],
)
def test_a_mistake_in_the_outage_calendar_is_one_line(entry: str, message: str, tmp_path: Path) -> None:
    """An entry that applies to no symbol is a mistake, too."""
    file = tmp_path / "outages.yaml"
    file.write_text(f"outages: [{{{entry}}}]\n")
    with pytest.raises(ConfigError) as caught:
        load_calendar(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "kind", "reason"),
    [
        ("", "outage", "outage"),
        (", symbols: [BTCUSDT]", "suspension", "suspension"),
        (", symbols: [BTCUSDT], kind: outage, reason: its engine", "outage", "its engine"),
        (
            ", symbols: [BTCUSDT], kind: suspension, source: its notice, edges: derived",
            "suspension",
            "suspension",
        ),
    ],
)
def test_a_long_entry_that_names_symbols_is_a_suspension_unless_it_says_otherwise(
    more: str, kind: str, reason: str, tmp_path: Path
) -> None:
    """In an outage, unlike a suspension, klines are expected. The default reason is the kind."""
    file = tmp_path / "outages.yaml"
    file.write_text(f"outages: [{{start: 2025-02-01, end: 2025-02-02{more}}}]\n")
    entry = load_calendar(file)[-1]
    assert (entry.kind, entry.reason) == (kind, reason)


def test_an_entry_of_hours_that_names_symbols_is_an_outage(tmp_path: Path) -> None:
    """Calendars of earlier versions list halts of single symbols in this way."""
    file = tmp_path / "outages.yaml"
    file.write_text("outages: [{start: 2025-02-01T00:00:01Z, end: 2025-02-02, symbols: [BTCUSDT]}]\n")
    assert load_calendar(file)[-1].kind == "outage"


def test_the_last_year_of_the_calendar_has_months() -> None:
    """Months and times outside the years 1 to 9999 are refused."""
    assert Month.parse("9999-12").end_us - Month.parse("9999-12").start_us == 31 * DAY_US
    for text in ("0000-01", "10000-01"):
        with pytest.raises(ConfigError, match="is not a month"):
            Month.parse(text)
    with pytest.raises(ConfigError, match="is not a date or time"):
        parse_time("9999-12-31T23:00:00-05:00")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A file that was named must exist; without a file the defaults are used."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "no.yaml", {})


def test_the_schema_that_is_shipped_is_the_settings() -> None:
    """Update it by: capture config schema > capture_pipeline/pipeline.schema.json."""
    assert (ROOT / "capture_pipeline" / "pipeline.schema.json").read_text() == json_schema()


def test_every_key_can_be_overridden() -> None:
    """The names of the variables are unambiguous."""
    names = environment_names()
    assert names["CAPTURE_STORAGE_ROOT"] == ("storage", "root")
    assert len(set(names.values())) == len(names)


def test_planned_sessions_may_come_from_the_environment() -> None:
    """The value is YAML; an empty list plans no session."""
    settings = load_settings(
        ROOT / "pipeline.yaml", {"CAPTURE_SESSIONS": '[{regime: custom, weekday: tue, time: "14:30"}]'}
    )
    assert [(each.regime, each.weekday, str(each.time)) for each in settings.sessions] == [
        ("custom", "tue", "14:30:00")
    ]
    assert load_settings(ROOT / "pipeline.yaml", {"CAPTURE_SESSIONS": "[]"}).sessions == []
    with pytest.raises(ConfigError, match="CAPTURE_SESSIONS: is not YAML"):
        load_settings(ROOT / "pipeline.yaml", {"CAPTURE_SESSIONS": "[{"})
    with pytest.raises(ConfigError, match="either a weekday or a date"):
        load_settings(ROOT / "pipeline.yaml", {"CAPTURE_SESSIONS": "[{regime: custom}]"})


def test_symbols_are_normalised_wherever_they_are_set(tmp_path: Path) -> None:
    """ASCII letters become capitals in the file, in the environment and in planned sessions."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "symbols: [btcusdt_240329]\nsessions: [{regime: x, weekday: tue, symbols: [币安人生usdt]}]\n",
        encoding="utf-8",
    )
    settings = load_settings(file, {})
    assert (settings.symbols, settings.sessions[0].symbols) == (["BTCUSDT_240329"], ["币安人生USDT"])
    assert load_settings(file, {"CAPTURE_SYMBOLS": "ethusdt, 币安人生usdt"}).symbols == [
        "ETHUSDT",
        "币安人生USDT",
    ]
