"""Validation and parsing of symbol names.

A symbol is part of file paths, addresses and stream names, and the rules follow from that use. They do not
follow from the names that are listed today: the exchange lists `币安人生USDT` and `BTCUSDT_240329`.
`RestClient.unknown_symbols` checks which symbols exist.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable

from capture_pipeline.errors import ConfigError

MAX_CHARACTERS, MAX_BYTES = 50, 100
"""The exchange allows 50 characters. 100 bytes of UTF-8 keep file names below the limit of 255 bytes."""

_USUAL = re.compile(r"[A-Z0-9_]*[A-Z0-9][A-Z0-9_]*")
_INVISIBLE = frozenset("\u115f\u1160")
"""Hangul fillers. Their category is that of letters, and they are displayed as nothing."""
_MAX_SHOWN, _MAX_COMPOSED = 60, 4 * MAX_CHARACTERS
_REMEDY = "write it as the exchange does, for instance BTCUSDT"


def validate_symbol(text: str) -> str:
    """Return `text` if it is a valid symbol: capital letters, digits and `_`, in form NFKC, not too long.

    Raises:
        ConfigError: The text is not a valid symbol, for instance because it contains a separator, a dot, or a
            control or format character.
    """
    fault = _check_length(text) or (None if _USUAL.fullmatch(text) else _check_characters(text))
    if fault:
        shown = text[:_MAX_SHOWN]
        raise ConfigError(f"{shown!r} is not a symbol: {fault}", remedy=_REMEDY)
    return text


def is_symbol(text: str) -> bool:
    """Report whether `text` is a valid symbol; see `validate_symbol`."""
    try:
        return bool(validate_symbol(text))
    except ConfigError:
        return False


def parse_symbol(text: str) -> str:
    """Parse a user's text as a symbol. ASCII letters may be small; other letters may be in form NFC or NFD.

    Raises:
        ConfigError: The text is not a valid symbol.
    """
    if len(text) > _MAX_COMPOSED:
        return validate_symbol(text)
    composed = unicodedata.normalize("NFC", text)
    return validate_symbol("".join(letter.upper() if letter.isascii() else letter for letter in composed))


def parse_symbols(texts: Iterable[str]) -> list[str]:
    """Parse the values of an option or parameter; each contains one symbol, or several separated by commas.

    Raises:
        ConfigError: A symbol is not valid, or a value contains no symbol, for instance because a shell
            variable is not set.
    """
    found: list[str] = []
    for text in texts:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise ConfigError(f"{text[:_MAX_SHOWN]!r} contains no symbol", where="symbols", remedy=_REMEDY)
        found += map(parse_symbol, names)
    return found


def find_similar_symbols(symbol: str, listed: Collection[str]) -> list[str]:
    """Return at most three listed symbols with a spelling close to `symbol`, the most similar first."""
    return difflib.get_close_matches(symbol, listed, n=3, cutoff=0.75)


def is_caseless(text: str) -> bool:
    """Report whether no letter of `text` except ASCII letters has a small and a capital form."""
    return all(letter.isascii() or letter.lower() == letter == letter.upper() for letter in text)


def unknown_symbols_error(unknown: Collection[str], listed: Collection[str]) -> ConfigError:
    """Return the error about symbols that the exchange does not list, with similar names.

    Args:
        unknown: At least one symbol.
        listed: All listed symbols; empty if they are not known.
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


def _check_length(text: str) -> str | None:
    if len(text) > MAX_CHARACTERS:
        return f"it has {len(text)} characters, and {MAX_CHARACTERS} are allowed"
    size = len(text.encode("utf-8", "surrogatepass"))
    return f"it has {size} bytes in UTF-8, and {MAX_BYTES} are allowed" if size > MAX_BYTES else None


def _check_characters(text: str) -> str | None:
    if not any(letter.isalnum() for letter in text):
        return "it has no letter or digit"
    wrong = next((letter for letter in text if not _is_allowed(letter)), None)
    if wrong is not None:
        return f"{wrong!a} is none of letters, digits and _"
    # The same name in another form looks equal and is a different path. Stream names are in small letters, so
    # a name that changes by lower() and upper() is a different stream.
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
