"""`capture session start` and `capture session stop`: a live recording."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from capture_pipeline.binance.periods import iso
from capture_pipeline.cli.console import one_line_errors
from capture_pipeline.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from capture_pipeline.cli.options import CONFIG, SESSIONS, SYMBOLS, Duration
from capture_pipeline.cli.selection import symbol_names
from capture_pipeline.deployment.rest_client import create_rest_client
from capture_pipeline.errors import CaptureError, StorageError
from capture_pipeline.lake.files import create_folder
from capture_pipeline.recorder.app import RecorderResult, record
from capture_pipeline.recorder.connections.egress import check_network
from capture_pipeline.recorder.lifecycle import (
    create_plan,
    find_session,
    list_open_sessions,
    prepare,
    sessions_root,
    stop,
)
from capture_pipeline.recorder.state import empty_session_reason
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan, SessionState
from capture_pipeline.sessions.status import free_bytes
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.settings.models import Settings
from capture_pipeline.terminal import write_line

_STOP_S = 120.0
_SYMBOLS_S = 5.0
"""Longest time for which the request for the symbols may delay a recording, seconds."""


@click.command(
    "start", epilog="Example: capture session start --symbol BTCUSDT --duration 24h --regime high_volume"
)
@SYMBOLS
@click.option(
    "--duration",
    type=Duration(),
    default="24h",
    show_default=True,
    help="Duration, for instance 90s, 15m, 24h or 2d.",
)
@click.option(
    "--regime",
    default="custom",
    show_default=True,
    help="high_volume, low_volume, special_event or another name.",
)
@click.option("--description", default="", help="Details of the event or the conditions.")
@click.option("--connections", type=click.IntRange(1, 4), help="Number of parallel connections.")
@click.option(
    "--no-resume",
    is_flag=True,
    help="Rename an unfinished session of the same symbols and regime, and start a new one.",
)
@SESSIONS
@CONFIG
def start_command(symbols: tuple[str, ...], output: Path | None, config: Path | None, **options: Any) -> None:  # noqa: ANN401 - of many kinds
    """Record in the foreground for the given duration.

    After Ctrl-C the same command continues in the same file.

    Exit code 1: nothing was recorded. 130: interrupted.
    """
    with one_line_errors():
        settings = load_settings(config)
        root = sessions_root(settings, output)
        plan = _new_plan(settings, symbols, options)
        check_network(settings, plan.streams)
        _check_disk(settings, root)
        if options["no_resume"] or not list_open_sessions(root, plan.regime, plan.symbols):
            _check_symbols(settings, plan.symbols)
            plan = _new_plan(settings, symbols, options)  # the session starts after the request
        folder = prepare(root, plan, resume_open=not options["no_resume"], on_hide=_report_set_aside)
        verb = "Resuming" if folder.session != plan.session else "Recording"
        ended = record(settings, folder, lambda actual: _report_begin(verb, folder, actual))
    _report_end(ended)


def _new_plan(settings: Settings, symbols: tuple[str, ...], options: dict[str, Any]) -> SessionPlan:
    plan = create_plan(
        settings,
        symbol_names(symbols),
        options["regime"],
        options["duration"],
        description=options["description"],
    )
    return plan.model_copy(update={"connections": options["connections"]}) if options["connections"] else plan


def _report_set_aside(path: Path) -> None:
    write_line(f"Renamed the unfinished session: {path}   (capture session list --all shows it)", err=True)


def _report_begin(verb: str, folder: SessionFolder, plan: SessionPlan) -> None:
    write_line(
        f"{verb} {', '.join(plan.streams)} until {iso(plan.start_us + round(plan.duration_s * 1e6))}",
        err=True,
    )
    write_line(f"  {folder.path}   (watch it: capture session status {folder.session} --watch)", err=True)


def _check_disk(settings: Settings, root: Path) -> None:
    create_folder(root)
    free, least = free_bytes(root) / 1e9, settings.recording.free_disk_gb
    if free < least:
        remedy = "free disk space, or lower recording.free_disk_gb"
        raise StorageError(
            f"{free:.1f} GB are free, but a session needs {least:g} GB to start",
            where=str(root),
            remedy=remedy,
        )


def _check_symbols(settings: Settings, symbols: list[str]) -> None:
    """Refuse symbols that the exchange does not list.

    If it does not answer within `_SYMBOLS_S`, the recording begins without this check.
    """
    http = settings.http
    limits = {
        name: min(getattr(http, name), _SYMBOLS_S)
        for name in ("connect_timeout_s", "read_timeout_s", "answer_timeout_s")
    }
    quick = settings.model_copy(update={"http": http.model_copy(update={"attempts": 1, **limits})})
    try:
        error = create_rest_client(quick, max_wait_s=0.0).unknown_symbols(symbols)
    except CaptureError as failure:
        write_line(
            (
                f"Whether the exchange lists {', '.join(symbols)} could not be checked; the "
                f"recording begins nevertheless: {failure}"
            ),
            err=True,
        )
        return
    if error is not None:
        raise error


def _report_end(ended: RecorderResult) -> None:
    if ended.metadata is None:
        session = ended.folder.session
        write_line(
            f"Interrupted. The same command resumes it; `capture session stop {session}` finishes it.",
            err=True,
        )
        click.get_current_context().exit(EXIT_INTERRUPTED)
    if ended.metadata.state is SessionState.EMPTY:
        write_line(f"Error: {empty_session_reason(ended.folder)}", err=True)
        click.get_current_context().exit(EXIT_FAILED)
    statistics = ended.metadata.statistics
    write_line(
        f"{ended.metadata.state}: {statistics['messages']:,} messages, {statistics['gaps']} gaps, "
        f"{statistics['ids_lost']} ids lost"
    )
    for file in ended.metadata.files:
        write_line(f"  {ended.folder.path / file.name}  {file.bytes:,} bytes")
    write_line(f"Validate it:  capture session validate {ended.folder.path}")


@click.command("stop", epilog="Example: capture session stop 20260803T123000Z_high_volume_btcusdt")
@click.argument("session")
@SESSIONS
@CONFIG
def stop_command(session: str, output: Path | None, config: Path | None) -> None:
    """Finish a session: complete its file and write its metadata."""
    with one_line_errors():
        settings = load_settings(config)
        folder = find_session(sessions_root(settings, output), session)
        deadline = time.monotonic() + _STOP_S
        # `stop` is called again: if the recorder dies before the session is finished, `stop` finishes it.
        while stop(folder, settings) is None:
            if time.monotonic() > deadline:
                raise StorageError(
                    f"is not finished after {_STOP_S:g} s",
                    where=str(folder.path),
                    remedy="see capture session status",
                )
            time.sleep(0.2)
        write_line(f"{session} is finished: {folder.metadata}")
