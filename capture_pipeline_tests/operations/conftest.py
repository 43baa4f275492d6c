"""Fixtures: an HTTP and a mail receiver, and settings that send to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from capture_pipeline.lake.paths import Lake
from capture_pipeline_tests.support.receivers import HttpReceiver, MailReceiver


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
