"""Whose data a lake holds: recorded with the first fetch, so that two exchanges are never mixed in one storage root.

Spot and USD-M futures of one exchange stand beside each other: every path names its market. Nothing in a path names the exchange.
"""

from __future__ import annotations

from pydantic import Field

from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import ConfigError, LakeError
from capture_pipeline.lake.files import file_lock, publish_model, read_model
from capture_pipeline.lake.manifests import Record


class Origin(Record):
    """What `state/origin.json` says.

    Attributes:
        venue: The exchange; the sandbox is one of its own, whatever port it answers on.
        archive: Root of the archive at the first fetch, to be read by people; a mirror may take its place. None for the sandbox.
    """

    venue: str = Field(min_length=1)
    archive: str | None = None


def ensure_venue(workspace: Workspace) -> None:
    """Record the exchange of this deployment as that of its lake, unless one is recorded; then it has to be the same.

    Args:
        workspace: The deployment.

    Raises:
        ConfigError: The lake is another exchange's; nothing was changed.
        BusyError: Another process records one at this moment.
        CaptureError: The record is damaged or cannot be written.
    """
    if check_venue(workspace):
        return
    settings, lake = workspace.settings, workspace.lake
    with file_lock(lake.origin_lock()):
        # Another process may have been here between the look and the lock.
        if not check_venue(workspace):
            archive = None if settings.venue == "sandbox" else settings.archive_url
            publish_model(lake.origin(), Origin(venue=settings.venue, archive=archive))


def check_venue(workspace: Workspace) -> bool:
    """Refuse a lake that is another exchange's; writes nothing.

    Args:
        workspace: The deployment.

    Returns:
        Whether the lake's exchange is recorded.

    Raises:
        ConfigError: The lake is another exchange's.
        LakeError: The record is damaged.
    """
    path, venue = workspace.lake.origin(), workspace.settings.venue
    try:
        origin = read_model(path, Origin)
    except LakeError as error:
        remedy = (
            'write {"venue": "binance"} or {"venue": "sandbox"} into it, whichever this lake was fetched from'
        )
        raise LakeError(error.what, where=str(path), remedy=remedy) from None
    if origin is not None and origin.venue != venue:
        remedy = "set CAPTURE_STORAGE_ROOT or storage.root to another folder, or remove this lake"
        what = f"this lake holds data of venue {origin.venue}, and the settings say venue {venue}"
        raise ConfigError(what, where=str(path), remedy=remedy)
    return origin is not None
