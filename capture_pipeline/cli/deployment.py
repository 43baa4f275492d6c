"""The deployment that a command works on. Apart from `console.py`, for it brings polars and DuckDB along."""

from __future__ import annotations

from pathlib import Path

from capture_pipeline.cli.console import one_line_errors
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import CaptureError
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.tables.registry import refresh_catalog
from capture_pipeline.terminal import write_line


def open_workspace(config: Path | None) -> Workspace:
    """The deployment that file and environment describe."""
    with one_line_errors():
        workspace = Workspace(load_settings(config))
        workspace.outages  # noqa: B018 - a calendar that cannot be read is told before anything is done
        return workspace


def renew_catalog(workspace: Workspace) -> None:
    """Renew the catalogue's views; where that fails it is told, for the data are in the lake without them."""
    try:
        refresh_catalog(workspace.lake)
    except CaptureError as error:
        write_line(f"Warning: the catalogue was not renewed: {error}", err=True)
