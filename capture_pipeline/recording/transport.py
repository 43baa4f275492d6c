"""Which library carries the connections: websockets, or picows where its package is installed and the settings ask for it."""

from __future__ import annotations

from capture_pipeline.errors import ConfigError
from capture_pipeline.recording.connection import Connection


def connection_of(transport: str) -> type[Connection]:
    """The kind of connection that the setting `recording.transport` names.

    Raises:
        ConfigError: Its package is not installed.
    """
    if transport != "picows":
        return Connection
    try:
        from capture_pipeline.recording.connection_picows import PicowsConnection  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "picows":
            raise
        remedy = "pip install 'capture-pipeline[fast]', or set recording.transport to websockets"
        raise ConfigError("recording.transport is picows, and that package is not installed", remedy=remedy) from None
    return PicowsConnection
