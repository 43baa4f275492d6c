"""Representations of decimals: exact sums, the wrong results of each, and the choice that follows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.checks.feasibility import EXACT
from capture_pipeline.checks.model import Verdict
from capture_pipeline.errors import ConfigError
from capture_pipeline.feasibility.decimal_precision.benchmark import (
    BASE,
    PROJECT,
    REPRESENTATIONS,
    Cell,
    DecimalBenchmark,
    run_benchmark,
)
from capture_pipeline.feasibility.decimal_precision.dataset import (
    LARGEST_E8,
    SCALES,
    Rows,
    digest_of,
    generate_rows,
)
from capture_pipeline.feasibility.decimal_precision.exact_sums import exact_notionals, exact_sums
from capture_pipeline.feasibility.decimal_precision.expected_values import compute_expected
from capture_pipeline.feasibility.decimal_precision.polars_representations import IntegerRepresentation
from capture_pipeline.feasibility.decimal_precision.report import choices, evidence_of, markdown, slug
from capture_pipeline.feasibility.decimal_precision.representations import Operation, Results

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS, BLOCK = 50_000, 10_000
FLOAT, POLARS, ARROW = "float64", "polars Decimal(38, 8)", "Arrow decimal128"


@pytest.fixture(scope="module")
def found() -> DecimalBenchmark:
    """Run the benchmark with a block of each market."""
    return run_benchmark(ROWS, BLOCK, repeats=1)


@given(st.lists(st.tuples(INT64, INT64, st.booleans()), min_size=1, max_size=40))
def test_split_sums_are_those_of_decimals(rows: list[tuple[int, int, bool]]) -> None:
    """Any 64-bit values in any groups, compared with Decimal of 60 digits."""
    left, right = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    starts = [0, *(index for index, row in enumerate(rows) if index and row[2])]
    with localcontext() as context:
        context.prec = 60
        for sums, values in (
            (exact_sums(left, np.array(starts)), [Decimal(row[0]) for row in rows]),
            (
                exact_notionals(left, right, np.array(starts)),
                [Decimal(row[0]) * Decimal(row[1]) for row in rows],
            ),
        ):
            assert sums == [sum(values[start:end]) for start, end in pairwise([*starts, len(rows)])]


def test_split_sums_refuse_nothing_to_sum() -> None:
    """An empty group has no first row."""
    with pytest.raises(ValueError, match="0 values"):
        exact_sums(np.array([], np.int64))


def test_what_is_right_is_what_decimals_say_row_by_row() -> None:
    """Every operation on every market, computed with Decimal in a loop."""
    for rows in generate_rows(1500 * len(SCALES), 1500, 3):
        prices = [Decimal(tick) * rows.scale.tick for tick in rows.ticks.tolist()]
        quantities = [Decimal(lot) * rows.scale.lot for lot in rows.lots.tolist()]
        with localcontext() as context:
            context.prec = 80
            notional, volume = (
                sum(map(Decimal.__mul__, prices, quantities), Decimal()),
                sum(quantities, Decimal()),
            )
            groups: dict[str, Decimal] = defaultdict(Decimal)
            for price, quantity, minute in zip(prices, quantities, rows.minutes.tolist(), strict=True):
                groups[f"quantity of minute {minute}"] += quantity
                groups[f"notional of minute {minute}"] += price * quantity
            assert compute_expected(Operation.SUM, rows) == {"price": sum(prices), "quantity": volume}
            assert compute_expected(Operation.NOTIONAL, rows) == {"notional": notional}
            assert compute_expected(Operation.VWAP, rows) == {
                "vwap": (notional / volume).quantize(Decimal("1e-8"))
            }
            assert compute_expected(Operation.GROUPS, rows) == groups
            assert len(groups) == 4


def test_rows_are_the_same_for_a_seed_and_reach_the_edges() -> None:
    """Smallest and largest values occur, and no block is larger than requested."""
    first, again, other = (
        [sha for _, sha in digest_of(generate_rows(999, 100, seed))][-1] for seed in (1, 1, 2)
    )
    assert first == again != other
    blocks = list(generate_rows(999, 100, 1))
    assert [block.ticks.size for block in blocks] == [100] * 9 + [99]
    assert {block.scale.name for block in blocks} == {scale.name for scale in SCALES}
    edge = next(block for block in blocks if block.scale.edges)
    assert (edge.ticks.min(), edge.ticks.max(), edge.lots.min(), edge.lots.max()) == (
        1,
        LARGEST_E8,
        1,
        LARGEST_E8,
    )
    assert next(block for block in blocks if block.scale.name == "smallest").ticks.min() == 1
    with pytest.raises(ConfigError, match="leave a market out"):
        next(generate_rows(len(SCALES) - 1, 1, 1))


def test_the_projects_form_has_no_wrong_result(found: DecimalBenchmark) -> None:
    """Every operation gives every result, also for the smallest and largest values."""
    mine = [cell for cell in found.cells if cell.form == PROJECT.name]
    assert {cell.operation for cell in mine} == set(Operation)
    assert all(cell.is_exact and cell.results for cell in mine), [cell.summary for cell in mine]
    evidence = evidence_of(found)
    assert EXACT.verdict(evidence.reading(EXACT).measured) is Verdict.PASS
    assert evidence.failed == []
    assert list(evidence.inputs.values()) == [found.sha256]


def test_sixty_four_bits_refuse_what_overflows_and_say_where(found: DecimalBenchmark) -> None:
    """Notionals in units of 1e-8 do not fit 64 bits. The overflow is detected, and no result is wrong."""
    narrow = found.cell("int64 of 1e-8", Operation.NOTIONAL)
    assert {"BTC-USDT", "largest"} <= narrow.markets["refused"]
    assert found.cell(BASE.name, Operation.NOTIONAL).markets["refused"] == {"largest"}
    assert [cell.summary for cell in found.cells if cell.form.startswith("int64") and cell.wrong] == []


def test_each_of_the_other_forms_shows_where_it_is_not_exact(found: DecimalBenchmark) -> None:
    """Floats give wrong sums and joins, polars rounds products, and Arrow has too few digits."""
    assert found.cell(FLOAT, Operation.NOTIONAL).markets["wrong"] >= {"smallest", "largest"}
    assert found.cell(FLOAT, Operation.JOIN).markets["wrong"] >= {"BTC-USDT", "SHIB-USDT"}
    assert found.cell(FLOAT, Operation.PARQUET).markets["wrong"] == {"largest"}
    assert found.cell(POLARS, Operation.NOTIONAL).markets["wrong"] == {"smallest", "largest"}
    assert found.cell(ARROW, Operation.NOTIONAL).markets["refused"] == {"largest"}
    assert not found.cell(ARROW, Operation.NOTIONAL).wrong


@dataclass(frozen=True)
class Unguarded(IntegerRepresentation):
    """Sums in 64 bits without a test for an overflow."""

    def decimals(self, row: dict[str, object], rows: Rows) -> dict[str, Decimal | None]:
        return super().decimals({**row, **{name: 0.0 for name in row if name.endswith("about")}}, rows)


def test_an_overflow_that_nobody_looks_for_is_counted_as_wrong() -> None:
    """With 64-bit sums and no test for an overflow, the criterion fails and the tables show it."""
    broken = Unguarded(PROJECT.name, bits=64, by_market=False)
    found = run_benchmark(ROWS, BLOCK, repeats=1, forms=[broken, *REPRESENTATIONS[1:]])
    evidence = evidence_of(found)
    assert found.errors > 0
    assert evidence.reading(EXACT).measured == found.errors
    assert evidence.failed == [EXACT.description]
    assert f"{PROJECT.name} | notional" in markdown(found)
    notional = next(one for one in choices(found) if one["operation"] == Operation.NOTIONAL)
    assert notional["use"] == "int64 ticks and lots, sums in Int128"
    assert "wrong (BTC-USDT" in notional["why"]


def test_a_lacking_result_is_no_exact_one() -> None:
    """A representation may refuse a result, omit a group or add one."""
    wanted = {"a": Decimal(1), "b": Decimal(2)}
    cases: list[tuple[Results | None, tuple[int, int]]] = [
        (None, (0, 2)),
        ({"a": Decimal(1)}, (0, 1)),
        ({"a": Decimal(1), "b": None}, (0, 1)),
        ({**wanted, "c": Decimal(3)}, (1, 0)),
        ({"a": Decimal(1), "b": Decimal("2.00000001")}, (1, 0)),
    ]
    for given_back, (wrong, refused) in cases:
        cell = Cell("form", Operation.SUM)
        cell.count("market", given_back, wanted)
        assert (cell.results, cell.wrong, cell.refused, cell.is_exact) == (2, wrong, refused, False)


def test_int128_refuses_what_not_even_it_holds() -> None:
    """The sum of three products of the largest values overflows. polars itself would wrap around."""
    largest = np.full(3, LARGEST_E8)
    rows = Rows(SCALES[-1], largest, largest, np.zeros(3, np.int64))
    dataset = PROJECT.build(rows)
    raw = PROJECT.run(Operation.NOTIONAL, dataset)
    assert raw["notional"][0] < 0
    assert PROJECT.results(Operation.NOTIONAL, raw, dataset) == {"notional": None}


def test_the_choice_follows_from_what_was_measured(found: DecimalBenchmark) -> None:
    """The fastest exact representation, or the project's own if it is about as fast."""
    quick = [replace(cell, seconds=1.0 if cell.form == PROJECT.name else 2.0) for cell in found.cells]
    assert {one["use"] for one in choices(replace(found, cells=quick))} == {PROJECT.name}
    slow = [
        replace(cell, seconds=9.0 if cell.form == PROJECT.name else 1.0 if cell.form == POLARS else 2.0)
        for cell in found.cells
    ]
    chosen = {one["operation"]: one["use"] for one in choices(replace(found, cells=slow))}
    assert chosen[Operation.SUM] == chosen[Operation.JOIN] == POLARS
    assert POLARS not in {chosen[Operation.NOTIONAL], chosen[Operation.VWAP], chosen[Operation.GROUPS]}
    none = [replace(cell, wrong=1) for cell in found.cells]
    assert {one["use"] for one in choices(replace(found, cells=none))} == {"none"}


def test_every_figure_is_a_number_and_rates_are_rows_by_time(found: DecimalBenchmark) -> None:
    """Seconds, ratios and counts of every representation and operation."""
    figures = evidence_of(found).figures
    assert len(figures) == 2 + 4 * len(REPRESENTATIONS) * len(Operation) + len(Operation)
    assert all(isinstance(value, int | float) for value in figures.values())
    seconds = figures[f"seconds_{slug(PROJECT.name)}_sum"]
    assert figures["project_rows_per_s_sum"] == pytest.approx(ROWS / seconds)
    assert figures[f"ratio_{slug(BASE.name)}_vwap"] == 1.0
    assert pl.DataFrame(evidence_of(found).details["table"]).height == len(REPRESENTATIONS) * len(Operation)
