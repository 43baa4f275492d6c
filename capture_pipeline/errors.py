"""Errors of the project, grouped by the reaction of the caller: change something, or try again later.

    CaptureError
    ├── PermanentError               a repetition fails again: a person has to change something
    │   ├── ConfigError              pipeline.yaml, an environment variable or an argument is wrong
    │   ├── RequestRefusedError      the exchange refuses this request (4xx, an error code)
    │   │   └── AccessDeniedError    403, 451: this address or country has no access
    │   ├── ProtocolViolationError   the answer violates the protocol (HTML with status 200, a repeated page)
    │   ├── UntrustedPeerError       TLS failed, or a redirect led to another host
    │   ├── MalformedDataError       a file or an answer cannot be parsed, or a value is not allowed
    │   ├── ChecksumMismatchError    the bytes differ from the published ones
    │   └── LakeError                a path is outside the lake, or a recorded file is missing or altered
    └── TransientError               a later request may succeed
        ├── NetworkError             DNS, time-out, reset, a body that ended early
        ├── ServerError              5xx, 408, or the error code of a temporary failure
        ├── RateLimitedError         429, or a pause of the address; `retry_after_s` is the time to wait
        │   └── BannedError          418; nothing may be sent before `until_us`
        ├── StorageError             the disk is full, read-only or broken
        └── BusyError                another process has the lock

Error handling, retry policies and texts for a single caller belong elsewhere.
"""

from __future__ import annotations

from capture_pipeline.printable import printable

_MAX_WHAT, _MAX_PART = 1000, 500
"""Longest `what`, and longest `where` or `remedy`, in characters."""


class CaptureError(Exception):
    """Base of all errors. Its text is one printable line of limited length with place, problem and remedy."""

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        """Compose the line that a user reads.

        Args:
            what: The problem, in words that a user knows.
            where: The file, key, URL or row with the problem.
            remedy: The action that solves the problem.
        """
        self.what = printable(what, _MAX_WHAT)
        self.where = printable(where, _MAX_PART) if where else where
        self.remedy = printable(remedy, _MAX_PART) if remedy else remedy
        text = f"{self.where}: {self.what}" if self.where else self.what
        super().__init__(f"{text} ({self.remedy})" if self.remedy else text)


class PermanentError(CaptureError):
    """A repetition fails in the same way until a person changes something."""


class ConfigError(PermanentError):
    """A setting, an environment variable or an argument is wrong."""


class RequestRefusedError(PermanentError):
    """The exchange refuses this request.

    Attributes:
        status: The HTTP status.
        code: The exchange's error code, for instance -1121, where the body had one.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int,
        code: int | None = None,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """Store the status and the code."""
        super().__init__(what, where=where, remedy=remedy)
        self.status = status
        self.code = code


class AccessDeniedError(RequestRefusedError):
    """HTTP 403 or 451: the exchange refuses requests of this IP address or country.

    Attributes:
        retry_after_s: Seconds without requests after a 403 of the exchange's firewall; 0 after a 451.
    """

    retry_after_s: float = 0.0


class ProtocolViolationError(PermanentError):
    """The answer violates the protocol, for instance HTML with status 200."""


class UntrustedPeerError(PermanentError):
    """TLS failed, or a redirect led to another host."""


class MalformedDataError(PermanentError):
    """A file or an answer is malformed: its bytes cannot be parsed or have values that are not allowed."""


class ChecksumMismatchError(PermanentError):
    """The SHA-256 of a file differs from the published one."""


class LakeError(PermanentError):
    """A path is outside the root of the lake, or a recorded file is missing, altered or damaged."""


class TransientError(CaptureError):
    """A later repetition may succeed."""


class NetworkError(TransientError):
    """DNS failed, the connection timed out or was reset, or the body ended early."""


class ServerError(TransientError):
    """The server answered with 5xx, 408, or an error code of a temporary failure."""


class RateLimitedError(TransientError):
    """HTTP 429, or a request that was not sent because this IP address has to wait.

    Attributes:
        retry_after_s: Seconds to wait before the next request.
    """

    def __init__(
        self, what: str, *, retry_after_s: float, where: str | None = None, remedy: str | None = None
    ) -> None:
        """Store the wait."""
        super().__init__(what, where=where, remedy=remedy)
        self.retry_after_s = retry_after_s


class BannedError(RateLimitedError):
    """HTTP 418: the exchange banned this IP address.

    Attributes:
        until_us: Wall-clock time, in microseconds UTC, before which nothing may be sent.
    """

    def __init__(
        self,
        what: str,
        *,
        retry_after_s: float,
        until_us: int,
        where: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """Store the end of the ban."""
        super().__init__(what, retry_after_s=retry_after_s, where=where, remedy=remedy)
        self.until_us = until_us


class StorageError(TransientError):
    """The disk is full, read-only or broken."""


class BusyError(TransientError):
    """Another process has the lock."""
