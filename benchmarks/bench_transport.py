"""Receiving messages: the recorder's frame parser compared with the public interface of websockets."""

from __future__ import annotations

from bench_recording import ensure_frames
from processes import OURS, Series, run_interleaved
from report import Finding, ratio

NAME = "transport"
_MESSAGES = 100_000
_SYMBOLS = 500
_PARSER, _LIBRARY = "frame parser", "websockets, recv"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure both sockets, each with a server of its own.

    Raises:
        RuntimeError: A socket did not receive every message.
    """
    frames = ensure_frames(_SYMBOLS)
    commands = {
        _PARSER: (OURS, "worker_transport.py", "parser", frames, _MESSAGES),
        _LIBRARY: (OURS, "worker_transport.py", "library", frames, _MESSAGES),
    }
    series = run_interleaved(commands, 1, repeats)
    if {run.rows for each in series.values() for run in each.runs} != {_MESSAGES}:
        raise RuntimeError("a socket did not receive every message")
    parser, library = series[_PARSER], series[_LIBRARY]
    what = "CPU time per message of websockets by its public interface, times that of the frame parser"
    return [ratio(NAME, what, library, parser, figure="cpu_s", least=1.5)], list(series.values())
