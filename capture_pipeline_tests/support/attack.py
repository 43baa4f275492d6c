"""Text of an attacker that must not reach a terminal or a page unescaped, and its checks."""

from __future__ import annotations

from capture_pipeline.printable import LONGEST_LINE

MARK = "MARK"
"""Stands in each hostile text, so that a test sees that the text arrived at all."""
ATTACK = f"{MARK}\x1b[31m\x1b]8;;http://evil\x07\x9b0m\x7f\u202e\u200b\r\n\t[bold]b[/bold]<script>s</script>|![i](http://evil/i)"
"""Text by which a server moves a cursor, sets a link, turns the reading direction, and injects markup of three kinds."""
LONG = ATTACK + "A" * 20_000


def check_shown(text: str) -> None:
    """Fail unless a hostile text is in an output, escaped and cut."""
    check_printable(text)
    assert MARK in text


def check_printable(text: str) -> None:
    """Fail if an output contains a control character or a line that is too long."""
    for line in text.split("\n"):
        assert line.isprintable(), ascii([letter for letter in line if not letter.isprintable()])
        assert len(line) <= LONGEST_LINE + 1000, len(line)
    assert not any(letter in text for letter in "\u3164\u2800")
    assert not any(line.startswith("[bold]") for line in text.split("\n")), (
        "a line end of the text became one of the output"
    )
