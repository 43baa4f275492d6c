"""Sessions of the library requests with deadlines, and with proxies and certificates from `network`."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from capture_pipeline.binance.http.deadline import release, watch
from capture_pipeline.binance.http.network import parse_proxy


def new_session(tls: ssl.SSLContext | None) -> requests.Session:
    """Create a session that trusts only the given certificates.

    Args:
        tls: Trusted certificates; None for a session without TLS.
    """
    session = requests.Session()
    session.trust_env = False
    session.headers["User-Agent"] = "capture-pipeline"
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(tls))
    return session


class _WatchedConnection(HTTPConnection):
    """A connection that the deadline of a request may shut down."""

    _watched: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        # TLS detaches the descriptor from this object. A duplicate of the same connection remains usable.
        self._watched = connection.dup()
        watch(self._watched)
        return connection

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        if self._watched is not None:  # this request reuses the connection of an earlier one
            watch(self._watched)
        super().request(*args, **kwargs)

    def close(self) -> None:
        super().close()
        if self._watched is not None:
            release(self._watched)
            self._watched = None


class _WatchedTlsConnection(_WatchedConnection, HTTPSConnection):
    """A TLS connection that the deadline of a request may shut down."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """Adapter for connections to the exchange and to a proxy, with one set of trusted certificates."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().init_poolmanager(*args, **kwargs, ssl_context=self._tls)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: ANN401 - urllib3's manager
        manager = super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._tls, proxy_ssl_context=self._tls
        )
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        # requests encodes a login as Latin-1 and raises an error for other characters.
        authorization = parse_proxy(proxy, "proxy").authorization
        return {"Proxy-Authorization": authorization} if authorization else {}

    def cert_verify(self, conn: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib3's pool
        # requests adds certifi's certificates to those of the context.
        conn.cert_reqs = "CERT_REQUIRED"
