"""Errors of the project, by what the caller can do.

    CaptureError
    ├── PermanentError               a repeated request gives the same answer: a person has to change something
    │   ├── ConfigError                  pipeline.yaml, an environment variable or an argument is wrong
    │   ├── RequestRefusedError          the exchange refuses this request (4xx, an error code)
    │   │   └── AccessDeniedError            403, 451: this address or country has no access
    │   ├── ProtocolViolationError       the answer violates the protocol (HTML with status 200, a page that repeats)
    │   ├── UntrustedPeerError           TLS failed, or a redirect led to another host
    │   ├── MalformedDataError           a file or an answer contains something that is not a kline
    │   ├── ChecksumMismatchError        the bytes differ from the published ones
    │   └── LakeError                    a path is outside the lake, or a recorded file is missing or altered
    └── TransientError               a later request may succeed
        ├── NetworkError                 DNS, time-out, reset, a body that ended early
        ├── ServerError                  5xx, 408, or the code of a failure that passes
        ├── RateLimitedError             429, or a pause of the address; `retry_after_s` is the time to wait
        │   └── BannedError                  418; nothing may be sent before `until_us`
        ├── StorageError                 the disk is full, read-only or broken
        └── BusyError                    another process holds the lock of this partition

Handling of errors, retry policies and texts for a single caller belong elsewhere.
"""

from __future__ import annotations

from capture_pipeline.printable import printable

_MOST_WHAT, _MOST_PART = 1000, 500
"""Characters of what is wrong, and of each other part of an error."""


class CaptureError(Exception):
    """Base of all errors; its text names what failed, where, and the remedy, on one line that is printable and cut."""

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        """Compose the one line that a user reads.

        Args:
            what: What is wrong, in the user's terms.
            where: The file, key, URL or row it is about.
            remedy: What the user can do about it.
        """
        self.what = printable(what, _MOST_WHAT)
        self.where = printable(where, _MOST_PART) if where else where
        self.remedy = printable(remedy, _MOST_PART) if remedy else remedy
        text = f"{self.where}: {self.what}" if self.where else self.what
        super().__init__(f"{text} ({self.remedy})" if self.remedy else text)


class PermanentError(CaptureError):
    """Asking again gives the same answer."""


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
        """Keep the status and the code beside the text."""
        super().__init__(what, where=where, remedy=remedy)
        self.status = status
        self.code = code


class AccessDeniedError(RequestRefusedError):
    """403 or 451: this address or country may not ask.

    Attributes:
        retry_after_s: Of the firewall's 403, seconds in which nothing may be sent; 0 of 451.
    """

    retry_after_s: float = 0.0


class ProtocolViolationError(PermanentError):
    """The answer is not what the protocol allows."""


class UntrustedPeerError(PermanentError):
    """TLS failed, or a redirect led off the host."""


class MalformedDataError(PermanentError):
    """A file or an answer holds something that is not a kline."""


class ChecksumMismatchError(PermanentError):
    """The bytes are not those that were published."""


class LakeError(PermanentError):
    """A path leaves the lake's root, or a recorded file is gone or altered."""


class TransientError(CaptureError):
    """Asking again later may work."""


class NetworkError(TransientError):
    """DNS, a time-out, a reset, or a body that ended early."""


class ServerError(TransientError):
    """The server answered 5xx, 408, or with a code of a failure that passes."""


class RateLimitedError(TransientError):
    """429, or a request that is not sent because the address has to wait.

    Attributes:
        retry_after_s: Seconds to wait before the next request.
    """

    def __init__(
        self, what: str, *, retry_after_s: float, where: str | None = None, remedy: str | None = None
    ) -> None:
        """Keep the wait beside the text."""
        super().__init__(what, where=where, remedy=remedy)
        self.retry_after_s = retry_after_s


class BannedError(RateLimitedError):
    """418.

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
        """Keep the end of the ban beside the text."""
        super().__init__(what, retry_after_s=retry_after_s, where=where, remedy=remedy)
        self.until_us = until_us


class StorageError(TransientError):
    """The disk is full, read-only or broken."""


class BusyError(TransientError):
    """Another process holds the lock of this partition."""
