"""The deployment of a command. Separate from `console.py`, because it imports polars and DuckDB."""

from __future__ import annotations

from pathlib import Path

from capture_pipeline.cli.console import one_line_errors
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.tables.registry import TABLES
from capture_pipeline.terminal import write_line


def open_deployment(config: Path | None) -> Deployment:
    """Return the deployment that the file of settings and the environment describe."""
    with one_line_errors():
        deployment = Deployment(load_settings(config))
        deployment.outages  # noqa: B018 - a calendar that cannot be read is reported before the work begins
        return deployment


def renew_catalog(deployment: Deployment) -> None:
    """Renew the views of the catalog.

    A failure is only a warning: the data are in the lake without views.
    """
    from capture_pipeline.tables.catalog import refresh_views  # noqa: PLC0415 - few commands need DuckDB

    try:
        refresh_views(deployment.lake, TABLES)
    except CaptureError as error:
        write_line(f"Warning: the catalog was not renewed: {error}", err=True)
