"""The exchange as a deployment asks it: every process below one storage root obeys the same limits."""

from __future__ import annotations

from urllib.parse import urlsplit

from capture_pipeline.binance.http.transport import Http, OnAnswer
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.deployment.address_limits import AddressLimits
from capture_pipeline.lake.paths import Lake
from capture_pipeline.settings.models import Settings


def http_of(settings: Settings, on_answer: OnAnswer = lambda *_: None) -> Http:
    """Transport of the deployment; `on_answer` is called for every answer."""
    sandbox_url = settings.sandbox_url if settings.venue == "sandbox" else None
    return Http(settings.http, sandbox_url=sandbox_url, on_answer=on_answer)


def limits_of(settings: Settings) -> AddressLimits:
    """Limits of this machine's address at the exchange, of REST and streams together.

    Spot and USD-M futures have hosts and limits of their own, so each has a store, named by its REST host.
    """
    host = urlsplit(settings.rest_url).netloc.replace(":", "-")
    return AddressLimits(Lake(settings.storage.root).state(f"limits-{host}.json"), settings.rate_limits)


def rest_of(settings: Settings, http: Http | None = None, *, max_wait_s: float | None = None) -> RestClient:
    """REST of the deployment's venue and market.

    Args:
        settings: Of the deployment.
        http: Transport; one of its own by default.
        max_wait_s: In place of `rate_limits.max_wait_s`, for callers that have something better to do than to wait.
    """
    limits = (
        settings.rate_limits
        if max_wait_s is None
        else settings.rate_limits.model_copy(update={"max_wait_s": max_wait_s})
    )
    return RestClient(
        http or http_of(settings), settings.rest_url, settings.market, limits, limits_of(settings)
    )
