"""Check of the proxies and certificates on the way to the exchange, before a session uses them."""

from __future__ import annotations

from capture_pipeline.binance.http.network import Egress, egress_of
from capture_pipeline.binance.streams.names import combined_url, split_by_route
from capture_pipeline.settings.models import Settings


def check_network(settings: Settings, streams: list[str]) -> dict[str, Egress]:
    """Check proxies and certificates as far as possible without sending anything.

    Returns:
        The egress of the streams and of REST, by name.

    Raises:
        ConfigError: An environment variable names an unusable proxy or certificate file.
    """
    streams_egress, *_ = [
        egress_of(url) for url in split_by_route(combined_url(settings.stream_url, streams))
    ]
    return {"streams": streams_egress, "REST": egress_of(settings.rest_url)}
