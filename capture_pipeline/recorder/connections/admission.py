"""Request limits of the address: checked before a handshake, and updated after a refused one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from capture_pipeline.binance.http.pauses import HostGroup, Limits, Pause
from capture_pipeline.binance.http.refusals import DEFAULT_WAIT_S, parse_wait
from capture_pipeline.recorder.background.daemon_thread import run_in_daemon_thread

_PATIENCE_S = 2.0
"""Longest time to wait for the file of limits: a slow disk must not delay a connection."""


@dataclass(frozen=True)
class HandshakeRefusal:
    """An answer to a handshake with a status other than 101.

    Attributes:
        headers: Values by lower-case name.
        body: Received part of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


async def count_attempt(limits: Limits | None) -> Pause | None:
    """Count an attempt to connect; return the current pause if the attempt is not allowed."""
    return await _call_with_timeout(limits.count_attempt) if limits is not None else None


async def record_refusal(limits: Limits | None, refusal: HandshakeRefusal) -> Pause | None:
    """Record a refusal of the address; return the current pause, None if the refusal has another reason."""
    if limits is None or refusal.status not in DEFAULT_WAIT_S:
        return None
    wait_s = parse_wait(refusal.status, refusal.headers, refusal.body, time.time())
    return await _call_with_timeout(partial(limits.refuse, HostGroup.STREAMS, refusal.status, wait_s))


async def _call_with_timeout(call: Callable[[], Pause | None]) -> Pause | None:
    try:
        return await asyncio.wait_for(run_in_daemon_thread(call), _PATIENCE_S)
    except TimeoutError:
        return None
