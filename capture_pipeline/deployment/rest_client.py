"""Factories of a deployment's HTTP and REST clients.

All processes with the same storage root share the rate limits.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from capture_pipeline.binance.http.transport import Http, OnAnswer
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.deployment.address_limits import AddressLimits
from capture_pipeline.lake.paths import Lake
from capture_pipeline.settings.models import Settings


def create_http(settings: Settings, on_answer: OnAnswer = lambda *_: None) -> Http:
    """Create the HTTP transport of a deployment; `on_answer` is called for each answer."""
    return Http(settings.http, sandbox_url=settings.loopback_url, on_answer=on_answer)


def open_address_limits(settings: Settings) -> AddressLimits:
    """Open the store of the exchange's limits for this machine's IP address, for REST and streams.

    Spot and USD-M futures have separate hosts and limits. Each has its own store, named after the REST host.
    """
    host = urlsplit(settings.rest_url).netloc.replace(":", "-")
    return AddressLimits(Lake(settings.storage.root).state(f"limits-{host}.json"), settings.rate_limits)


def create_rest_client(
    settings: Settings, http: Http | None = None, *, max_wait_s: float | None = None
) -> RestClient:
    """Create the REST client of a deployment's venue and market.

    Args:
        settings: Settings of the deployment.
        http: HTTP transport; a new one by default.
        max_wait_s: Replaces `rate_limits.max_wait_s`, for callers that must not wait for long.
    """
    limits = (
        settings.rate_limits
        if max_wait_s is None
        else settings.rate_limits.model_copy(update={"max_wait_s": max_wait_s})
    )
    return RestClient(
        http or create_http(settings),
        settings.rest_url,
        settings.market,
        limits,
        open_address_limits(settings),
    )
