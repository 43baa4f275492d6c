"""Profiles: predefined settings of the synthetic market in files `profile_NAME.yaml` of this folder."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from capture_pipeline.parsing import parse_yaml

_PREFIX, _SUFFIX = "profile_", ".yaml"


def profile_names() -> list[str]:
    """Return the names of all profiles, with hyphens as in command options."""
    filenames = [entry.name for entry in files("sandbox_exchange.config").iterdir()]
    profiles = [name for name in filenames if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    return sorted(name.removeprefix(_PREFIX).removesuffix(_SUFFIX).replace("_", "-") for name in profiles)


def profile_settings(name: object) -> dict[str, Any]:
    """Read the settings of a profile.

    Args:
        name: Name with hyphens or underscores.

    Raises:
        ValueError: No profile has this name.
    """
    option = str(name).replace("_", "-")
    if option not in profile_names():
        raise ValueError(f"there is no profile {str(name)[:40]!r}; use one of: {', '.join(profile_names())}")
    return dict(_read_profile(option.replace("-", "_")))


@cache
def _read_profile(name: str) -> dict[str, Any]:
    text = files("sandbox_exchange.config").joinpath(f"{_PREFIX}{name}{_SUFFIX}").read_text(encoding="utf-8")
    content: dict[str, Any] = parse_yaml(text, name)
    return content
