"""Delivery of waiting alerts: one thread per channel, in order, with limits of time and of messages per hour.

After a failure the channel is retried after 30 seconds. The wait doubles with each failure, up to 15 minutes.
If the channel states a wait itself (Retry-After), that is used, up to an hour. A failing channel does not
delay another channel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from capture_pipeline.backoff import Backoff
from capture_pipeline.binance.periods import HOUR_US
from capture_pipeline.errors import BusyError, CaptureError, ConfigError, RateLimitedError
from capture_pipeline.operations.alerts.channels import Channel, get_secret, mask_secret, open_channel
from capture_pipeline.operations.alerts.models import Alert, combine_alerts
from capture_pipeline.operations.alerts.spool import Queue, Spool
from capture_pipeline.settings.alerts import Alerts, ChannelSettings
from capture_pipeline.settings.levels import Level
from capture_pipeline.terminal import logger

_WAITS = Backoff(first_s=30.0, max_s=900.0)
_MAX_RETRY_AFTER_S = 3600.0
_PASS_S = 20.0
"""No message is started later than this after the start of a delivery. A tick of a sensor has 60 seconds."""
_log = logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of sending to one channel.

    Attributes:
        channel: Name of the channel.
        sent: Number of messages that the channel accepted.
        error: Reason why the next message was not accepted, without secrets; empty if all were accepted.
        retry_s: Wait that the channel requests, seconds.
    """

    channel: str
    sent: int = 0
    error: str = ""
    retry_s: float = 0.0


def deliver(
    spool: Spool, settings: Alerts, now_us: Callable[[], int] = lambda: time.time_ns() // 1000
) -> list[Outcome]:
    """Send the waiting alerts of all channels that are due.

    Returns:
        One outcome for each channel with due alerts, also for a channel that exceeds the time limit.
    """
    queues = spool.read().queues
    due = [
        each
        for each in settings.channels
        if queues[each.name].waiting and queues[each.name].next_us <= now_us()
    ]
    return _run_threads(
        due, lambda channel: _deliver_one(spool, settings, channel, now_us), settings.timeout_s + _PASS_S
    )


def send_test(settings: Alerts, names: Sequence[str] = ()) -> list[Outcome]:
    """Send one test alert to every channel, or to the named ones. The spool is not used.

    Raises:
        ConfigError: No channel is configured, or a name is not a configured channel.
    """
    known = [channel.name for channel in settings.channels]
    if not known:
        raise ConfigError(
            "there is no channel",
            where="alerts.channels",
            remedy="add a channel to pipeline.yaml, see docs/operations.md",
        )
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"{unknown[0]!r} is not a channel",
            where="alerts.channels",
            remedy=f"configured channels: {', '.join(known)}",
        )
    alert = Alert(
        key="test",
        level=Level.INFO,
        title="Test of this channel",
        text="Sent by capture alerts test. Nothing is wrong.",
    )
    chosen = [channel for channel in settings.channels if not names or channel.name in names]
    return _run_threads(
        chosen,
        lambda channel: _send_all(settings, channel, [[alert]], lambda _: None),
        settings.timeout_s + _PASS_S,
    )


def _run_threads(
    channels: Sequence[ChannelSettings], work: Callable[[ChannelSettings], Outcome], seconds: float
) -> list[Outcome]:
    """Call `work` for all channels in parallel; do not wait for channels that exceed the time limit."""
    outcomes: dict[str, Outcome] = {}

    def run(channel: ChannelSettings) -> None:
        outcomes[channel.name] = work(channel)

    threads = [
        threading.Thread(target=run, args=(channel,), name=f"alerts-{channel.name}", daemon=True)
        for channel in channels
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"did not answer within {seconds:g} s"
    return [outcomes.get(channel.name, Outcome(channel.name, error=late)) for channel in channels]


def _deliver_one(
    spool: Spool, settings: Alerts, channel: ChannelSettings, now_us: Callable[[], int]
) -> Outcome:
    try:
        with spool.lock_channel(channel.name):
            queue = spool.read().queues[channel.name]
            messages = split_into_messages(queue, settings.messages_per_hour, now_us())
            outcome = _send_all(
                settings,
                channel,
                messages,
                lambda sent: spool.update_queue(channel.name, partial(_record_success, sent, now_us())),
            )
            if outcome.error:
                spool.update_queue(channel.name, partial(_record_failure, outcome, now_us()))
            return outcome
    except BusyError:
        return Outcome(channel.name)
    except CaptureError as error:
        return Outcome(channel.name, error=str(error))


def split_into_messages(queue: Queue, most: int, now_us: int) -> list[list[Alert]]:
    """Divide waiting alerts into the messages still allowed in this hour; the last one combines the rest."""
    free = most - sum(now_us - at_us < HOUR_US for at_us in queue.sent_us)
    if free <= 0 or not queue.waiting:
        return []
    single = queue.waiting if len(queue.waiting) <= free else queue.waiting[: free - 1]
    rest = queue.waiting[len(single) :]
    return [[alert] for alert in single] + ([rest] if rest else [])


def _send_all(
    settings: Alerts,
    channel: ChannelSettings,
    messages: Sequence[list[Alert]],
    on_sent: Callable[[list[Alert]], None],
) -> Outcome:
    """Send messages one by one until one fails or the time is over."""
    secret, sent, until = get_secret(settings, channel.name), 0, time.monotonic() + _PASS_S
    try:
        opened: Channel = open_channel(settings, channel)
        for message in messages:
            if time.monotonic() > until:
                break
            opened.send(message[0] if len(message) == 1 else combine_alerts(message))
            sent += 1
            on_sent(message)
    except RateLimitedError as error:
        return Outcome(channel.name, sent, mask_secret(str(error), secret), error.retry_after_s)
    except CaptureError as error:
        return Outcome(channel.name, sent, mask_secret(str(error), secret))
    except Exception as error:  # noqa: BLE001 - a channel of another package
        return Outcome(
            channel.name,
            sent,
            mask_secret(f"alerts.channels: {channel.name}: {type(error).__name__}: {error}", secret),
        )
    return Outcome(channel.name, sent)


def _record_success(sent: list[Alert], now_us: int, queue: Queue) -> None:
    ids = {alert.id for alert in sent}
    queue.waiting = [alert for alert in queue.waiting if alert.id not in ids]
    queue.sent_us = [at_us for at_us in queue.sent_us if now_us - at_us < HOUR_US] + [now_us]
    queue.failures, queue.next_us, queue.error = 0, 0, ""


def _record_failure(outcome: Outcome, now_us: int, queue: Queue) -> None:
    queue.failures += 1
    wait_s = max(_WAITS.wait_s(queue.failures), min(outcome.retry_s, _MAX_RETRY_AFTER_S))
    queue.next_us, queue.error = now_us + round(wait_s * 1e6), outcome.error
    _log.warning("alerts wait for the channel %s: %s", outcome.channel, outcome.error)
