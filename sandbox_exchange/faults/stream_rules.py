"""Kinds and parameters of stream faults; the package `streams` applies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UPGRADE_KINDS = ("ws_refuse",)
"""Faults of the request that opens a connection."""
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
"""Faults of one connection; the control endpoint can inject them without a rule."""
ANSWER_KINDS = ("ws_answer", "ws_error", "ws_text")
"""Faults of single messages that send an answer, an error object or any text before the message."""
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
"""Faults of single messages: on all connections, or on those selected by number, path or query."""
NUMBERS = frozenset({"code", "status", "lag_s", "every_s", "least", "bytes", "pieces"})
_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_APPLICATION_CODES = range(3000, 5000)
_STATUSES = range(400, 600)
_MAX_BYTES = 64 << 20


def check_parameters(fault: str, values: Mapping[str, Any]) -> None:
    """Check the numeric parameters of a stream fault.

    Raises:
        ValueError: The close code, the HTTP status, `every_s` or `bytes` is outside its valid range.
    """
    code, status = values.get("code", 1000), values.get("status", 503)
    if code not in _CODES and code not in _APPLICATION_CODES:
        raise ValueError(
            f"code must be a close code that a server may send, not {code}; for a loss without a code (1006) "
            "use ws_cut or ws_reset"
        )
    if status not in _STATUSES:
        raise ValueError(f"status must be 400 to 599, not {status}")
    if "every_s" in values and (fault not in CONNECTION_KINDS or values["every_s"] <= 0):
        raise ValueError("every_s must be more than 0, and applies to faults of a connection only")
    if not 0 <= values.get("bytes", 0) <= _MAX_BYTES:
        raise ValueError(f"bytes must be at most {_MAX_BYTES}")
