"""`capture session …` and `capture preflight`: plan, start, watch and stop live recordings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.live import Live

from capture_pipeline.binance.periods import iso
from capture_pipeline.binance.symbols import parse_symbols
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors, output_console
from capture_pipeline.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from capture_pipeline.cli.lengths import Length
from capture_pipeline.cli.session_view import (
    damaged,
    overview,
    session_document,
    session_row,
    set_aside_row,
    state_lines,
)
from capture_pipeline.deployment.rest_client import rest_of
from capture_pipeline.errors import CaptureError, StorageError
from capture_pipeline.lake.files import create_folder
from capture_pipeline.recorder.connections.egress import check_network
from capture_pipeline.recorder.lifecycle import (
    RecorderResult,
    create_plan,
    find_session,
    list_hidden_sessions,
    list_open_sessions,
    list_sessions,
    prepare,
    record,
    sessions_root,
    stop,
)
from capture_pipeline.recorder.preflight.preflight import preflight
from capture_pipeline.recorder.state import empty_session_reason
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import EMPTY, SessionPlan
from capture_pipeline.sessions.schedule import list_windows
from capture_pipeline.sessions.status import free_bytes
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.settings.models import Settings
from capture_pipeline.terminal import write_line

_DAY_US = 86_400_000_000
_STOP_S = 120.0
_SYMBOLS_S = 5.0
"""Longest time that the question for the symbols delays a recording."""
_config = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="pipeline.yaml, if not the nearest one."
)
_output = click.option(
    "--output-dir", "output", type=click.Path(file_okay=False, path_type=Path), help="Where sessions lie."
)
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


@click.group("session")
def session_group() -> None:
    """Live recordings: golden samples."""


@session_group.command("start")
@click.option(
    "--symbol",
    "symbols",
    multiple=True,
    help="A symbol, or several by commas; may be repeated. Default: BTCUSDT.",
)
@click.option("--duration", type=Length(), default="24h", show_default=True, help="90s, 15m, 24h, 2d.")
@click.option(
    "--regime",
    default="custom",
    show_default=True,
    help="high_volume, low_volume, special_event or your own.",
)
@click.option("--description", default="", help="Details of the event, conditions.")
@click.option("--connections", type=click.IntRange(1, 4), help="Connections side by side.")
@click.option(
    "--no-resume",
    is_flag=True,
    help="Set an unfinished session of the same symbols and regime aside, and start anew.",
)
@_output
@_config
def start_command(symbols: tuple[str, ...], output: Path | None, config: Path | None, **options: Any) -> None:  # noqa: ANN401 - of many kinds
    """Record in the foreground until the time is over; Ctrl-C interrupts, and the same command goes on in the same file.

    Exit code 1: the session ended and nothing was recorded. 130: interrupted.
    """
    with one_line_errors():
        settings = load_settings(config)
        root = sessions_root(settings, output)
        plan = _new_plan(settings, symbols, options)
        check_network(settings, plan.streams)
        _check_disk(settings, root)
        if options["no_resume"] or not list_open_sessions(root, plan.regime, plan.symbols):
            _check_symbols(settings, plan.symbols)
            plan = _new_plan(settings, symbols, options)  # the time of the session begins after the question
        folder = prepare(root, plan, resume_open=not options["no_resume"], on_hide=_report_set_aside)
        verb = "Resuming" if folder.session != plan.session else "Recording"
        ended = record(settings, folder, lambda actual: _report_begin(verb, folder, actual))
    _report_end(ended)


def _new_plan(settings: Settings, symbols: tuple[str, ...], options: dict[str, Any]) -> SessionPlan:
    plan = create_plan(
        settings,
        _symbol_names(symbols),
        options["regime"],
        options["duration"],
        description=options["description"],
    )
    return plan.model_copy(update={"connections": options["connections"]}) if options["connections"] else plan


def _report_set_aside(path: Path) -> None:
    write_line(f"Set the unfinished session aside: {path}   (capture session list --all shows it)", err=True)


def _report_begin(verb: str, folder: SessionFolder, plan: SessionPlan) -> None:
    write_line(
        f"{verb} {', '.join(plan.streams)} until {iso(plan.start_us + round(plan.duration_s * 1e6))}",
        err=True,
    )
    write_line(f"  {folder.path}   (watch it: capture session status {folder.session} --watch)", err=True)


def _symbol_names(symbols: tuple[str, ...]) -> list[str]:
    return parse_symbols(symbols) or ["BTCUSDT"]


def _check_disk(settings: Settings, root: Path) -> None:
    create_folder(root)
    free, least = free_bytes(root) / 1e9, settings.recording.free_disk_gb
    if free < least:
        remedy = "free the disk, or lower recording.free_disk_gb"
        raise StorageError(
            f"{free:.1f} GB are free and {least:g} are wanted before a session starts",
            where=str(root),
            remedy=remedy,
        )


def _check_symbols(settings: Settings, symbols: list[str]) -> None:
    """Refuse symbols that the exchange does not list; where it does not answer at once, the recording goes before the question."""
    http = settings.http
    limits = {
        name: min(getattr(http, name), _SYMBOLS_S)
        for name in ("connect_timeout_s", "read_timeout_s", "answer_timeout_s")
    }
    quick = settings.model_copy(update={"http": http.model_copy(update={"attempts": 1, **limits})})
    try:
        error = rest_of(quick, max_wait_s=0.0).unknown_symbols(symbols)
    except CaptureError as failure:
        write_line(
            f"Whether the exchange lists {', '.join(symbols)} could not be checked; recording begins all the same: {failure}",
            err=True,
        )
        return
    if error is not None:
        raise error


def _report_end(ended: RecorderResult) -> None:
    if ended.metadata is None:
        session = ended.folder.session
        write_line(
            f"Interrupted; the same command resumes it, `capture session stop {session}` finishes it.",
            err=True,
        )
        click.get_current_context().exit(EXIT_INTERRUPTED)
    if ended.metadata.state == EMPTY:
        write_line(f"Error: {empty_session_reason(ended.folder)}", err=True)
        click.get_current_context().exit(EXIT_FAILED)
    statistics = ended.metadata.statistics
    write_line(
        f"{ended.metadata.state}: {statistics['messages']:,} messages, {statistics['gaps']} gaps, {statistics['ids_lost']} ids lost"
    )
    for file in ended.metadata.files:
        write_line(f"  {ended.folder.path / file.name}  {file.bytes:,} bytes")
    write_line(f"Validate it:  capture validate {ended.folder.path}")


@session_group.command("status")
@click.argument("session", required=False)
@click.option(
    "--watch", is_flag=True, help="Renew the view each second until the session is finished, or Ctrl-C."
)
@_output
@_json
@_config
def status_command(
    session: str | None, watch: bool, output: Path | None, as_json: bool, config: Path | None
) -> None:
    """Show one session, or all that are not finished. Exit code 1: a file of one is damaged; the others are shown all the same."""
    with one_line_errors():
        root = sessions_root(load_settings(config), output)
        if watch:
            _watch(root, session)
            return
        chosen = _chosen(root, session)
        documents = [session_document(folder) for folder in chosen]
    if as_json:
        emit_json(documents)
    elif chosen:
        output_console().print(overview(chosen))
        _report_states(chosen)
    else:
        write_line(f"No session is open in {root}.")
    if damaged(documents):
        click.get_current_context().exit(EXIT_FAILED)


def _watch(root: Path, session: str | None) -> None:
    """Show the chosen sessions until all of them are finished, or until Ctrl-C; the last lines are their states."""
    seen = chosen = _chosen(root, session)
    if not chosen:
        write_line(f"No session is open in {root}.")
        return
    try:
        with Live(overview(chosen), console=output_console(), refresh_per_second=4) as live:
            while any(not folder.metadata.exists() for folder in chosen):
                time.sleep(1)
                chosen = _chosen(root, session)
                seen = [*seen, *(folder for folder in chosen if folder not in seen)]
                live.update(overview(chosen or seen))
    finally:
        _report_states(seen)


def _report_states(folders: list[SessionFolder]) -> None:
    for line in state_lines(folders):
        write_line(line)


def _chosen(root: Path, session: str | None) -> list[SessionFolder]:
    return (
        [find_session(root, session)]
        if session
        else [folder for folder in list_sessions(root) if not folder.metadata.exists()]
    )


@session_group.command("stop")
@click.argument("session")
@_output
@_config
def stop_command(session: str, output: Path | None, config: Path | None) -> None:
    """End a session for good: its file is finished and its metadata written."""
    with one_line_errors():
        settings = load_settings(config)
        folder = find_session(sessions_root(settings, output), session)
        deadline = time.monotonic() + _STOP_S
        # Asked again, for a recorder that dies while it finishes leaves the rest to us.
        while stop(folder, settings) is None:
            if time.monotonic() > deadline:
                raise StorageError(
                    f"is not finished after {_STOP_S:g} s",
                    where=str(folder.path),
                    remedy="see capture session status",
                )
            time.sleep(0.2)
        write_line(f"{session} is finished: {folder.metadata}")


@session_group.command("list")
@click.option(
    "--all",
    "with_set_aside",
    is_flag=True,
    help="Show sessions that --no-resume set aside too, with their folders.",
)
@_output
@_json
@_config
def list_command(with_set_aside: bool, output: Path | None, as_json: bool, config: Path | None) -> None:
    """Show all sessions, newest first. Exit code 1: a file of one is damaged; it is named, and the others are listed all the same."""
    with one_line_errors():
        root = sessions_root(load_settings(config), output)
        rows = [session_row(folder) for folder in list_sessions(root)]
        aside = [set_aside_row(folder) for folder in list_hidden_sessions(root)] if with_set_aside else []
        rows += aside
    if as_json:
        emit_json(rows)
    elif not rows:
        write_line(f"There is no session in {root}.")
    else:
        emit_table(
            f"Sessions in {root}",
            ("session", "regime", "state", "started", "hours", "messages", "gaps", "ids_lost", "bytes"),
            rows,
        )
        for row in aside:
            write_line(f"{row['session']} is set aside in {row['folder']}")
    for line in damaged(rows):
        write_line(line, err=True)
    if damaged(rows):
        click.get_current_context().exit(EXIT_FAILED)


@session_group.command("plan")
@click.option("--days", type=click.IntRange(1, 366), default=14, show_default=True, help="How far to look.")
@_json
@_config
def plan_command(days: int, as_json: bool, config: Path | None) -> None:
    """Show the calendar of planned sessions."""
    with one_line_errors():
        settings = load_settings(config)
    now = time.time_ns() // 1000
    rows = [
        {
            "session": window.session,
            "regime": window.planned.regime,
            "starts": iso(window.start_us),
            "ends": iso(window.end_us),
            "symbols": ", ".join(window.planned.symbols),
            "description": window.planned.description,
        }
        for window in list_windows(settings.sessions, now, now + days * _DAY_US)
    ]
    if as_json:
        emit_json(rows)
    else:
        emit_table(
            f"Sessions of the next {days} days",
            ("session", "regime", "starts", "ends", "symbols", "description"),
            rows,
        )


@click.command("preflight")
@click.option(
    "--symbol",
    "symbols",
    multiple=True,
    help="A symbol, or several by commas; may be repeated. Default: BTCUSDT.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=60,
    show_default=True,
    help="Length of the test capture.",
)
@_output
@_json
@_config
def preflight_command(
    symbols: tuple[str, ...], seconds: float, output: Path | None, as_json: bool, config: Path | None
) -> None:
    """Check disk, clock, network and stream before a capture; exits 1 if a check fails.

    Lines with SEEN state what no document says of the exchange. The last one names a JSON file with all of it.
    """
    with one_line_errors():
        settings = load_settings(config)
        findings = []
        for finding in preflight(settings, _symbol_names(symbols), seconds=seconds, output=output):
            findings.append(finding)
            if not as_json:
                remedy = f"   → {finding.remedy}" if not finding.passed and finding.remedy else ""
                label = "SEEN" if finding.is_note and finding.passed else "PASS" if finding.passed else "FAIL"
                write_line(f"{label}  {finding.name:14} {finding.measured}{remedy}")
    if as_json:
        emit_json([vars(finding) for finding in findings])
    if not all(finding.passed for finding in findings):
        click.get_current_context().exit(EXIT_FAILED)
