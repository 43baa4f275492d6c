"""The form of prices and quantities of the exchange: plain decimals that fit 64 bits in units of 1e-8.

The exchange counts in 64-bit units of 1e-8 itself. Its largest quantity, `maxQty` of LOT_SIZE, has eleven digits before the point:
46116860414.00 for cheap coins, and 92233720368.54775807 where the filter allows everything. Sums (volumes of candles) are longer.
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
"""A price or quantity as spot sends it."""
PLAIN_DECIMAL = rf"(0|[1-9][0-9]{{0,{WHOLE_DIGITS - 1}}})(?:\.([0-9]{{1,{PLACES}}}))?"
"""A price or quantity, for `re` and polars; the two groups are its digits. A match may still be above `MAX_UNITS`."""
