"""The way of a session to the exchange, checked before it is used."""

from __future__ import annotations

from capture_pipeline.binance.http.network import Egress, egress_of
from capture_pipeline.binance.streams.names import combined_url, split_by_route
from capture_pipeline.settings.models import Settings


def check_network(settings: Settings, streams: list[str]) -> dict[str, Egress]:
    """Check what can be checked of proxies and certificates without sending anything.

    Returns:
        The way to the streams and to REST, by their names.

    Raises:
        ConfigError: An environment variable cannot be used.
    """
    streams_egress, *_ = [
        egress_of(url) for url in split_by_route(combined_url(settings.stream_url, streams))
    ]
    return {"streams": streams_egress, "REST": egress_of(settings.rest_url)}
