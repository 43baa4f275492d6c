"""`capture session status`, `list` and `plan`: unfinished, finished and planned sessions."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.live import Live

from capture_pipeline.binance.periods import DAY_US, iso
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors, output_console
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON, SESSIONS
from capture_pipeline.cli.session.view import (
    damaged,
    overview,
    session_document,
    session_row,
    set_aside_row,
    state_lines,
)
from capture_pipeline.recorder.lifecycle import (
    find_session,
    list_hidden_sessions,
    list_sessions,
    sessions_root,
)
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.schedule import list_windows
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line


@click.command("status", epilog="Example: capture session status --watch")
@click.argument("session", required=False)
@click.option(
    "--watch",
    is_flag=True,
    help="Update the view each second until the session is finished, or until Ctrl-C.",
)
@SESSIONS
@JSON
@CONFIG
def status_command(
    session: str | None, watch: bool, output: Path | None, as_json: bool, config: Path | None
) -> None:
    """Show one session, or all unfinished sessions.

    Exit code 1: a file of a session is damaged; the other sessions are shown.
    """
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
    """Show the chosen sessions until all are finished or until Ctrl-C, then the state of each."""
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


@click.command("list", epilog="Example: capture session list --all")
@click.option(
    "--all",
    "with_set_aside",
    is_flag=True,
    help="Also list the sessions that --no-resume renamed, with their folders.",
)
@SESSIONS
@JSON
@CONFIG
def list_command(with_set_aside: bool, output: Path | None, as_json: bool, config: Path | None) -> None:
    """List all sessions, newest first.

    Exit code 1: a file of a session is damaged; the command names that session and lists the others.
    """
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


@click.command("plan", epilog="Example: capture session plan --days 30")
@click.option(
    "--days", type=click.IntRange(1, 366), default=14, show_default=True, help="Number of days ahead."
)
@JSON
@CONFIG
def plan_command(days: int, as_json: bool, config: Path | None) -> None:
    """List planned sessions."""
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
        for window in list_windows(settings.sessions, now, now + days * DAY_US)
    ]
    if as_json:
        emit_json(rows)
    else:
        emit_table(
            f"Sessions of the next {days} days",
            ("session", "regime", "starts", "ends", "symbols", "description"),
            rows,
        )
