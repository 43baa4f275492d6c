"""The library of the connections (websockets, or picows where the settings name it) and the way to the exchange, checked before use."""

from __future__ import annotations

from capture_pipeline.binance.http.network import Egress, egress_of
from capture_pipeline.binance.streams.names import combined_url, routed
from capture_pipeline.errors import ConfigError
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.settings.models import Settings


def connection_of(transport: str) -> type[Connection]:
    """The kind of connection that the setting `recording.transport` names.

    Raises:
        ConfigError: Its package is not installed.
    """
    if transport != "picows":
        return Connection
    try:
        from capture_pipeline.recorder.connections.picows import PicowsConnection  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "picows":
            raise
        remedy = "pip install 'capture-pipeline[fast]', or set recording.transport to websockets"
        raise ConfigError("recording.transport is picows, and that package is not installed", remedy=remedy) from None
    return PicowsConnection


def check_network(settings: Settings, streams: list[str]) -> dict[str, Egress]:
    """Check what can be checked of proxies, certificates and the transport without sending anything.

    Returns:
        The way to the streams and to REST, by their names.

    Raises:
        ConfigError: An environment variable or `recording.transport` cannot be used.
    """
    connection_of(settings.recording.transport)
    streams_egress, *_ = [egress_of(url) for url in routed(combined_url(settings.stream_url, streams))]
    return {"streams": streams_egress, "REST": egress_of(settings.rest_url)}
