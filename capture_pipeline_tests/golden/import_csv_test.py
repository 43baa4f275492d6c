"""Tests of the import of Binance-Data-Processor's CSV files, and of the validation of faulty rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.sessions.recordings.reader import read_lines

MS = 1_741_000_000_000
TRADE = (
    "TimestampOfReceive,Stream,EventType,EventTime,TransactionTime,Symbol,TradeId,Price,Quantity,"
    "IsBuyerMarketMaker,"
)
DIFF = (
    "TimestampOfReceive,Stream,EventType,EventTime,{t}Symbol,FirstUpdateId,FinalUpdateId,{pu}IsAsk,Price,"
    "Quantity{ps}"
)
SPOT_TRADE, FUTURES_TRADE = f"{TRADE}MUnknownParameter", f"{TRADE}XUnknownParameter"
SPOT_DIFF = DIFF.format(t="", pu="", ps="")
UM_DIFF = DIFF.format(t="TransactionTime,", pu="FinalUpdateIdInLastStream,", ps="")
CM_DIFF = DIFF.format(t="TransactionTime,", pu="FinalUpdateIdInLastStream,", ps=",PSUnknownField")
SPOT_BOOK = "TimestampOfReceive,TimestampOfRequest,LastUpdateId,IsAsk,Price,Quantity"
CM_BOOK = (
    "TimestampOfReceive,TimestampOfRequest,MessageOutputTime,TransactionTime,LastUpdateId,"
    "Symbol,Pair,IsAsk,Price,Quantity"
)
REPORT = "####\n# Data Quality Report Status: POSITIVE\n####\n"


def written(folder: Path, kind: str, market: str, symbol: str, header: str, rows: list[str]) -> Path:
    path = folder / f"binance_{kind}_{market}_{symbol}_03-03-2025.csv"
    path.write_text(REPORT + "\n".join([header, *rows]) + "\n")
    return path


def imported(folder: Path, *files: Path) -> tuple[SessionFolder, dict[str, Any]]:
    session = import_session(Origin.PROCESSOR, list(files), folder / "out")
    metadata = SessionMetadata.model_validate_json(session.metadata.read_bytes())
    return session, metadata.configuration | {"market": metadata.plan.market}


def messages(session: SessionFolder) -> list[tuple[int, str, Any]]:
    return [
        (line.capture_ns // 1000 - MS * 1000, line.stream, msgspec.json.decode(line.data))
        for _, line in read_lines(session.recording)
    ]


def trades(*numbers: int, stamp: int = MS * 1000, symbol: str = "adausdt", last: str = "True") -> list[str]:
    rows = ((n, stamp + n * 1000) for n in numbers)
    return [
        f"{at + 70},{symbol}@trade,trade,{at + 50},{at},{symbol.upper()},{n},0.7{n},12.5,{n % 2},{last}"
        for n, at in rows
    ]


def diffs(*numbers: int) -> list[str]:
    rows = ((n, (MS + n * 100) * 1000) for n in numbers)
    return [
        f"{at + 9},adausdt@depth@100ms,depthUpdate,{at},ADAUSDT,{n},{n},{side},0.7,{n}.0"
        for n, at in rows
        for side in (0, 1)
    ]


def test_spot_files_of_a_day_are_one_session(tmp_path: Path) -> None:
    """Trades, diffs and snapshots of three files are sorted by their stamps.

    The rows of one diff become one message in the exchange's form.
    """
    files = [
        written(tmp_path, "difference_depth_stream", "spot", "adausdt", SPOT_DIFF, diffs(1, 2, 3)),
        written(tmp_path, "trade_stream", "spot", "adausdt", SPOT_TRADE, trades(4, 5)),
        written(
            tmp_path,
            "depth_snapshot",
            "spot",
            "adausdt",
            SPOT_BOOK,
            [f"{MS + 150},{MS + 140},1,0,0.70,5.0", f"{MS + 150},{MS + 140},1,1,0.80,1e-05"],
        ),
    ]
    session, report = imported(tmp_path, *files)
    found = messages(session)
    assert [(stamp, stream.partition("@")[2]) for stamp, stream, _ in found] == [
        (4070, "trade"),
        (5070, "trade"),
        (100_009, "depth@100ms"),
        (150_000, "depthSnapshot"),
        (200_009, "depth@100ms"),
        (300_009, "depth@100ms"),
    ]
    event = MS * 1000 + 4000
    assert found[0][2] == {
        "e": "trade",
        "E": event + 50,
        "s": "ADAUSDT",
        "t": 4,
        "p": "0.74",
        "q": "12.5",
        "T": event,
        "m": False,
        "M": True,
    }
    assert found[2][2] | {"E": 0} == {
        "e": "depthUpdate",
        "E": 0,
        "s": "ADAUSDT",
        "U": 1,
        "u": 1,
        "b": [["0.7", "1.0"]],
        "a": [["0.7", "1.0"]],
    }
    assert found[3][2] == {"lastUpdateId": 1, "bids": [["0.70", "5.0"]], "asks": [["0.80", "0.00001"]]}
    assert (report["market"], report["stamp_units"], report["faulty_rows"]) == (
        "spot",
        ["microseconds", "milliseconds"],
        0,
    )
    validated = validate(session.path)
    assert {
        name: validated.check(name).verdict for name in ("line_form", "continuity", "duplicates")
    } == dict.fromkeys(("line_form", "continuity", "duplicates"), "PASS")


def test_futures_files_keep_what_is_theirs(tmp_path: Path) -> None:
    """The import keeps the previous id, the order type and the pair.

    These fields show that the market is COIN-M. A COIN-M snapshot contains its symbol.
    """
    row = (
        f"{MS + 109},adausd_perp@depth@100ms,depthUpdate,{MS + 100},{MS + 90},"
        "ADAUSD_PERP,7,9,5,0,0.7,1,ADAUSD"
    )
    files = [
        written(tmp_path, "difference_depth_stream", "coin_m_futures", "adausd_perp", CM_DIFF, [row]),
        written(
            tmp_path,
            "trade_stream",
            "coin_m_futures",
            "adausd_perp",
            FUTURES_TRADE,
            trades(1, stamp=MS, symbol="adausd_perp", last="NA"),
        ),
        written(
            tmp_path,
            "depth_snapshot",
            "coin_m_futures",
            "adausd_perp",
            CM_BOOK,
            [f"{MS},{MS},{MS},{MS},5,ADAUSD_PERP,ADAUSD,0,0.7,1"],
        ),
    ]
    session, report = imported(tmp_path, *files)
    book, diff, trade = (data for _, _, data in messages(session))
    assert (diff["pu"], diff["ps"], diff["U"], diff["u"], diff["T"]) == (5, "ADAUSD", 7, 9, MS + 90)
    assert (trade["X"], book["symbol"], book["pair"]) == ("NA", "ADAUSD_PERP", "ADAUSD")
    assert report["market"] == "cm"


def test_usd_margined_is_told_apart(tmp_path: Path) -> None:
    """The market follows from the symbol and from the columns."""
    row = f"{MS + 109},adausdt@depth@100ms,depthUpdate,{MS + 100},{MS + 90},ADAUSDT,7,9,5,1,0.7,1"
    path = written(tmp_path, "difference_depth_stream", "usd_m_futures", "adausdt", UM_DIFF, [row])
    assert imported(tmp_path, path)[1]["market"] == "um"
    wrong = path.rename(path.with_name(path.name.replace("usd_m_futures", "spot")))
    with pytest.raises(
        MalformedDataError, match=r"the market is contradictory: spot by .*its name.*um by .*pu in"
    ):
        imported(tmp_path / "b", wrong)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("x,adausdt@trade,trade,{e},{e},ADAUSDT,2,0.7,1.0,1,True", "TimestampOfReceive is not a number: 'x'"),
        ("{r},adausdt@trade,trade,{e},{e},ADAUSDT,-2,0.7,1.0,1,True", "TradeId is not a number: '-2'"),
        (
            "{r},adausdt@trade,trade,{e},{e},ADAUSDT,2,nan,1.0,1,True",
            "Price is not a number of 0 or more: 'nan'",
        ),
        (
            "{r},adausdt@trade,trade,{e},{e},ADAUSDT,2,-0.7,1.0,1,True",
            "Price is not a number of 0 or more: '-0.7'",
        ),
        (
            "{r},adausdt@trade,trade,{e},{e},ADAUSDT,2,0.7,,1,True",
            "Quantity is not a number of 0 or more: ''",
        ),
        (
            "{r},adausdt@trade,trade,{e},{e},ADAUSDT,2,0.7,1.0,2,True",
            "IsBuyerMarketMaker is none of 0, 1, False, True: '2'",
        ),
        ("{r},adausdt@trade,trade,{e},{e},ADAUSDT,2,0.7,1.0,1", "has 10 cells instead of 11"),
        (
            "{r},adausdt@trade,depthUpdate,{e},{e},ADAUSDT,2,0.7,1.0,1,True",
            "EventType is not trade: 'depthUpdate'",
        ),
        (
            "{r},adausdt@trade,trade,{e},{e},XRPUSDT,2,0.7,1.0,1,True",
            "Symbol 'XRPUSDT' is not that of its stream",
        ),
        ("{r},../x@trade,trade,{e},{e},ADAUSDT,2,0.7,1.0,1,True", "has an invalid stream name"),
    ],
)
def test_a_faulty_row_is_kept_as_a_line_that_validation_fails(tmp_path: Path, row: str, why: str) -> None:
    """A faulty row is kept as text, is listed with its reason, and fails `line_form`."""
    faulty = row.format(r=MS * 1000 + 2070, e=MS * 1000 + 2050)
    path = written(tmp_path, "trade_stream", "spot", "adausdt", SPOT_TRADE, [*trades(1), faulty, *trades(3)])
    session, report = imported(tmp_path, path)
    assert report["faulty_rows"] == 1
    assert why in report["faulty"][0]
    assert report["faulty"][0].startswith(f"{path.name} line 6: ")
    assert [data for _, _, data in messages(session)][1] == faulty
    check = validate(session.path).check("line_form")
    assert (check.verdict, check.reason.startswith("1 of 3 lines: line 2: ")) == ("FAIL", True)


def test_what_the_rows_lack_is_found_by_validation(tmp_path: Path) -> None:
    """Missing trades and diffs are gaps, and a repeated trade is a duplicate."""
    files = [
        written(tmp_path, "trade_stream", "spot", "adausdt", SPOT_TRADE, trades(1, 2, 2, 5)),
        written(tmp_path, "difference_depth_stream", "spot", "adausdt", SPOT_DIFF, diffs(1, 2, 4)),
    ]
    session, _ = imported(tmp_path, *files)
    streams = validate(session.path).statistics["streams"]
    assert [streams["adausdt@trade"][name] for name in ("gaps", "ids_lost", "duplicates")] == [1, 2, 1]
    assert [streams["adausdt@depth@100ms"][name] for name in ("gaps", "ids_lost", "duplicates")] == [1, 1, 0]


def test_a_faulty_level_does_not_break_its_diff_apart(tmp_path: Path) -> None:
    """The other levels of the diff remain one message."""
    rows = diffs(1)
    path = written(
        tmp_path,
        "difference_depth_stream",
        "spot",
        "adausdt",
        SPOT_DIFF,
        [rows[0], rows[0].replace("0.7", "x"), rows[1]],
    )
    session, report = imported(tmp_path, path)
    assert (len(messages(session)), report["faulty_rows"]) == (2, 1)
    assert validate(session.path).statistics["streams"]["adausdt@depth@100ms"]["duplicates"] == 0


@pytest.mark.parametrize(
    "header",
    [
        "TimestampOfReceive,StreamType,Market",
        "EventTime,IsAsk,Price,Quantity,TimestampOfReceive,FirstUpdate,FinalUpdate",
    ],
)
def test_a_layout_that_is_not_known_is_refused(tmp_path: Path, header: str) -> None:
    """Merged files and files of early versions contain no symbol."""
    path = written(tmp_path, "trade_stream", "spot", "adausdt", header, ["1,2,3"])
    with pytest.raises(MalformedDataError, match="line 4 is not a header of Binance-Data-Processor"):
        imported(tmp_path, path)
