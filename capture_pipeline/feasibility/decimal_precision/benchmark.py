"""Benchmark of representations of prices and quantities: all operations, compared with exact results.

Rows are generated and processed block by block, so that the memory depends on the size of a block. Every
result of every block is compared.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from capture_pipeline.feasibility.decimal_precision.arrow_representation import ArrowRepresentation
from capture_pipeline.feasibility.decimal_precision.dataset import Rows, digest_of, generate_rows
from capture_pipeline.feasibility.decimal_precision.expected_values import compute_expected
from capture_pipeline.feasibility.decimal_precision.polars_representations import (
    DecimalRepresentation,
    FloatRepresentation,
    IntegerRepresentation,
)
from capture_pipeline.feasibility.decimal_precision.representations import (
    Dataset,
    Operation,
    Raw,
    Representation,
    Results,
)

PROJECT = IntegerRepresentation("int64 of 1e-8, sums in Int128", bits=128, by_market=False)
"""Representation in the tables and books of this project."""
BASE = IntegerRepresentation("int64 ticks and lots")
REPRESENTATIONS: tuple[Representation, ...] = (
    PROJECT,
    BASE,
    IntegerRepresentation("int64 ticks and lots, sums in Int128", bits=128),
    IntegerRepresentation("int64 of 1e-8", by_market=False),
    DecimalRepresentation("polars Decimal(38, 8)"),
    ArrowRepresentation("Arrow decimal128"),
    FloatRepresentation("float64"),
)
_COMPONENTS = dict.fromkeys((Operation.VWAP, Operation.GROUPS), (Operation.SUM, Operation.NOTIONAL))
"""Operations that are parts of another one: a rounded quotient may be right although its sums are wrong."""
_REFUSALS = (pl.exceptions.PolarsError, pa.ArrowInvalid)


@dataclass
class Cell:
    """Result of one representation and one operation, over all blocks.

    Attributes:
        form: Name of the representation.
        operation: The operation.
        seconds: Sum of the fastest times of all blocks.
        results: Number of expected results.
        wrong: Number of results that differ from the exact ones.
        refused: Number of missing results, because of an overflow or too few digits.
        markets: Names of the markets with wrong results, and with missing ones.
    """

    form: str
    operation: Operation
    seconds: float = 0.0
    results: int = 0
    wrong: int = 0
    refused: int = 0
    markets: dict[str, set[str]] = field(default_factory=lambda: {"wrong": set(), "refused": set()})

    @property
    def is_exact(self) -> bool:
        """Report whether no result is wrong or missing."""
        return not self.wrong and not self.refused

    @property
    def summary(self) -> str:
        """Numbers of wrong and missing results as text."""
        parts = [
            f"{count:,} of {self.results:,} {what} ({', '.join(sorted(self.markets[what]))})"
            for what, count in (("wrong", self.wrong), ("refused", self.refused))
            if count
        ]
        return "; ".join(parts) or f"all {self.results:,} exact"

    def count(self, market: str, found: Results | None, expected: dict[str, Decimal]) -> None:
        """Compare the results of a block with the exact ones and add the counts."""
        present = {name: value for name in expected if (value := (found or {}).get(name)) is not None}
        wrong = sum(value != expected[name] for name, value in present.items()) + len(
            (found or {}).keys() - expected.keys()
        )
        refused = len(expected) - len(present)
        for what, count in (("wrong", wrong), ("refused", refused)):
            if count:
                self.markets[what].add(market)
        self.results, self.wrong, self.refused = (
            self.results + len(expected),
            self.wrong + wrong,
            self.refused + refused,
        )


@dataclass(frozen=True)
class DecimalBenchmark:
    """Result of the benchmark.

    Attributes:
        rows: Number of rows for every representation.
        sha256: SHA-256 of the rows.
        cells: Results of all representations and operations.
    """

    rows: int
    sha256: str
    cells: list[Cell]

    def cell(self, form: str, operation: Operation) -> Cell:
        """Return the result of one representation and operation."""
        return next(one for one in self.cells if (one.form, one.operation) == (form, operation))

    def ratio(self, cell: Cell) -> float:
        """Return the time of a result as a multiple of that of `BASE`."""
        return cell.seconds / self.cell(BASE.name, cell.operation).seconds

    @property
    def errors(self) -> int:
        """Number of results of the project's representation that are wrong or missing."""
        return sum(cell.wrong + cell.refused for cell in self.cells if cell.form == PROJECT.name)

    def find_exact(self, operation: Operation) -> list[Cell]:
        """List the results of representations that are exact in an operation and its parts, by time."""
        needed = {operation, *_COMPONENTS.get(operation, ())}
        forms = {cell.form for cell in self.cells} - {
            cell.form for cell in self.cells if cell.operation in needed and not cell.is_exact
        }
        return sorted(
            (one for one in self.cells if one.operation is operation and one.form in forms),
            key=lambda one: one.seconds,
        )


def run_benchmark(
    rows: int = 8_000_000,
    block_rows: int = 1_000_000,
    seed: int = 7,
    repeats: int = 3,
    forms: Sequence[Representation] = REPRESENTATIONS,
) -> DecimalBenchmark:
    """Run every operation with every representation.

    Args:
        rows: Number of all rows.
        block_rows: Number of rows of a block.
        seed: Seed of the rows.
        repeats: Attempts at each block; the fastest one counts.
        forms: Representations to compare, including `PROJECT` and `BASE`.

    Raises:
        ConfigError: There are fewer rows than markets, or `block_rows` is less than 1.
    """
    cells = {(form.name, operation): Cell(form.name, operation) for form in forms for operation in Operation}
    _warm_up(forms, seed)
    digest = ""
    blocks = digest_of(generate_rows(rows, block_rows, seed))
    for block, digest in blocks:  # noqa: B007 - the last digest covers all blocks
        expected = {operation: compute_expected(operation, block) for operation in Operation}
        done = _run_all(forms, block, repeats)
        for form, operation in itertools.product(forms, Operation):
            found = done[form.operation_key(operation)]
            cells[form.name, operation].seconds += found.seconds
            cells[form.name, operation].count(block.scale.name, found.results, expected[operation])
    return DecimalBenchmark(rows, digest, list(cells.values()))


def _warm_up(forms: Sequence[Representation], seed: int) -> None:
    """Run a small block, so that starting threads and loading code does not count for the first block."""
    block = next(generate_rows(10_000, 2_000, seed))
    _run_all(forms, block, 1)


class _TimedResults(NamedTuple):
    """Seconds and results of an operation; no results after an overflow."""

    seconds: float
    results: Results | None


class _TimedOperation(NamedTuple):
    seconds: float
    raw: Raw


def _run_all(forms: Sequence[Representation], block: Rows, repeats: int) -> dict[str, _TimedResults]:
    """Run all operations on a block; the results are by key."""
    done: dict[str, _TimedResults] = {}
    for form in forms:
        dataset = form.build(block)
        for operation in Operation:
            if form.operation_key(operation) not in done:
                seconds, raw = _time_operation(form, operation, dataset, repeats)
                done[form.operation_key(operation)] = _TimedResults(
                    seconds,
                    None if raw is None else form.results(operation, raw, dataset),
                )
    return done


def _time_operation(
    form: Representation, operation: Operation, dataset: Dataset, repeats: int
) -> _TimedOperation:
    best, raw = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        try:
            raw = form.run(operation, dataset)
        except _REFUSALS:
            raw = None
        best = min(best, time.perf_counter() - started)
    return _TimedOperation(best, raw)
