"""Fixtures: an HTTP and a mail receiver, and settings that send to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.lake.paths import Lake
from capture_pipeline.operations.alerts.spool import Spool
from capture_pipeline.settings.alerts import Alerts
from capture_pipeline_tests.operations.receivers import HttpReceiver, MailReceiver


@pytest.fixture
def web() -> Iterator[HttpReceiver]:
    with HttpReceiver().running() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    with MailReceiver().running() as receiver:
        yield receiver


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "data")


def settings_for(web: HttpReceiver | None = None, mail: MailReceiver | None = None, **more: Any) -> Alerts:
    """Return settings with the channels `ops` and `mail` for the receivers."""
    channels: list[dict[str, Any]] = []
    if web is not None:
        channels.append({"name": "ops", "kind": "webhook", "level": more.pop("web_level", "info")})
    if mail is not None:
        address = {
            "host": "127.0.0.1",
            "port": mail.port,
            "security": "none",
            "sender": "a@example.org",
            "recipients": ["b@example.org"],
        }
        channels.append(
            {
                "name": "mail",
                "kind": "smtp",
                "level": more.pop("mail_level", "info"),
                **address,
                **more.pop("mail_keys", {}),
            }
        )
    secrets = {"ops": web.address} if web is not None else {}
    return Alerts.model_validate(
        {"channels": channels, "secrets": {**secrets, **more.pop("secrets", {})}, **more}
    )


def spool_of(lake: Lake, settings: Alerts) -> Spool:
    return Spool(lake, settings)
