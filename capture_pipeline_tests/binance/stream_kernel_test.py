"""The kernel of streams compared with msgspec: equal numbers in any layout, for any bytes."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.streams import columns as layout
from capture_pipeline.binance.streams._reference import decimal_e8, read_line
from capture_pipeline.binance.streams.columns import Columns
from capture_pipeline.binance.streams.decoders import CompiledDecoder, ParsedBlock, ReferenceDecoder
from capture_pipeline.errors import MalformedDataError

MOST = 2**63 - 1
TRADE = (
    b'{"capture_ns":1723161254340863867,"stream":"ethusdt@trade","data":{"e":"trade","E":1723161255612,'
    b'"s":"ETHUSDT","t":1520538925,"p":"2683.80000000","q":"0.00200000","T":1723161255611,"m":true,'
    b'"M":true}}\n'
)
DIFF = (
    b'{"capture_ns":1723161254340863868,"stream":"ethusdt@depth@100ms","data":{"e":"depthUpdate",'
    b'"E":1723161255308,"s":"ETHUSDT","U":35,"u":39,"b":[["2683.80000000","3.02920000"],["12.5","0"]],'
    b'"a":[["2733.70000000","0.00000000"]]}}\n'
)
SNAPSHOT = (
    b'{"capture_ns":1723161254340863869,"stream":"ethusdt@depthSnapshot",'
    b'"data":{"lastUpdateId":39,"bids":[["1.5","2.25"]],"asks":[]}}\n'
)
TICKER = (
    b'{"capture_ns":1723161254340863870,"stream":"ethusdt@bookTicker",'
    b'"data":{"u":35346513501,"s":"ETHUSDT","b":"2683.8","B":"3.0"}}\n'
)
UM_TRADE = (
    b'{"capture_ns":1723161254340863871,"stream":"ethusdt@trade","data":{"e":"trade","E":1723161255612,'
    b'"T":1723161255611,"s":"ETHUSDT","t":1520538925,"p":"2683.80","q":"0.002","X":"MARKET","m":true,'
    b'"st":1}}\n'
)
UM_DIFF = (
    b'{"capture_ns":1723161254340863872,"stream":"ethusdt@depth@100ms","data":{"e":"depthUpdate",'
    b'"E":1723161255308,"T":1723161255301,"s":"ETHUSDT","ps":"ETHUSDT","U":35,"u":39,"pu":34,'
    b'"b":[["2683.80","3.029"],["12.5","0"]],"a":[["2733.70","0.000"]],"st":1}}\n'
)
UM_SNAPSHOT = SNAPSHOT.replace(b'39,"bids"', b'39,"E":1723161255308,"T":1723161255301,"bids"')
KNOWN = TRADE + DIFF + SNAPSHOT + TICKER
UM_LINES = (UM_TRADE, UM_DIFF, UM_SNAPSHOT)

integers = st.one_of(
    st.integers(0, MOST),
    st.integers(10**12, 10**16),
    st.sampled_from([0, 9, 10**8, 10**15, 10**16, 10**18, MOST]),
)
times = st.one_of(st.integers(10**12, 10**14 - 1), st.integers(10**14, 10**17))
decimals = st.one_of(
    st.from_regex(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,8})?", fullmatch=True),
    st.sampled_from(["92233720368.54775807", "0", "99999999.99999999", "100000000.0", "0.00000001"]),
)
levels = st.lists(st.tuples(decimals, decimals), max_size=6)
old_levels: st.SearchStrategy[Any] = st.lists(
    st.one_of(st.tuples(decimals, decimals), st.tuples(decimals, decimals, st.just([]))), max_size=6
)
trades = st.fixed_dictionaries(
    {
        "e": st.just("trade"),
        "E": times,
        "s": st.just("ETHUSDT"),
        "t": integers,
        "p": decimals,
        "q": decimals,
        "T": times,
    }
    | {"m": st.booleans(), "M": st.booleans()}
).map(lambda data: ("ethusdt@trade", data))
diffs = st.fixed_dictionaries(
    {
        "e": st.just("depthUpdate"),
        "E": times,
        "s": st.just("ETHUSDT"),
        "U": integers,
        "u": integers,
        "b": levels,
        "a": levels,
    }
).map(lambda data: ("ethusdt@depth@100ms", data))
futures = st.fixed_dictionaries(
    {
        "e": st.just("depthUpdate"),
        "E": times,
        "T": times,
        "s": st.just("ETHUSDT"),
        "U": integers,
        "u": integers,
        "pu": integers,
    }
    | {"b": levels, "a": levels},
    optional={"ps": st.just("ETHUSDT"), "st": integers},
).map(lambda data: ("ethusdt@depth", data))
snapshots = st.fixed_dictionaries(
    {"lastUpdateId": integers, "bids": levels, "asks": levels}, optional={"E": times, "T": times}
).map(lambda data: ("ethusdt@depthSnapshot", data))
FUTURES_TRADE = {
    "e": st.just("trade"),
    "E": times,
    "T": times,
    "s": st.just("ETHUSDT"),
    "t": integers,
    "p": decimals,
    "q": decimals,
}
market_trades = st.fixed_dictionaries(
    FUTURES_TRADE | {"m": st.booleans()}, optional={"X": st.just("MARKET"), "st": integers}
).map(lambda data: ("ethusdt@trade", data))  # fmt: skip
odd_futures = st.one_of(
    st.fixed_dictionaries(
        FUTURES_TRADE
        | {"X": st.sampled_from(["NA", "INSURANCE_FUND", "ADL", "", "é", None, 7]), "m": st.booleans()},
        optional={"st": st.one_of(integers, st.none(), st.text(max_size=3))},
    ).map(lambda data: ("ethusdt@trade", data)),
    futures.flatmap(
        lambda each: st.sampled_from(["ETH", "ETHUSD", "ETHUSDT_", "é", None]).map(
            lambda pair: (each[0], each[1] | {"ps": pair})
        )
    ),
)
old_books = st.one_of(
    st.fixed_dictionaries(
        {
            "e": st.just("depthUpdate"),
            "E": times,
            "s": st.just("ETHUSDT"),
            "U": integers,
            "u": integers,
            "b": old_levels,
            "a": old_levels,
        }
    ).map(lambda data: ("ethusdt@depth", data)),
    st.fixed_dictionaries({"lastUpdateId": integers, "bids": old_levels, "asks": old_levels}).map(
        lambda data: ("ethusdt@depthSnapshot", data)
    ),
)
others = st.fixed_dictionaries({"u": integers, "x": st.text(max_size=5)}).map(
    lambda data: ("ethusdt@bookTicker", data)
)
messages = st.one_of(trades, market_trades, diffs, futures, snapshots, others)
SENT_ORDER = {
    "trade": ("e", "E", "s", "t", "p", "q", "T", "m", "M"),
    "depthUpdate": ("e", "E", "T", "s", "ps", "U", "u", "pu", "b", "a", "st"),
}
FUTURES_ORDER = ("e", "E", "T", "s", "t", "p", "q", "X", "m", "st")
OTHER_ORDER = ("lastUpdateId", "E", "T", "bids", "asks", "u", "x")


def order_fields(data: dict[str, Any]) -> dict[str, Any]:
    """Order the fields like the exchange does."""
    is_of_futures = data.get("e") == "trade" and "M" not in data
    order = FUTURES_ORDER if is_of_futures else SENT_ORDER.get(data.get("e", ""), OTHER_ORDER)
    return {name: data[name] for name in order if name in data}


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Format a line in the compact layout or in another one."""
    stream, data = draw(st.one_of(messages, odd_futures, old_books))
    data = order_fields(data)
    line: dict[str, Any] = {"capture_ns": draw(integers), "stream": stream, "data": data}
    how = draw(st.sampled_from(["compact"] * 4 + ["spaced", "shuffled", "more"]))
    if how == "shuffled":
        line = dict(draw(st.permutations(list(line.items()))))
        line["data"] = dict(draw(st.permutations(list(data.items()))))
    if how == "more":
        line["data"] = {**data, "X": {"y": [1, "z"]}}
    return json.dumps(line, separators=(", ", ": ") if how == "spaced" else (",", ":")).encode() + b"\n"


