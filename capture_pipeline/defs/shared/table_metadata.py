"""Conversion of tables and frames to Dagster's column schemas, and to metadata tables of limited length."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg
import polars as pl

from capture_pipeline.defs.shared import outputs
from capture_pipeline.tables.table import BOOLEAN, FLOAT, INT64, TEXT, Table

ROWS = "dagster/partition_row_count"
"""Metadata key that Dagster shows as the number of rows of a partition."""
MAX_ROWS = 100
_TYPES = {INT64: "int", TEXT: "string", BOOLEAN: "bool", FLOAT: "float"}


def build_schema(table: Table) -> dg.TableSchema:
    """Build the column schema of a declared table."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                _type(column.kind),
                column.text,
                dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ]
    )


def describe_table(table: Table) -> dict[str, Any]:
    """Build the metadata of the asset that writes a table of the lake."""
    return {"dagster/column_schema": build_schema(table), "dagster/table_name": table.name}


def build_table(
    rows: pl.DataFrame | Sequence[Mapping[str, Any]], most: int = MAX_ROWS
) -> dg.TableMetadataValue:
    """Build a table for metadata.

    Args:
        rows: A frame, or records that all have the same keys.
        most: Largest number of rows.
    """
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows), infer_schema_length=None)
    schema = dg.TableSchema([dg.TableColumn(name, _type(kind)) for name, kind in frame.schema.items()])
    return outputs.table(
        [
            {name: _plain(value) for name, value in row.items()}
            for row in frame.head(most).iter_rows(named=True)
        ],
        schema,
    )


def build_records(rows: Sequence[Mapping[str, Any]], most: int = MAX_ROWS) -> list[dict[str, Any]]:
    """Build rows for metadata, which Dagster shows as JSON.

    Unlike a table they have no schema. It would add 190 bytes per column to each of the two or three copies
    of an event.

    Args:
        rows: Cells by name of the column; cells without a value are omitted.
        most: Largest number of rows.
    """
    return [
        {name: outputs.cell(value) for name, value in row.items() if value is not None} for row in rows[:most]
    ]


def _type(kind: pl.DataType) -> str:
    return _TYPES.get(kind, str(kind).lower())


def _plain(value: object) -> object:
    """Return an empty text for null, and a decimal without an exponent."""
    if value is None:
        return ""
    return f"{value:f}" if isinstance(value, Decimal) else value
