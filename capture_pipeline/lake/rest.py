"""The exchange's REST endpoints as a deployment asks them: every process below one storage root obeys the same bans."""

from __future__ import annotations

from urllib.parse import urlsplit

from capture_pipeline.binance.http import Http, OnAnswer
from capture_pipeline.binance.rest import RestClient
from capture_pipeline.config import Settings
from capture_pipeline.lake.breaker import FileBreaker
from capture_pipeline.lake.paths import Lake


def http_of(settings: Settings, on_answer: OnAnswer = lambda *_: None) -> Http:
    """Transport of the deployment; `on_answer` is called for every answer."""
    sandbox_url = settings.sandbox_url if settings.venue == "sandbox" else None
    return Http(settings.http, sandbox_url=sandbox_url, on_answer=on_answer)


def rest_of(settings: Settings, http: Http | None = None) -> RestClient:
    """REST of the deployment's venue and market.

    Args:
        settings: Of the deployment.
        http: Transport; one of its own by default.
    """
    host = urlsplit(settings.rest_url).netloc.replace(":", "-")
    breaker = FileBreaker(Lake(settings.storage.root).state(f"breaker-{host}.json"))
    return RestClient(http or http_of(settings), settings.rest_url, settings.market, settings.rate_limits, breaker)
