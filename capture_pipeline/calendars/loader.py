"""Loader of YAML calendars: the one shipped with the package, and the deployment's own in the same form."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import guard_parser, parse_yaml, read_yaml

Calendar = TypeVar("Calendar", bound=BaseModel)


def load_entries(model: type[Calendar], shipped: str, extra: Path | None, key: str) -> list[Calendar]:
    """Read the shipped calendar and the deployment's own.

    Args:
        model: Model of a calendar.
        shipped: File name of the shipped calendar.
        extra: File of the deployment; None for none.
        key: Setting that names the deployment's file, for errors.

    Raises:
        ConfigError: The file cannot be read, or an entry is not valid.
    """
    text = files("capture_pipeline.calendars").joinpath(shipped).read_text(encoding="utf-8")
    first = _validate(model, parse_yaml(text, shipped), shipped)
    if extra is None:
        return [first]
    return [first, _validate(model, read_yaml(extra, f"correct {key} in pipeline.yaml"), str(extra))]


def utc(moment: datetime) -> datetime:
    """Return a time with its zone; a time without one is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _validate(model: type[Calendar], content: object, where: str) -> Calendar:
    with guard_parser(where, "is not a valid calendar", kind=ConfigError):
        return model.model_validate(content)
