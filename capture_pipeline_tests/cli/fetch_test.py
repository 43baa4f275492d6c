"""The commands `capture klines backfill`, `topup` and `gaps`, and the files of a killed backfill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.binance.periods import Month
from capture_pipeline.cli.demo import command as demo
from capture_pipeline.cli.klines import backfill as fetch
from capture_pipeline.cli.klines import coverage
from capture_pipeline.cli.main import main
from capture_pipeline.deployment import lake_guard
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.support.command import OMITTED, OUTAGE, Run, read_json
from capture_pipeline_tests.support.deployment import NOW, SandboxDeployment, run_sandbox_deployment

CAPTURE = str(Path(sys.executable).with_name("capture"))


def started(sandbox: SandboxDeployment, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the installed program."""
    environ = {**os.environ, **sandbox.environment(**environment)}
    return subprocess.Popen(
        [CAPTURE, *arguments], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_second_backfill_downloads_nothing_and_changes_no_byte(
    run: Run, sandbox: SandboxDeployment
) -> None:
    """Only the open month requests its listing, its checksums and its newest klines."""
    before = {path: path.read_bytes() for path in (sandbox.root / "lake").rglob("*.parquet")}
    sandbox.forget_requests()
    result = run("klines", "backfill", "--json")
    assert [row["fetched"] for row in read_json(result)["partitions"]] == [[], []]
    assert not [entry for entry in sandbox.requests() if entry["path"].endswith(".zip")]
    assert {path: path.read_bytes() for path in before} == before


def test_a_dry_run_tells_what_a_backfill_then_downloads(tmp_path: Path) -> None:
    """The dry run reports the files, bytes and requests of the backfill, and creates nothing.

    A dry run after the backfill reports no work.
    """
    with run_sandbox_deployment(tmp_path) as sandbox:
        dry = partial(
            CliRunner().invoke,
            main,
            ["klines", "backfill", "--dry-run", "--json"],
            env=sandbox.environment(),
            catch_exceptions=False,
        )
        estimate = read_json(dry())
        assert {path.name for path in sandbox.root.iterdir()} <= {"state"}
        sandbox.forget_requests()
        assert (
            CliRunner()
            .invoke(main, ["klines", "backfill"], env=sandbox.environment(), catch_exceptions=False)
            .exit_code
            == 0
        )
        asked = [entry["path"] for entry in sandbox.requests()]
        zips = list((sandbox.root / "raw").rglob("*.zip"))
        assert (estimate["files"], estimate["bytes"]) == (
            len(zips),
            sum(path.stat().st_size for path in zips),
        )
        assert sum(path.endswith(".zip") for path in asked) == len(zips)
        assert estimate["rest_requests"] == len(list((sandbox.root / "raw").rglob("rest/*.json"))) == 1
        assert estimate["seconds"] is None
        after = read_json(dry())
        assert (after["partitions"], after["complete"], after["files"], after["rest_requests"]) == (
            2,
            2,
            0,
            0,
        )
        zips[0].unlink()
        assert read_json(dry())["files"] == 1
        told_to_people = (
            CliRunner()
            .invoke(
                main,
                ["klines", "backfill", "--dry-run"],
                env=sandbox.environment(),
                catch_exceptions=False,
            )
            .stdout
        )
    assert "to download: 1 files" in told_to_people
    assert "at the speed of earlier downloads" in told_to_people


def test_a_backfill_tells_a_log_plain_lines_and_a_script_json(tmp_path: Path) -> None:
    """Without a terminal, stderr has one line for each partition.

    With `--json`, stdout has only the document.
    """
    with run_sandbox_deployment(tmp_path) as sandbox:
        plain = started(sandbox, "klines", "backfill", "--from", "2025-01", "--to", "2025-01").communicate(
            timeout=60
        )
        told_to_script = started(
            sandbox, "klines", "backfill", "--from", "2025-01", "--to", "2025-01", "--json"
        ).communicate(timeout=60)
    assert "backfill 1/1 BTCUSDT 2025-01" in plain[1]
    assert "\x1b[" not in plain[0] + plain[1]
    assert "744" in plain[0]
    assert told_to_script[1] == ""
    assert json.loads(told_to_script[0])["partitions"][0]["bars"] == 744


def test_a_topup_touches_the_open_month_alone(run: Run) -> None:
    """Neither --from nor --to is given, and no earlier month is unfinished."""
    assert [row["month"] for row in read_json(run("klines", "topup", "--json"))["partitions"]] == ["2025-02"]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (("--symbol", "NOSUCHUSDT"), {}, 2, "NOSUCHUSDT"),
        (("--interval", "7m"), {}, 2, "7m"),
        (("--from", "2025-13"), {}, 2, "2025-13"),
        (("--from", "2031-01"), {}, 2, "no month of the history has begun"),
        (
            ("--from", "2025-03"),
            {"CAPTURE_HISTORY_END": "2025-02-10"},
            2,
            "--from is after history.end, 2025-02-10",
        ),
        (("--from", "0000-01"), {}, 2, "'0000-01' is not a month"),
        (("--from", "2025-02-20", "--to", "2025-02-10"), {}, 2, "--to is before --from"),
        (("--to", "2024-12"), {}, 2, "--to is before history.start"),
        (("--symbol", "NOSUCHUSDT", "--to", "9999-12"), {}, 2, "NOSUCHUSDT"),
        ((), {"CAPTURE_SANDBOX_URL": "http://127.0.0.1:1"}, 2, "127.0.0.1:1"),
        ((), {"CAPTURE_STORAGE_ROOT": "/proc/nowhere"}, 2, "/proc/nowhere"),
    ],
)
def test_what_goes_wrong_is_one_line(
    arguments: tuple[str, ...], environment: dict[str, str], code: int, said: str, run: Run
) -> None:
    """The exit code is 2 if the command could not run, and 1 if partitions failed."""
    result = run("klines", "backfill", *arguments, **environment)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_the_ledger_names_what_was_filled_and_what_is_open(run: Run) -> None:
    """The omission was filled from REST; the outage was observed once, which is no proof."""
    rows = read_json(run("klines", "gaps", "--json"))
    filled, hole = sorted((row for row in rows if row["month"] == "2025-01"), key=lambda row: row["from"])
    assert (filled["from"], filled["status"], filled["filled_by"]) == (OMITTED["start"], "filled", "rest")
    assert (hole["bars"], hole["status"], hole["cause"], hole["verified"]) == (4, "open", "unknown", False)


