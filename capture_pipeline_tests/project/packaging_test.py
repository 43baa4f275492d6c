"""Completeness of the wheel, and minimum versions of dependencies with known vulnerabilities."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
FLOORS = {
    "dagster": ("1.13.1", "CVE-2026-41490"),
    "dagster-graphql": ("1.13.1", "CVE-2026-41490"),
    "dagster-webserver": ("1.13.1", "CVE-2026-41490"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "pyarrow": ("14.0.1", "CVE-2023-47248"),
    "requests": ("2.32.4", "CVE-2024-47081"),
    "starlette": ("0.49.1", "CVE-2025-62727"),
    "urllib3": ("2.5.0", "CVE-2025-50181"),
}
LOCKS = [ROOT / "requirements.lock", ROOT / "benchmarks" / "requirements.lock"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", re.MULTILINE)


@pytest.mark.parametrize(("name", "floor", "mended"), [(name, *floor) for name, floor in FLOORS.items()])
def test_nothing_is_older_than_its_mended_version(name: str, floor: str, mended: str) -> None:
    """The lock file determines the installed versions."""
    pinned = [
        Version(version) for found, version in PIN.findall(LOCKS[0].read_text()) if found.lower() == name
    ]
    assert pinned
    assert min(pinned) >= Version(floor), mended


@pytest.mark.parametrize("lock", LOCKS, ids=["project", "benchmarks"])
def test_every_pin_has_a_hash_and_no_host_is_named(lock: Path) -> None:
    """Any registry can serve the pinned files, and none can change them."""
    text = lock.read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(entries) == len(PIN.findall(text))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


@pytest.mark.slow
def test_the_wheel_holds_everything_that_is_read_at_run_time(tmp_path: Path) -> None:
    """The wheel contains templates, queries, calendars and the schema, but no tests."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        path.relative_to(ROOT).as_posix()
        for package in ("capture_pipeline", "sandbox_exchange")
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".yaml", ".sql", ".j2", ".json"}
    }
    assert shipped <= names
    assert not [name for name in names if name.startswith("capture_pipeline_tests")]
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "capture = capture_pipeline.cli.main:main" in zipfile.ZipFile(wheel).read(entry).decode()
