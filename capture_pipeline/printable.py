"""Conversion of untrusted text to one line without control characters and with a limited length.

Untrusted text comes from an exchange, a server, a file or a folder: close reasons, error bodies, message
values, and names of streams, symbols and files. It may contain escape sequences that control a terminal, or
characters that hide other characters. Every module that shows text to people uses this one. Files for
machines keep the exact value.
"""

from __future__ import annotations

LONGEST = 500
"""Default maximum length of one text, in characters."""
LONGEST_LINE = 4000
"""Maximum length of one line of a text with several lines, in characters."""
# Unicode calls these printable, but they are invisible: Hangul fillers, the Braille blank and the combining
# grapheme joiner.
_BLANKS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")


def printable(text: object, most: int = LONGEST) -> str:
    r"""Return a text as one line that is safe to show on a terminal, in a log and on a page.

    Characters that Unicode does not call printable are escaped in Python's notation (`\x1b`, `\u202e`):
    control characters, line ends, direction marks, zero-width characters, lone surrogates, and spaces other
    than U+0020. Letters of all scripts are kept. A backslash is kept too, so the original text cannot be
    recovered. A second call does not change the result.

    Args:
        text: Any object; `str(text)` is used.
        most: Maximum length of the result; a longer text is cut and ends with `…` and its original length.
    """
    whole = str(text)
    if len(whole) <= most and whole.isprintable() and _BLANKS.isdisjoint(whole):
        return whole
    shown = [_escape(letter) for letter in whole[: most + 1]]
    if sum(map(len, shown)) <= most:
        return "".join(shown)
    mark = f"… ({len(whole):,} characters)"[:most]
    left = most - len(mark)
    kept = []
    for piece in shown:
        left -= len(piece)
        if left < 0:
            break
        kept.append(piece)
    return "".join(kept) + mark


def printable_lines(text: object, most: int = LONGEST_LINE) -> str:
    """Apply `printable` to each line of a text.

    Args:
        text: Any object; `str(text)` is used.
        most: Maximum length of a line.
    """
    return "\n".join(printable(line, most) for line in str(text).split("\n"))


def _escape(letter: str) -> str:
    if letter.isprintable() and letter not in _BLANKS:
        return letter
    return ascii(letter)[1:-1]
