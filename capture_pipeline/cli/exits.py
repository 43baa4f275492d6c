"""Exit codes of all commands."""

from __future__ import annotations

EXIT_FAILED = 1
"""A verdict on the data: a gate failed, a partition failed."""
EXIT_COULD_NOT_RUN = 2
"""Settings, arguments or the environment."""
EXIT_INTERRUPTED = 130
"""Ctrl-C, as a shell expects it."""
