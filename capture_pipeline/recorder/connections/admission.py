"""Limits of the address as connections meet them: asked before a handshake, and told of a refused one."""

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
"""A disk that does not answer within this time keeps nobody from connecting."""


@dataclass(frozen=True)
class HandshakeRefusal:
    """An answer to a handshake that is not 101.

    Attributes:
        status: Its status.
        headers: Found by names in lower case.
        body: What came of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


async def count_attempt(limits: Limits | None) -> Pause | None:
    """Count an attempt to connect; the pause in force where it may not be made."""
    return await _consult(limits.count_attempt) if limits is not None else None


async def record_refusal(limits: Limits | None, refusal: HandshakeRefusal) -> Pause | None:
    """Record a refusal of the address; the pause in force, None where the refusal is about something else."""
    if limits is None or refusal.status not in DEFAULT_WAIT_S:
        return None
    wait_s = parse_wait(refusal.status, refusal.headers, refusal.body, time.time())
    return await _consult(partial(limits.refuse, HostGroup.STREAMS, refusal.status, wait_s))


async def _consult(question: Callable[[], Pause | None]) -> Pause | None:
    try:
        return await asyncio.wait_for(run_in_daemon_thread(question), _PATIENCE_S)
    except TimeoutError:
        return None
