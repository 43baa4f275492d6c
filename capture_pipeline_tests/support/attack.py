"""Text of an attacker that must not reach a terminal or a page unescaped, and its checks."""

from __future__ import annotations

from capture_pipeline.printable import LONGEST_LINE

MARK = "MARK"
"""Part of each hostile text, by which a test finds the text in the output."""
ATTACK = (
    f"{MARK}\x1b[31m\x1b]8;;http://evil\x07\x9b0m\x7f\u202e\u200b\r\n\t"
    f"[bold]b[/bold]<script>s</script>|![i](http://evil/i)"
)
"""Text with a cursor movement, a link, a change of the reading direction, and three kinds of markup."""
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
