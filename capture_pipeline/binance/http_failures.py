"""Descriptions of failed requests: what a library's exception, a status or an error body means, in one short line."""

from __future__ import annotations

import json
import math
import re
import ssl

import requests

from capture_pipeline.binance.network import Proxy
from capture_pipeline.errors import AccessDenied, CaptureError, ConfigError, NetworkError

DEFAULT_WAIT_S = {429: 60.0, 418: 120.0}
PROXY_LOGIN = 407
_FIRST_SERVER_ERROR = 500
_ERROR_CAP = 10_000
_LONGEST_WAIT_S = 7 * 86_400.0
_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")


def proxy_refusal(proxy: Proxy, status: int, url: str) -> CaptureError:
    """Sort a status with which a proxy refused a connection."""
    what = proxy.refusal(status)
    if status == PROXY_LOGIN:
        return ConfigError(what, where=url, remedy=proxy.login_remedy)
    if status in DEFAULT_WAIT_S or status >= _FIRST_SERVER_ERROR:
        return NetworkError(what, where=url, remedy="check that the proxy reaches this host")
    return AccessDenied(what, status=status, where=url, remedy="have the proxy's rules allow this host")


def proxy_failure(error: BaseException, url: str, proxy: Proxy | None) -> CaptureError:
    """Sort a failure of a proxy."""
    if proxy is not None and (found := _TUNNEL_STATUS.search(str(error))):
        return proxy_refusal(proxy, int(found[1]), url)
    return NetworkError(f"the proxy {proxy} cannot be reached: {brief(error)}", where=url, remedy="check the proxy")


def brief(error: BaseException) -> str:
    """Describe the innermost failure in one short line."""
    inner = error
    while (deeper := _wrapped(inner)) is not None:
        inner = deeper
    text = " ".join(str(inner).split())
    # urllib3 begins with the connection's own description.
    return text.rpartition("): ")[2][:160] or type(inner).__name__


def _wrapped(error: BaseException) -> BaseException | None:
    """Return the failure that requests or urllib3 put into another one."""
    return next((part for part in (getattr(error, "reason", None), *error.args) if isinstance(part, BaseException)), None)


def is_refused(error: BaseException) -> bool:
    """Report whether nothing listens at the address."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, ConnectionRefusedError):
        inner = _wrapped(inner) or inner.__cause__
    return inner is not None


def is_of_network(error: BaseException) -> bool:
    """Report whether an exception is about the connection; another `OSError` is of the disk that the answer is written to."""
    network = (requests.RequestException, ConnectionError, TimeoutError, ssl.SSLError)
    return not isinstance(error, OSError) or isinstance(error, network)


def retry_after(value: str | None, default: float) -> float:
    """Seconds that a `Retry-After` header asks for, at most a week; the default where it says nothing usable."""
    try:
        asked = float(value) if value is not None else default
    except ValueError:
        return default
    return min(max(0.0, asked), _LONGEST_WAIT_S) if math.isfinite(asked) else default


def error_body(response: requests.Response) -> tuple[int | None, str]:
    """The exchange's code and a brief text, from at most a few kB of the body."""
    try:
        raw = next(response.iter_content(_ERROR_CAP), b"")
        parsed = json.loads(raw)
        return int(parsed["code"]), f": {parsed['code']} {str(parsed['msg'])[:120]!r}"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, requests.RequestException):
        return None, ""
