"""Tests of the import of other tools' recordings: unchanged bytes, ascending stamps, nothing overwritten."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from capture_pipeline.checks.model import Verdict
from capture_pipeline.cli.session.view import session_row
from capture_pipeline.errors import ConfigError, MalformedDataError
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.sessions.models import SessionMetadata, SessionPlan
from capture_pipeline.sessions.recordings.reader import read_lines

DIFF = (
    '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":%d,"u":%d,'
    '"b":[],"a":[ '
    "]}}"
)  # blanks are kept
BODY = '{"lastUpdateId":7,"bids":[],"asks":[]}'
URL = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
T = 1_723_161_254


def hft(path: Path, lines: list[tuple[int, str]]) -> Path:
    path.write_bytes(gzip.compress("".join(f"{stamp} {text}\n" for stamp, text in lines).encode()))
    return path


def lines_of(
    folder: Path, origin: Origin, files: list[Path], symbol: str | None = None
) -> list[tuple[int, str, bytes]]:
    session = import_session(origin, files, folder / "out", symbol=symbol)
    return [(line.capture_ns, line.stream, bytes(line.data)) for _, line in read_lines(session.recording)]


def test_hftbacktest_lines_keep_their_bytes(tmp_path: Path) -> None:
    """Bytes of data are unchanged, and answers to subscriptions are left out.

    A snapshot gets the stream of the only depth stream.
    """
    first = hft(
        tmp_path / "a.gz",
        [(T * 10**9, BODY), (T * 10**9 + 5, '{"result":null,"id":1}'), (T * 10**9 + 9, DIFF % (7, 8))],
    )
    second = hft(tmp_path / "b.gz", [(T * 10**9 + 12, DIFF % (9, 9))])
    data = [(DIFF % ids).split('"data":', 1)[1][:-1].encode() for ids in ((7, 8), (9, 9))]
    assert lines_of(tmp_path, Origin.HFTBACKTEST, [first, second]) == [
        (T * 10**9, "btcusdt@depthSnapshot", BODY.encode()),
        (T * 10**9 + 9, "btcusdt@depth@100ms", data[0]),
        (T * 10**9 + 12, "btcusdt@depth@100ms", data[1]),
    ]


def test_stamps_that_go_back_are_raised_and_counted(tmp_path: Path) -> None:
    """Messages keep their order of arrival. A stamp below the previous one becomes equal to it."""
    path = hft(
        tmp_path / "a.gz",
        [(T * 10**9 + at, DIFF % (number, number)) for number, at in enumerate((5, 3, 4, 9), 1)],
    )
    session = import_session(Origin.HFTBACKTEST, [path], tmp_path / "out")
    assert [line.capture_ns - T * 10**9 for _, line in read_lines(session.recording)] == [5, 5, 5, 9]
    metadata = SessionMetadata.model_validate_json(session.metadata.read_bytes())
    assert metadata.configuration["stamps_raised"] == 2


def test_cryptofeed_snapshots_are_merged_by_time(tmp_path: Path) -> None:
    """A snapshot of the REST file is inserted at its time, even after a stamp that went back.

    Fractions of seconds are exact.
    """
    frames, rest = tmp_path / "ws.txt", tmp_path / "rest.txt"
    rows = [f"{T}.0633569: {DIFF % (1, 7)}", f"{T}.9: {DIFF % (8, 8)}", f"{T}.8: {DIFF % (9, 9)}"]
    frames.write_text("wss://stream.binance.com:9443/stream?streams=x\n" + "\n".join(rows))
    rest.write_text(
        f"{URL} -> {T}.5: {BODY}\n\n{URL} -> {T}.85: {BODY}\n{URL.replace('depth', 'time')} -> {T}.6: {{}}\n"
    )
    ours = lines_of(tmp_path, Origin.CRYPTOFEED, [frames, rest])
    assert [(stamp - T * 10**9, stream.split("@")[1]) for stamp, stream, _ in ours] == [
        (63356900, "depth"),
        (500000000, "depthSnapshot"),
        (850000000, "depthSnapshot"),
        (900000000, "depth"),
        (900000000, "depth"),
    ]


def test_a_stream_that_was_subscribed_to_and_never_came_is_noticed(tmp_path: Path) -> None:
    """The URL in the first line is the plan.

    A stream that the URL does not contain is added to the plan if it has messages.
    """
    frames = tmp_path / "ws.txt"
    frames.write_text(
        "wss://stream.binance.com:9443/stream?streams=btcusdt@depth@100ms/btcusdt@trade <-> "
        f"{T}.0\n{T}.5: {DIFF % (1, 7)}\n"
    )
    session = import_session(Origin.CRYPTOFEED, [frames], tmp_path / "out")
    assert SessionPlan.model_validate_json(session.plan.read_bytes()).streams == [
        "btcusdt@depth@100ms",
        "btcusdt@trade",
    ]
    check = validate(session.path).check("streams")
    assert (check.verdict, check.figures["wrong"]) == (
        Verdict.FAIL,
        {"btcusdt@trade": "never sent a message"},
    )


def test_an_imported_session_is_listed_with_its_figures(tmp_path: Path) -> None:
    """An imported session has the same figures as a recorded one."""
    path = hft(tmp_path / "a.gz", [(T * 10**9 + at, DIFF % ids) for at, ids in ((1, (1, 2)), (2, (5, 6)))])
    row = session_row(import_session(Origin.HFTBACKTEST, [path], tmp_path / "out"))
    assert {name: row[name] for name in ("state", "messages", "gaps", "ids_lost")} == {
        "state": "complete",
        "messages": 2,
        "gaps": 1,
        "ids_lost": 2,
    }


def test_a_session_is_published_whole_and_never_overwritten(tmp_path: Path) -> None:
    """The ledger exists, and the checksums are correct.

    A second import of the same files changes nothing and leaves no file.
    """
    path = hft(tmp_path / "a.gz", [(T * 10**9 + at, DIFF % ids) for at, ids in ((1, (1, 2)), (2, (5, 6)))])
    session = import_session(Origin.HFTBACKTEST, [path], tmp_path / "out", regime="test")
    assert session.path == tmp_path / "out" / "test" / "20240808T235414Z_btcusdt"
    gap = json.loads(session.gaps.read_bytes())
    assert (gap["last_good_id"], gap["first_good_id"], gap["ids_lost"], gap["cause"], gap["recoverable"]) == (
        2,
        5,
        2,
        "unknown",
        False,
    )
    subprocess.run(["sha256sum", "-c", "checksums.txt"], cwd=session.path, check=True, capture_output=True)
    before = {file: file.read_bytes() for file in session.path.iterdir()}
    with pytest.raises(ConfigError, match="exists already"):
        import_session(Origin.HFTBACKTEST, [path], tmp_path / "out", regime="test")
    assert {file: file.read_bytes() for file in session.path.iterdir()} == before
    assert [entry.name for entry in session.path.parent.iterdir()] == [session.session]


@pytest.mark.parametrize(
    ("origin", "text", "words"),
    [
        (
            Origin.HFTBACKTEST,
            "what is this\n",
            "line 1 is not a line of hftbacktest.*text that begins with 'what is this'",
        ),
        (
            Origin.HFTBACKTEST,
            f"{T * 10**9} {DIFF % (1, 2)}\n{T}.5: {DIFF % (3, 4)}\n",
            "line 2 is not a line of hftbacktest",
        ),
        (Origin.HFTBACKTEST, f"{T * 10**9} {BODY}\n", "is a snapshot of an unknown symbol"),
        (
            Origin.HFTBACKTEST,
            f"{T * 10**9} {DIFF % (1, 2)}\n{T * 10**9} {{}}\n",
            "line 2 is not a message of a combined stream",
        ),
        (
            Origin.HFTBACKTEST,
            f"{T * 10**9} {(DIFF % (1, 2)).replace('[ ]', '[ }')}\n",
            "line 1 is not JSON",
        ),
        (Origin.HFTBACKTEST, "", "file is empty"),
        (Origin.CRYPTOFEED, f"{T * 10**9} {DIFF % (1, 2)}\n", "line 1 is not a line of cryptofeed"),
        (Origin.CRYPTOFEED, "wss://host/stream\n", "there is no message to import"),
    ],
)
def test_what_is_no_recording_is_one_line(tmp_path: Path, origin: Origin, text: str, words: str) -> None:
    """A line in another form is an error with file and line number, and no session is published."""
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(MalformedDataError, match=words) as caught:
        import_session(origin, [path], tmp_path / "out")
    assert "a.txt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_snapshots_of_several_symbols_want_a_name(tmp_path: Path) -> None:
    """A bare snapshot needs the name of its symbol if there are several symbols."""
    other = (DIFF % (1, 1)).replace("btcusdt", "ethusdt")
    path = hft(tmp_path / "a.gz", [(T * 10**9, BODY), (T * 10**9, DIFF % (7, 8)), (T * 10**9, other)])
    with pytest.raises(MalformedDataError, match="--symbol"):
        import_session(Origin.HFTBACKTEST, [path], tmp_path / "out")
    assert lines_of(tmp_path, Origin.HFTBACKTEST, [path], "ETHUSDT")[0][1] == "ethusdt@depthSnapshot"
