"""The pictures of the README, taken in headless Chromium from `make demo` and `make ui DEMO=1`: `make pictures`.

It needs Debian's Chromium, a font with Chinese characters (Debian's fonts-wqy-zenhei), and the package playwright.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from capture_pipeline_tests.browser.clicks import chromium
from capture_pipeline_tests.defs.ui import (
    PROGRAMS,
    ROOT,
    Ui,
    free_port,
    make_project,
    run_ui,
    wait_for_daemons,
)
from capture_pipeline_tests.waiting import wait_for

LINEAGE = "/locations/capture_pipeline/asset-groups/klines/lineage"
PARTITIONED = ("kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions", "bar_gaps")
_STATS = """query ($keys: [AssetKeyInput!]) {assetNodes(assetKeys: $keys) {
  partitionStats {numMaterialized numPartitions} assetMaterializations(limit: 1) {runId}}}"""
_LONGEST_S = 600.0


def wait_for_reports(ui: Ui) -> None:
    """Wait until every partition of the demo and its coverage report are on the pages."""
    keys = [{"path": [name]} for name in (*PARTITIONED, "coverage_report")]

    def are_there() -> bool:
        found = ui.query(_STATS, keys=keys)["assetNodes"]
        stats = [node["partitionStats"] for node in found if node["partitionStats"]]
        is_made = all(node["assetMaterializations"] for node in found)
        return is_made and all(each["numMaterialized"] == each["numPartitions"] for each in stats)

    wait_for(are_there, _LONGEST_S, "not everything is on the pages", every_s=2)


def take(browser: Browser, address: str, path: Path, *, text: str, size: tuple[int, int]) -> None:
    """Take a picture of a page once it shows a text.

    Args:
        browser: Chromium.
        address: Of the page.
        path: Of the picture.
        text: What the page shows when it is complete.
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
    """Make the demo in a temporary folder, open it in Dagster, and take the pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    into: Path = parser.parse_args().into
    with tempfile.TemporaryDirectory(prefix="capture-pictures-") as folder:
        project, port = make_project(Path(folder)), free_port()
        demo = [str(PROGRAMS / "capture"), "demo", "--out", str(project / "demo"), "--port", "0"]
        subprocess.run(demo, cwd=project, check=True)
        with run_ui(project, port, "--demo"), chromium() as browser:
            wait_for_daemons(port)
            wait_for_reports(Ui(port, project / "dagster_home"))
            take(
                browser,
                f"http://127.0.0.1:{port}{LINEAGE}",
                into / "dagster.png",
                text="16 partitions",
                size=(1900, 900),
            )
            coverage = (project / "demo" / "data" / "reports" / "coverage.html").as_uri()
            take(browser, coverage, into / "coverage.png", text="Symbol-months", size=(1200, 1000))


if __name__ == "__main__":
    main()
