"""Every error the project raises, sorted by what its caller may do about it.

    CaptureError
    ├── Permanent               asking again gives the same answer: a person has to change something
    │   ├── ConfigError             pipeline.yaml, an environment variable or an argument is wrong
    │   ├── RequestRefused          the exchange refuses this request (4xx, an error code)
    │   │   └── AccessDenied            403, 451: this address or country may not ask
    │   ├── ProtocolViolation       the answer is not what the protocol allows (HTML with 200, a page that stands still)
    │   ├── UntrustedPeer           TLS failed, or a redirect led off the host
    │   ├── MalformedData           a file or an answer holds something that is not a kline
    │   ├── ChecksumMismatch        the bytes are not those that were published
    │   └── LakeError               a path leaves the lake's root, or a recorded file is gone or altered
    └── Transient               asking again later may work
        ├── NetworkError            DNS, time-out, reset, a body that ended early
        ├── ServerError             5xx, 408, or a code of a failure that passes
        ├── RateLimited             429, or a pause of the address; `retry_after_s` says how long to wait
        │   └── Banned                  418; nothing may be sent before `until_us`
        ├── StorageError            the disk is full, read-only or broken
        └── Busy                    another process holds the lock of this partition

Nothing else belongs here: no handling, no retry policy, no text for one particular caller.
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


class Permanent(CaptureError):  # noqa: N818 - the field says "permanent failure"
    """Asking again gives the same answer."""


class ConfigError(Permanent):
    """A setting, an environment variable or an argument is wrong."""


class RequestRefused(Permanent):
    """The exchange refuses this request.

    Attributes:
        status: The HTTP status.
        code: The exchange's error code, for instance -1121, where the body had one.
    """

    def __init__(self, what: str, *, status: int, code: int | None = None, where: str | None = None, remedy: str | None = None) -> None:
        """Keep the status and the code beside the text."""
        super().__init__(what, where=where, remedy=remedy)
        self.status = status
        self.code = code


class AccessDenied(RequestRefused):
    """403 or 451: this address or country may not ask.

    Attributes:
        retry_after_s: Of the firewall's 403, seconds in which nothing may be sent; 0 of 451.
    """

    retry_after_s: float = 0.0


class ProtocolViolation(Permanent):
    """The answer is not what the protocol allows."""


class UntrustedPeer(Permanent):
    """TLS failed, or a redirect led off the host."""


class MalformedData(Permanent):
    """A file or an answer holds something that is not a kline."""


class ChecksumMismatch(Permanent):
    """The bytes are not those that were published."""


class LakeError(Permanent):
    """A path leaves the lake's root, or a recorded file is gone or altered."""


class Transient(CaptureError):  # noqa: N818 - likewise
    """Asking again later may work."""


class NetworkError(Transient):
    """DNS, a time-out, a reset, or a body that ended early."""


class ServerError(Transient):
    """The server answered 5xx, 408, or with a code of a failure that passes."""


class RateLimited(Transient):
    """429, or a request that is not sent because the address has to wait.

    Attributes:
        retry_after_s: Seconds to wait before the next request.
    """

    def __init__(self, what: str, *, retry_after_s: float, where: str | None = None, remedy: str | None = None) -> None:
        """Keep the wait beside the text."""
        super().__init__(what, where=where, remedy=remedy)
        self.retry_after_s = retry_after_s


class Banned(RateLimited):
    """418.

    Attributes:
        until_us: Wall-clock time, in microseconds UTC, before which nothing may be sent.
    """

    def __init__(self, what: str, *, retry_after_s: float, until_us: int, where: str | None = None, remedy: str | None = None) -> None:
        """Keep the end of the ban beside the text."""
        super().__init__(what, retry_after_s=retry_after_s, where=where, remedy=remedy)
        self.until_us = until_us


class StorageError(Transient):
    """The disk is full, read-only or broken."""


class Busy(Transient):
    """Another process holds the lock of this partition."""
