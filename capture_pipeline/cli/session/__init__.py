"""`capture session …`: recordings of trades and order-book diffs."""

from __future__ import annotations

import click

from capture_pipeline.cli.groups import CommandSource, LazyGroup

_HERE = "capture_pipeline.cli.session"


@click.group(
    "session",
    cls=LazyGroup,
    sources={
        "start": CommandSource(f"{_HERE}.recording", "start_command", "Record in the foreground"),
        "stop": CommandSource(f"{_HERE}.recording", "stop_command", "Finish a session"),
        "status": CommandSource(f"{_HERE}.status", "status_command", "Show unfinished sessions"),
        "list": CommandSource(f"{_HERE}.status", "list_command", "List all sessions"),
        "plan": CommandSource(f"{_HERE}.status", "plan_command", "List planned sessions"),
        "preflight": CommandSource(
            f"{_HERE}.preflight", "preflight_command", "Check disk, clock, network and streams"
        ),
        "validate": CommandSource(
            f"{_HERE}.validation", "validate_command", "Check a recording for completeness"
        ),
        "diagnose": CommandSource(
            f"{_HERE}.validation", "diagnose_command", "Describe a folder of recordings and its gaps"
        ),
        "import": CommandSource(
            f"{_HERE}.imports", "import_command", "Build a session from files of another tool"
        ),
        "convert": CommandSource(
            f"{_HERE}.tables", "convert_command", "Build the Parquet tables of a finished session"
        ),
        "prove": CommandSource(f"{_HERE}.proof", "prove_command", "Compare a session with published trades"),
        "replay": CommandSource(f"{_HERE}.replay", "replay_command", "Replay the order book of a recording"),
        "book": CommandSource(f"{_HERE}.book", "book_command", "Show the order book at one time"),
        "times": CommandSource(f"{_HERE}.times", "times_command", "Report which timestamp orders the events"),
    },
)
def session_group() -> None:
    """Record, validate, convert, prove and replay sessions (golden samples)."""
