"""Sessions of requests that take proxies and certificates from `network` instead of from the environment."""

from __future__ import annotations

import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from capture_pipeline.binance.network import parse_proxy


def new_session(tls: ssl.SSLContext | None) -> requests.Session:
    """Open a session that trusts the given certificates and no others.

    Args:
        tls: None for a session whose connections use no TLS.
    """
    session = requests.Session()
    session.trust_env = False
    session.headers["User-Agent"] = "capture-pipeline"
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(tls))
    return session


class _Adapter(HTTPAdapter):
    """Connections with one set of trusted certificates, to the exchange and to a proxy."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().init_poolmanager(*args, **kwargs, ssl_context=self._tls)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: ANN401 - urllib3's manager
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._tls, proxy_ssl_context=self._tls)

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        # requests encodes a login as Latin-1 and raises where it cannot.
        authorization = parse_proxy(proxy, "proxy").authorization
        return {"Proxy-Authorization": authorization} if authorization else {}

    def cert_verify(self, conn: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib3's pool
        # requests adds certifi's certificates to those of the context.
        conn.cert_reqs = "CERT_REQUIRED"