def parse(content: bytes, decoder: ReferenceDecoder | None = None, first_line: int = 1) -> ParsedBlock:
    """Decode with padding that looks like further lines."""
    padded = content + (TRADE * 8)[: layout.PADDING]
    return (decoder or CompiledDecoder("made.gz")).decode(padded, first_line)


@cache
def _train_decoder() -> CompiledDecoder:
    decoder = CompiledDecoder("made.gz")
    parse(KNOWN, decoder)
    return decoder


def new_decoder() -> CompiledDecoder:
    """Return a decoder that knows all streams, so that the kernel decodes the next lines."""
    return copy.deepcopy(_train_decoder())


def list_values(parsed: ParsedBlock, streams: list[str]) -> list[tuple[Any, ...]]:
    """List the values of a block in the order of its lines, without skipped lines."""
    columns = parsed.columns
    found: list[tuple[Any, ...]] = [
        (
            row[layout.T_LINE],
            streams[row[layout.T_STREAM]],
            row[: layout.T_STREAM],
            "MARKET" if row[layout.T_MARKET] else columns.order_types.get(row[layout.T_LINE]),
        )
        for row in columns.trades.T.tolist()
    ]
    for rows, values, tags in (
        (columns.diffs, columns.levels, columns.tags),
        (columns.snapshots, columns.snapshot_levels, columns.snapshot_tags),
    ):
        for row in rows.T.tolist():
            bids, asks, end = row[layout.D_BIDS], row[layout.D_ASKS], row[layout.D_END]
            assert tags[0, bids:asks].tolist() == [0] * (asks - bids)
            assert tags[0, asks:end].tolist() == [1] * (end - asks)
            told = [
                list(zip(*values[:, a:b].tolist(), tags[1, a:b].tolist(), strict=True))
                for a, b in ((bids, asks), (asks, end))
            ]
            found.append((row[layout.D_LINE], streams[row[layout.D_STREAM]], row[: layout.D_BIDS], *told))
    return sorted(found, key=lambda told: int(told[0]))


