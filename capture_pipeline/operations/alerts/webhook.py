"""Alerts by HTTP POST of `{"text": ...}`, the body that Slack, Mattermost, Rocket.Chat and Discord's `/slack` addresses accept.

Source: Slack, "Sending messages using incoming webhooks" and "Formatting text": `&`, `<` and `>` are escaped.
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
"""Services other than Slack notify everybody for @channel, @here, @all or @everyone in plain text."""


class Webhook:
    """One address to which alerts are posted."""

    def __init__(self, name: str, address: str, timeout_s: float) -> None:
        """Check the address.

        Args:
            name: Of the channel, for errors.
            address: A secret.
            timeout_s: Longest time for one alert.

        Raises:
            ConfigError: The address is not https, and not http on this machine.
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
            CaptureError: It was not accepted; no part of the address is in the error.
        """
        body = json.dumps({"text": slack_text(alert)}).encode()
        try:
            self._http.post(
                self._address, body, headers={"Content-Type": "application/json"}, where=self._where
            )
        except AccessDeniedError as error:
            what = f"refuses the message ({error.status})"
            raise RequestRefusedError(
                what, status=error.status, where=self._where, remedy="check the address of the webhook"
            ) from None


def slack_text(alert: Alert) -> str:
    """Return an alert as Slack's text: a heading, and a block of code in which nothing is markup or a mention."""
    return f"{_inert(alert.heading)}\n```\n{_inert(alert.body)}\n```"


def _inert(text: str) -> str:
    """Return a text without a sign that begins a link, a mention or code."""
    return _MENTION.sub("\uff20", text.translate(_ESCAPES).replace("`", "'"))
