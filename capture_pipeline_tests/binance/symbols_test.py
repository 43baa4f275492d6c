"""Validation of symbols, and names that are built from symbols."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capture_pipeline.binance.periods import Interval, Month, parse_time
from capture_pipeline.binance.streams.names import (
    combined_url,
    depth_stream,
    snapshot_stream,
    split_by_route,
    symbol_of,
    trade_stream,
)
from capture_pipeline.binance.symbols import (
    find_similar_symbols,
    parse_symbol,
    parse_symbols,
    unknown_symbols_error,
    validate_symbol,
)
from capture_pipeline.binance.urls import ArchiveFile, Market, TradesFile, parse_name, parse_trades_name
from capture_pipeline.errors import ConfigError
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.sessions.layout import SessionFolder, session_id, symbols_label, valid_session

CHINESE, QUARTERLY = "币安人生USDT", "BTCUSDT_240329"
VALID = [
    "BTCUSDT",
    "1000SATSUSDT",
    "1",
    CHINESE,
    QUARTERLY,
    "ETHBTC_PERP",
    "ドージUSDT",
    "ไทยUSDT",
    "ÅUSDT",
    "A" * 50,
    "币" * 33,
]
HOSTILE = {
    "empty": "",
    "parent folder": "../x",
    "dots": "..",
    "slash": "a/b",
    "backslash": "A\\B",
    "NUL": "BTC\0USDT",
    "newline": "BTCUSDT\n",
    "tab": "BTC\tUSDT",
    "trailing space": "BTCUSDT ",
    "no-break space": "BTC\u00a0USDT",
    "right-to-left override": "BTC\u202eTDSU",
    "zero-width joiner": "BTC\u200dUSDT",
    "byte order mark": "\ufeffBTCUSDT",
    "full-width slash": "BTC／USDT",
    "full-width letters": "ＢＴＣＵＳＤＴ",
    "combining underline": "BTC\u0332USDT",
    "invisible letter": "\u115fUSDT",
    "decomposed": "A\u030aUSDT",
    "compatibility ideograph": "\uf900USDT",
    "emoji": "🚀USDT",
    "surrogate": "\ud800USDT",
    "hyphen": "BTC-USDT",
    "dot": "BTC.USDT",
    "percent": "BTC%2FUSDT",
    "pipe of partition keys": "BTC|USDT",
    "quote": "BTC'USDT",
    "markup": "<B>USDT",
    "small letters": "btcusdt",
    "letter without a capital": "ßUSDT",
    "letter whose small form has two characters": "İUSDT",
    "underscores alone": "__",
    "300 characters": "A" * 300,
    "51 characters": "A" * 51,
    "102 bytes": "币" * 34,
}


@pytest.mark.parametrize("symbol", VALID)
def test_a_symbol_of_letters_digits_and_underscores_is_valid(symbol: str) -> None:
    """Letters may be of any script; delivery contracts contain a date."""
    assert validate_symbol(symbol) == symbol == parse_symbol(symbol)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_symbol_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    """The symbol becomes no path, stream or address, and the message escapes it."""
    text = HOSTILE[name]
    part = Partition(Market.SPOT, Interval.M1, text, Month(2024, 3))
    makers = (
        validate_symbol,
        trade_stream,
        depth_stream,
        lambda _: Lake(tmp_path).bars(part),
        lambda _: Lake(tmp_path).lock(part),
    )
    for make in makers:
        with pytest.raises(ConfigError) as caught:
            make(text)
        assert str(caught.value).splitlines() == [str(caught.value)]
        assert "is not a symbol" in str(caught.value)
        assert len(str(caught.value)) < 300
        assert not {"\0", "\u202e", "\u200d", "\ufeff", "\t"} & set(str(caught.value))


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("btcusdt", "BTCUSDT"),
        ("BtcUsdt_240329", QUARTERLY),
        ("币安人生usdt", CHINESE),
        ("A\u030ausdt", "ÅUSDT"),
    ],
)
def test_a_users_text_is_normalised(text: str, symbol: str) -> None:
    """ASCII letters become capitals, and composed letters become one code point."""
    assert parse_symbol(text) == symbol


@pytest.mark.parametrize(
    "name", sorted(HOSTILE.keys() - {"small letters", "decomposed", "compatibility ideograph"})
)
def test_a_hostile_text_of_a_user_is_refused(name: str) -> None:
    """Normalisation does not make an invalid symbol valid."""
    with pytest.raises(ConfigError, match="is not a symbol"):
        parse_symbol(HOSTILE[name])


def test_symbols_may_be_separated_by_commas() -> None:
    """Spaces around a comma are ignored."""
    assert parse_symbols(["btcusdt, 币安人生usdt", "ETHUSDT,"]) == ["BTCUSDT", CHINESE, "ETHUSDT"]


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_an_option_without_a_symbol_is_refused(text: str) -> None:
    """An empty shell variable must not select the default symbols."""
    with pytest.raises(ConfigError, match="contains no symbol"):
        parse_symbols(["BTCUSDT", text])
    assert parse_symbols([]) == []


SYMBOLS = st.text(
    st.characters(categories=["Lu", "Lo", "Nd"], include_characters="_"), min_size=1, max_size=50
)


def is_accepted(text: str) -> bool:
    try:
        return bool(validate_symbol(text))
    except ConfigError:
        return False


@given(SYMBOLS.filter(is_accepted))
@example(CHINESE)
@example(QUARTERLY)
@example("_A_")
@example("ΑΣ")
def test_a_valid_symbol_comes_back_from_every_name(symbol: str) -> None:
    """The symbol can be parsed from streams, archive names and sessions.

    File names are short enough, and paths stay in their folder.
    """
    assert {symbol_of(make(symbol)) for make in (trade_stream, depth_stream, snapshot_stream)} == {symbol}
    day = parse_time("2024-03-29")
    klines, trades = (
        ArchiveFile(Market.UM, symbol, Interval.M1, Month(2024, 3)),
        TradesFile(Market.UM, symbol, Month(2024, 3)),
    )
    assert (parse_name(klines.name, Market.UM), parse_trades_name(trades.name, Market.UM)) == (klines, trades)
    session = session_id([symbol, *(f"S{number}" for number in range(511))], day, "r" * 40)
    assert valid_session(session) == session
    folder = SessionFolder.under(Path("/lake"), "r" * 40, session)
    lake, part = Lake(Path("/lake")), Partition(Market.UM, Interval.M1, symbol, Month(2024, 3))
    paths = [
        folder.recording,
        folder.segment(99),
        lake.bars(part),
        lake.lock(part),
        lake.archive_file(part, klines.name, "0" * 64),
    ]
    for path in paths:
        assert path.is_relative_to("/lake")
        assert max(len(name.encode()) for name in path.parts) <= 255
    assert lake.bars(part).parent.parent.name == f"symbol={symbol}"
    assert combined_url("wss://host", [depth_stream(symbol)]).isascii()


@pytest.mark.parametrize(
    ("symbols", "regime", "session", "recording"),
    [
        (
            [QUARTERLY],
            "high_volume",
            "20240329T000000Z_high_volume_btcusdt-240329",
            "btcusdt-240329_capture_20240329T000000Z.jsonl.gz",
        ),
        ([CHINESE], "", "20240329T000000Z_币安人生usdt", "币安人生usdt_capture_20240329T000000Z.jsonl.gz"),
    ],
)
def test_a_session_is_called_after_its_symbol(
    symbols: list[str], regime: str, session: str, recording: str
) -> None:
    """`_` separates parts of the name, so `_` in a symbol is written as `-`."""
    assert session_id(symbols, parse_time("2024-03-29"), regime) == session
    assert SessionFolder(Path("/s") / valid_session(session)).recording.name == recording


def test_symbols_that_differ_have_labels_that_differ() -> None:
    """A symbol contains no hyphen, so a hyphen always stands for `_`."""
    assert len({symbols_label([symbol]) for symbol in ("AB", "A_B", "A__B", "AB_", CHINESE)}) == 5


@pytest.mark.parametrize(
    "text",
    [
        "20240329T000000Z_../x",
        "20240329T000000Z_a/b",
        "20240329T000000Z_BTCUSDT",
        "20240329T000000Z_币\u202eusdt",
        "x",
        "20240329T000000Z_",
    ],
)
def test_what_is_no_session_id_never_reaches_a_path(text: str) -> None:
    """For instance an id with characters that no symbol contains."""
    with pytest.raises(ConfigError, match="is not a session id"):
        valid_session(text)


def test_addresses_of_streams_are_percent_encoded() -> None:
    """The exchange requires this for names that are not ASCII."""
    url = combined_url(
        "wss://host/{route}", [depth_stream(CHINESE), "币安人生usdt@aggTrade", depth_stream("BTCUSDT")]
    )
    encoded = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt"
    assert split_by_route(url) == [
        f"wss://host/market/stream?streams={encoded}@aggTrade",
        f"wss://host/public/stream?streams={encoded}@depth@100ms/btcusdt@depth@100ms",
    ]


def test_an_unknown_symbol_is_reported_with_similar_ones() -> None:
    """Without a list of symbols, the remedy is general."""
    listed = ["BTCUSDT", "BTCUSDC", "ETHUSDT", CHINESE]
    error = unknown_symbols_error(["BTCUSTD"], listed)
    assert "does not know BTCUSTD" in str(error)
    assert "did you mean BTCUSDT" in str(error)
    assert find_similar_symbols("币安人USDT", listed) == [CHINESE]
    assert "did you mean" not in str(unknown_symbols_error(["BTCUSTD"], []))
