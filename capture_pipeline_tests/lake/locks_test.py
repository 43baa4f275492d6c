"""Locks between processes: one owner, its name, its death, forks, a full disk and the wait."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from capture_pipeline.errors import BusyError, StorageError
from capture_pipeline.lake.locks import Owner, file_lock, find_owner, is_abandoned

SPAWN = multiprocessing.get_context("spawn")
FORK = """
import os, sys
from pathlib import Path
from capture_pipeline.lake.locks import file_lock

path = Path(sys.argv[1])
begun, end = os.pipe(), os.pipe()
with file_lock(path):
    child = os.fork()
    if child == 0:
        os.close(end[1])  # the end of the parent is the end of the child
        os.write(begun[1], b"x")
        os.read(end[0], 1)
        os._exit(0)
    os.read(begun[0], 1)
    # The lock of the parent remains while it runs.
    try:
        with file_lock(path):
            sys.exit("locked twice")
    except Exception as error:
        assert "is locked by pid" in str(error), error
with file_lock(path):  # although the child still runs
    os.write(end[1], b"x")
    os.waitpid(child, 0)
"""


def _hold(path: Path, ready: object, end: object) -> None:
    with file_lock(path):
        ready.set()  # type: ignore[attr-defined]
        end.wait(30)  # type: ignore[attr-defined]


def test_one_process_holds_a_lock_and_its_death_frees_it(tmp_path: Path) -> None:
    """SIGKILL frees the lock too; the error names the owner."""
    path, ready, end = tmp_path / "l.lock", SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=_hold, args=(path, ready, end))
    process.start()
    assert ready.wait(30)
    with pytest.raises(BusyError, match=f"locked by pid {process.pid}"), file_lock(path):
        pytest.fail("the lock was taken twice")
    owner = find_owner(path)
    assert owner is not None
    assert (owner.pid, is_abandoned(path)) == (process.pid, False)
    process.kill()
    process.join(30)
    assert (find_owner(path), is_abandoned(path)) == (None, True)
    with file_lock(path):
        assert Owner.model_validate_json(path.read_bytes()).pid == os.getpid()
    assert (find_owner(path), is_abandoned(path), path.read_bytes()) == (None, False, b"")


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """The child closes the file of the lock; the parent's lock remains until the parent releases it."""
    command = [sys.executable, "-c", FORK, str(tmp_path / "l.lock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lock_works_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner is unknown; a lock that requires its owner fails and is free again."""
    path = tmp_path / "l.lock"

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with file_lock(path):
        assert path.stat().st_size == 1
        with pytest.raises(BusyError, match="is locked by another process"), file_lock(path):
            pytest.fail("the lock was taken twice")
    with pytest.raises(StorageError, match="No space left"), file_lock(path, is_owner_required=True):
        pytest.fail("the owner was not written")
    with file_lock(path):
        pass


def test_the_owner_is_the_process_and_not_the_pid(tmp_path: Path) -> None:
    """A lock whose content names the pid of another process has no known owner."""
    path = tmp_path / "l.lock"
    with file_lock(path):
        owner = find_owner(path)
        assert owner is not None
        path.write_text(owner.model_copy(update={"started": "1"}).model_dump_json())
        assert find_owner(path) is None


def test_a_wait_for_a_lock_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    """The error is that of a wait that is over."""
    path, cancel, begun = tmp_path / "l.lock", threading.Event(), time.monotonic()
    cancel.set()
    with file_lock(path), pytest.raises(BusyError), file_lock(path, 60.0, cancel):
        pytest.fail("the lock was taken twice")
    assert time.monotonic() - begun < 30


def test_a_lock_is_taken_within_the_wait(tmp_path: Path) -> None:
    """The owner releases it in the meantime."""
    path, held, end = tmp_path / "l.lock", threading.Event(), threading.Event()
    thread = threading.Thread(target=_hold, args=(path, held, end))
    thread.start()
    assert held.wait(30)
    threading.Timer(0.2, end.set).start()
    with file_lock(path, 30.0):
        thread.join(30)
