"""Environment variables for proxies and certificates: accepted and rejected values."""

from __future__ import annotations

import base64
import os
import ssl
from pathlib import Path

import pytest

from capture_pipeline.binance.http.network import egress_of, parse_proxy, trusted_certificates
from capture_pipeline.errors import ConfigError
from capture_pipeline_tests.support.exchange.network import Authority, clear_environment, make_authority

ADDRESSES = {"http": "http://api.exchange.test/api", "https": "https://api.exchange.test/api"}


@pytest.fixture(autouse=True)
def _no_network_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def environment(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Set variables from pairs `NAME=value`, separated by spaces."""
    for pair in text.split():
        monkeypatch.setenv(*pair.split("=", 1))


CHOICES = [
    ("HTTPS_PROXY=http://p:3128", "https", "http://p:3128"),
    ("HTTPS_PROXY=p:3128", "https", "http://p:3128"),
    ("HTTPS_PROXY=p", "https", "http://p:80"),
    ("HTTPS_PROXY=HTTP://P.Example:3128/", "https", "http://p.example:3128"),
    ("HTTPS_PROXY=https://p", "https", "https://p:443"),
    ("HTTPS_PROXY=http://[2001:db8::1]:8080", "https", "http://[2001:db8::1]:8080"),
    ("https_proxy=http://low:1 HTTPS_PROXY=http://up:2", "https", "http://low:1"),
    ("HTTPS_PROXY=http://p:3128", "http", None),
    ("HTTP_PROXY=http://p:3128", "http", "http://p:3128"),
    ("HTTP_PROXY=http://p:3128", "https", None),
    ("ALL_PROXY=p:1", "https", "http://p:1"),
    ("all_proxy=p:1", "http", "http://p:1"),
    ("ALL_PROXY=socks5://a:1 HTTPS_PROXY=http://p:2", "https", "http://p:2"),
    ("WSS_PROXY=http://p:1 SOCKS_PROXY=http://p:1", "https", None),
    ("HTTPS_PROXY=p:1 NO_PROXY=api.exchange.test", "https", None),
    ("HTTPS_PROXY=p:1 no_proxy=other.test,exchange.test", "https", None),
    ("HTTPS_PROXY=p:1 NO_PROXY=.exchange.test", "https", None),
    ("HTTPS_PROXY=p:1 NO_PROXY=*", "https", None),
    ("HTTPS_PROXY=p:1 NO_PROXY=change.test", "https", "http://p:1"),
    ("HTTPS_PROXY=p:1 NO_PROXY=10.0.0.0/8", "https", "http://p:1"),
    ("", "https", None),
]


@pytest.mark.parametrize(("variables", "scheme", "expected"), CHOICES)
def test_streams_get_the_same_proxy_as_rest(
    variables: str, scheme: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ws` is handled like `http`, and `wss` like `https`."""
    environment(monkeypatch, variables)
    for address in (ADDRESSES[scheme], ADDRESSES[scheme].replace("http", "ws", 1)):
        proxy = egress_of(address).proxy
        assert (str(proxy) if proxy else None) == expected, address


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:1",
        "127.9.9.9",
        "localhost:8650",
        "sandbox.localhost",
        "[::1]:5",
        "LOCALHOST",
        "10.1.2.3",
        "192.0.2.7",
        "localhost.",
        "127.1",
        "[::ffff:127.0.0.1]:2",
        "0.0.0.0:3",
    ],
)
def test_loopback_and_excepted_networks_get_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback needs no entry in NO_PROXY."""
    environment(monkeypatch, "ALL_PROXY=http://p:1 NO_PROXY=10.0.0.0/8,192.0.2.7")
    assert [egress_of(f"{scheme}://{host}/").proxy for scheme in ("http", "https", "ws", "wss")] == [None] * 4


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("user:secret@p:3128", "user", "secret"),
        ("http://user:pa%3Ass%40%2F@p:3128", "user", "pa:ss@/"),
        ("http://user@p:3128", "user", ""),
        ("http://us%C3%A9r:p%E2%82%ACss@p:3128", "usér", "p€ss"),
    ],
)
def test_login_is_decoded_and_never_shown(text: str, user: str, password: str) -> None:
    """The header is Basic authentication in UTF-8. No text of the proxy contains the login."""
    proxy = parse_proxy(text, "HTTPS_PROXY")
    assert proxy.authorization == "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    shown = f"{proxy} {proxy!r} {proxy.refusal(407)} {proxy.login_remedy}"
    assert str(proxy) == "http://p:3128"
    assert not any(
        part and part in shown.replace("user:password", "")
        for part in (password, proxy.url, proxy.authorization)
    )


BAD = [
    "http://",
    "http://:3128",
    "http://p:port",
    "http://p:0",
    "http://p:99999",
    "http://p:3128/path",
    "http://p:3128?query",
    "http://user:hunter2#x@p:3128",
    "http://user:hunter2/x@p:3128",
    "http://user:hunter2%FF@p:3128",
    "http://a..b:3128",
    "http://p q:3128",
    "http://[::1:3128",
    "http://" + "x" * 70 + ".test:1",
    "socks5://user:hunter2@p:1080",
    "socks5h://p:1080",
    "socks4://p:1080",
    "ftp://user:hunter2@p:21",
    "gopher://p:1",
    "://p",
]


@pytest.mark.parametrize("value", BAD)
def test_proxy_that_cannot_be_used_is_one_error_with_its_variable(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error does not contain the value, which may contain a password."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    for scheme in ("https", "wss"):
        with pytest.raises(ConfigError, match=r"^HTTPS_PROXY: .*\((write|use) .*\)$") as refused:
            egress_of(f"{scheme}://api.exchange.test/")
        assert "\n" not in str(refused.value)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]
)
@pytest.mark.parametrize("kind", ["missing", "empty", "not PEM", "folder", "sound"])
def test_certificates_that_cannot_be_used_are_one_error(
    variable: str, kind: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error contains variable and path. With a sound file, no other certificate is trusted."""
    path = tmp_path / "bundle"
    if kind == "folder":
        path.mkdir()
    elif kind == "sound":
        path.write_bytes(authority.bundle.read_bytes())
    elif kind != "missing":
        path.write_text(
            "" if kind == "empty" else "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        )
    monkeypatch.setenv(variable, str(path))
    if kind == "sound":
        (found,) = trusted_certificates().get_ca_certs()
        assert "authority" in str(found["subject"])
        return
    with pytest.raises(ConfigError) as refused:
        egress_of("wss://api.exchange.test/")
    assert str(refused.value).startswith(f"{variable}={path}: ")
    assert refused.value.remedy
    assert egress_of("ws://api.exchange.test/").tls is None


def test_file_that_cannot_be_opened_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error contains the system's reason."""
    path = tmp_path / "bundle"
    path.symlink_to(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ConfigError, match="cannot be read: Too many levels of symbolic links"):
        trusted_certificates()


def test_bundle_of_requests_wins_and_a_changed_file_is_read_again(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change is recognised by the modification time."""
    path = tmp_path / "bundle"
    path.write_bytes(authority.bundle.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    first = trusted_certificates()
    assert trusted_certificates() is first
    os.utime(path, ns=(1, 1))
    assert trusted_certificates() is not first


def test_without_variables_the_defaults_are_trusted_and_checked() -> None:
    """Certificate and host name are verified."""
    context = trusted_certificates()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) > 50
