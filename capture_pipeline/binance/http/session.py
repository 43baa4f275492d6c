"""Sessions of requests that take proxies and certificates from `network` instead of from the environment, and obey deadlines."""

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


class _WatchedConnection(HTTPConnection):
    """A connection that the deadline of a request may shut down."""

    _watched: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        # TLS takes the descriptor away from this object. A second one of the same connection stays.
        self._watched = made.dup()
        watch(self._watched)
        return made

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        if self._watched is not None:  # the connection of an earlier request is used again
            watch(self._watched)
        super().request(*args, **kwargs)

    def close(self) -> None:
        super().close()
        if self._watched is not None:
            release(self._watched)
            self._watched = None


class _WatchedTlsConnection(_WatchedConnection, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """Connections with one set of trusted certificates, to the exchange and to a proxy."""

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
        # requests encodes a login as Latin-1 and raises where it cannot.
        authorization = parse_proxy(proxy, "proxy").authorization
        return {"Proxy-Authorization": authorization} if authorization else {}

    def cert_verify(self, conn: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib3's pool
        # requests adds certifi's certificates to those of the context.
        conn.cert_reqs = "CERT_REQUIRED"
