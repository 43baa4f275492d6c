"""Proxy and trusted certificates of an address, for REST and streams, from environment variables.

The variables are those of requests and OpenSSL. A variable that cannot be used raises `ConfigError`. No error
message of this module contains a proxy's login.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from socket import inet_aton
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies

from requests.adapters import DEFAULT_CA_BUNDLE_PATH
from requests.utils import should_bypass_proxies

from capture_pipeline.errors import ConfigError

_SCHEMES = {"http": 80, "https": 443}
_PROXY_FORM = (
    "http://host:port or http://user:password@host:port, with special characters in the login percent-encoded"
)
_HOST = re.compile(r"[a-z0-9._:-]+")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_HASH_NAME = re.compile(r"[0-9a-f]{8}\.\d+")
_PROXY_LOGIN = 407
_LOOPBACK_NET = 127


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: Address with the login, percent-encoded; always has a scheme and a port. Never show it.
        address: Address without the login.
        variable: Environment variable that names the proxy.
        authorization: Value of the `Proxy-Authorization` header; None without a login.
    """

    url: str = field(repr=False)
    address: str
    variable: str
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the address without the login."""
        return self.address

    @property
    def is_tls(self) -> bool:
        """Report whether the connection to the proxy itself uses TLS."""
        return self.url.startswith("https:")

    def refusal(self, status: int) -> str:
        """Describe an HTTP status with which the proxy refused a connection."""
        if status == _PROXY_LOGIN:
            problem = "rejects the login" if self.authorization else "requires a login"
            return f"the proxy {self} {problem} ({status})"
        return f"the proxy {self} refuses the connection ({status})"

    @property
    def login_remedy(self) -> str:
        """Describe how the login is set."""
        return f"set {self.variable} to http://user:password@host:port"


@dataclass(frozen=True)
class Egress:
    """Proxy and certificates for connections to one address.

    Attributes:
        proxy: Proxy; None for a direct connection.
        tls: Trusted certificates; None if neither the address nor the proxy uses TLS.
    """

    proxy: Proxy | None
    tls: ssl.SSLContext | None

    def __str__(self) -> str:
        """Describe the proxy and the source of the certificates."""
        certificates = "" if self.tls is None else f", certificates from {certificate_source()}"
        return f"{'proxy ' + str(self.proxy) if self.proxy else 'no proxy'}{certificates}"


def egress_of(url: str) -> Egress:
    """Determine proxy and certificates of an address from the environment variables.

    Args:
        url: An http, https, ws or wss address.

    Raises:
        ConfigError: The variable of the proxy is malformed or names a proxy of an unsupported kind, or a
            variable for certificates names a path that is missing, unreadable or without certificates.
    """
    proxy = _find_proxy(url)
    needs_tls = urlsplit(url).scheme in {"https", "wss"} or (proxy is not None and proxy.is_tls)
    return Egress(proxy, trusted_certificates() if needs_tls else None)


def _find_proxy(url: str) -> Proxy | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or should_bypass_proxies(url, no_proxy=None):
        return None
    proxies = getproxies()
    scheme = "https" if parts.scheme in {"https", "wss"} else "http"
    for name in (scheme, "all"):
        if text := proxies.get(name, "").strip():
            return parse_proxy(text, _find_variable(f"{name}_proxy"))
    return None


def _is_loopback(host: str) -> bool:
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        address = ip_address(host)
        address = getattr(address, "ipv4_mapped", None) or address
        return address.is_loopback or address.is_unspecified  # connecting to 0.0.0.0 reaches this machine
    with suppress(OSError, UnicodeError):
        return inet_aton(host)[0] == _LOOPBACK_NET  # short forms, 127.1
    return False


def _find_variable(name: str) -> str:
    """Return the name of a variable as the environment spells it; small letters first, as in `getproxies`."""
    spellings = [name, name.upper(), *os.environ]
    return next(
        (spelling for spelling in spellings if spelling.lower() == name and os.environ.get(spelling)),
        name.upper(),
    )


def parse_proxy(text: str, variable: str) -> Proxy:
    """Parse a proxy's address; an address without a scheme is an http proxy.

    Args:
        text: Value of the variable.
        variable: Name of the variable, for errors.

    Raises:
        ConfigError: The text is malformed, or the proxy is neither an http nor an https proxy.
    """
    # Errors do not quote the value, because it may contain a password.
    malformed = ConfigError("is not the address of a proxy", where=variable, remedy=f"write {_PROXY_FORM}")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
        host = (
            (parts.hostname or "").encode("idna").decode()
            if ":" not in (parts.hostname or "")
            else parts.hostname or ""
        )
        login = _parse_login(parts)
    except ValueError:  # a bad port, bracket, label or percent-encoding
        raise malformed from None
    if parts.scheme not in _SCHEMES:
        kind = parts.scheme if re.fullmatch(r"[a-z0-9+.-]{1,20}", parts.scheme) else "another"
        raise ConfigError(
            f"names a proxy of the kind {kind}, which is not supported",
            where=variable,
            remedy="use an http proxy",
        )
    if not _HOST.fullmatch(host) or port == 0 or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise malformed
    address = f"{f'[{host}]' if ':' in host else host}:{port or _SCHEMES[parts.scheme]}"
    if login is None:
        return Proxy(f"{parts.scheme}://{address}", f"{parts.scheme}://{address}", variable)
    user, password = login
    encoded = f"{quote(user, safe='')}:{quote(password, safe='')}"
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Proxy(
        f"{parts.scheme}://{encoded}@{address}", f"{parts.scheme}://{address}", variable, f"Basic {token}"
    )


class _Login(NamedTuple):
    user: str
    password: str


def _parse_login(parts: SplitResult) -> _Login | None:
    if parts.username is None:
        return None
    return _Login(unquote(parts.username, errors="strict"), unquote(parts.password or "", errors="strict"))


def certificate_source() -> str:
    """Describe the source of `trusted_certificates`: variables with their paths, or the defaults."""
    return (
        " and ".join(f"{each.variable}={each.path}" for each in _list_certificate_paths())
        or "the system and certifi"
    )


def trusted_certificates() -> ssl.SSLContext:
    """Load the trusted certificates: only those that a variable names, or those of the system and of certifi.

    REQUESTS_CA_BUNDLE has precedence over CURL_CA_BUNDLE, and both over SSL_CERT_FILE and SSL_CERT_DIR.
    Changed files are read again.

    Raises:
        ConfigError: A variable names a path that is missing, unreadable or without certificates.
    """
    return _build_context(
        tuple(each._replace(modified_ns=_read_modified_ns(each)) for each in _list_certificate_paths())
    )


class _CertificatePath(NamedTuple):
    """File or folder of certificates that a variable names, and the time of its last change."""

    variable: str
    path: Path
    modified_ns: int = 0


def _list_certificate_paths() -> list[_CertificatePath]:
    for name in _BUNDLES:
        if value := os.environ.get(name):
            return [_CertificatePath(name, Path(value))]
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)
    return [
        *([_CertificatePath("SSL_CERT_FILE", Path(file))] if file else []),
        *(_CertificatePath("SSL_CERT_DIR", Path(part)) for part in folders if part),
    ]


def _unusable(named: _CertificatePath, problem: str) -> ConfigError:
    return ConfigError(
        problem,
        where=f"{named.variable}={named.path}",
        remedy=f"set {named.variable} to a file of PEM certificates, or unset it",
    )


def _read_modified_ns(named: _CertificatePath) -> int:
    try:
        return named.path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise _unusable(named, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


@lru_cache(maxsize=8)
def _build_context(named: tuple[_CertificatePath, ...]) -> ssl.SSLContext:
    """Build the context from paths, or from the defaults; modification times are part of the cache's key."""
    if not named:
        context = ssl.create_default_context()
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for each in named:
        _load_certificates(context, each)
    return context


def _load_certificates(context: ssl.SSLContext, named: _CertificatePath) -> None:
    """Add the certificates of a path.

    OpenSSL ignores a folder without certificates, and its errors do not name the file, so both are handled
    here.
    """
    path = named.path
    try:
        if path.is_dir() and named.variable != "SSL_CERT_FILE":
            if not any(_HASH_NAME.fullmatch(entry.name) for entry in path.iterdir()):
                raise _unusable(
                    named,
                    f"contains no certificate named by its hash; openssl rehash {path} creates these names",
                )
            context.load_verify_locations(capath=str(path))
        else:
            context.load_verify_locations(cafile=str(path))
    except ssl.SSLError:
        raise _unusable(named, "contains no PEM certificate") from None
    except OSError as error:
        raise _unusable(named, f"cannot be read: {error.strerror}") from None
