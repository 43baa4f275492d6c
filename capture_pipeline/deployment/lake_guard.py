"""Guard of a lake: it has data of one exchange only, and one run at a time changes a partition.

The first download records the exchange of the lake. Paths in the lake name the market (spot or USD-M futures)
but not the exchange. Every step that changes a partition takes its lock, which checks the record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ConfigError, LakeError
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.lake.manifests import Record
from capture_pipeline.lake.paths import Partition

LOCK_TIMEOUT_S = 10.0
_ORIGIN_TIMEOUT_S = 1.0
"""Longest wait for the lock of the record; another process needs it for milliseconds."""


class Origin(Record):
    """Content of `state/origin.json`.

    Attributes:
        venue: The exchange; all sandboxes count as one exchange.
        archive: URL of the archive at the first download, for information only; None for the sandbox.
    """

    venue: str = Field(min_length=1)
    archive: str | None = None


def ensure_venue(deployment: Deployment) -> None:
    """Record the exchange of the deployment in its lake, or check the deployment against the existing record.

    Raises:
        ConfigError: The lake contains data of another exchange; nothing was changed.
        BusyError: Another process is writing the record.
        CaptureError: The record is damaged or cannot be written.
    """
    if check_venue(deployment):
        return
    settings, lake = deployment.settings, deployment.lake
    with file_lock(lake.origin_lock(), _ORIGIN_TIMEOUT_S):
        # Another process may have written the record before this one got the lock.
        if not check_venue(deployment):
            origin = Origin(venue=settings.venue, archive=settings.public_archive_url)
            publish_model(lake.origin(), origin)


def check_venue(deployment: Deployment) -> bool:
    """Check that a lake does not contain data of another exchange; nothing is written.

    Returns:
        True if the lake has a record of its exchange.

    Raises:
        ConfigError: The lake contains data of another exchange.
        LakeError: The record is damaged.
    """
    path, venue = deployment.lake.origin(), deployment.settings.venue
    try:
        origin = read_model(path, Origin)
    except LakeError as error:
        remedy = 'write the exchange of this lake into it: {"venue": "binance"} or {"venue": "sandbox"}'
        raise LakeError(error.what, where=str(path), remedy=remedy) from None
    if origin is not None and origin.venue != venue:
        remedy = "set CAPTURE_STORAGE_ROOT or storage.root to another folder, or remove this lake"
        what = f"this lake contains data of venue {origin.venue}, but the settings name venue {venue}"
        raise ConfigError(what, where=str(path), remedy=remedy)
    return origin is not None


@contextmanager
def lock_partition(
    deployment: Deployment,
    partition: Partition,
    *,
    is_download: bool = False,
    may_wait: bool = True,
    cancel: threading.Event | None = None,
) -> Iterator[None]:
    """Lock a partition of a lake of the deployment's exchange inside the `with` block.

    Args:
        deployment: The deployment.
        partition: The partition.
        is_download: Record the exchange of the deployment if the lake has no record.
        may_wait: Wait up to `LOCK_TIMEOUT_S` while another run has the lock.
        cancel: Event that ends the wait.

    Raises:
        ConfigError: The lake contains data of another exchange; nothing was changed.
        BusyError: Another run has the lock.
    """
    if is_download:
        ensure_venue(deployment)
    else:
        check_venue(deployment)
    timeout_s = LOCK_TIMEOUT_S if may_wait else 0.0
    with file_lock(deployment.lake.lock(partition), timeout_s, cancel):
        yield
