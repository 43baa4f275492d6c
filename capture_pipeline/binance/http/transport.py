"""HTTP requests to the exchange: verified TLS, no redirect to another host, limited bodies, and typed errors.

One `Http` serves many threads; each thread has its own connections. The caller decides whether to retry, see
`retries`. Proxies and trusted certificates are those of `network`.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import requests

from capture_pipeline.binance.http.deadline import Deadline
from capture_pipeline.binance.http.failures import (
    PROXY_LOGIN,
    error_body,
    proxy_refusal,
    refusal_error,
    translate_failures,
)
from capture_pipeline.binance.http.network import Egress, Proxy, egress_of
from capture_pipeline.binance.http.session import new_session
from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.errors import (
    ProtocolViolationError,
    RequestRefusedError,
    UntrustedPeerError,
)

OnAnswer = Callable[[str, int, Mapping[str, str]], None]
_CHUNK = 1 << 16
_MAX_REDIRECTS = 3


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        status: 200, 206, 304, 404 or 416; another status raises an error.
        headers: Headers, with case-insensitive names.
        body: Decoded body, not longer than allowed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class StreamedAnswer(NamedTuple):
    """Answer without its body, and the chunks of the body."""

    answer: Answer
    chunks: Iterator[bytes]


class Http:
    """HTTP client with the deployment's time-outs and limits."""

    def __init__(
        self,
        settings: HttpSettings,
        *,
        sandbox_url: str | None = None,
        now_s: Callable[[], float] = time.time,
        on_answer: OnAnswer = lambda *_: None,
    ) -> None:
        """Create a client; connections are opened when they are needed.

        Args:
            settings: Time-outs, attempts and limits.
            sandbox_url: Address of the sandbox exchange if the deployment uses it, for the remedy in an
                error.
            now_s: Wall clock in seconds, for the end of a ban.
            on_answer: Called with address, status and headers of every answer, including refusals.
        """
        self.settings = settings
        self._sandbox_url = sandbox_url
        self._now_s = now_s
        self._on_answer = on_answer
        self._local = threading.local()

    def get(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        on_headers: Callable[[Mapping[str, str]], None] | None = None,
    ) -> Answer:
        """Send a GET and read the whole answer within `http.answer_timeout_s`.

        Args:
            url: Address.
            max_bytes: Maximum length of the body.
            headers: Headers of the request.
            params: Parameters of the query.
            on_headers: Called with the headers of the answer, also of a refusal.

        Raises:
            CaptureError: The request failed. Exceptions of `requests` are converted.
        """
        with self._open_answer(url, headers, params, None, on_headers) as (answer, chunks):
            body = bytearray()
            for chunk in chunks:
                body += chunk
                if len(body) > max_bytes:
                    raise ProtocolViolationError(f"answers with more than {max_bytes:,} bytes", where=url)
            return Answer(answer.status, answer.headers, bytes(body))

    @contextmanager
    def stream(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Iterator[StreamedAnswer]:
        """Send a GET and yield the body in chunks, without a limit of time while the download is fast enough.

        A body that ends early raises `NetworkError`, and so does a download that is slower than
        `http.least_download_kb_s`.
        """
        min_bytes = self.settings.least_download_kb_s * 1000 * self.settings.answer_timeout_s
        with self._open_answer(url, headers, params, min_bytes) as answered:
            yield answered

    def post(self, url: str, body: bytes, *, headers: Mapping[str, str], where: str) -> None:
        """Send a POST within `http.answer_timeout_s`. A status 2xx is success; the answer's body is not read.

        Args:
            url: Address. It may be a secret, so no error contains it unless the peer repeats it.
            body: Body of the request.
            headers: Headers of the request.
            where: Name of the peer in errors.

        Raises:
            CaptureError: The request failed or was redirected.
        """
        egress = egress_of(url)
        deadline = Deadline(self.settings.answer_timeout_s)
        with translate_failures(where, egress.proxy, deadline), deadline.enforce():
            response = self._session(egress.tls).post(
                url,
                data=body,
                headers=dict(headers),
                timeout=(self.settings.connect_timeout_s, self.settings.read_timeout_s),
                stream=True,
                allow_redirects=False,
                proxies=_build_proxies(url, egress.proxy),
            )
            try:
                if response.is_redirect:
                    raise UntrustedPeerError(
                        "redirects to another address",
                        where=where,
                        remedy="set the address that it redirects to",
                    )
                if not requests.codes.ok <= response.status_code < requests.codes.multiple_choices:
                    self._raise_for_status(response, where, egress.proxy)
                    raise RequestRefusedError(
                        f"answers with {response.status_code}", status=response.status_code, where=where
                    )
            finally:
                response.close()

    @contextmanager
    def _open_answer(
        self,
        url: str,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
        min_bytes: float | None,
        on_headers: Callable[[Mapping[str, str]], None] | None = None,
    ) -> Iterator[StreamedAnswer]:
        """Send a GET with a deadline.

        Args:
            url: Address.
            headers: Headers of the request.
            params: Parameters of the query.
            min_bytes: Number of received bytes that renews the deadline; None for one deadline for the whole
                answer.
            on_headers: Called with the headers of the answer.
        """
        egress = egress_of(url)
        deadline = Deadline(self.settings.answer_timeout_s)
        with translate_failures(url, egress.proxy, deadline, self._sandbox_url), deadline.enforce():
            response = self._send(url, egress, headers, params)
            try:
                self._on_answer(response.url, response.status_code, response.headers)
                if on_headers is not None:
                    on_headers(response.headers)
                self._raise_for_status(response, url, egress.proxy)
                yield StreamedAnswer(
                    Answer(response.status_code, response.headers, b""),
                    self._read_chunks(response, url, egress.proxy, deadline, min_bytes),
                )
            finally:
                response.close()

    def _send(
        self,
        url: str,
        egress: Egress,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
    ) -> requests.Response:
        timeout = (self.settings.connect_timeout_s, self.settings.read_timeout_s)
        proxies = _build_proxies(url, egress.proxy)
        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._session(egress.tls).get(
                target,
                headers=dict(headers or {}),
                params=params,
                timeout=timeout,
                stream=True,
                allow_redirects=False,
                proxies=proxies,
            )
            if not response.is_redirect:
                return response
            following = urljoin(target, response.headers["Location"])
            response.close()
            if urlsplit(following)[:2] != urlsplit(url)[:2]:
                raise UntrustedPeerError(
                    f"redirects to {following[:120]}",
                    where=url,
                    remedy="check the endpoint; another host is never followed",
                )
            target, params = following, None
        raise ProtocolViolationError("redirects in a circle", where=url)

    def _session(self, tls: ssl.SSLContext | None) -> requests.Session:
        """Return this thread's session for a set of certificates."""
        sessions: dict[ssl.SSLContext | None, requests.Session] = self._local.__dict__.setdefault(
            "sessions", {}
        )
        if tls not in sessions:
            sessions[tls] = new_session(tls)
        return sessions[tls]

    def _read_chunks(
        self,
        response: requests.Response,
        url: str,
        proxy: Proxy | None,
        deadline: Deadline,
        min_bytes: float | None,
    ) -> Iterator[bytes]:
        received = 0
        with translate_failures(url, proxy, deadline, self._sandbox_url):
            # iter_content drops an incomplete block when the connection breaks, so it is not used here.
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                yield chunk
                received += len(chunk)
                if min_bytes is not None and received >= min_bytes:
                    deadline.renew()
                    received = 0
            if deadline.is_over:  # without a Content-Length, the shutdown looks like the end of the body
                raise TimeoutError

    def _raise_for_status(self, response: requests.Response, url: str, proxy: Proxy | None) -> None:
        """Raise the error for a status that is not usable."""
        status = response.status_code
        if status in {200, 206, 304, 404, 416}:
            return
        if status == PROXY_LOGIN and proxy is not None:
            raise proxy_refusal(proxy, status, url)
        raise refusal_error(status, response.headers, error_body(response), url, self._now_s())


def _build_proxies(url: str, proxy: Proxy | None) -> dict[str, str] | None:
    return {urlsplit(url).scheme: proxy.url} if proxy else None
