"""`capture session import`: a session from the files of another tool."""

from __future__ import annotations

from pathlib import Path

import click

from capture_pipeline.cli.console import one_line_errors
from capture_pipeline.golden.imports.evidence import MARKETS
from capture_pipeline.golden.imports.report import import_summary
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.terminal import write_line


@click.command(
    "import",
    epilog="Example: capture session import --format cryptofeed --out data/golden_samples recording.jsonl.gz",
)
@click.argument("files", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option(
    "--format",
    "origin",
    type=click.Choice([str(origin) for origin in Origin]),
    required=True,
    help="Tool that wrote the files.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of all sessions.",
)
@click.option("--regime", default="imported", show_default=True, help="Folder of the session below --out.")
@click.option("--symbol", help="Symbol of snapshots that do not contain it.")
@click.option(
    "--market",
    type=click.Choice(MARKETS),
    help="Spot, USD-M or COIN-M futures, if the files do not show it.",
)
@click.option("--venue", help="For instance binance or binance.us, if the files do not show it.")
def import_command(
    files: tuple[Path, ...],
    origin: str,
    out: Path,
    regime: str,
    symbol: str | None,
    market: str | None,
    venue: str | None,
) -> None:
    """Build one session from the files of one recording, in any order. Nothing is overwritten.

    The folder of the session is written to standard output. A report on market, venue, timestamps and skipped
    lines is written to standard error.

    Exit code 2: a file has another format, or a line of an undamaged file is wrong.
    """
    with one_line_errors():
        folder = import_session(
            Origin(origin),
            list(files),
            out.absolute(),
            regime=regime,
            symbol=symbol,
            market=market,
            venue=venue,
        )
        summary = import_summary(SessionMetadata.model_validate_json(folder.metadata.read_bytes()))
    write_line(f"Imported as {folder.path}")
    for line in summary:
        write_line(line, err=True)