def parse_with_msgspec(content: bytes) -> list[tuple[Any, ...]] | None:
    """Parse with msgspec; None for a rejected line."""
    found: list[tuple[Any, ...]] = []
    try:
        for number, line in enumerate(content.split(b"\n")[:-1]):
            told = read_line(line, "made.gz")
            if told.kind == layout.TRADE:
                found.append((number, told.stream, told.row, told.order_type))
            elif told.kind != layout.SKIP:
                found.append((number, told.stream, told.row, told.bids, told.asks))
    except MalformedDataError:
        return None
    return found


def outcome(decoder: ReferenceDecoder, content: bytes) -> Any:
    """Return everything that a decoder gives for a block: values, streams and counts, or the error."""
    try:
        found = parse(content, decoder, first_line=7)
    except MalformedDataError as error:
        return str(error)
    return (
        list_values(found, decoder.streams),
        found.lines,
        decoder.streams,
        decoder.symbols,
        decoder.messages,
    )


@given(st.lists(lines(), min_size=1, max_size=6).map(b"".join))
def test_any_layout_gives_what_msgspec_gives(content: bytes) -> None:
    """Layouts with futures' fields, unknown fields or another order give the values of the reference."""
    decoder = new_decoder()
    assert list_values(parse(content, decoder), decoder.streams) == parse_with_msgspec(content)


@given(st.lists(st.lists(lines(), max_size=5).map(b"".join), min_size=1, max_size=3), st.booleans())
def test_both_decoders_give_the_same_for_the_blocks_of_a_recording(blocks: list[bytes], is_new: bool) -> None:
    """Values, order of streams and counts are equal, also when the columns are used again."""
    compiled, reference = CompiledDecoder("made.gz"), ReferenceDecoder("made.gz")
    for block in blocks if is_new else [KNOWN, *blocks]:
        assert outcome(compiled, block) == outcome(reference, block)


