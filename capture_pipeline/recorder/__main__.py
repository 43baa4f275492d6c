"""`python -m capture_pipeline.recorder FOLDER`: record the session that was prepared in FOLDER."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from capture_pipeline.collector import pause_collector
from capture_pipeline.errors import CaptureError
from capture_pipeline.printable import printable
from capture_pipeline.terminal import show_traceback, write_line

with pause_collector():
    from capture_pipeline.recorder.app import record
    from capture_pipeline.recorder.state import empty_session_reason
    from capture_pipeline.sessions.layout import SessionFolder
    from capture_pipeline.sessions.models import SessionState
    from capture_pipeline.settings.loader import load_settings

_EXIT_EMPTY, _EXIT_COULD_NOT_RUN, _EXIT_INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with a usage error; arguments may be file names with control characters."""
        super().error(printable(message))


def main(arguments: list[str] | None = None) -> int:
    """Record a session.

    Returns:
        0 if the session is finished, 1 if nothing was recorded, 130 after an interruption, 2 after an error.
    """
    parser = _Parser(prog="python -m capture_pipeline.recorder", description="Record a prepared session.")
    parser.add_argument("folder", type=Path, help="folder that contains session.json")
    parser.add_argument("--config", type=Path, help="path of pipeline.yaml; the nearest one by default")
    sys.excepthook = show_traceback
    options = parser.parse_args(arguments)
    try:
        ended = record(load_settings(options.config), SessionFolder(options.folder.absolute()))
    except CaptureError as error:
        write_line(f"Error: {error}", err=True)
        return _EXIT_COULD_NOT_RUN
    if ended.metadata is None:
        return _EXIT_INTERRUPTED
    if ended.metadata.state is SessionState.EMPTY:
        write_line(f"Error: {empty_session_reason(ended.folder)}", err=True)
        return _EXIT_EMPTY
    return 0


if __name__ == "__main__":
    sys.exit(main())
