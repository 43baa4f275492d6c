"""Declaration of a table: its columns with type, unit and description, and the keys of its folders.

A declaration contains no code of a library that only some programs need: `models` builds the Pandera model,
`catalog` the view of DuckDB, `page` the page of the documentation, and `defs` Dagster's column schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import polars as pl
import pyarrow as pa

from capture_pipeline.lake import parquet

KLINE_KEYS = ("market", "interval", "symbol", "month")
SESSION_KEYS = ("session", "symbol", "hour")

INT64, INT32, INT8, FLOAT = pl.Int64(), pl.Int32(), pl.Int8(), pl.Float64()
TEXT, BOOLEAN = pl.String(), pl.Boolean()
_ARROW_TYPES = {
    INT64: pa.int64(),
    INT32: pa.int32(),
    INT8: pa.int8(),
    FLOAT: pa.float64(),
    TEXT: pa.string(),
    BOOLEAN: pa.bool_(),
}


class Encoding(StrEnum):
    """Encoding of a column in Parquet."""

    DELTA = "DELTA_BINARY_PACKED"
    SPLIT = "BYTE_STREAM_SPLIT"
    PLAIN = "PLAIN"
    DICTIONARY = parquet.DICTIONARY


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Name, with the unit of times and scaled numbers as suffix.
        kind: Polars type.
        description: Meaning, without the unit.
        unit: Unit of the values; empty if there is none.
        nullable: Whether values can be null.
        optional: Whether files of earlier versions lack the column; it is read as null there.
        encoding: Encoding in the file of a session; other files have one encoding for each type.
    """

    name: str
    kind: pl.DataType
    description: str
    unit: str = ""
    nullable: bool = field(default=False, kw_only=True)
    optional: bool = field(default=False, kw_only=True)
    encoding: Encoding = field(default=Encoding.PLAIN, kw_only=True)

    @property
    def text(self) -> str:
        """Description with the unit."""
        return f"{self.description}, {self.unit}" if self.unit else self.description

    @property
    def arrow_type(self) -> pa.DataType:
        """Arrow type."""
        if isinstance(self.kind, pl.Decimal):
            return pa.decimal128(self.kind.precision, self.kind.scale)
        return _ARROW_TYPES[self.kind]


@dataclass(frozen=True, eq=False)
class Table:
    """A table.

    Attributes:
        name: Name of the view and of the folder in the lake.
        description: Rows of the table and their origin, as Markdown of one paragraph.
        columns: Columns in the order of the file.
        keys: Keys of the folders, which are text columns of the view; a table without keys has no view.
        notes: Further paragraphs for the documentation.
        is_strict: Whether the schema of the file forbids null in columns that are not nullable.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()
    notes: str = ""
    is_strict: bool = field(default=False, kw_only=True)

    @cached_property
    def schema(self) -> pl.Schema:
        """Polars types by name."""
        return pl.Schema({column.name: column.kind for column in self.columns})

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema of the file."""
        return pa.schema(
            [
                pa.field(column.name, column.arrow_type, nullable=column.nullable or not self.is_strict)
                for column in self.columns
            ]
        )

    @cached_property
    def encodings(self) -> dict[str, Encoding]:
        """Encodings by name of the column."""
        return {column.name: column.encoding for column in self.columns}

    @cached_property
    def optional(self) -> frozenset[str]:
        """Names of the columns that files of earlier versions lack."""
        return frozenset(column.name for column in self.columns if column.optional)


@dataclass(frozen=True)
class Rule:
    """Rule for valid rows.

    Attributes:
        name: Name of the rule and of its gate.
        description: Description for people.
        holds: Element-wise expression that is true for valid rows.
        implied: Whether the other rules imply this one, so that it need not be evaluated if they are met.
        irregularity: Expression for the class of a row that breaks the rule; None if no file of the exchange
            can break it, because parser and merge guarantee it.
    """

    name: str
    description: str
    holds: pl.Expr
    implied: bool = False
    irregularity: pl.Expr | None = None
