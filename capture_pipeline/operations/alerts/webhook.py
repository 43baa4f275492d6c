"""Alerts by HTTP POST of `{"text": ...}`.

Slack, Mattermost, Rocket.Chat and Discord's `/slack` addresses accept this body. Slack requires `&`, `<` and
`>` to be escaped (sources: Slack, "Sending messages using incoming webhooks" and "Formatting text").
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.errors import AccessDeniedError, ConfigError, RequestRefusedError
from capture_pipeline.operations.alerts.models import Alert
from capture_pipeline.settings.alerts import is_loopback

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MENTION = re.compile("@(?=[A-Za-z])")
"""Start of a mention. Some services notify everybody if a plain text contains @channel, @here, @all or
@everyone."""


class Webhook:
    """Channel that posts each alert to an address."""

    def __init__(self, name: str, address: str, timeout_s: float) -> None:
        """Check the address; nothing is sent.

        Args:
            name: Name of the channel, for errors.
            address: Address of the webhook; a secret.
            timeout_s: Longest time for one alert.

        Raises:
            ConfigError: The address is neither https nor http on this machine.
        """
        self._where, self._address = f"alerts.channels: {name}", address
        try:
            parts = urlsplit(address)
            is_usable = bool(parts.hostname) and (
                parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
            )
        except ValueError:
            is_usable = False
        if not is_usable or not address.isprintable() or " " in address:
            raise ConfigError(
                "its secret is not the address of a webhook",
                where=self._where,
                remedy="write https://host/path",
            )
        limit = {"connect_timeout_s": timeout_s, "read_timeout_s": timeout_s, "answer_timeout_s": timeout_s}
        self._http = Http(HttpSettings(**limit, attempts=1))

    def send(self, alert: Alert) -> None:
        """Post an alert.

        Raises:
            CaptureError: The service did not accept the alert. The error contains no part of the address.
        """
        body = json.dumps({"text": format_for_slack(alert)}).encode()
        try:
            self._http.post(
                self._address, body, headers={"Content-Type": "application/json"}, where=self._where
            )
        except AccessDeniedError as error:
            what = f"refuses the message ({error.status})"
            raise RequestRefusedError(
                what, status=error.status, where=self._where, remedy="check the address of the webhook"
            ) from None


def format_for_slack(alert: Alert) -> str:
    """Format an alert for Slack: the heading, and the body as a code block, without markup and mentions."""
    return f"{_escape(alert.heading)}\n```\n{_escape(alert.body)}\n```"


def _escape(text: str) -> str:
    """Escape or replace the characters that begin a link, a mention or code."""
    return _MENTION.sub("\uff20", text.translate(_ESCAPES).replace("`", "'"))