def test_the_order_type_of_a_trade_is_kept() -> None:
    """Order types of one block are not kept for the next one."""
    odd = [
        TRADE.replace(b',"m"', b',"X":%b,"m"' % kind) for kind in (b'"NA"', b'"MARKET"', b"null", b'{"y":1}')
    ]
    decoder = new_decoder()
    for content, expected in ((TRADE + b"".join(odd), {1: "NA", 2: "MARKET", 4: '{"y":1}'}), (TRADE, {})):
        found = decoder.decode(content + bytes(layout.PADDING)).columns
        markets = dict.fromkeys(
            found.trades[layout.T_LINE, found.trades[layout.T_MARKET] == 1].tolist(), "MARKET"
        )
        assert found.order_types | markets == expected
    with pytest.raises(MalformedDataError, match="X has 65 characters"):
        parse(TRADE.replace(b',"m"', b',"X":"%b","m"' % (b"Y" * 65)))


@pytest.mark.parametrize(
    "level", ['["1","2","3"]', '["1","2",[3]]', '["1","2",[],[]]', '["1",[]]', '["1","2",{}]']
)
def test_only_an_empty_third_element_is_left_out(level: str) -> None:
    """Both readers reject a line with any other third element."""
    line = DIFF.replace(b'["12.5","0"]', level.encode())
    assert parse_with_msgspec(line) is None
    with pytest.raises(MalformedDataError, match=r"made\.gz, line 1"):
        parse(line)


@given(st.lists(messages, min_size=1, max_size=6), integers)
def test_the_compact_layout_needs_no_fallback(sent: list[tuple[str, Any]], capture_ns: int) -> None:
    """Otherwise the decoder would become slow without an error."""
    decoder = new_decoder()
    parse(
        (
            b'{"capture_ns":1,"stream":"ethusdt@depth","data":{"e":"depthUpdate","E":1,"s":"ETHUSDT",'
            b'"U":1,"u":1,"b":[],"a":[]}}\n'
        ),
        decoder,
    )
    content = b"".join(
        json.dumps(
            {"capture_ns": capture_ns, "stream": stream, "data": order_fields(data)}, separators=(",", ":")
        ).encode()
        + b"\n"
        for stream, data in sent
        if "\\" not in json.dumps(data)
    )
    assert parse(content, decoder).by_fallback == 0


@pytest.mark.parametrize("line", UM_LINES)
@pytest.mark.parametrize(
    "older",
    [
        (),
        ((b',"st":1', b""),),
        ((b',"ps":"ETHUSDT"', b""), (b',"st":1', b"")),
        ((b'39,"E":1723161255308,"T":1723161255301', b"39"),),
    ],
)
def test_frames_of_futures_of_every_year_need_no_fallback(
    line: bytes, older: tuple[tuple[bytes, bytes], ...]
) -> None:
    """USD-M messages with and without `ps` and `st`, which exist since the middle of 2026."""
    for old, new in older:
        line = line.replace(old, new)
    decoder = new_decoder()
    found = parse(line * 3, decoder)
    assert found.by_fallback == 0
    assert list_values(found, decoder.streams) == parse_with_msgspec(line * 3)


@pytest.mark.parametrize(
    ("pair", "by_fallback"), [("BTCUSDT", 0), ("BTCUSD", 1), ("BTCUSDT_260327", 1), ("BTCUSDTX", 1)]
)
def test_a_pair_is_the_symbol_without_its_date(pair: str, by_fallback: int) -> None:
    """`ps` of a delivery contract; msgspec reads a line with another text."""
    line = UM_DIFF.replace(b'"ps":"ETHUSDT"', b'"ps":"%b"' % pair.encode())
    line = line.replace(b"ethusdt", b"btcusdt_260327").replace(b"ETHUSDT", b"BTCUSDT_260327")
    decoder = CompiledDecoder("made.gz")
    parse(line, decoder)
    found = parse(line, decoder)
    assert found.by_fallback == by_fallback
    assert list_values(found, decoder.streams) == parse_with_msgspec(line)


