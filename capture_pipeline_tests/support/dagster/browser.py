"""A headless Chromium, and the clicks of a user in Dagster's pages."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from capture_pipeline_tests.support.waits import wait_for

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_CREATED = re.compile(r"Created backfill (\w+)")
_PATIENCE_MS = 120_000


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium.

    The test is skipped if Chromium is not installed, unless TEST_TOOLS requires it.
    """
    program = shutil.which("chromium")
    if program is None and os.environ.get("TEST_TOOLS") != "required":
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def new_page(browser: Browser, port: int) -> Iterator[Page]:
    """Open a page whose base address is the webserver at `port`."""
    with contextlib.closing(
        browser.new_context(base_url=f"http://127.0.0.1:{port}", viewport={"width": 1400, "height": 950})
    ) as context:
        context.set_default_timeout(_PATIENCE_MS)
        yield context.new_page()


def launch_from_job(page: Page, job: str, partitions: int) -> str:
    """Launch a backfill of all partitions from the page of a job; return its id."""
    page.goto(f"/locations/capture_pipeline/jobs/{job}")
    page.get_by_role("button", name="Materialize all…").click()
    return _launch(page, partitions)


def launch_from_assets(page: Page, group: str, assets: Sequence[str], partitions: int) -> str:
    """Launch a backfill of all partitions from the list of a group's assets; return its id."""
    page.goto(f"/locations/capture_pipeline/asset-groups/{group}/list")
    for asset in assets:
        page.get_by_test_id(f"checkbox-{asset}").locator("xpath=..").click()
    page.get_by_role("button", name="Materialize selected").click()
    return _launch(page, partitions)


def _launch(page: Page, partitions: int) -> str:
    dialog = page.get_by_role("dialog")
    choose_all: Locator = dialog.get_by_role("button", name="All", exact=True)
    choose_all.nth(1).wait_for()
    chosen = dialog.get_by_text(f"{partitions} partitions", exact=True)

    def is_chosen() -> bool:
        """Click until all partitions are selected.

        While the dialog is loading, its preselection replaces an earlier choice.
        """
        if not chosen.is_visible():
            for dimension in range(2):
                choose_all.nth(dimension).click()
        with contextlib.suppress(PlaywrightTimeout):
            chosen.wait_for(timeout=3000)
        return chosen.is_visible()

    wait_for(is_chosen, _PATIENCE_MS / 1000, f"the dialog does not show {partitions} partitions")
    dialog.get_by_role("button", name="Launch backfill").click()
    created = page.get_by_text(_CREATED).first
    created.wait_for()
    found = _CREATED.search(created.inner_text())
    assert found is not None
    return found[1]
