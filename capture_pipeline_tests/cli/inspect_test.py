"""The commands `capture klines coverage`, `sql` and `config`."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
import yaml

from capture_pipeline.settings.loader import environment_names
from capture_pipeline_tests.support.command import Run, read_json
from capture_pipeline_tests.support.deployment import SandboxDeployment


def test_coverage_counts_what_is_there_and_what_is_not(run: Run, sandbox: SandboxDeployment) -> None:
    """JSON, CSV and the page show the same numbers."""
    document = read_json(run("klines", "coverage", "--json"))
    january = document["partitions"][0]
    figures = {
        name: january[name]
        for name in ("expected", "present", "missing", "explained", "unexplained", "filled", "conflicts")
    }
    assert figures == {
        "expected": 744,
        "present": 740,
        "missing": 4,
        "explained": 0,
        "unexplained": 4,
        "filled": 3,
        "conflicts": 0,
    }
    assert january["coverage_percent"] == pytest.approx(100 * 740 / 744)
    assert document["summary"]["never_computed"] == 0
    with (sandbox.root / "reports" / "coverage.csv").open() as file:
        assert [int(row["present"]) for row in csv.DictReader(file)] == [740, 466]
    html = (sandbox.root / "reports" / "coverage.html").read_text()
    assert "<svg" in html
    assert "740" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html


def test_months_that_were_never_backfilled_are_named(run: Run) -> None:
    """The percentage excludes these months; the line below the table counts them."""
    result = run("klines", "coverage", CAPTURE_HISTORY_START="2024-11-01")
    assert result.exit_code == 0
    assert "2 symbol-months were never backfilled" in result.stdout


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{bars}'",
        "COPY (SELECT 1) TO '{root}/lake/x.csv'",
        "EXPORT DATABASE '{root}/lake/export'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/lake/x.csv'",
        "SELECT 1; COPY (SELECT 1) TO '{root}/lake/x.csv'",
        "COPY (PIVOT (SELECT 1 a, 2 b) ON a USING sum(b)) TO '{root}/lake/x.csv'",
        "ATTACH '{root}/lake/other.db'",
        "SET enable_external_access = true",
        "CREATE TEMP TABLE t AS SELECT 1",
        "INSTALL httpfs",
        "SELECT * FROM read_text('{root}/../secret.txt')",
        "SELECT * FROM read_text('{root}/lake/../../secret.txt')",
        "SELECT * FROM read_csv('{root}/state/origin.json')",
        "SELECT * FROM glob('/etc/*')",
        "FROM '/etc/hostname'",
    ],
)
def test_sql_writes_nothing_and_reads_the_lake_alone(
    run: Run, sandbox: SandboxDeployment, query: str
) -> None:
    """Statements that write, and files outside the tables of the lake, are refused."""
    (sandbox.root.parent / "secret.txt").write_text("secret")
    bars = next((sandbox.root / "lake" / "bars").rglob("*.parquet"))
    before = {path: path.read_bytes() for path in (sandbox.root / "lake").rglob("*") if path.is_file()}
    result = run("sql", query.format(root=sandbox.root, bars=bars))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "secret" not in result.stdout
    assert {
        path: path.read_bytes() for path in (sandbox.root / "lake").rglob("*") if path.is_file()
    } == before


@pytest.mark.parametrize(
    "query",
    [
        "DESCRIBE bars",
        "SUMMARIZE bars",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM bars",
        "EXPLAIN ANALYZE SELECT count(*) FROM bars",
        "WITH a AS (SELECT 1) FROM a",
        "FROM bars SELECT max(open_time_us)",
    ],
)
def test_sql_takes_every_form_of_a_query(run: Run, query: str) -> None:
    """Each form in the list only reads."""
    assert run("sql", query).exit_code == 0


def test_sql_sees_every_table_with_its_keys(run: Run) -> None:
    """Market, interval, symbol and month are columns; values are exact decimals."""
    rows = read_json(
        run(
            "sql",
            "--json",
            (
                "SELECT symbol, month, count(*) AS bars, typeof(any_value(close)) AS kind FROM bars "
                "GROUP BY ALL ORDER BY 2"
            ),
        )
    )
    assert rows == [
        {"symbol": "BTCUSDT", "month": "2025-01", "bars": 740, "kind": "DECIMAL(18,8)"},
        {"symbol": "BTCUSDT", "month": "2025-02", "bars": 466, "kind": "DECIMAL(18,8)"},
    ]
    for table in ("bar_conflicts", "bar_gaps", "bar_windows"):
        assert run("sql", f"SELECT count(*) FROM {table}").exit_code == 0  # noqa: S608 - names of this test


def test_sql_changes_nothing(run: Run) -> None:
    """The catalogue is opened read-only; an error is one line and exit code 2."""
    result = run("sql", "DROP VIEW bars")
    assert (result.exit_code, "DROP is not allowed" in result.stderr) == (2, True)
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_catalogue_opens_in_plain_duckdb(run: Run, sandbox: SandboxDeployment) -> None:
    """This project is not needed to read the views."""
    assert run("sql", "SELECT 1").exit_code == 0
    with duckdb.connect(str(sandbox.root / "catalog.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM bars").fetchall() == [(1206,)]


def test_the_settings_in_force_are_shown(run: Run) -> None:
    """The output includes values from the environment; the schema is JSON, and every variable is listed."""
    shown = yaml.safe_load(run("config", "show", CAPTURE_GATES_FRESHNESS_HOURS="7").stdout)
    assert (shown["symbols"], shown["gates"]["freshness_hours"]) == (["BTCUSDT"], 7.0)
    assert "properties" in json.loads(run("config", "schema").stdout)
    names = run("config", "env").stdout
    assert all(name in names for name in environment_names())


def test_a_look_at_a_part_leaves_the_report_of_the_whole(run: Run, sandbox: SandboxDeployment) -> None:
    """With --from the command only prints a table."""
    assert run("klines", "coverage").exit_code == 0
    before = (sandbox.root / "reports" / "coverage.csv").read_bytes()
    result = run("klines", "coverage", "--from", "2025-02")
    assert result.exit_code == 0
    assert "coverage.csv" not in result.stdout
    assert (sandbox.root / "reports" / "coverage.csv").read_bytes() == before


def test_numbers_of_a_query_can_be_copied(run: Run) -> None:
    """Numbers have no thousands separators."""
    assert "1735689600000000" in run("sql", "SELECT min(open_time_us) AS first FROM bars").stdout


def test_columns_of_one_name_are_all_told(run: Run) -> None:
    """A later column of the same name gets a number, in the table and in JSON."""
    query = "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a"
    assert read_json(run("sql", "--json", query)) == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]
    assert "a_2" in run("sql", query).stdout


def test_text_in_brackets_is_text(run: Run) -> None:
    """The output treats it neither as markup nor as an emoji."""
    result = run("sql", "SELECT '[/x]' AS \"[b]\", '[red]' AS c, ':smile:' AS d")
    assert result.exit_code == 0
    assert all(text in result.stdout for text in ("[/x]", "[b]", "[red]", ":smile:"))


def test_what_json_has_no_number_for_is_null(run: Run) -> None:
    """This applies inside lists and structs too."""
    rows = read_json(
        run("sql", "--json", "SELECT 'nan'::DOUBLE AS a, ['inf'::DOUBLE, 1] AS b, {'c': '-inf'::DOUBLE} AS d")
    )
    assert rows == [{"a": None, "b": [None, 1.0], "d": {"c": None}}]


@pytest.mark.parametrize("query", ["", " ", "-- nothing"])
def test_a_query_without_a_statement_is_one_line(query: str, run: Run) -> None:
    """The exit code is 2."""
    result = run("sql", "--", query)
    assert (result.exit_code, result.stderr.strip()) == (2, "Error: the query is empty")


@pytest.mark.parametrize("mode", ["True", "False"])
def test_sql_works_while_another_process_has_the_catalogue_open(
    mode: str, run: Run, sandbox: SandboxDeployment
) -> None:
    """A read-only query always works; a query that has to update the views works with a warning."""
    assert run("sql", "SELECT 1").exit_code == 0
    holder = (
        f"import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only={mode}); print(flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(sandbox.root / "catalog.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        result = run("sql", "SELECT count(*) AS bars FROM bars")
        process.communicate("\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1206" in result.stdout


def test_a_calendar_that_cannot_be_read_is_told_before_anything_is_done(
    run: Run, sandbox: SandboxDeployment
) -> None:
    """The command prints one line, exits with 2 and sends no request."""
    sandbox.forget_requests()
    result = run("klines", "backfill", CAPTURE_GAPS_OUTAGE_CALENDAR="/nowhere/outages.yaml")
    assert (result.exit_code, "/nowhere/outages.yaml" in result.stderr) == (2, True)
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT sum(a.range * b.range::DOUBLE) FROM range(1000000000) a, range(1000000000) b",
        "SELECT count(*) FROM range(1000000000) a, range(1000000000) b",
        "SELECT range FROM range(1000000000)",
    ],
    ids=["computes", "counts", "answers with many rows"],
)
def test_an_interrupt_ends_a_long_query_at_once(query: str, sandbox: SandboxDeployment) -> None:
    """Ctrl-C exits with 130 and one line, also while DuckDB computes."""
    command = [str(Path(sys.executable).with_name("capture")), "sql", query]
    environment = {**os.environ, **sandbox.environment()}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_until_busy(process.pid)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            said = process.communicate(timeout=20)  # each query takes hours otherwise
        finally:
            process.kill()
    assert (process.returncode, *said) == (130, "", "Interrupted\n")


def _wait_until_busy(pid: int) -> None:
    """Wait until a thread other than the main thread has used one second of processor time.

    The main thread imports modules and then waits for that thread.
    """
    deadline = time.monotonic() + 60
    while max(
        (_ticks(thread) for thread in Path(f"/proc/{pid}/task").iterdir() if thread.name != str(pid)),
        default=0,
    ) < os.sysconf("SC_CLK_TCK"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _ticks(thread: Path) -> int:
    try:
        return sum(int(ticks) for ticks in (thread / "stat").read_text().rpartition(")")[2].split()[11:13])
    except OSError:
        return 0
