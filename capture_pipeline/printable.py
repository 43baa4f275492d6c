"""Text from outside, for people: one line without control characters, of a stated length.

Text from outside is what an exchange, a server, a file or a folder decides: reasons of closed connections, error bodies, names of streams,
symbols and files, values of messages. Such text may hold sequences that a terminal obeys, or letters that hide others.
Every module through which text leaves uses this one. Files for machines keep the exact value.
"""

from __future__ import annotations

LONGEST = 500
"""Characters of one text, unless the caller states another number."""
LONGEST_LINE = 4000
"""Characters of one line of several."""
# Letters by their Unicode category, which are drawn as nothing: fillers of Hangul, the blank of Braille, and a joiner of graphemes.
_BLANKS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")


def printable(text: object, most: int = LONGEST) -> str:
    r"""Return a text as one line that a terminal, a log and a page show as it is.

    Escaped in Python's notation (`\x1b`, `\u202e`) is what Unicode does not call printable: control characters, line ends, marks of
    direction, characters of no width, lone surrogates, spaces other than the usual one. Other letters stay, whatever their script. A
    backslash stays too, so that the result is for people and cannot be turned back. The result is its own result.

    Args:
        text: Anything; its `str` is taken.
        most: Characters of the result; a longer text ends with `…` and its own length.
    """
    whole = str(text)
    if len(whole) <= most and whole.isprintable() and _BLANKS.isdisjoint(whole):
        return whole
    shown = [_escaped(letter) for letter in whole[: most + 1]]
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
    """Return a text of several lines, each of them as `printable` returns it.

    Args:
        text: Anything; its `str` is taken.
        most: Characters of a line.
    """
    return "\n".join(printable(line, most) for line in str(text).split("\n"))


def _escaped(letter: str) -> str:
    if letter.isprintable() and letter not in _BLANKS:
        return letter
    return ascii(letter)[1:-1]
