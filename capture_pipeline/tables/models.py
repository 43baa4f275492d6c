"""Pandera models of tables and of rules for their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData

from capture_pipeline.tables.table import Rule, Table


def build_schema_model(table: Table) -> pa.DataFrameSchema:
    """Build the model of the columns, their order and types, and of columns that cannot be null."""
    columns = {column.name: pa.Column(column.kind, nullable=column.nullable) for column in table.columns}
    return pa.DataFrameSchema(columns, strict=True, ordered=True)


def has_schema(table: Table, rows: pl.DataFrame) -> bool:
    """Return the result of the schema model, in a hundredth of its time."""
    return rows.schema == table.schema and not any(
        rows[column.name].null_count() for column in table.columns if not column.nullable
    )


def build_rules_model(rules: Sequence[Rule]) -> pa.DataFrameSchema:
    """Build a model of all rules in one check; `build_rule_model` shows which rule fails and where."""
    holds = [rule.holds.all().alias(rule.name) for rule in rules if not rule.implied]

    def hold(data: PolarsData) -> bool:
        return all(data.lazyframe.collect().select(holds).row(0))

    return pa.DataFrameSchema(checks=[pa.Check(hold, name="rules")])


def build_rule_model(rule: Rule) -> pa.DataFrameSchema:
    """Build a model of one rule, which shows the failing rows."""
    return pa.DataFrameSchema(checks=[pa.Check(_select([rule.holds]), name=rule.name)])


def _select(expressions: list[pl.Expr]) -> Callable[[PolarsData], pl.LazyFrame]:
    return lambda data: data.lazyframe.select(expressions)
