"""Format of the exchange's prices and quantities: plain decimals that fit 64 bits in units of 1e-8.

The exchange itself counts in 64-bit units of 1e-8. Its largest quantity, `maxQty` of LOT_SIZE, has eleven
digits before the point: 46116860414.00 for cheap coins, and 92233720368.54775807 if the filter allows every
quantity. Sums (volumes of klines) are longer.
"""

from __future__ import annotations

PLACES = 8
"""Decimals of prices, quantities and sums."""
UNIT = 10**PLACES
"""Units in one coin, or in one of the quote currency."""
MAX_UNITS = 2**63 - 1
"""Largest price or quantity, in units of 1e-8."""
WHOLE_DIGITS = 11
"""Digits before the point of the largest price or quantity."""
SUM_DIGITS = 18
"""Digits before the point of the largest sum that is read."""
EIGHT_DECIMALS = rf"(?:0|[1-9][0-9]{{0,{WHOLE_DIGITS - 1}}})\.[0-9]{{{PLACES}}}"
"""Pattern of a price or quantity as spot sends it."""
PLAIN_DECIMAL = rf"(0|[1-9][0-9]{{0,{WHOLE_DIGITS - 1}}})(?:\.([0-9]{{1,{PLACES}}}))?"
"""Pattern of a price or quantity, for `re` and polars, with its digits in two groups.

A match may be above `MAX_UNITS`.
"""
