"""The sandbox exchange as a separate process, so that it shares no event loop or lock with a recorder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from capture_pipeline_tests.support.deployment import NOW, SandboxDeployment

_ANSWERS = "The sandbox answers at "
_START = "from capture_pipeline.cli.main import main; main()"


@contextmanager
def exchange(root: Path, config: dict[str, Any], **environment: str) -> Iterator[SandboxDeployment]:
    """Serve a market from a process, and yield a deployment that uses it.

    Args:
        root: Folder for the settings and the lake of the deployment.
        config: Settings of the sandbox.
        environment: Settings of the deployment.
    """
    root.mkdir(parents=True, exist_ok=True)
    settings = root / "sandbox.yaml"
    settings.write_text(json.dumps({"now": NOW, **config}))  # JSON is YAML
    command = [sys.executable, "-c", _START, "sandbox", "serve", "--port", "0", "--config", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            output = process.stdout.readline()
            assert output.startswith(_ANSWERS), output
            yield SandboxDeployment(output.removeprefix(_ANSWERS).split()[0], root / "lake", **environment)
        finally:
            process.kill()
