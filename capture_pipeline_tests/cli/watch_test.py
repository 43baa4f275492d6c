"""The command `capture session status --watch` on a terminal with a running recorder, until Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from capture_pipeline_tests.support.sessions.recorder import Live, live

pytestmark = pytest.mark.slow
CAPTURE = str(Path(sys.executable).with_name("capture"))
CTRL_C = b"\x03"
MESSAGES = re.compile(r"messages *│ ([\d,]+), ([\d,]+\.\d)/s")


class Terminal:
    """Terminal of a program, with simulated keys."""

    def __init__(self, master: int, program: subprocess.Popen[bytes]) -> None:
        self.program = program
        self._master = master
        self._shown = b""

    def until(self, told: Callable[[str], bool]) -> str:
        """Read until the output contains a text."""
        deadline = time.monotonic() + 40
        while not told(text := self._shown.decode(errors="replace")):
            assert time.monotonic() < deadline, text
            assert self.program.poll() is None, text
            if select.select([self._master], [], [], 1)[0]:
                self._shown += os.read(self._master, 1 << 16)
        return text

    def press(self, keys: bytes) -> None:
        """Send a key to the terminal."""
        os.write(self._master, keys)


@contextmanager
def terminal(one: Live, *arguments: str) -> Iterator[Terminal]:
    """Run `capture` with this terminal as its controlling terminal."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, 150))
    # The first terminal that a session leader opens controls it: Ctrl-C there is a signal.
    command = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave), CAPTURE, *arguments]
    environment = {**os.environ, **one.sandbox.environment(), "TERM": "xterm"}
    with subprocess.Popen(command, env=environment, start_new_session=True) as program:
        try:
            yield Terminal(master, program)
        finally:
            program.kill()
            os.close(master)
            os.close(slave)


def test_a_session_is_watched_until_ctrl_c_and_goes_on(tmp_path: Path) -> None:
    """The view updates rate and gaps. Ctrl-C ends the view with 130; the recorder continues."""
    with live(tmp_path) as one:
        rule = {"fault": "ws_drop", "times": 2, "after": 40}
        one.sandbox.faults(
            {**rule, "match": {"stream": "*@depth*"}}, {**rule, "match": {"stream": "*@trade"}}
        )
        one.start()
        with terminal(one, "session", "status", "--watch") as view:

            def is_renewed(text: str) -> bool:
                shown = {(count, rate) for count, rate in MESSAGES.findall(text) if rate != "0.0"}
                return len({count for count, _ in shown}) > 1

            text = view.until(
                lambda text: is_renewed(text) and re.search(r"gaps *│ 2, [\d,]+ ids lost", text) is not None
            )
            assert f"{one.folder.session}  recording" in text
            view.press(CTRL_C)
            assert view.program.wait(30) == 130
        now = one.status()
        assert now is not None
        one.wait(lambda status: status.messages > now.messages)
        one.finish()
