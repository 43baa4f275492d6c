"""Which form keeps prices and quantities exact, and what it costs: every form and operation on the same rows, against exact sums.

Rows are made and worked on block by block, so that memory depends on the size of a block alone. Every result of every block is compared.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl
import pyarrow as pa

from capture_pipeline.feasibility.decimal_precision.arrow_representation import ArrowForm
from capture_pipeline.feasibility.decimal_precision.dataset import Rows, digest_of, made_rows
from capture_pipeline.feasibility.decimal_precision.expected import wanted_of
from capture_pipeline.feasibility.decimal_precision.polars_representations import (
    DecimalForm,
    FloatForm,
    IntegerForm,
)
from capture_pipeline.feasibility.decimal_precision.representations import (
    Dataset,
    Operation,
    Raw,
    Representation,
    Results,
)

PROJECT = IntegerForm("int64 of 1e-8, sums in Int128", bits=128, by_market=False)
"""How tables and books of this project keep and sum them."""
BASE = IntegerForm("int64 ticks and lots")
FORMS: tuple[Representation, ...] = (
    PROJECT,
    BASE,
    IntegerForm("int64 ticks and lots, sums in Int128", bits=128),
    IntegerForm("int64 of 1e-8", by_market=False),
    DecimalForm("polars Decimal(38, 8)"),
    ArrowForm("Arrow decimal128"),
    FloatForm("float64"),
)
_MADE_OF = dict.fromkeys((Operation.VWAP, Operation.GROUPS), (Operation.SUM, Operation.NOTIONAL))
"""A quotient rounded to eight decimals can be right by chance where its sums are not."""
_REFUSALS = (pl.exceptions.PolarsError, pa.ArrowInvalid)


@dataclass
class Cell:
    """A form at one operation, over all blocks.

    Attributes:
        form: Its name.
        operation: What it did.
        seconds: It took; the best of some attempts at each block, summed.
        results: It should have given.
        wrong: Of them differ from the exact ones.
        refused: Of them it did not give: an overflow was found, or the form has too few digits.
        markets: Where results were wrong, and where they were refused.
    """

    form: str
    operation: Operation
    seconds: float = 0.0
    results: int = 0
    wrong: int = 0
    refused: int = 0
    markets: dict[str, set[str]] = field(default_factory=lambda: {"wrong": set(), "refused": set()})

    @property
    def exact(self) -> bool:
        """Whether every result was given and right."""
        return not self.wrong and not self.refused

    @property
    def said(self) -> str:
        """How exact, for a table."""
        parts = [
            f"{count:,} of {self.results:,} {what} ({', '.join(sorted(self.markets[what]))})"
            for what, count in (("wrong", self.wrong), ("refused", self.refused))
            if count
        ]
        return "; ".join(parts) or f"all {self.results:,} exact"

    def count(self, market: str, found: Results | None, wanted: dict[str, Decimal]) -> None:
        """Hold what was found against what is right."""
        given = {name: value for name in wanted if (value := (found or {}).get(name)) is not None}
        wrong = sum(value != wanted[name] for name, value in given.items()) + len(
            (found or {}).keys() - wanted.keys()
        )
        refused = len(wanted) - len(given)
        for what, count in (("wrong", wrong), ("refused", refused)):
            if count:
                self.markets[what].add(market)
        self.results, self.wrong, self.refused = (
            self.results + len(wanted),
            self.wrong + wrong,
            self.refused + refused,
        )


@dataclass(frozen=True)
class DecimalBenchmark:
    """What was measured.

    Attributes:
        rows: Worked on by every form.
        sha256: Of them.
        cells: A form and an operation each.
    """

    rows: int
    sha256: str
    cells: list[Cell]

    def cell(self, form: str, operation: Operation) -> Cell:
        """Of one form and operation."""
        return next(one for one in self.cells if (one.form, one.operation) == (form, operation))

    def ratio(self, cell: Cell) -> float:
        """Its time to that of `BASE`."""
        return cell.seconds / self.cell(BASE.name, cell.operation).seconds

    @property
    def errors(self) -> int:
        """Results of the project's form that differ from exact decimals, or are lacking."""
        return sum(cell.wrong + cell.refused for cell in self.cells if cell.form == PROJECT.name)

    def eligible(self, operation: Operation) -> list[Cell]:
        """Forms without a wrong or missing result in an operation and in those that it is made of, the fastest first."""
        needed = {operation, *_MADE_OF.get(operation, ())}
        forms = {cell.form for cell in self.cells} - {
            cell.form for cell in self.cells if cell.operation in needed and not cell.exact
        }
        return sorted(
            (one for one in self.cells if one.operation is operation and one.form in forms),
            key=lambda one: one.seconds,
        )


def benchmark(
    rows: int = 8_000_000,
    block_rows: int = 1_000_000,
    seed: int = 7,
    repeats: int = 3,
    forms: Sequence[Representation] = FORMS,
) -> DecimalBenchmark:
    """Run every form and operation.

    Args:
        rows: In all.
        block_rows: Worked on at once.
        seed: Of the rows.
        repeats: Attempts at each block, of which the fastest counts.
        forms: To compare; `PROJECT` and `BASE` are among them.

    Raises:
        ConfigError: There are fewer rows than markets.
    """
    cells = {(form.name, operation): Cell(form.name, operation) for form in forms for operation in Operation}
    _warm_up(forms, seed)
    digest = ""
    for block, digest in digest_of(made_rows(rows, block_rows, seed)):  # noqa: B007 - the last digest covers all
        wanted = {operation: wanted_of(operation, block) for operation in Operation}
        done = _measured(forms, block, repeats)
        for form, operation in itertools.product(forms, Operation):
            seconds, found = done[form.does(operation)]
            cells[form.name, operation].seconds += seconds
            cells[form.name, operation].count(block.scale.name, found, wanted[operation])
    return DecimalBenchmark(rows, digest, list(cells.values()))


def _warm_up(forms: Sequence[Representation], seed: int) -> None:
    """Threads started and code loaded, so that the first block pays no more than the others."""
    block = next(made_rows(10_000, 2_000, seed))
    _measured(forms, block, 1)


def _measured(
    forms: Sequence[Representation], block: Rows, repeats: int
) -> dict[str, tuple[float, Results | None]]:
    """Seconds and results of everything that the forms do; None where a form refuses."""
    done: dict[str, tuple[float, Results | None]] = {}
    for form in forms:
        built = form.build(block)
        for operation in Operation:
            if form.does(operation) not in done:
                seconds, raw = _timed(form, operation, built, repeats)
                done[form.does(operation)] = (
                    seconds,
                    None if raw is None else form.results(operation, raw, built),
                )
    return done


def _timed(form: Representation, operation: Operation, built: Dataset, repeats: int) -> tuple[float, Raw]:
    best, raw = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        try:
            raw = form.run(operation, built)
        except _REFUSALS:
            raw = None
        best = min(best, time.perf_counter() - started)
    return best, raw
