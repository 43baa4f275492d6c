"""Channels, created from the settings.

A channel sends one alert within its time limit, or raises. `delivery` decides when an alert is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Protocol
from urllib.parse import urlsplit

from capture_pipeline.errors import ConfigError
from capture_pipeline.operations.alerts.mail import MailSender
from capture_pipeline.operations.alerts.models import Alert
from capture_pipeline.operations.alerts.webhook import Webhook
from capture_pipeline.printable import printable
from capture_pipeline.settings.alerts import (
    Alerts,
    ChannelSettings,
    LogChannel,
    PluginChannel,
    WebhookChannel,
)
from capture_pipeline.terminal import report

ENTRY_POINTS = "capture_pipeline.alert_channels"
"""Entry point group. Each entry point is called with name, options, secret (or None) and time-out (seconds)
of its channel."""


class Channel(Protocol):
    """A destination of alerts."""

    def send(self, alert: Alert) -> None:
        """Send an alert; every exception means that the alert did not arrive."""


class LogWriter:
    """Channel that writes each alert as one line to standard error."""

    def send(self, alert: Alert) -> None:
        """Write an alert."""
        report("; ".join([f"Alert: {alert.heading}", *alert.body.split("\n")]))


def open_channel(settings: Alerts, channel: ChannelSettings) -> Channel:
    """Create a channel from its settings; nothing is sent.

    Raises:
        ConfigError: The secret of the channel is missing, or its entry point is not installed or fails.
    """
    secret = get_secret(settings, channel.name)
    if isinstance(channel, LogChannel):
        return LogWriter()
    if isinstance(channel, PluginChannel):
        return _open_plugin(channel, secret, settings.timeout_s)
    if isinstance(channel, WebhookChannel):
        address = _require_secret(channel.name, secret, "the address of the webhook")
        return Webhook(channel.name, address, settings.timeout_s)
    if channel.username is not None:
        _require_secret(channel.name, secret, "the password of the SMTP login")
    return MailSender(channel, secret, settings.timeout_s)


def get_secret(settings: Alerts, name: str) -> str | None:
    """Return the secret of a channel, or None if it has no secret."""
    secret = settings.secrets.get(name)
    return secret.get_secret_value() if secret is not None else None


def mask_secret(text: str, secret: str | None) -> str:
    """Replace a secret in a text by `***`, also its escaped forms, and the parts of a secret address."""
    if not secret:
        return text
    parts = urlsplit(secret) if "://" in secret else None
    hidden = [secret, repr(secret)[1:-1], printable(secret)]
    if parts is not None:
        hidden += [f"{parts.path}?{parts.query}", parts.path, parts.query, parts.netloc.rpartition("@")[0]]
    for part in sorted({each for each in hidden if len(each) > 1}, key=len, reverse=True):
        text = text.replace(part, "***")
    return text


def _require_secret(name: str, secret: str | None, what: str) -> str:
    if not secret:
        remedy = f"set alerts.secrets.{name}, or CAPTURE_ALERTS_SECRETS='{{{name}: ...}}', to {what}"
        raise ConfigError("has no secret", where=f"alerts.channels: {name}", remedy=remedy)
    return secret


def _open_plugin(channel: PluginChannel, secret: str | None, timeout_s: float) -> Channel:
    where = f"alerts.channels: {channel.name}"
    found = {each.name: each for each in entry_points(group=ENTRY_POINTS)}
    if channel.entry_point not in found:
        installed = f"installed are {', '.join(sorted(found))}" if found else "none is installed"
        raise ConfigError(
            f"there is no entry point {channel.entry_point!r} in the group {ENTRY_POINTS}",
            where=where,
            remedy=f"install the package that has it; {installed}",
        )
    options: Mapping[str, str | bool | int | float] = dict(channel.options)
    try:
        plugin = found[channel.entry_point].load()(
            name=channel.name, options=options, secret=secret, timeout_s=timeout_s
        )
    except Exception as error:  # noqa: BLE001 - code of another package
        what = mask_secret(f"{type(error).__name__}: {error}", secret)
        raise ConfigError(
            f"the entry point {channel.entry_point!r} failed: {what}",
            where=where,
            remedy="see the documentation of the entry point",
        ) from None
    if not callable(getattr(plugin, "send", None)):
        raise ConfigError(
            f"the entry point {channel.entry_point!r} returned no channel",
            where=where,
            remedy="return an object with send(alert) from it",
        )
    opened: Channel = plugin
    return opened