def check_mutant(content: bytes) -> None:
    """Check that the kernel accepts only lines that msgspec accepts, with the same values."""
    content = content if content.endswith(b"\n") else content + b"\n"
    decoder = new_decoder()
    expected = parse_with_msgspec(content)
    reference = ReferenceDecoder("made.gz")
    parse(KNOWN, reference)
    compared, same = outcome(reference, content), outcome(new_decoder(), content)
    assert compared == same or (b"bookTicker" in content and isinstance(compared, str)), content
    try:
        found = list_values(parse(content, decoder), decoder.streams)
    except MalformedDataError:
        assert expected is None, content
        return
    if expected is not None:
        assert found == expected
    else:  # only the inside of skipped data may be invalid
        assert b"bookTicker" in content, content


@pytest.mark.parametrize("line", [TRADE, DIFF, SNAPSHOT, TICKER, *UM_LINES])
def test_every_byte_may_be_damaged(line: bytes) -> None:
    """Each byte is flipped, deleted or doubled, or the line is cut there."""
    for at in range(len(line)):
        for byte in (
            b"",
            b'"',
            b"0",
            b"9",
            b",",
            b"}",
            b"\n",
            b"\x00",
            b"\xff",
            bytes([line[at] ^ 1]),
            line[at : at + 1] * 2,
        ):
            mutant = line[:at] + byte + line[at + 1 :]
            check_mutant(mutant)
            check_mutant(mutant + DIFF)
        check_mutant(line[:at])
        check_mutant(line[:at] + TRADE)


@given(st.data())
@settings(max_examples=300)
def test_damage_of_any_kind(data: st.DataObject) -> None:
    """Several changes in several lines never crash the kernel and never give other values."""
    content = bytearray(
        b"".join(
            data.draw(st.lists(st.sampled_from([TRADE, DIFF, SNAPSHOT, *UM_LINES]), min_size=1, max_size=4))
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    check_mutant(bytes(content))


@pytest.mark.parametrize(
    ("text", "value", "places"),
    [
        ("0", 0, 0),
        ("5", 5 * 10**8, 0),
        ("0.1", 10**7, 1),
        ("2683.80000000", 268380000000, 8),
        ("92233720368.54775807", MOST, 8),
    ],
)
def test_decimals(text: str, value: int, places: int) -> None:
    """Value and number of decimals are as sent."""
    assert decimal_e8(text) == (value, places)
    line = TRADE.replace(b"2683.80000000", text.encode())
    row = parse(line, new_decoder()).columns.trades[:, 0]
    assert (row[layout.T_PRICE], row[layout.T_PLACES] >> 4) == (value, places)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".5",
        "5.",
        "-1",
        "+1",
        "1e5",
        "01.5",
        "1.123456789",
        "92233720368.54775808",
        "100000000000",
        "1,5",
        "1.5 ",
        "٣",
    ],
)
@pytest.mark.parametrize("line", [TRADE, DIFF])
def test_numbers_that_are_refused(text: str, line: bytes) -> None:
    """For instance a sign, an exponent or an overflow. The error contains file, line and remedy."""
    with pytest.raises(MalformedDataError, match=r"made\.gz, line 8: .*\(delete this line") as raised:
        parse(TRADE + line.replace(b"2683.80000000", text.encode()), new_decoder(), first_line=7)
    assert "\n" not in str(raised.value)


def test_a_message_in_the_wrong_stream_is_refused() -> None:
    """Otherwise a trade would count for another symbol."""
    with pytest.raises(MalformedDataError, match="'BTCUSDT' is in a stream of ETHUSDT"):
        parse(TRADE.replace(b"ETHUSDT", b"BTCUSDT"), new_decoder())


def test_other_streams_are_counted_and_two_lines_in_one_are_seen() -> None:
    """A lost line feed must not hide a trade behind skipped data."""
    decoder = CompiledDecoder("made.gz")
    parse(TICKER * 3 + TRADE, decoder)
    assert decoder.messages == {"ethusdt@bookTicker": 3, "ethusdt@trade": 1}
    with pytest.raises(MalformedDataError):
        parse(TICKER[:-1] + TRADE, decoder)


