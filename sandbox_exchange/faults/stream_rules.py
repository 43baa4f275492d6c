"""Faults of streams: their kinds and parameters. What they do stands in `stream_faults.py` and `stream_messages.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UPGRADE_KINDS = ("ws_refuse",)
"""Of the request that opens a connection."""
CONNECTION_KINDS = (
    "ws_cut",
    "ws_reset",
    "ws_close",
    "ws_close_half",
    "ws_silent",
    "ws_half_open",
    "ws_shutdown",
    "ws_lag",
)
"""Of one connection; also on request, without a rule."""
ANSWER_KINDS = ("ws_answer", "ws_error", "ws_text")
"""Of single messages: an answer to a request, an error object, or any text, is sent before the message."""
MESSAGE_KINDS = (
    "ws_drop",
    "ws_duplicate",
    "ws_reorder",
    "ws_bad_utf8",
    "ws_bad_json",
    "ws_oversized",
    "ws_split",
    "ws_third_element",
    "ws_unknown_field",
    *ANSWER_KINDS,
)
"""Of single messages: on every connection alike, or on some if the rule names a connection, a path or a query."""
NUMBERS = frozenset({"code", "status", "lag_s", "every_s", "least", "bytes", "pieces"})
_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_OWN_CODES = range(3000, 5000)
_STATUSES = range(400, 600)
_MOST_BYTES = 64 << 20


def check(fault: str, values: Mapping[str, Any]) -> None:
    """Refuse parameters that no fault of a stream can have; each is a number already.

    Raises:
        ValueError: With the reason.
    """
    code, status = values.get("code", 1000), values.get("status", 503)
    if code not in _CODES and code not in _OWN_CODES:
        raise ValueError(
            f"code must be one that a server may send, not {code}; a loss without a code (1006) is ws_cut or ws_reset"
        )
    if status not in _STATUSES:
        raise ValueError(f"status must be 400 to 599, not {status}")
    if "every_s" in values and (fault not in CONNECTION_KINDS or values["every_s"] <= 0):
        raise ValueError("every_s must be more than 0, and belongs to a fault of a connection")
    if not 0 <= values.get("bytes", 0) <= _MOST_BYTES:
        raise ValueError(f"bytes must be at most {_MOST_BYTES}")
