"""Loader of the settings from `pipeline.yaml` and the environment.

Environment variables override the file. Their names are `CAPTURE_` and the path of the key in capitals, for
instance `CAPTURE_STORAGE_ROOT` or `CAPTURE_GATES_LONG_GAP_HOURS`. Lists are separated by commas.
`CAPTURE_CONFIG` is the path of the file. Each mistake is reported in one line with the key and the allowed
values.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import InitSettingsSource, PydanticBaseSettingsSource

from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import parse_yaml, read_yaml
from capture_pipeline.settings.models import Settings

PREFIX = "CAPTURE_"
NOT_SETTINGS = {"CAPTURE_CONFIG", "CAPTURE_UI_HOSTS"}
_YAML_EXAMPLES = {
    ("sessions",): '[{regime: custom, weekday: tue, time: "14:30"}]',
    ("alerts", "channels"): "[{name: ops, kind: webhook, level: warning}]",
    ("alerts", "secrets"): '{ops: "https://..."}',
}
"""Keys whose environment variable contains YAML, with an example."""
_CHANNEL_KEY_DEPTH = 5
"""Length of the path of a channel's key: alerts, channels, index, kind, key."""


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        path: The YAML file. Default: `$CAPTURE_CONFIG`, else `pipeline.yaml` in the working folder or the
            nearest folder above it. If there is no file, the default settings are used.
        environ: The environment. Default: that of this process.

    Returns:
        The settings, with `storage.root` as an absolute path.

    Raises:
        ConfigError: The file cannot be read, or a key or a value is not allowed.
    """
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["CAPTURE_CONFIG"]) if environ.get("CAPTURE_CONFIG") else None)
    source = named or _find(Path.cwd())
    environment = EnvironmentSource(environ)
    content = _read(source) if source else {}
    for section, *keys in environment.variables:
        if keys and not isinstance(content.get(section, {}), dict):
            raise ConfigError(f"{section} must contain keys and values", where=str(source))
    file = InitSettingsSource(Settings, content)
    try:
        settings = Settings(_build_sources=((environment, file), {}))
    except ValidationError as error:
        where = str(source) if source else "settings"
        raise ConfigError(_explain(error, environment.variables), where=where) from None
    base = source.resolve().parent if source else Path.cwd()
    root = base / settings.storage.root.expanduser()
    calendars = {name: getattr(settings.gaps, name) for name in ("outage_calendar", "irregularity_calendar")}
    gaps = settings.gaps.model_copy(
        update={name: base / file if file else None for name, file in calendars.items()}
    )
    return settings.model_copy(
        update={"storage": settings.storage.model_copy(update={"root": root}), "gaps": gaps}
    )


def json_schema() -> str:
    """Return the JSON schema of `pipeline.yaml`, for editors."""
    return json.dumps(Settings.model_json_schema(), indent=2, sort_keys=True) + "\n"


def environment_names(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> dict[str, tuple[str, ...]]:
    """Return the path of the overridden key by environment variable, for all keys."""
    names: dict[str, tuple[str, ...]] = {}
    for key, field in model.model_fields.items():
        if _is_section(field.annotation):
            inner = environment_names(field.annotation, f"{prefix}{key.upper()}_")
            names |= {name: (key, *path) for name, path in inner.items()}
        else:
            names[prefix + key.upper()] = (key,)
    return names


def _find(folder: Path) -> Path | None:
    candidates = [parent / "pipeline.yaml" for parent in (folder, *folder.parents)]
    return next((file for file in candidates if file.is_file()), None)


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "set CAPTURE_CONFIG or --config to the file")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError("must contain keys and values", where=str(path))
    return {str(key): value for key, value in content.items()}


def _is_section(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


class EnvironmentSource(PydanticBaseSettingsSource):
    """Source of the values of `CAPTURE_` variables, which override the file.

    Attributes:
        variables: Name of the variable by path of the key that it sets.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Parse the variables.

        Raises:
            ConfigError: A variable is not a setting, or its value cannot be parsed.
        """
        super().__init__(Settings)
        names = environment_names()
        self.variables: dict[tuple[str, ...], str] = {}
        self._values: dict[str, Any] = {}
        for name in sorted(environ):
            if not name.startswith(PREFIX) or name in NOT_SETTINGS:
                continue
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                raise ConfigError(
                    f"{name} is not a setting",
                    where="environment",
                    remedy=f"did you mean {near[0]}?" if near else "unset it",
                )
            *sections, key = names[name]
            place = self._values
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = _parse_value(environ[name], names[name], name)
            self.variables[names[name]] = name

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a key of the top level, its name, and False as the value is parsed."""
        del field
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values by key; those of a section are a dictionary."""
        return self._values


def _parse_value(text: str, path: tuple[str, ...], name: str) -> object:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if path[-1] in {"symbols", "owners", "extra_hosts"}:
        return parts
    if path in _YAML_EXAMPLES:
        return _parse_yaml_value(text, path, name)
    if path[-1] == "pinned_checksums":
        return _replacement(_parse_pairs(parts, name))
    return text or None


def _replacement(value: object) -> object:
    """Return a mapping that replaces the one of the file: the entries of dictionaries would be merged."""
    return MappingProxyType(value) if isinstance(value, dict) else value


def _parse_yaml_value(text: str, path: tuple[str, ...], name: str) -> object:
    """Parse a variable whose value is YAML. Errors do not quote the value: it may be a secret."""
    try:
        return _replacement(parse_yaml(text, "environment") or ({} if path[-1] == "secrets" else []))
    except ConfigError:
        remedy = f"write it as in pipeline.yaml, for instance {_YAML_EXAMPLES[path]}"
        raise ConfigError(f"{name}: is not YAML", where="environment", remedy=remedy) from None


def _parse_pairs(texts: list[str], name: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(
                f"{name}: {text!r} is not a pair",
                where="environment",
                remedy="write FILE=SHA256; separate several pairs by commas",
            )
        pairs[key.strip()] = value.strip()
    return pairs


def _explain(error: ValidationError, origin: Mapping[tuple[str, ...], str]) -> str:
    """Describe the first mistake in one line, and count the others."""
    first, *rest = error.errors()
    path = tuple(str(part) for part in first["loc"])
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        allowed = _allowed_keys(path)
        near = difflib.get_close_matches(path[-1], allowed, n=1)
        text = (
            f"{key}: unknown key; {f'did you mean {near[0]}? ' if near else ''}allowed: {', '.join(allowed)}"
        )
    else:
        message = first["msg"].removeprefix("Value error, ")
        shows_input = key and first["type"] != "value_error" and not _may_be_secret(path)
        text = (
            f"{key}: {message}, not {first['input']!r}" if shows_input else f"{key}: {message}".lstrip(": ")
        )
    variable = next((name for setting, name in origin.items() if setting == path[: len(setting)]), None)
    more = f"; and {len(rest)} more" if rest else ""
    return f"{text}{f' (set by {variable})' if variable else ''}{more}"


def _may_be_secret(path: tuple[str, ...]) -> bool:
    """Return True if a value may contain a secret: everything below `alerts` except the keys of a channel."""
    return path[0] == "alerts" and len(path) < _CHANNEL_KEY_DEPTH


def _allowed_keys(path: tuple[str, ...]) -> list[str]:
    """Return the allowed keys in the section of a path's last key.

    In a path, a number is an entry of a list, and the kind of a channel is a key.
    """
    schema = Settings.model_json_schema()
    place: dict[str, Any] = schema
    for key in path[:-1]:
        kinds = place.get("discriminator", {}).get("mapping", {})
        inner = (
            place.get("items")
            if key.isdigit()
            else {"$ref": kinds[key]}
            if key in kinds
            else place.get("properties", {}).get(key)
        )
        if not isinstance(inner, dict):
            return []
        place = schema["$defs"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
    return sorted(place.get("properties", {}))
