"""Settings of alerts in `pipeline.yaml`: channels, their lowest levels and their secrets."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from capture_pipeline.binance.http.settings import Section
from capture_pipeline.settings.levels import Level

ChannelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
MailAddress = Annotated[str, Field(pattern=r"^[!-?A-~]{1,100}@[A-Za-z0-9.-]{1,150}$")]


class _Channel(Section):
    """Keys of every channel."""

    name: ChannelName = Field(
        description="Unique name; also the key of the channel's secret in alerts.secrets."
    )
    level: Level = Field(Level.INFO, description="Lowest level that is sent to this channel.")


class LogChannel(_Channel):
    """Standard error of the process that delivers; in a deployment this is the code server."""

    kind: Literal["log"]


class WebhookChannel(_Channel):
    """HTTP POST of `{"text": ...}` to Slack or a compatible service. The secret is the address."""

    kind: Literal["webhook"]


class SmtpChannel(_Channel):
    """Mail through an SMTP server. The secret is the password of `username`."""

    kind: Literal["smtp"]
    host: str = Field(min_length=1, description="SMTP server.")
    port: int = Field(587, ge=1, le=65535, description="Port of the server.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="starttls, tls (TLS from the start, port 465), or none."
    )
    username: str | None = Field(None, description="User name of the login; none for a server without login.")
    sender: MailAddress = Field(description="Address of the sender (From).")
    recipients: list[MailAddress] = Field(min_length=1, description="Addresses of the recipients (To).")

    @model_validator(mode="after")
    def _check_login_is_encrypted(self) -> SmtpChannel:
        if self.username and self.security == "none" and not is_loopback(self.host):
            raise ValueError("security: a login needs starttls or tls")
        return self


class PluginChannel(_Channel):
    """A channel of another package, with an entry point in the group `capture_pipeline.alert_channels`."""

    kind: Literal["plugin"]
    entry_point: str = Field(
        min_length=1, description="Name of the entry point in the group capture_pipeline.alert_channels."
    )
    options: dict[str, str | bool | int | float] = Field({}, description="Passed to the entry point.")


ChannelSettings = Annotated[
    LogChannel | WebhookChannel | SmtpChannel | PluginChannel, Field(discriminator="kind")
]


class Alerts(Section):
    """Destinations of alerts."""

    channels: list[ChannelSettings] = Field(
        [], description="Destinations of alerts; without channels no alert is sent."
    )
    secrets: dict[ChannelName, SecretStr] = Field(
        {},
        description="Secret by channel name: the address of a webhook, or the password of an SMTP login. "
        "Never shown.",
    )
    timeout_s: float = Field(10, gt=0, le=30, description="Longest time for one message to one channel.")
    messages_per_hour: int = Field(
        20,
        ge=1,
        le=1000,
        description="Maximum number of messages to one channel in an hour. The last one combines further "
        "alerts; later ones wait.",
    )
    ui_url: str = Field(
        "",
        pattern=r"^(https?://[!-~]{1,200})?$",
        description="Address of Dagster's UI, for links to failed runs.",
    )

    @model_validator(mode="after")
    def _check_names(self) -> Alerts:
        names = [channel.name for channel in self.channels]
        if len(set(names)) != len(names):
            raise ValueError("channels: two channels have the same name")
        if unknown := sorted(set(self.secrets) - set(names)):
            raise ValueError(f"secrets: {', '.join(unknown)}: no channel has this name")
        return self


def is_loopback(host: str) -> bool:
    """Return True for `localhost` and for loopback addresses."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
