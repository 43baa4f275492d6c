"""Conversion of failed requests to this project's errors, each with a short message."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests
import urllib3

from capture_pipeline.binance.http.deadline import Deadline
from capture_pipeline.binance.http.network import Proxy
from capture_pipeline.binance.http.refusals import (
    BACK_OFF,
    BANNED,
    DEFAULT_WAIT_S,
    FIREWALL,
    parse_error,
    parse_wait,
)
from capture_pipeline.binance.periods import SECOND_US, iso
from capture_pipeline.errors import (
    AccessDeniedError,
    BannedError,
    CaptureError,
    ConfigError,
    NetworkError,
    ProtocolViolationError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    UntrustedPeerError,
)

PROXY_LOGIN = 407
_TIMEOUT, _FIRST_SERVER_ERROR = 408, 500
_TRANSIENT_CODES = frozenset({-1000, -1001, -1006, -1007, -1008, -1016})
"""Codes of transient failures, with any HTTP status: unknown error, internal error, unexpected response,
time-out, server overload, and service shutting down. Source: the exchange's lists of error codes for spot and
USD-M futures, which do not state an HTTP status."""
_ERROR_CAP = 10_000
_TLS_REMEDY = (
    "check the certificate and the clock; "
    "if a proxy inspects TLS, set SSL_CERT_FILE to a file with its certificate"
)
_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")


@contextmanager
def translate_failures(
    url: str, proxy: Proxy | None, deadline: Deadline, sandbox_url: str | None = None
) -> Iterator[None]:
    """Convert the exceptions of requests and urllib3; exceptions of the target file stay unchanged.

    Args:
        url: Address, or another name of the peer, for the error.
        proxy: Proxy of the connection.
        deadline: Deadline of the request, which shuts the connection down.
        sandbox_url: Address of the sandbox exchange, for the remedy in an error.

    Raises:
        CaptureError: The request failed.
    """
    way = f" through the proxy {proxy}" if proxy else ""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if not _is_network_error(error):
            raise
        if deadline.is_over:
            raise NetworkError(
                f"sent too little within {deadline.seconds:g} s",
                where=url,
                remedy="if the line is slow, raise http.answer_timeout_s",
            ) from error
        match error:
            case requests.exceptions.ProxyError():
                raise _proxy_failure(error, url, proxy) from None
            case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
                what = f"TLS failed{way}: {_describe_briefly(error)}"
                raise UntrustedPeerError(what, where=url, remedy=_TLS_REMEDY) from None
            case (
                requests.exceptions.InvalidURL()
                | requests.exceptions.MissingSchema()
                | requests.exceptions.InvalidSchema()
            ):
                what = f"is not a usable address: {_describe_briefly(error)}"
                raise RequestRefusedError(what, status=0, where=url) from None
            case requests.exceptions.ContentDecodingError() | urllib3.exceptions.DecodeError():
                what = f"sends a body that cannot be decoded: {_describe_briefly(error)}"
                raise ProtocolViolationError(what, where=url) from None
        raise NetworkError(
            f"cannot be reached or broke off{way}: {_describe_briefly(error)}",
            where=url,
            remedy="check the proxy" if proxy else _find_remedy(url, sandbox_url, error),
        ) from None


def _find_remedy(url: str, sandbox_url: str | None, error: BaseException) -> str | None:
    """Return the command that starts the sandbox if the sandbox refused the connection; else None."""
    is_sandbox = sandbox_url is not None and urlsplit(url)[:2] == urlsplit(sandbox_url)[:2]
    return "start the sandbox with `capture sandbox serve`" if is_sandbox and _is_refused(error) else None


def proxy_refusal(proxy: Proxy, status: int, url: str) -> CaptureError:
    """Return the error for an HTTP status with which a proxy refused a connection."""
    what = proxy.refusal(status)
    if status == PROXY_LOGIN:
        return ConfigError(what, where=url, remedy=proxy.login_remedy)
    if status in {BACK_OFF, BANNED} or status >= _FIRST_SERVER_ERROR:
        return NetworkError(what, where=url, remedy="check that the proxy reaches this host")
    return AccessDeniedError(what, status=status, where=url, remedy="allow this host in the proxy's rules")


def _proxy_failure(error: BaseException, url: str, proxy: Proxy | None) -> CaptureError:
    """Return the error for a failed connection through a proxy."""
    if proxy is not None and (found := _TUNNEL_STATUS.search(str(error))):
        return proxy_refusal(proxy, int(found[1]), url)
    return NetworkError(
        f"the proxy {proxy} cannot be reached: {_describe_briefly(error)}",
        where=url,
        remedy="check the proxy",
    )


def _describe_briefly(error: BaseException) -> str:
    """Describe the innermost cause of an exception in one short line."""
    inner = error
    while (deeper := _unwrap(inner)) is not None:
        inner = deeper
    text = " ".join(str(inner).split())
    # The text of urllib3 starts with a description of the connection.
    return text.rpartition("): ")[2][:160] or type(inner).__name__


def _unwrap(error: BaseException) -> BaseException | None:
    """Return the exception that requests or urllib3 wrapped in another one."""
    return next(
        (part for part in (getattr(error, "reason", None), *error.args) if isinstance(part, BaseException)),
        None,
    )


def _is_refused(error: BaseException) -> bool:
    """Report whether the connection was refused, because no server listens at the address."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, ConnectionRefusedError):
        inner = _unwrap(inner) or inner.__cause__
    return inner is not None


def _is_network_error(error: BaseException) -> bool:
    """Report whether an exception is about the connection; other `OSError`s are about the answer's file."""
    network = (requests.RequestException, ConnectionError, TimeoutError, ssl.SSLError)
    return not isinstance(error, OSError) or isinstance(error, network)


def error_body(response: requests.Response) -> bytes:
    """Return at most a few kB of the body; empty if it cannot be read."""
    try:
        return next(response.iter_content(_ERROR_CAP), b"")
    except requests.RequestException:
        return b""


def refusal_error(
    status: int, headers: Mapping[str, str], body: bytes, url: str, now_s: float
) -> CaptureError:
    """Return the error for an answer that refuses a request.

    Args:
        status: HTTP status of the answer.
        headers: Headers, with case-insensitive names or names in lower case.
        body: First kB of the body.
        url: Address of the request.
        now_s: Wall clock in seconds.
    """
    code, text = parse_error(body)
    wait = parse_wait(status, headers, body, now_s) if status in DEFAULT_WAIT_S else 0.0
    if status == BACK_OFF:
        return RateLimitedError(f"requires a wait of {wait:g} s (429)", retry_after_s=wait, where=url)
    if status == BANNED:
        until = int((now_s + wait) * 1e6)
        end = iso(until // SECOND_US * SECOND_US)
        return BannedError(
            f"has banned this address until {end} (418)", retry_after_s=wait, until_us=until, where=url
        )
    if status in {FIREWALL, 451}:
        remedy = (
            "wait some minutes, and stop other programs that send requests from this address"
            if status == FIREWALL
            else "use an address in a country that the exchange serves"
        )
        denied = AccessDeniedError(
            f"refuses access ({status}){text}", status=status, code=code, where=url, remedy=remedy
        )
        denied.retry_after_s = wait
        return denied
    if status == _TIMEOUT or status >= _FIRST_SERVER_ERROR or code in _TRANSIENT_CODES:
        return ServerError(f"fails with {status}{text}", where=url)
    return RequestRefusedError(f"refuses the request ({status}){text}", status=status, code=code, where=url)
