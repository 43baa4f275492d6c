"""Tests of files of hftbacktest and cryptofeed: units of stamps, damaged files, reconnects, REST answers."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capture_pipeline.checks.model import Verdict
from capture_pipeline.cli.session.imports import import_command
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata, SessionPlan
from capture_pipeline.sessions.recordings.reader import read_lines

START = 1_741_000_000
"""Seconds."""
SECOND = 10**9


def diff(number: int, at_ms: int = 0, symbol: str = "adausdt", extra: str = "") -> str:
    event = START * 1000 + at_ms
    price = random.Random(number).randint(1000, 9999)  # noqa: S311 - prices that gzip cannot compress well
    data = (
        f'"e":"depthUpdate","E":{event},"s":"{symbol.upper()}","U":{number},"u":{number}{extra},'
        f'"b":[["0.{price}","{number}.0"]],"a":[]'
    )
    return f'{{"stream":"{symbol}@depth@100ms","data":{{{data}}}}}'


def snapshot(last: int) -> str:
    return f'{{"lastUpdateId":{last},"bids":[["0.5000","1.0"]],"asks":[["0.6000","1.0"]]}}'


def hft(count: int, *, first: int = 1, unit: int = 1, ahead_s: int = 0) -> list[str]:
    """Build lines of hftbacktest, one per 100 ms. `unit` is the unit of the stamps in nanoseconds."""
    stamps = (
        (number, (START + ahead_s) * SECOND + number * SECOND // 10) for number in range(first, first + count)
    )
    return [f"{stamp // unit} {diff(number, number * 100)}\n" for number, stamp in stamps]


def written(path: Path, lines: list[str]) -> Path:
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return path


def imported(
    folder: Path, *files: Path, origin: Origin = Origin.HFTBACKTEST, **options: Any
) -> tuple[SessionFolder, dict[str, Any]]:
    session = import_session(origin, list(files), folder / "out", **options)
    return session, SessionMetadata.model_validate_json(session.metadata.read_bytes()).configuration


def ids(session: SessionFolder) -> list[int]:
    messages = (bytes(line.data) for _, line in read_lines(session.recording))
    return [int(message.split(b'"u":')[1].split(b",")[0]) for message in messages if b'"u":' in message]


@pytest.mark.parametrize(
    ("unit", "name"), [(1, "nanoseconds"), (1000, "microseconds"), (1_000_000, "milliseconds")]
)
def test_the_unit_of_stamps_is_told_from_their_digits(tmp_path: Path, unit: int, name: str) -> None:
    """Nano-, micro- and milliseconds give the same capture times, and the unit is reported."""
    session, report = imported(tmp_path, written(tmp_path / "a.gz", hft(5, unit=unit)))
    assert [line.capture_ns for _, line in read_lines(session.recording)] == [
        START * SECOND + n * SECOND // 10 for n in range(1, 6)
    ]
    assert report["stamp_units"] == [name]


@pytest.mark.parametrize("digits", [10, 12, 14, 15, 17, 18, 20])
def test_a_stamp_of_any_other_length_is_refused(tmp_path: Path, digits: int) -> None:
    """The error contains the number of digits, and the numbers that are accepted."""
    path = written(tmp_path / "a.gz", [f"{'1741000000000000000000'[:digits]} {diff(1)}\n"])
    with pytest.raises(
        MalformedDataError, match=rf"line 1 has a stamp of {digits} digits.*microseconds \(16\)"
    ):
        imported(tmp_path, path)


@pytest.mark.parametrize(
    ("ahead_s", "is_plausible"),
    [(-2, True), (600, True), (-1500, True), (3600, False), (-7200, False), (10**6, False)],
)
def test_stamps_are_compared_with_event_times(tmp_path: Path, ahead_s: int, is_plausible: bool) -> None:
    """A clock that is wrong by minutes is accepted.

    A difference of an hour or more is local time or a wrong unit, and is rejected.
    """
    path = written(tmp_path / "a.gz", hft(5, ahead_s=ahead_s))
    if is_plausible:
        assert len(ids(imported(tmp_path, path)[0])) == 5
    else:
        with pytest.raises(
            MalformedDataError,
            match=(
                r"5 of 5 stamps differ by more than 30 minutes from the event time E, "
                r"line 1 by -?[0-9,]+ s"
            ),
        ):
            imported(tmp_path, path)


def test_single_stamps_far_from_event_times_are_reported(tmp_path: Path) -> None:
    """Few such stamps do not reject a file, but each of them is reported."""
    lines = [*hft(5), *hft(1, first=6, ahead_s=7200)]
    session, report = imported(tmp_path, written(tmp_path / "a.gz", lines))
    assert ids(session) == [1, 2, 3, 4, 5, 6]
    assert report["stamps_far"] == ["a.gz: 1 of 6 stamps are far from their event time, line 6 by 7,200 s"]


def torn(whole: bytes) -> bytes:
    return whole[: len(whole) * 2 // 3]


def zeros_behind(whole: bytes) -> bytes:
    return torn(whole) + bytes(3000)


def overwritten(whole: bytes) -> bytes:
    """Write a new file over the start of an older, longer file.

    hftbacktest opens the files of the day without truncating them.
    """
    older = gzip.compress("".join(hft(3000, first=50_000)).encode(), mtime=0)
    assert len(older) > len(whole)
    return whole + older[len(whole) :]


def overwritten_and_killed(whole: bytes) -> bytes:
    """Write a part of a new file over the start of an older file, as after a kill."""
    older = gzip.compress("".join(hft(3000, first=50_000)).encode(), mtime=0)
    return torn(whole) + older[len(torn(whole)) :]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (torn, "torn member at byte 0"),
        (zeros_behind, "torn member at byte 0"),
        (overwritten, "bytes that are no gzip at byte"),
        (overwritten_and_killed, "torn member at byte 0"),
    ],
)
def test_of_a_damaged_file_the_sound_part_is_taken(
    tmp_path: Path, damage: Callable[[bytes], bytes], kind: str
) -> None:
    """The import takes every whole line before the damage.

    The rest is reported, and the check `disk` fails.
    """
    path = tmp_path / "adausdt_20250303.gz"
    lines = hft(400)
    path.write_bytes(damage(gzip.compress("".join(lines).encode(), mtime=0)))
    session, report = imported(tmp_path, path)
    whole = (
        _whole_lines(torn(gzip.compress("".join(lines).encode(), mtime=0)))
        if damage is not overwritten
        else 400
    )
    whole -= damage is overwritten_and_killed  # its last line may contain bytes of the older file
    assert ids(session) == list(range(1, whole + 1))
    assert whole > 100
    assert report["left_out"][0].startswith(f"adausdt_20250303.gz: {kind}")
    check = validate(session.path).check("disk")
    assert (check.verdict, kind in check.reason) == (Verdict.FAIL, True)


def _whole_lines(packed: bytes) -> int:
    return zlib.decompressobj(31).decompress(packed).count(b"\n")


@settings(max_examples=12, deadline=None)
@given(cut=st.integers(30, 8000), seed=st.integers(0, 10**6))
@example(cut=209, seed=208)  # the damage begins with the end of a line
def test_wherever_a_file_is_overwritten_only_its_own_lines_are_taken(
    tmp_path_factory: pytest.TempPathFactory, cut: int, seed: int
) -> None:
    """The import takes lines of the new file only.

    The last line before the damage may be left out.
    """
    folder = tmp_path_factory.mktemp("o")
    lines = hft(400)
    whole = gzip.compress("".join(lines).encode(), mtime=0)
    cut = min(cut, len(whole) - 1)
    (folder / "a.gz").write_bytes(whole[:cut] + random.Random(seed).randbytes(4000))  # noqa: S311 - no secret
    try:
        session, report = imported(folder, folder / "a.gz")
    except MalformedDataError as error:
        assert "there is no message to import" in str(error)  # noqa: PT017 - either outcome is right
        assert _whole_lines(whole[:cut]) <= 1
        return
    taken = ids(session)
    assert taken == list(range(1, len(taken) + 1))
    assert _whole_lines(whole[:cut]) - 1 <= len(taken) <= _whole_lines(whole[:cut])
    sent = [json.loads(line.partition(" ")[2])["data"] for line in lines[: len(taken)]]
    assert [json.loads(bytes(line.data)) for _, line in read_lines(session.recording)] == sent
    assert report["left_out"]


def test_nothing_behind_a_wrong_line_of_a_damaged_file_is_taken(tmp_path: Path) -> None:
    """Later lines are left out even if they are sound.

    The line before the wrong one is left out too, because the damage may have changed it.
    """
    lines = hft(400)
    lines[50] = "nonsense\n"
    (tmp_path / "a.gz").write_bytes(torn(gzip.compress("".join(lines).encode(), mtime=0)))
    session, report = imported(tmp_path, tmp_path / "a.gz")
    assert ids(session) == list(range(1, 50))
    assert report["left_out"][0].startswith("a.gz: torn member at byte 0")


def test_a_torn_last_line_is_left_out_and_reported(tmp_path: Path) -> None:
    """The same is true for a plain file. A line that only lacks its line feed is whole."""
    text = "".join(hft(5))
    (tmp_path / "a.dat").write_text(text[:-30])
    (tmp_path / "b.dat").write_text(text[:-1])
    session, report = imported(tmp_path, tmp_path / "a.dat")
    assert ids(session) == [1, 2, 3, 4]
    assert report["left_out"][0].startswith("a.dat: the last line is torn: ")
    session, report = imported(tmp_path / "whole", tmp_path / "b.dat")
    assert (ids(session), report["left_out"]) == ([1, 2, 3, 4, 5], [])


def test_a_wrong_line_of_a_sound_file_is_refused(tmp_path: Path) -> None:
    """Without damage there is no explanation for a wrong line, so a person has to examine the file."""
    with pytest.raises(MalformedDataError, match="line 3 is not a line of hftbacktest"):
        imported(tmp_path, written(tmp_path / "a.gz", [*hft(2), "rubbish\n", *hft(2, first=3)]))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"result":null,"id":1}', "control answers"),
        ('{"id":7,"result":["adausdt@trade"]}', "control answers"),
        ('{"error":{"code":2,"msg":"Invalid request"},"id":2}', "error objects"),
        ('{"code":-1121,"msg":"Invalid symbol."}', "error objects"),
        ('{"id":3,"status":400,"error":{"code":-1,"msg":"x"}}', "error objects"),
    ],
)
def test_answers_between_messages_are_skipped_and_counted(tmp_path: Path, text: str, kind: str) -> None:
    """The answers are counted by kind for both tools. Error objects are reported unchanged."""
    lines = hft(2)
    (tmp_path / "a.dat").write_text(f"{lines[0]}{START * SECOND + 5} {text}\n{lines[1]}")
    session, report = imported(tmp_path, tmp_path / "a.dat")
    assert (ids(session), report["skipped"]) == ([1, 2], {kind: 1})
    assert report["errors"] == ([text] if kind == "error objects" else [])
    (tmp_path / "b.txt").write_text(f"wss://stream.binance.com/x\n{START}.1: {text}\n{START}.2: {diff(1)}\n")
    session, report = imported(tmp_path / "c", tmp_path / "b.txt", origin=Origin.CRYPTOFEED)
    assert (ids(session), report["skipped"][kind]) == ([1], 1)


def test_an_envelope_in_another_form_is_a_message(tmp_path: Path) -> None:
    """The envelope may contain blanks or another order of keys. The bytes of the data do not change."""
    data = diff(1).split('"data":', 1)[1][:-1]
    forms = [
        f'{{"stream": "adausdt@depth@100ms", "data": {data}}}',
        f'{{"data":{data},"stream":"adausdt@depth@100ms"}}',
    ]
    (tmp_path / "a.dat").write_text("".join(f"{START * SECOND} {form}\n" for form in forms))
    session, _ = imported(tmp_path, tmp_path / "a.dat")
    assert [bytes(line.data).decode() for _, line in read_lines(session.recording)] == [data, data]


@pytest.mark.parametrize(
    "name",
    ["../../x@trade", "a/b@trade", "..@depth", "@trade", 'a\\"b@trade', "a b@trade", "x" * 51 + "@trade"],
)
def test_a_stream_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    """A name that could leave the folder or break a line is not accepted as a symbol."""
    (tmp_path / "a.dat").write_text(f'{START * SECOND} {{"stream":"{name}","data":{{"t":1}}}}\n')
    if name == "@trade":
        session, _ = imported(tmp_path, tmp_path / "a.dat", market="spot")
        assert session.session.endswith("_none")
        return
    with pytest.raises(MalformedDataError, match="has an invalid stream name"):
        imported(tmp_path, tmp_path / "a.dat")
    assert not (tmp_path / "out").exists()


def feed(number: int, at_ms: int, symbol: str = "adausdt") -> str:
    return f"{START + at_ms // 1000}.{at_ms % 1000:03d}: {diff(number, at_ms, symbol)}\n"


URL = "wss://stream.binance.com:9443/stream?streams=adausdt@depth@100ms/adausdt@trade"
REST = "https://api.binance.com/api/v3"


def test_cryptofeed_after_reconnects(tmp_path: Path) -> None:
    """Addresses may be anywhere, between requests, configurations, REST answers and a torn end."""
    text = (
        "configuration: {'trades': ['ADA-USDT']}\n"
        f"{URL} <-> {START}.0\n"
        f'{URL} <- {START}.05: {{"method":"SUBSCRIBE","params":["adausdt@bookTicker"],"id":1}}\n'
        f"{feed(1, 100)}"
        f'{REST}/exchangeInfo -> {START}.12: {{"symbols":[]}}\n'
        f"{REST}/depth?symbol=ADAUSDT&limit=1000 -> {START}.15: {snapshot(1)}\n"
        f"{URL} <-> {START}.2\n"
        f"\n{feed(2, 200)}"
        f"{REST}/depth?symbol=ADAUSDT&limit=1000 -> {START}.25: <html>\n502 Bad Gateway\n</html>\n"
        f'{REST}/depth?symbol=ADAUSDT&limit=1000 -> {START}.26: {{"code":-1003,"msg":"Too many"}}\n'
        f"{URL}\n{feed(3, 300)}{feed(4, 400)[:60]}"
    )
    (tmp_path / "BINANCE.ws.1.0").write_text(text)
    session, report = imported(tmp_path, tmp_path / "BINANCE.ws.1.0", origin=Origin.CRYPTOFEED)
    topics = [line.stream.partition("@")[2] for _, line in read_lines(session.recording)]
    assert topics == ["depth@100ms", "depthSnapshot", "depth@100ms", "depth@100ms"]
    assert report["skipped"] == {
        "configuration lines": 1,
        "connection lines": 3,
        "lines sent": 1,
        "other answers of REST": 2,
        "lines of texts": 2,
        "error objects": 1,
    }
    assert report["left_out"][0].startswith("BINANCE.ws.1.0: the last line is torn")
    assert SessionPlan.model_validate_json(session.plan.read_bytes()).streams[:3] == [
        "adausdt@depth@100ms",
        "adausdt@trade",
        "adausdt@bookTicker",
    ]


def test_a_torn_snapshot_at_the_end_is_no_other_answer(tmp_path: Path) -> None:
    """The torn snapshot is reported as left out, and is not counted as an answer without market data."""
    (tmp_path / "a.0").write_text(
        f"{URL}\n{feed(1, 100)}{REST}/depth?symbol=ADAUSDT -> {START}.2: {snapshot(3)[:-9]}"
    )
    _, report = imported(tmp_path, tmp_path / "a.0", origin=Origin.CRYPTOFEED)
    assert len(report["left_out"]) == 1
    assert "other answers of REST" not in report["skipped"]


@settings(max_examples=8, deadline=None)
@example(order=[2, 0, 1, 3, 4, 5], back_ms=3000)
@given(order=st.permutations(range(6)), back_ms=st.integers(0, 5000))
def test_parts_in_any_order_are_one_sequence(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], back_ms: int
) -> None:
    """The parts are those of two connections and a file of snapshots.

    The clock goes back between two parts, but the ids are in order.
    """
    folder = tmp_path_factory.mktemp("p")
    ranges = [range(part * 9 + 1, part * 9 + 10) for part in range(3)]
    back = (0, back_ms, back_ms)
    parts = {
        f"BINANCE.ws.1.{part}": "".join(feed(n, n * 100 - back[part]) for n in ranges[part])
        for part in range(3)
    }
    parts |= {
        f"BINANCE.ws.2.{part}": "".join(feed(n, n * 100, "xrpusdt") for n in ranges[part])
        for part in range(2)
    }
    parts["BINANCE.http.0.0"] = f"{REST}/depth?symbol=ADAUSDT&limit=5 -> {START}.150: {snapshot(1)}\n"
    for name, text in parts.items():
        (folder / name).write_text(f"{URL} <-> {START}.0\n{text}" if ".ws." in name else text)
    names = list(parts)
    session, _ = imported(folder, *(folder / names[place] for place in order), origin=Origin.CRYPTOFEED)
    streams = validate(session.path).statistics["streams"]
    for name, last in (("adausdt@depth@100ms", 27), ("xrpusdt@depth@100ms", 18)):
        assert (streams[name]["first_id"], streams[name]["last_id"], streams[name]["messages"]) == (
            1,
            last,
            last,
        )
        assert [streams[name][what] for what in ("gaps", "duplicates", "overlaps")] == [0, 0, 0]


def test_files_of_several_symbols_are_one_session(tmp_path: Path) -> None:
    """The tool hftbacktest writes a file for each symbol.

    A bare snapshot belongs to the symbol of its file, for any other imported files.
    """
    for symbol in ("adausdt", "xrpusdt"):
        lines = [f"{(START * 10 + n) * SECOND // 10} {diff(n, n * 100, symbol)}\n" for n in range(1, 6)]
        written(tmp_path / f"{symbol}_20250303.gz", [f"{START * SECOND} {snapshot(1)}\n", *lines])
    session, _ = imported(tmp_path, tmp_path / "xrpusdt_20250303.gz", tmp_path / "adausdt_20250303.gz")
    streams = validate(session.path).statistics["streams"]
    assert [streams[f"{symbol}@depthSnapshot"]["messages"] for symbol in ("adausdt", "xrpusdt")] == [1, 1]
    stamps = [line.capture_ns for _, line in read_lines(session.recording)]
    assert stamps == sorted(stamps)


def test_the_command_says_what_was_done(tmp_path: Path) -> None:
    """The command reports raised stamps, skipped and omitted lines, and the evidence of market and venue."""
    lines = hft(4)
    back = f"{(START - 3) * SECOND} {diff(5, 500)}\n"
    error = f'{START * SECOND} {{"code":-1,"msg":"x"}}\n'
    (tmp_path / "a.dat").write_text("".join([lines[0], error, *lines[1:], back, hft(1, first=6)[0][:40]]))
    result = CliRunner().invoke(
        import_command, ["--format", "hftbacktest", "--out", str(tmp_path / "out"), str(tmp_path / "a.dat")]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Imported as ")
    assert result.stderr.splitlines()[:4] == [
        (
            "market spot by a.dat (no pu in adausdt@depth@100ms); venue binance by hftbacktest "
            "(the host of the tool as released; --venue names another)"
        ),
        "stamps in nanoseconds",
        "1 stamps were lower than the previous one and were raised to it, by 3.4 s at most",
        "skipped: 1 error objects",
    ]
    assert "left out: a.dat: the last line is torn" in result.stderr
