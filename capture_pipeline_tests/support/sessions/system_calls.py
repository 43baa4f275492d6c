"""Recorder of the system calls on files: real calls, logged in order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Calls(list[str]):
    """Lines such as `fsync x.part`, `rename x.part y`, in order; files by name without their folder.

    Attributes:
        refuse: Called before each call; an error that it returns is raised instead of the call.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start to log."""
        super().__init__()
        self.refuse: Callable[[str], OSError | None] = lambda _: None
        for name in ("write", "pwrite", "fsync", "rename", "replace", "truncate", "unlink", "open"):
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def of(self, *names: str) -> list[str]:
        """Return the calls on these files."""
        return [line for line in self if any(line.split()[1] == name for name in names)]

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **options: Any) -> Any:
            line = self._line(name, *given)
            if line and (error := self.refuse(line)) is not None:
                self.append(f"{line} refused")
                raise error
            result = call(*given, **options)
            if line:
                self.append(line)
            return result

        return watched

    @staticmethod
    def _line(name: str, *given: Any) -> str:
        if name == "open":
            is_new = len(given) > 1 and given[1] & os.O_CREAT and not Path(given[0]).exists()
            return f"create {_name(given[0])}" if is_new else ""
        if name in {"rename", "replace"}:
            return f"rename {_name(given[0])} {_name(given[1])}"
        return f"{name} {_name(given[0])}"


def _name(file: Any) -> str:
    path = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else os.fspath(file)
    # A file that is published atomically is first written under a temporary name.
    name = Path(path).name
    return name.split(".tmp")[0].lstrip(".").rsplit(".", 1)[0] + ".tmp" if name.endswith(".tmp") else name
