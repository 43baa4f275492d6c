"""Checks of the replayed books: valid diffs, crossed books, agreement with bookTickers and snapshots."""

from __future__ import annotations

from capture_pipeline.checks import recordings as checks
from capture_pipeline.checks.model import CheckResult
from capture_pipeline.checks.recordings import Thresholds
from capture_pipeline.golden.validation.book_replay import RecordingReplay, SymbolReplay
from capture_pipeline.orderbook.audit import AuditOutcome

_DEPTH = 1000
_MAX_EXAMPLES = 5


def report_missing_book(why: str, *, broken: bool = False) -> list[CheckResult]:
    """Return the checks of a recording without a replayed book.

    Args:
        why: Reason for the report.
        broken: True if the book could not be built, which fails the first check; False if no book was
            requested.
    """
    first, *others = checks.BOOK_CHECKS
    return [
        first.fail(why) if broken else first.skip(why),
        *(spec.skip(why) for spec in others),
    ]


def check_books(replayed: RecordingReplay, thresholds: Thresholds) -> list[CheckResult]:
    """Run all checks of the books."""
    books = [book for book in replayed.books.values() if book.diffs]
    if not books:
        return report_missing_book("there is no depth stream")
    if not any(book.valid for book in books):
        others = (
            spec.skip("there is no book: the diffs continue none of the snapshots")
            for spec in checks.BOOK_CHECKS[1:]
        )
        return [_check_valid(books, thresholds), *others]
    crossed = sum(book.crossed for book in books)
    return [
        _check_valid(books, thresholds),
        checks.BOOK_CROSSED.pass_if(
            crossed <= thresholds.max_crossed,
            f"crossed after {crossed:,} diffs",
            crossed=crossed,
        ),
        _check_best(books),
        _check_audits(books, thresholds),
    ]


def _check_valid(books: list[SymbolReplay], thresholds: Thresholds) -> CheckResult:
    shares = {book.symbol: book.valid / book.diffs for book in books}
    least = min(shares.values())
    worst = ", ".join(
        f"{symbol} {share:.4%}"
        for symbol, share in sorted(shares.items(), key=lambda item: item[1])[:_MAX_EXAMPLES]
    )
    reason = (
        f"share of diffs with a synced book: {worst}; at least {thresholds.min_book_valid:.2%} are required"
    )
    return checks.BOOK_VALID.pass_if(least >= thresholds.min_book_valid, reason, shares=shares)


def _check_best(books: list[SymbolReplay]) -> CheckResult:
    compared, wrong = sum(book.compared for book in books), sum(book.mismatches for book in books)
    if not compared:
        return checks.BOOK_BEST.skip("no bookTicker has the update id of a diff")
    examples = "; ".join(text for book in books for text in book.differing[:1])
    reason = f"{compared - wrong:,} of {compared:,} bookTickers equal the replayed best price and quantity"
    return checks.BOOK_BEST.pass_if(
        not wrong,
        f"{reason}: {examples}" if wrong else reason,
        compared=compared,
        differing=wrong,
    )


def _check_audits(books: list[SymbolReplay], thresholds: Thresholds) -> CheckResult:
    audits = [
        (book.symbol, audit)
        for book in books
        for audit in book.audits
        if audit.outcome is AuditOutcome.COMPARED
    ]
    if not audits:
        return checks.BOOK_AUDITS.skip("no snapshot arrived while a book was synced")
    ratios = [(symbol, audit.last_id, audit.ratio(_DEPTH) or 0.0) for symbol, audit in audits]
    low = [
        f"{symbol} at {last} {ratio:.3%}"
        for symbol, last, ratio in ratios
        if ratio < thresholds.min_audit_ratio
    ]
    clean = sum(audit.is_clean for _, audit in audits)
    reason = (
        f"{clean} of {len(audits)} snapshots agree with the book in every level; "
        f"lowest match ratio {min(ratio for *_, ratio in ratios):.3%}"
    )
    without = sorted({book.symbol for book in books} - {symbol for symbol, _ in audits})
    if without and not low:
        return checks.BOOK_AUDITS.skip(
            (
                f"{reason}; no snapshot arrived while the book was synced of "
                f"{', '.join(without[:_MAX_EXAMPLES])}"
            ),
        )
    return checks.BOOK_AUDITS.pass_if(
        not low,
        f"{reason}: {', '.join(low[:_MAX_EXAMPLES])}" if low else reason,
        audits=len(audits),
        clean=clean,
    )
