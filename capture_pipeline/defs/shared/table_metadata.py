"""Frames and schemas in Dagster's terms: column schemas on definitions, capped tables in metadata."""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg
import polars as pl

from capture_pipeline.defs.shared import outputs

ROWS = "dagster/partition_row_count"
"""Metadata that Dagster shows as the rows of a partition."""
MOST_ROWS = 100
_TYPES = {pl.Int64(): "int", pl.String(): "string", pl.Boolean(): "bool", pl.Float64(): "float"}


def schema_of(
    columns: Mapping[str, pl.DataType], descriptions: Mapping[str, str], nullable: Collection[str] = ()
) -> dg.TableSchema:
    """The column schema of a table, as a definition shows it.

    Args:
        columns: Types by name.
        descriptions: What each column holds.
        nullable: Columns that may be empty.
    """
    made = [
        dg.TableColumn(
            name, _type(kind), descriptions[name], dg.TableColumnConstraints(nullable=name in nullable)
        )
        for name, kind in columns.items()
    ]
    return dg.TableSchema(made)


def table_of(
    rows: pl.DataFrame | Sequence[Mapping[str, Any]], most: int = MOST_ROWS
) -> dg.TableMetadataValue:
    """Build a table for metadata.

    Args:
        rows: A frame, or records with the same keys each.
        most: Cap on rows.
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


def records_of(rows: Sequence[Mapping[str, Any]], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """Build rows for the metadata of each partition, which Dagster shows as JSON.

    Dagster stores the schema with each table: 190 bytes a column, in each of the two or three copies of an event.

    Args:
        rows: Cells by column; those without a value are left out.
        most: Cap on rows.
    """
    return [
        {name: outputs.cell(value) for name, value in row.items() if value is not None} for row in rows[:most]
    ]


def _type(kind: pl.DataType) -> str:
    return _TYPES.get(kind, str(kind).lower())


def _plain(value: object) -> object:
    """Write nothing for null, and a decimal in full."""
    if value is None:
        return ""
    return f"{value:f}" if isinstance(value, Decimal) else value
