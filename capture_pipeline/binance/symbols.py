"""Names of symbols: which ones are valid, and how a user's text becomes one.

A symbol is part of paths, addresses and stream names. The rule follows from that, not from the names that are listed today: the exchange
lists `币安人生USDT` and `BTCUSDT_240329`. Which symbols exist is the exchange's to say; see `RestClient.unknown_symbols`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable

from capture_pipeline.errors import ConfigError

MAX_CHARACTERS, MAX_BYTES = 50, 100
"""The exchange allows 50 characters. 100 bytes of UTF-8 keep every file name below the 255 bytes that file systems allow."""

_USUAL = re.compile(r"[A-Z0-9_]*[A-Z0-9][A-Z0-9_]*")
_INVISIBLE = frozenset("\u115f\u1160")
"""Fillers of Hangul: letters by their category, and shown as nothing."""
_MOST_SHOWN, _MOST_COMPOSED = 60, 4 * MAX_CHARACTERS
_REMEDY = "write it as the exchange does, for instance BTCUSDT"


def validate_symbol(text: str) -> str:
    """Return `text` if it can be a symbol: letters, digits and `_`, in capitals, in one normal form, of bounded length.

    Raises:
        ConfigError: The text is not a valid symbol. Separators, dots, controls, marks and format characters never pass.
    """
    fault = _length_fault(text) or (None if _USUAL.fullmatch(text) else _character_fault(text))
    if fault:
        shown = text[:_MOST_SHOWN]
        raise ConfigError(f"{shown!r} is not a symbol: {fault}", remedy=_REMEDY)
    return text


def is_symbol(text: str) -> bool:
    """Return whether `text` is a valid symbol; see `validate_symbol`."""
    try:
        return bool(validate_symbol(text))
    except ConfigError:
        return False


def parse_symbol(text: str) -> str:
    """Return the symbol that a user's text names; ASCII letters may be small, and other letters in either normal form.

    Raises:
        ConfigError: The text names no valid symbol.
    """
    if len(text) > _MOST_COMPOSED:
        return validate_symbol(text)
    composed = unicodedata.normalize("NFC", text)
    return validate_symbol("".join(letter.upper() if letter.isascii() else letter for letter in composed))


def parse_symbols(texts: Iterable[str]) -> list[str]:
    """Return the symbols of options or parameters that hold one symbol each, or several separated by commas.

    Raises:
        ConfigError: One of them is not a valid symbol, or a text names none, for instance that of an unset shell variable.
    """
    found: list[str] = []
    for text in texts:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise ConfigError(f"{text[:_MOST_SHOWN]!r} names no symbol", where="symbols", remedy=_REMEDY)
        found += map(parse_symbol, names)
    return found


def find_similar_symbols(symbol: str, listed: Collection[str]) -> list[str]:
    """Return at most three listed symbols that are written much like `symbol`, the most similar first."""
    return difflib.get_close_matches(symbol, listed, n=3, cutoff=0.75)


def is_caseless(text: str) -> bool:
    """Return whether only ASCII letters of `text` have a small and a capital form."""
    return all(letter.isascii() or letter.lower() == letter == letter.upper() for letter in text)


def unknown_symbols_error(unknown: Collection[str], listed: Collection[str]) -> ConfigError:
    """Return the error about symbols that the exchange does not list, with similar names.

    Args:
        unknown: At least one symbol.
        listed: Every symbol that the exchange lists; empty where that is not known.
    """
    near = list(
        dict.fromkeys(similar for symbol in unknown for similar in find_similar_symbols(symbol, listed))
    )
    remedy = (
        f"did you mean {', '.join(near)}?"
        if near
        else "correct the symbol or the market, or wait until it is listed"
    )
    return ConfigError(f"the exchange does not know {', '.join(unknown)}", where="symbols", remedy=remedy)


def _length_fault(text: str) -> str | None:
    if len(text) > MAX_CHARACTERS:
        return f"it has {len(text)} characters, and {MAX_CHARACTERS} are allowed"
    size = len(text.encode("utf-8", "surrogatepass"))
    return f"it has {size} bytes in UTF-8, and {MAX_BYTES} are allowed" if size > MAX_BYTES else None


def _character_fault(text: str) -> str | None:
    if not any(letter.isalnum() for letter in text):
        return "it has no letter or digit"
    wrong = next((letter for letter in text if not _is_allowed(letter)), None)
    if wrong is not None:
        return f"{wrong!a} is none of letters, digits and _"
    # A name in another form looks the same and is another path; one that does not survive a change of case is another stream.
    if unicodedata.normalize("NFKC", text) != text:
        return "it is not in its normal form (NFKC)"
    return (
        None
        if text.lower().upper() == text and len(text.lower()) == len(text)
        else "letters must be capitals"
    )


def _is_allowed(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return letter == "_" or ((kind[0] == "L" or kind == "Nd") and letter not in _INVISIBLE)