def test_gaps_fill_asks_again_and_two_sightings_make_a_proof(tmp_path: Path) -> None:
    """A second empty answer, half an hour later, proves that the hole exists at the exchange.

    The range is not requested again.
    """
    outage = {"start": "2025-01-15T02:00:00Z", "end": "2025-01-15T06:00:00Z"}
    with run_sandbox_deployment(tmp_path, {"outages": [outage]}, CAPTURE_HISTORY_END="2025-01-31") as sandbox:

        def call(*arguments: str) -> list[dict[str, object]]:
            result = CliRunner().invoke(
                main, [*arguments, "--json"], env=sandbox.environment(), catch_exceptions=False
            )
            rows = read_json(result)
            return [row for row in rows if row["status"] == "open"] if isinstance(rows, list) else []

        call("klines", "backfill")
        assert [row["verified"] for row in call("klines", "gaps", "--fill")] == [False]
        sandbox.clock(advance_s=31 * 60)
        assert [row["verified"] for row in call("klines", "gaps", "--fill")] == [True]
        sandbox.clock(advance_s=30 * 86_400)
        sandbox.forget_requests()
        call("klines", "gaps", "--fill")
        assert not [entry for entry in sandbox.requests() if entry["path"].endswith("/klines")]


@pytest.mark.parametrize("quiet", [(), ("--json",)])
def test_a_fill_that_fails_is_told_and_exits_1(
    quiet: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REST refuses, or another process has locked a partition.

    The ledgers of the others are printed, and the error goes to stderr.
    """
    monkeypatch.setattr(lake_guard, "LOCK_TIMEOUT_S", 0.2)
    outages = {"outages": [OUTAGE, {"start": "2024-12-15T02:00:00Z", "end": "2024-12-15T06:00:00Z"}]}
    with run_sandbox_deployment(
        tmp_path, outages, CAPTURE_HISTORY_START="2024-12-01", CAPTURE_HISTORY_END="2025-01-31"
    ) as sandbox:

        def call(*arguments: str) -> Result:
            return CliRunner().invoke(
                main, [*arguments, *quiet], env=sandbox.environment(), catch_exceptions=False
            )

        call("klines", "backfill")
        sandbox.clock(advance_s=31 * 60)
        sandbox.faults({"match": {"path": "/api/v3/klines"}, "fault": "status_451", "times": "always"})
        refused = call("klines", "gaps", "--fill")
        sandbox.faults()
        lake, january = sandbox.deployment.lake, sandbox.deployment.partition("BTCUSDT", Month(2025, 1))
        computed = lake.window(january).read_bytes()
        with file_lock(lake.lock(january)):
            held = call("klines", "gaps", "--fill")
            # Whoever holds it may be changing the bars: no ledger of half of them is published.
            assert lake.window(january).read_bytes() == computed
        assert call("klines", "gaps", "--fill").exit_code == 0
    for result, said in ((refused, "451"), (held, "is locked by")):
        assert result.exit_code == 1, result.output
        assert any(line.startswith("failed ") and said in line for line in result.stderr.splitlines())
        assert "2024-12-15T02:00:00Z" in result.stdout
    assert "2025-01-15T02:00:00Z" in refused.stdout
    assert "2025-01-15T02:00:00Z" not in held.stdout
    assert len([line for line in held.stderr.splitlines() if line.startswith("failed ")]) == 1


def test_a_partition_without_bars_is_in_the_ledger(run: Run, sandbox: SandboxDeployment) -> None:
    """The raw files of the month exist, so that it counts as started."""
    bars = sandbox.deployment.lake.bars(sandbox.deployment.partition("BTCUSDT", Month(2025, 1)))
    bars.unlink()
    rows = [
        row
        for row in read_json(run("klines", "gaps", "--json"))
        if row["month"] == "2025-01" and row["status"] == "open"
    ]
    assert sum(row["bars"] for row in rows) == 744


def test_a_ledger_cut_short_says_so(run: Run, sandbox: SandboxDeployment) -> None:
    """The table shows forty rows and counts the others."""
    path = sandbox.deployment.lake.bars(sandbox.deployment.partition("BTCUSDT", Month(2025, 1)))
    pl.read_parquet(path, hive_partitioning=False).gather_every(2).write_parquet(path)
    found = len(read_json(run("klines", "gaps", "--json", "--to", "2025-01")))
    assert f"and {found - 40:,} more" in run("klines", "gaps", "--all", "--to", "2025-01").stdout


def test_a_catalogue_in_use_keeps_nothing_from_being_told(run: Run, sandbox: SandboxDeployment) -> None:
    """Another program writes to the catalogue; the command prints the summary with a warning.

    The views of the copied catalogue contain another root and have to change.
    """
    catalogue = sandbox.root / "catalog.duckdb"
    holder = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE t (a "
        "INT)'); print(flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(catalogue)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        results = [run("klines", "gaps", "--json"), run("klines", "topup", "--json")]
        process.communicate("\n")
    for result in results:
        assert (result.exit_code, "Warning: the catalog was not renewed" in result.stderr) == (0, True), (
            result.output
        )
        assert read_json(result)


def test_an_interrupt_is_no_verdict(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C exits with 130."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(coverage, "report_coverage", interrupted)
    result = run("klines", "coverage")
    assert (result.exit_code, result.stderr.strip()) == (130, "Interrupted")


def partials(sandbox: SandboxDeployment) -> list[Path]:
    """Return the incomplete files of interrupted downloads."""
    return [path for path in sandbox.root.rglob("*.partial") if path.stat().st_size > 3_000]


def manifests(sandbox: SandboxDeployment) -> list[Path]:
    """Return the records of downloaded and verified files."""
    return list(sandbox.root.rglob("raw/**/archives.json"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_backfill_goes_on_where_it_was(after: int, tmp_path: Path) -> None:
    """The backfill gets SIGKILL after some files.

    The next run downloads only the other files; the result is identical to that of an uninterrupted run.
    """
    months = ("--from", "2024-07", "--to", "2024-12")
    # The first files come at once, the others so slowly that the kill finds them under way on any machine.
    slow = {
        "match": {"path": "*.zip"},
        "fault": "slow_body",
        "bytes_per_s": 4_000,
        "times": 1000,
        "after": after,
    }
    with run_sandbox_deployment(tmp_path / "killed") as sandbox:
        sandbox.faults(slow)
        process = started(sandbox, "klines", "backfill", *months)
        deadline = time.monotonic() + 60
        while len(manifests(sandbox)) < after or not partials(sandbox):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        sandbox.faults()
        kept = {
            Path(record["name"]).stem
            for path in manifests(sandbox)
            for record in json.loads(path.read_text())["files"]
        }
        sandbox.forget_requests()
        again = json.loads(
            started(sandbox, "klines", "backfill", *months, "--json").communicate(timeout=60)[0]
        )
        zips = [entry for entry in sandbox.requests() if entry["path"].endswith(".zip")]
        assert process.returncode == -signal.SIGKILL
        assert [row["missing"] for row in again["partitions"]] == [0] * 6
        assert len(kept) >= after
        assert not {Path(entry["path"]).stem for entry in zips} & kept
        assert [entry for entry in zips if entry["range"]]
        undisturbed = SandboxDeployment(sandbox.url, tmp_path / "whole")
        assert (
            CliRunner().invoke(main, ["klines", "backfill", *months], env=undisturbed.environment()).exit_code
            == 0
        )
        for month in Month.range(Month(2024, 7), Month(2024, 12)):
            one, two = (
                each.deployment.lake.bars(each.deployment.partition("BTCUSDT", month))
                for each in (sandbox, undisturbed)
            )
            assert one.read_bytes() == two.read_bytes()
        assert not [
            path for path in sandbox.root.rglob("*") if path.name.endswith(".part") and path.stat().st_size
        ]


def test_the_archives_alone_leave_the_tail_to_rest(tmp_path: Path) -> None:
    """With --archives-only no candle is requested from REST; the hours of today are expected later."""
    with run_sandbox_deployment(tmp_path) as sandbox:
        result = CliRunner().invoke(
            main,
            ["klines", "backfill", "--archives-only", "--json"],
            env=sandbox.environment(),
            catch_exceptions=False,
        )
        assert not [
            entry
            for entry in sandbox.requests()
            if entry["path"].endswith("/klines") and entry["query"].get("limit") == "1000"
        ]
    (february,) = [row for row in read_json(result)["partitions"] if row["month"] == "2025-02"]
    assert (february["rest"], february["bars"], february["missing"]) == (0, 456, 0)


def test_the_futures_market_has_its_own_archive_and_budget(tmp_path: Path) -> None:
    """USD-M files have a header and milliseconds, also in 2025; the gates are the same."""
    with run_sandbox_deployment(tmp_path, CAPTURE_MARKET="um") as sandbox:
        env = sandbox.environment(CAPTURE_HISTORY_START="2024-12-01")
        result = CliRunner().invoke(main, ["klines", "backfill", "--json"], env=env, catch_exceptions=False)
        assert [(row["month"], row["bars"], row["missing"]) for row in read_json(result)["partitions"]] == [
            ("2024-12", 744, 0),
            ("2025-01", 744, 0),
            ("2025-02", 466, 0),
        ]
        assert CliRunner().invoke(main, ["check"], env=env, catch_exceptions=False).exit_code == 0
        units = {
            pl.read_parquet(path, hive_partitioning=False)["time_unit"].unique().item()
            for path in sandbox.root.rglob("bars/**/*.parquet")
        }
    assert units == {"ms"}


def test_recheck_marks_what_was_published_anew_and_the_next_backfill_fetches_it(
    run: Run, sandbox: SandboxDeployment
) -> None:
    """Both versions of the file are kept."""
    assert read_json(run("klines", "recheck", "--json")) == {"rechecked": 0, "published_anew": []}
    sandbox.republish("data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-01.zip")
    (found,) = read_json(run("klines", "recheck", "--all", "--json"))["published_anew"]
    assert found["file"] == "BTCUSDT-1h-2025-01.zip"
    january, _ = read_json(run("klines", "backfill", "--json"))["partitions"]
    assert january["fetched"] == ["BTCUSDT-1h-2025-01.zip"]
    assert len(list(sandbox.root.rglob("raw/**/BTCUSDT-1h-2025-01.*.zip"))) == 2


def test_a_topup_finishes_the_month_before(tmp_path: Path) -> None:
    """In March the rest of February is downloaded too, because no other command would do so."""
    with run_sandbox_deployment(tmp_path, CAPTURE_HISTORY_START="2025-02-01") as sandbox:

        def topup() -> list[tuple[str, int]]:
            result = CliRunner().invoke(
                main, ["klines", "topup", "--json"], env=sandbox.environment(), catch_exceptions=False
            )
            return [(row["month"], row["bars"]) for row in read_json(result)["partitions"]]

        assert topup() == [("2025-02", 466)]
        sandbox.clock(now="2025-03-02T09:30:00Z")
        assert topup() == [("2025-02", 672), ("2025-03", 33)]
        assert topup() == [("2025-03", 33)]


@contextmanager
def interrupted(*_: object, **__: object) -> Iterator[Callable[[str], None]]:
    """Simulate a progress bar during which a user presses Ctrl-C."""

    def tell(_: str) -> None:
        raise KeyboardInterrupt

    yield tell


@pytest.mark.parametrize("command", ["backfill", "demo"])
def test_an_interrupted_loop_ends_its_work_before_it_is_told(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread continues the work while the traceback still exists."""
    with run_sandbox_deployment(tmp_path, CAPTURE_HISTORY_START="2024-06-01") as sandbox:
        deployment, now_us = sandbox.deployment, sandbox.deployment.rest.server_time_us()
        parts = deployment.partitions(["BTCUSDT"], deployment.months(now_us))
        monkeypatch.setattr(fetch if command == "backfill" else demo, "progress", interrupted)
        loop = (
            partial(fetch.run, title="backfill", use_rest=True, as_json=True)
            if command == "backfill"
            else _of_the_demo
        )
        with pytest.raises(KeyboardInterrupt) as held:
            loop(deployment, parts, now_us)
        assert held.type is KeyboardInterrupt
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("bars")]


def _of_the_demo(deployment: Deployment, _: list[Partition], now_us: int) -> None:
    demo._backfill(deployment, now_us)


def test_a_damaged_record_keeps_no_other_partition_from_being_looked_at(
    run: Run, sandbox: SandboxDeployment
) -> None:
    """A damaged record does not stop the other partitions.

    `recheck` reads their checksums and exits with 1; `topup` writes the damaged ledger again.
    """
    lake = sandbox.deployment.lake
    january, february = (sandbox.deployment.partition("BTCUSDT", Month(2025, month)) for month in (1, 2))
    lake.window(january).write_bytes(b"")
    assert [row["month"] for row in read_json(run("klines", "topup", "--json"))["partitions"]] == [
        "2025-01",
        "2025-02",
    ]
    assert pl.read_parquet(lake.window(january))["expected"].to_list() == [744]
    lake.archives_manifest(january).write_text("{")
    sandbox.clock(advance_s=8 * 86_400)
    result = run("klines", "recheck", "--json")
    sandbox.clock(now=NOW)
    assert (result.exit_code, read_json(result)["rechecked"]) == (1, 1)
    assert str(lake.archives_manifest(january)) in result.stderr
    assert str(lake.archives_manifest(february)) not in result.stderr
