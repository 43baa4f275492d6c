"""Reader of calendars in YAML: the one shipped with the package, and the deployment's own in the same form."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from capture_pipeline.errors import ConfigError

Calendar = TypeVar("Calendar", bound=BaseModel)


def load_entries(model: type[Calendar], shipped: str, extra: Path | None, key: str) -> list[Calendar]:
    """Read the shipped calendar and the deployment's own.

    Args:
        model: Form of a calendar.
        shipped: File name of the shipped calendar.
        extra: The deployment's file; None for none.
        key: Setting that names the deployment's file, for errors.

    Raises:
        ConfigError: The file cannot be read, or an entry is wrong.
    """
    first = _parse(model, files("capture_pipeline.quality").joinpath(shipped).read_text(encoding="utf-8"), shipped)
    if extra is None:
        return [first]
    try:
        text = extra.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(extra), remedy=f"mend {key} in pipeline.yaml") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8: {error}", where=str(extra)) from None
    return [first, _parse(model, text, str(extra))]


def utc(moment: datetime) -> datetime:
    """Return a time with its zone; one without is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parse(model: type[Calendar], text: str, where: str) -> Calendar:
    try:
        return model.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {' '.join(str(error).split())}", where=where) from None
    except ValidationError as error:
        first = error.errors()[0]
        what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))
        raise ConfigError(what, where=where) from None
    except ValueError as error:
        raise ConfigError(f"holds a date or number that there is not: {error}", where=where) from None
