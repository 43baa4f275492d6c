"""Exact results of every operation on generated rows, by Python integers and decimals."""

from __future__ import annotations

from decimal import Decimal

from capture_pipeline.feasibility.decimal_precision.dataset import Rows
from capture_pipeline.feasibility.decimal_precision.exact_sums import exact_notionals, exact_sums
from capture_pipeline.feasibility.decimal_precision.representations import EXACT, Operation, divide_exactly


def compute_expected(operation: Operation, rows: Rows) -> dict[str, Decimal]:
    """Compute the exact results of an operation."""
    tick, lot = rows.scale.tick, rows.scale.lot
    notional, volume = exact_notionals(rows.ticks, rows.lots)[0], exact_sums(rows.lots)[0]
    match operation:
        case Operation.SUM:
            return {"price": _multiply(exact_sums(rows.ticks)[0], tick), "quantity": _multiply(volume, lot)}
        case Operation.NOTIONAL:
            return {"notional": _multiply(notional, tick * lot)}
        case Operation.VWAP:
            vwap = divide_exactly(_multiply(notional, tick * lot), _multiply(volume, lot))
            return {} if vwap is None else {"vwap": vwap}
        case Operation.GROUPS:
            named = zip(
                rows.minutes[rows.starts].tolist(),
                exact_sums(rows.lots, rows.starts),
                exact_notionals(rows.ticks, rows.lots, rows.starts),
                strict=True,
            )
            return {
                f"{name} of minute {minute}": value
                for minute, lots, product in named
                for name, value in (
                    ("quantity", _multiply(lots, lot)),
                    ("notional", _multiply(product, tick * lot)),
                )
            }
        case Operation.JOIN:
            return {"rows joined": Decimal(rows.ticks.size)}
        case Operation.PARQUET:
            return {
                "price as written": Decimal(rows.ticks.size),
                "quantity as written": Decimal(rows.lots.size),
            }


def _multiply(count: int, unit: Decimal) -> Decimal:
    return EXACT.multiply(Decimal(count), unit)
