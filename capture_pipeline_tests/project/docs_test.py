"""Handwritten pages of the documentation, compared with the code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from capture_pipeline.settings.alerts import LogChannel, PluginChannel, SmtpChannel, WebhookChannel
from capture_pipeline.settings.loader import environment_names
from capture_pipeline.settings.models import Settings
from capture_pipeline.settings.sessions import PlannedSession
from capture_pipeline_tests.support.pages import DOCS, tables

PAGE = DOCS / "configuration.md"
IN_WORDS = {"symbols": "the ten of the shipped file", "sessions": "three a week"}
"""Defaults that are too long for a table."""


def _rows() -> dict[str, dict[str, str]]:
    """Return the rows of the tables of keys on the page, by key, with their cells by heading."""
    found = [row for _, rows in tables(PAGE) for row in rows if "key" in row and row["key"].startswith("`")]
    keys = [row["key"].strip("`") for row in found]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, found, strict=True))


def _defaults(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, Any]:
    """Return every key of the schema with its default, including keys of the entries of lists."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _defaults(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = field.get_default(call_default_factory=True)
    return found


KEYS = _defaults() | _defaults(PlannedSession, "sessions[].")
for _kind in (LogChannel, WebhookChannel, SmtpChannel, PluginChannel):
    KEYS |= _defaults(_kind, "alerts.channels[].")


def test_every_key_of_the_settings_is_documented_and_no_other() -> None:
    """The keys of the page are exactly the keys of the schema."""
    assert _rows().keys() == KEYS.keys()


@pytest.mark.parametrize("key", KEYS)
def test_the_documented_default_is_the_one_in_force(key: str) -> None:
    """Numbers are compared by value, other defaults by their text."""
    told, default = _rows()[key]["default"].strip("`"), KEYS[key]
    if key in IN_WORDS:
        assert told == IN_WORDS[key]
    elif isinstance(default, int | float) and not isinstance(default, bool):
        assert float(told) == default
    else:
        texts = {PydanticUndefined: "needed", None: "none", "": "empty", True: "true", False: "false"}
        listed = f"[{', '.join(default)}]" if isinstance(default, list) else str(default)
        assert told == (
            texts[default] if not isinstance(default, list | dict) and default in texts else listed
        )


def test_each_documented_variable_sets_its_key() -> None:
    """The test applies to tables that name variables."""
    told = {key: row["variable"].strip("`") for key, row in _rows().items() if "variable" in row}
    names = {".".join(path): name for name, path in environment_names().items()}
    assert told == {key: names[key] for key in told}
    assert {key.partition(".")[0] for key in told} == {"recording", "session_gates"}
    assert re.search(r"`CAPTURE_SESSIONS`", PAGE.read_text())
