"""Record of the exchange that a lake belongs to, so that data of two exchanges are never mixed in one lake.

The first download writes the record. Paths in the lake name the market (spot or USD-M futures) but not the
exchange.
"""

from __future__ import annotations

from pydantic import Field

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ConfigError, LakeError
from capture_pipeline.lake.files import file_lock, publish_model, read_model
from capture_pipeline.lake.manifests import Record


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
    with file_lock(lake.origin_lock()):
        # Another process may have written the record before this one got the lock.
        if not check_venue(deployment):
            archive = None if settings.venue == "sandbox" else settings.archive_url
            publish_model(lake.origin(), Origin(venue=settings.venue, archive=archive))


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