def test_many_streams_keep_their_numbers() -> None:
    """The table of streams grows, and the kernel still counts each line for its stream."""
    content = b"".join(
        TRADE.replace(b"ethusdt", b"e%dusdt" % n).replace(b"ETHUSDT", b"E%dUSDT" % n) for n in range(300)
    )
    decoder = CompiledDecoder("made.gz")
    parse(content, decoder)
    again = parse(content, decoder)
    assert again.by_fallback == 0
    assert again.columns.trades[layout.T_STREAM].tolist() == list(range(300))
    assert set(decoder.messages.values()) == {2}


@example(0)
@given(st.integers(0, 3))
def test_columns_that_are_too_small_are_never_left(room: int) -> None:
    """The kernel checks the capacities and never writes outside of the arrays."""
    small = Columns(
        np.empty((11, room), np.int64), np.empty((10, room), np.int64),
        np.empty((2, room), np.int64), np.empty((2, room), np.uint8),
        np.empty((10, room), np.int64), np.empty((2, room), np.int64), np.empty((2, room), np.uint8),
    )  # fmt: skip
    content = (TRADE + DIFF + SNAPSHOT) * 5
    decoder = new_decoder()
    decoder._columns, decoder._capacity = small, len(content)
    with pytest.raises(ValueError, match="too small"):
        decoder.decode(content + bytes(layout.PADDING))


@pytest.mark.parametrize(
    "block", [TRADE * 9, TRADE[:-1] + bytes(layout.PADDING), TRADE + bytes(layout.PADDING - 1), b"\n"]
)
@pytest.mark.parametrize("decoder", [CompiledDecoder, ReferenceDecoder])
def test_a_block_needs_padding_and_an_end(decoder: type[ReferenceDecoder], block: bytes) -> None:
    """The kernel is not started without them."""
    with pytest.raises(ValueError, match="needs a line feed"):
        decoder("made.gz").decode(block)


NAMES = ["币安人生USDT", "BTCUSDT_260327", "ÅUSDT", "币" * 33]


@pytest.mark.parametrize("symbol", NAMES)
def test_symbols_of_any_script_are_read_as_msgspec_reads_them(symbol: str) -> None:
    """The kernel reads names in which only ASCII letters have two forms, also after the table has grown."""
    content = KNOWN.replace(b"ethusdt", symbol.lower().encode()).replace(b"ETHUSDT", symbol.encode())
    others = b"".join(TICKER.replace(b"ethusdt", f"s{number}usdt".encode()) for number in range(100))
    decoder = CompiledDecoder("made.gz")
    for block in (content, others):
        parse(block, decoder)
    again = parse(content, decoder)
    expected = [read_line(line, "made.gz") for line in content.splitlines()]
    found = list_values(again, decoder.streams)
    assert [stream for _, stream, *_ in found] == [
        line.stream for line in expected if line.kind != layout.SKIP
    ]
    assert [tuple(row) for _, _, row, *_ in found] == [
        tuple(line.row) for line in expected if line.kind != layout.SKIP
    ]
    assert set(decoder.symbols[:4]) == {symbol}
    assert again.by_fallback == (4 if symbol in NAMES[2:] else 0)


@pytest.mark.parametrize(
    ("stream", "symbol"),
    [
        ("åusdt@trade", "åUSDT"),
        ("ßusdt@trade", "ßUSDT"),
        ("币usdt@trade", "币X"),
        ("币\u202eusdt@trade", "币"),
    ],
)
def test_a_message_of_another_symbol_is_refused_in_any_script(stream: str, symbol: str) -> None:
    """The kernel accepts no line that msgspec rejects."""
    right = TRADE.replace(b"ethusdt@trade", stream.encode()).replace(
        b"ETHUSDT", stream.partition("@")[0].upper().encode()
    )
    wrong = TRADE.replace(b"ethusdt@trade", stream.encode()).replace(b"ETHUSDT", symbol.encode())
    decoder = new_decoder()
    if stream.startswith(("å", "币u")):
        parse(right, decoder)
    with pytest.raises(MalformedDataError):
        parse(wrong, decoder)
