"""Channels by their settings. A channel sends one alert, within its time, or raises; `delivery` decides what is sent and when."""

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
"""Group of entry points. Each is called with the name, the options, the secret or None, and the time-out in seconds of its channel."""


class Channel(Protocol):
    """A destination of alerts."""

    def send(self, alert: Alert) -> None:
        """Send an alert; any exception means that it did not arrive."""


class LogWriter:
    """Write alerts to standard error."""

    def send(self, alert: Alert) -> None:
        """Write an alert as one line."""
        report("; ".join([f"Alert: {alert.heading}", *alert.body.split("\n")]))


def open_channel(settings: Alerts, channel: ChannelSettings) -> Channel:
    """Return the channel of some settings; nothing is sent.

    Raises:
        ConfigError: Its secret is missing, or its entry point is not installed or cannot be used.
    """
    secret = secret_of(settings, channel.name)
    if isinstance(channel, LogChannel):
        return LogWriter()
    if isinstance(channel, PluginChannel):
        return _plugin(channel, secret, settings.timeout_s)
    if isinstance(channel, WebhookChannel):
        return Webhook(
            channel.name, _needed(channel.name, secret, "the address of the webhook"), settings.timeout_s
        )
    if channel.username is not None:
        _needed(channel.name, secret, "the password of the SMTP login")
    return MailSender(channel, secret, settings.timeout_s)


def secret_of(settings: Alerts, name: str) -> str | None:
    """Return the secret of a channel; None without one."""
    secret = settings.secrets.get(name)
    return secret.get_secret_value() if secret is not None else None


def hide(text: str, secret: str | None) -> str:
    """Replace a secret in a text, also where a library quotes only the path of an address or escapes it."""
    if not secret:
        return text
    parts = urlsplit(secret) if "://" in secret else None
    hidden = [secret, repr(secret)[1:-1], printable(secret)]
    if parts is not None:
        hidden += [f"{parts.path}?{parts.query}", parts.path, parts.query, parts.netloc.rpartition("@")[0]]
    for part in sorted({each for each in hidden if len(each) > 1}, key=len, reverse=True):
        text = text.replace(part, "***")
    return text


def _needed(name: str, secret: str | None, what: str) -> str:
    if not secret:
        remedy = f"set alerts.secrets.{name}, or CAPTURE_ALERTS_SECRETS='{{{name}: ...}}', to {what}"
        raise ConfigError("has no secret", where=f"alerts.channels: {name}", remedy=remedy)
    return secret


def _plugin(channel: PluginChannel, secret: str | None, timeout_s: float) -> Channel:
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
        made = found[channel.entry_point].load()(
            name=channel.name, options=options, secret=secret, timeout_s=timeout_s
        )
    except Exception as error:  # noqa: BLE001 - code of another package
        what = hide(f"{type(error).__name__}: {error}", secret)
        raise ConfigError(
            f"the entry point {channel.entry_point!r} failed: {what}",
            where=where,
            remedy="see its documentation",
        ) from None
    if not callable(getattr(made, "send", None)):
        raise ConfigError(
            f"the entry point {channel.entry_point!r} returned no channel",
            where=where,
            remedy="it has to return an object with send(alert)",
        )
    found_channel: Channel = made
    return found_channel
