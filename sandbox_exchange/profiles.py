"""Profiles: shipped settings of the synthetic market, each a YAML file `profile_NAME.yaml` beside this module."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from capture_pipeline.parsing import parse_yaml

_PREFIX, _SUFFIX = "profile_", ".yaml"


def profile_names() -> list[str]:
    """The names of all profiles, with hyphens, as options of commands have them."""
    shipped = [entry.name for entry in files("sandbox_exchange").iterdir()]
    found = [name for name in shipped if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    return sorted(name.removeprefix(_PREFIX).removesuffix(_SUFFIX).replace("_", "-") for name in found)


def profile_settings(name: object) -> dict[str, Any]:
    """Read the settings of a profile.

    Args:
        name: With hyphens or underscores.

    Raises:
        ValueError: There is no such profile.
    """
    option = str(name).replace("_", "-")
    if option not in profile_names():
        raise ValueError(f"there is no profile {str(name)[:40]!r}; use one of: {', '.join(profile_names())}")
    return dict(_read(option.replace("-", "_")))


@cache
def _read(name: str) -> dict[str, Any]:
    text = files("sandbox_exchange").joinpath(f"{_PREFIX}{name}{_SUFFIX}").read_text(encoding="utf-8")
    content: dict[str, Any] = parse_yaml(text, name)
    return content
