"""Program `make pictures`, which takes the pictures of the README.

The pictures are taken in headless Chromium from `make demo` and `make ui DEMO=1`.

It needs Debian's Chromium, a font with Chinese characters (Debian's fonts-wqy-zenhei), and the package
playwright.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser

from capture_pipeline_tests.support.dagster.browser import chromium
from capture_pipeline_tests.support.dagster.ui import (
    PROGRAMS,
    ROOT,
    Ui,
    free_port,
    make_project,
    run_ui,
    wait_for_daemons,
)

LINEAGE = "/locations/capture_pipeline/asset-groups/klines/lineage"
_STATES = """{assetNodes {
  assetKey {path}
  partitionStats {numMaterialized numPartitions}
  assetMaterializations(limit: 1) {runId}
  assetChecksOrError {... on AssetChecks {checks {name executionForLatestMaterialization {status}}}}
}}"""
_LONGEST_S = 600.0


def list_unfinished(ui: Ui) -> list[str]:
    """Return assets without a materialization of a partition, and checks that have not passed."""
    names = []
    for node in ui.query(_STATES)["assetNodes"]:
        asset, stats = node["assetKey"]["path"][-1], node["partitionStats"]
        if not node["assetMaterializations"] or (
            stats and stats["numMaterialized"] != stats["numPartitions"]
        ):
            names.append(asset)
        for check in node["assetChecksOrError"].get("checks", []):
            state = check["executionForLatestMaterialization"]
            if state is None or state["status"] != "SUCCEEDED":
                names.append(f"{asset}: {check['name']}")
    return names


def wait_until_green(ui: Ui) -> None:
    """Wait until every asset of the demo is materialized and every check has passed.

    Raises:
        AssertionError: An asset or a check is not ready after ten minutes; the message contains its name.
    """
    deadline = time.monotonic() + _LONGEST_S
    while unfinished := list_unfinished(ui):
        assert time.monotonic() < deadline, f"not green: {', '.join(unfinished)}"
        time.sleep(2)


def take(browser: Browser, address: str, path: Path, *, text: str, size: tuple[int, int]) -> None:
    """Take a picture of a page once it shows a text.

    Args:
        browser: Chromium.
        address: Address of the page.
        path: File of the picture.
        text: Text that the page shows when it is complete.
        size: Width and height in pixels.
    """
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(address, timeout=120_000)
    page.get_by_text(text).first.wait_for(timeout=120_000)
    page.wait_for_load_state("networkidle", timeout=120_000)
    page.screenshot(path=path)
    page.close()


def main() -> None:
    """Create the demo in a temporary folder, open it in Dagster, and take the pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    into: Path = parser.parse_args().into
    with tempfile.TemporaryDirectory(prefix="capture-pictures-") as folder:
        project, port = make_project(Path(folder)), free_port()
        demo = [str(PROGRAMS / "capture"), "demo", "--out", str(project / "demo"), "--port", "0"]
        subprocess.run(demo, cwd=project, check=True)
        with run_ui(project, port, "--demo"), chromium() as browser:
            wait_for_daemons(port)
            wait_until_green(Ui(port, project / "dagster_home"))
            take(
                browser,
                f"http://127.0.0.1:{port}{LINEAGE}",
                into / "dagster.png",
                text="16 partitions",
                size=(1900, 900),
            )
            coverage = (project / "demo" / "data" / "reports" / "coverage.html").as_uri()
            take(browser, coverage, into / "coverage.png", text="Months with missing", size=(1200, 1000))


if __name__ == "__main__":
    main()
