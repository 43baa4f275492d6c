"""Description of the machine and the versions of a benchmark run."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from processes import PEERS

_OURS = ("polars", "duckdb", "pandera", "numba", "isal", "pyarrow", "numpy")
_PRINT_PEERS = (
    "from importlib.metadata import version; "
    "print(*(f'{name} {version(name)}' for name in ('pandas', 'pyarrow', 'numpy')), sep=', ')"
)


def describe_machine() -> dict[str, str]:
    """Return machine, load and versions by name."""
    memory = psutil.virtual_memory().total / 2**30
    peers = subprocess.run(
        [PEERS, "-c", _PRINT_PEERS], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {
        "measured at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "ours": ", ".join(f"{name} {version(name)}" for name in _OURS),
        "peers": peers,
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()
