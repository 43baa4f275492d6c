"""Sample of `make fuzz`: each parser of external bytes on some damaged inputs, the same in every run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from capture_pipeline.errors import MalformedDataError
from capture_pipeline_tests.soak.fuzz.file_targets import FINISHED, GOLDEN
from capture_pipeline_tests.soak.fuzz.run import ALL, FuzzError, build_case, main, save, try_case
from capture_pipeline_tests.soak.fuzz.targets import Target


@pytest.mark.parametrize("name", ALL)
def test_damaged_input_gives_a_value_or_an_error_of_the_project(name: str, tmp_path: Path) -> None:
    """Valid input is accepted."""
    for seed in ALL[name].seeds:
        assert try_case(name, seed, tmp_path), seed[:80]
    for number in range(ALL[name].cases):
        data = build_case(name, 1, number)
        try:
            try_case(name, data, tmp_path)
        except FuzzError as error:
            raise AssertionError(
                f"seed 1, case {number}: {error}; the input is in {save(data, name, tmp_path / 'saved')}"
            ) from error


MANIFEST = next(name for name in GOLDEN if name.endswith("manifest.json")).encode()
LONG = b"9" * 5000
AGGREGATE = b'{"capture_ns":1723161254340863867,"stream":"ethusdt@aggTrade","data":{"a":%b,"E":1}}\n' % LONG
TRACK = b'{"messages":1,"gaps":0,"lost":0,"duplicates":0,"overlaps":0,"last_ns":5,"last_event_us":5}'
PAST_FAILURES = [
    ("import of hftbacktest", ALL["import of hftbacktest"].seeds[0].replace(b'"t":7', b'"t":' + LONG)),
    ("import of capture", ALL["import of capture"].seeds[0].replace(b":17", b":91")),
    ("recording, plain", AGGREGATE),
    ("bucket listings", b"\xff\xfe" + ALL["bucket listings"].seeds[0].decode().encode("utf-16-le")),
    ("sandbox control", b"[" * 900 + b"]" * 900),
    ("HTTP headers", b"\xb2"),
    ("HTTP headers", b"bytes 5-9/" + LONG),
    ("HTTP headers", b"inf"),
    (
        "session, finished",
        b"session.json\n"
        + re.sub(rb'"start_us": ?[0-9]+', b'"start_us":' + b"9" * 30, FINISHED["session.json"]),
    ),
    ("session, finished", b"checksums.txt\n" + b"0" * 64 + b"  " + b"x" * 300),
    ("session, finished", b"checksums.txt\n" + b"0" * 64 + b"  a\x00b"),
    ("session, finished", b"session.json\n" + b"[" * 100_000),
    ("session, growing", b'account.json\n{"state":"open","mark":{"tracks":{"btcusdt@trade":%b}}}' % TRACK),
    ("session, growing", b'checkpoint.json\n{"offset":-5,"tracks":{"btcusdt@trade":{"x":1}}}'),
    (
        "tables of a session",
        MANIFEST + b"\n" + GOLDEN[MANIFEST.decode()].replace(b"hour=", b"hour=" + b"1" * 300),
    ),
]
"""Inputs that caused a traceback in an earlier version."""


@pytest.mark.parametrize(
    ("name", "data"),
    PAST_FAILURES,
    ids=[f"{number} {name}" for number, (name, _) in enumerate(PAST_FAILURES)],
)
def test_input_that_was_at_fault_once_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    try_case(name, data, tmp_path)


def test_a_damaged_page_of_a_table_does_not_end_the_process(tmp_path: Path) -> None:
    """With one changed byte of a page encoding, the reader of Polars allocates two exabytes and crashes."""
    content = ALL["published tables"].seeds[0]
    damaged = content.replace(b"R,\x15\n\x15", b"R,\x15+\x15")
    assert damaged != content
    path = tmp_path / "table.parquet"
    path.write_bytes(damaged)
    code = (
        "from pathlib import Path; from capture_pipeline.lake.parquet import read_table; "
        f"read_table(Path({str(path)!r}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, "LakeError" in result.stderr) == (1, True), result.stderr[-500:]


def test_tables_outside_the_lake_are_not_read(tmp_path: Path) -> None:
    """A manifest with a file outside the lake is rejected."""
    outside = tmp_path / "outside.parquet"
    inside = next(name for name in GOLDEN if "golden_depth" in name)
    outside.write_bytes(GOLDEN[inside])
    content = GOLDEN[MANIFEST.decode()].replace(inside.encode(), b"../outside.parquet")
    assert not try_case("tables of a session", MANIFEST + b"\n" + content, tmp_path)


def _fail(data: bytes, _: Path) -> None:
    if len(data) > 5:
        raise LookupError(data)
    raise MalformedDataError("too short")


def _leak(data: bytes, _: Path) -> None:
    error = MalformedDataError(f"valid {data!r}")
    error.args = (f"two\nlines {data!r}",)
    raise error


@pytest.mark.parametrize("run", [_fail, _leak])
def test_an_input_at_fault_ends_the_run_and_is_saved(
    run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report contains target, seed and case; the saved input causes the failure again."""
    monkeypatch.setitem(ALL, "broken", Target(run, (b"valid input",)))  # type: ignore[arg-type]
    assert main(["--target", "broken", "--minutes", "1", "--seed", "3", "--save", str(tmp_path)]) == 1
    report = capsys.readouterr().out
    (saved,) = tmp_path.iterdir()
    assert "broken, seed 3, case " in report
    assert str(saved) in report
    with pytest.raises(FuzzError):
        try_case("broken", saved.read_bytes(), tmp_path)


def test_a_run_counts_the_inputs_of_each_target(capsys: pytest.CaptureFixture[str]) -> None:
    """All targets run, and the report contains no failure."""
    assert main(["--target", "REST time", "--target", "REST errors", "--minutes", "0.002"]) == 0
    report = capsys.readouterr().out
    assert "REST time" in report
    assert "no failure" in report
