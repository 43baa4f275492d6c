"""The coverage report in Dagster's pages: an image, tables and paths."""

import base64
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import dagster as dg
import polars as pl
import pytest

from capture_pipeline.defs.klines.coverage import render_heat_map
from capture_pipeline.klines.quality.coverage_report import report_coverage
from capture_pipeline_tests.support.dagster.definitions import NOW, SETTINGS
from capture_pipeline_tests.support.dagster.stage import BTC, ETH, FEBRUARY, JANUARY, Stage, block
from capture_pipeline_tests.support.deployment import run_sandbox_deployment

IMAGE = re.compile(r"!\[Coverage by symbol and month\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)")
SVG = "{http://www.w3.org/2000/svg}"
CELLS = {"#1a7f4b": "whole", "#d1495b": "critical", "#8d7bb8": "unknown"}


@pytest.fixture
def metadata(stage: Stage, tmp_path: Path) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of a report over two complete months, a bad one and three unknown ones."""
    outage = {
        "outages": [{"start": "2024-02-10T00:00:00Z", "end": "2024-02-13T00:00:00Z", "symbols": [BTC]}],
        "now": NOW,
        "frozen": True,
    }
    with run_sandbox_deployment(tmp_path / "other", outage, **SETTINGS) as stage.sandbox:
        assert stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY)).success
        assert stage.run("coverage").success
        (materialization,) = stage.materializations("coverage_report").values()
    return dict(materialization.metadata)


def test_the_heat_map_is_a_picture_with_a_cell_for_each_symbol_and_month(
    metadata: dict[str, dg.MetadataValue[Any]],
) -> None:
    """The image is embedded; its colours are those of the gates."""
    value = metadata["heat_map"]
    assert isinstance(value, dg.MarkdownMetadataValue)
    found = IMAGE.fullmatch(value.value or "")
    assert found
    root = ET.fromstring(base64.b64decode(found[1], validate=True))
    assert root.tag == SVG + "svg"
    cells = Counter(CELLS.get(rect.get("fill", ""), "?") for rect in root.findall(f"./{SVG}g/{SVG}rect"))
    assert cells == {"whole": 3, "critical": 1, "unknown": 2}
    texts = {text.text for text in root.iter(SVG + "text")}
    assert {"BTCUSDT", "ETHUSDT", "2024-01", "2024-02", "2024-03"} <= texts
    assert list(root.iter(SVG + "title")) == []
    width, height = (float(root.get(name, "0")) for name in ("width", "height"))
    for text in root.findall(f"./{SVG}text"):
        assert (
            float(text.get("x", "-1")) + 5 * len(text.text or "") * (text.get("text-anchor") is None)
            <= width + 20
        ), text.text
    for rect in root.iter(SVG + "rect"):
        assert float(rect.get("x", "-1")) + float(rect.get("width", "0")) <= width
        assert float(rect.get("y", "-1")) + float(rect.get("height", "0")) <= height


def test_totals_and_tables_stand_beside_it(metadata: dict[str, dg.MetadataValue[Any]]) -> None:
    """Totals are numbers, so that Dagster plots them; every symbol and month has a row."""
    assert metadata["expected"].value == 2 * (744 + 696)
    assert metadata["missing"].value == 72
    assert metadata["coverage_percent"].value == pytest.approx(97.5)
    table = metadata["coverage"]
    assert isinstance(table, dg.TableMetadataValue)
    rows = {(row.data["symbol"], row.data["month"]): row.data["missing"] for row in table.records}
    assert len(rows) == metadata["dagster/row_count"].value == 6
    assert rows[BTC, "2024-02"] == 72
    assert rows[ETH, "2024-02"] == 0
    for name in ("csv", "page", "catalog"):
        assert Path(str(metadata[name].value)).is_file()


def test_its_columns_are_those_of_its_definition(stage: Stage, definitions: dg.Definitions) -> None:
    """Names and types in the definition equal those of the published table."""
    assert stage.run("initial_backfill", tags=block(JANUARY, JANUARY)).success
    coverage = report_coverage(stage.deployment, stage.deployment.now_us())
    schema = (
        definitions.resolve_asset_graph()
        .get(dg.AssetKey("coverage_report"))
        .metadata["dagster/column_schema"]
    )
    assert isinstance(schema, dg.TableSchema)
    names = {pl.Int64(): "int", pl.Float64(): "float", pl.String(): "string"}
    assert [(column.name, column.type) for column in schema.columns] == [
        (name, names[kind]) for name, kind in coverage.frame.schema.items()
    ]
    may_be_empty = {column.name for column in schema.columns if column.constraints.nullable}
    assert {name for name in coverage.frame.columns if coverage.frame[name].null_count()} <= may_be_empty
    assert coverage.csv.read_text().splitlines()[0] == ",".join(column.name for column in schema.columns)


def test_a_picture_that_would_bloat_the_event_log_is_only_pointed_at(stage: Stage) -> None:
    """The page still shows the heat map."""
    coverage = report_coverage(stage.deployment, stage.deployment.now_us())
    assert IMAGE.fullmatch(render_heat_map(coverage))
    assert render_heat_map(
        replace(coverage, svg=coverage.svg.replace("</svg>", "x" * 400_000 + "</svg>"))
    ) == (f"The heat-map is too large to show here; open `{coverage.html}`.")
