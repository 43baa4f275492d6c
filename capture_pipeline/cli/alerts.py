"""`capture alerts …`: send a test alert, and show open alerts and waiting messages."""

from __future__ import annotations

from pathlib import Path

import click

from capture_pipeline.binance.periods import iso
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON
from capture_pipeline.lake.paths import Lake
from capture_pipeline.operations.alerts.delivery import send_test
from capture_pipeline.operations.alerts.spool import Spool
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line


@click.group("alerts")
def alerts_group() -> None:
    """Send a test alert, or show open alerts and waiting messages."""


@alerts_group.command("test", epilog="Example: capture alerts test --channel mail")
@click.option("--channel", "names", multiple=True, help="Only this channel; may be repeated.")
@CONFIG
def test_command(names: tuple[str, ...], config: Path | None) -> None:
    """Send one test alert to every channel.

    Exit code 1: a channel did not accept the alert. 2: a channel does not exist.
    """
    with one_line_errors():
        outcomes = send_test(load_settings(config).alerts, names)
    for outcome in outcomes:
        write_line(
            f"FAIL  {outcome.channel}: {outcome.error}"
            if outcome.error
            else f"PASS  {outcome.channel}: the test alert was accepted"
        )
    if any(outcome.error for outcome in outcomes):
        click.get_current_context().exit(EXIT_FAILED)


@alerts_group.command("status", epilog="Example: capture alerts status --json")
@JSON
@CONFIG
def status_command(as_json: bool, config: Path | None) -> None:
    """Show open alerts and waiting messages.

    The most urgent alert comes first. For each channel the number of waiting messages is shown.
    """
    with one_line_errors():
        settings = load_settings(config)
        book = Spool(Lake(settings.storage.root), settings.alerts).read()
    ordered = sorted(book.open.items(), key=lambda entry: (-entry[1].level.rank, entry[1].since_us))
    alerts = [
        {
            "level": str(one.level),
            "alert": one.title,
            "since": _time(one.since_us),
            "times": one.times,
            "key": key,
        }
        for key, one in ordered
    ]
    channels = [
        {
            "channel": channel.name,
            "kind": channel.kind,
            "least_level": str(channel.level),
            "waiting": len(queue.waiting),
            "dropped": queue.dropped,
            "next_try": _time(queue.next_us) if queue.next_us else "",
            "error": queue.error,
        }
        for channel in settings.alerts.channels
        for queue in [book.queues[channel.name]]
    ]
    if as_json:
        emit_json({"open": alerts, "channels": channels})
        return
    if alerts:
        emit_table(f"{len(alerts):,} open alerts", ("level", "alert", "since", "times", "key"), alerts)
    else:
        write_line("No alert is open.")
    if channels:
        emit_table(
            "Channels",
            ("channel", "kind", "least_level", "waiting", "dropped", "next_try", "error"),
            channels,
        )
    else:
        write_line("alerts.channels lists no channel.")


def _time(at_us: int) -> str:
    return iso(at_us // 1_000_000 * 1_000_000)
