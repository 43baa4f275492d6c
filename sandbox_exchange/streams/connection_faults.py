"""Injection of connection faults."""

from __future__ import annotations

from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.streams.connection import ConnectionState, StreamConnection

_STATES = {"ws_silent": ConnectionState.SILENT, "ws_half_open": ConnectionState.HALF_OPEN}


def apply_fault(connection: StreamConnection, rule: FaultRule, now_us: int, next_frame: bytes = b"") -> None:
    """Inject a connection fault.

    Args:
        connection: Connection to change; a connection that is closing stays unchanged.
        rule: One of `CONNECTION_KINDS`.
        now_us: Market time, microseconds UTC.
        next_frame: Next bytes to send; half of them are sent before a cut.
    """
    if connection.state not in {ConnectionState.OPEN, ConnectionState.SILENT}:
        return
    connection.faults.append(rule.fault)
    code = int(rule.number("code", 1001))
    if rule.fault == "ws_cut":
        connection.cut(next_frame[: len(next_frame) // 2])
    elif rule.fault == "ws_reset":
        connection.reset()
    elif rule.fault == "ws_close":
        connection.close(code)
    elif rule.fault == "ws_close_half":
        connection.close_half(code)
    elif rule.fault in _STATES:
        connection.state = _STATES[rule.fault]
    elif rule.fault == "ws_shutdown":
        connection.announce(now_us)
        connection.close_at_us, connection.close_with = now_us + round(rule.number("lag_s", 0) * 1e6), code
    else:
        connection.lag_us = round(rule.number("lag_s", 1) * 1e6)
