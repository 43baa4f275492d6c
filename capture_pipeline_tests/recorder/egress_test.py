"""REST and streams through a real proxy to a real TLS host."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from capture_pipeline.binance.http.network import trusted_certificates
from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.errors import CaptureError, ConfigError, NetworkError, PermanentError, TransientError
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.sessions.models import Cause
from capture_pipeline_tests.support.exchange.network import (
    BODY,
    HOST,
    Authority,
    Proxy,
    clear_environment,
    exchange,
    make_authority,
    proxy_to,
)

SECRET = "hunter2"  # noqa: S105 - nobody's


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


class World:
    """Exchange with and without TLS, and the only proxies that can resolve its name."""

    def __init__(self, stack: ExitStack, authority: Authority) -> None:
        tls = authority.context()
        secure, plain = stack.enter_context(exchange(tls)), stack.enter_context(exchange(None))
        self.direct = {"https": secure, "http": plain}
        targets = {f"{HOST}:443": secure, f"{HOST}:80": plain, HOST: plain}
        self.proxy: Proxy = stack.enter_context(proxy_to(targets))
        self.tls_proxy: Proxy = stack.enter_context(proxy_to(targets, tls=tls))


@pytest.fixture(scope="module")
def shared(authority: Authority) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, authority)


@pytest.fixture
def world(shared: World, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> World:
    """Clear the requests of the servers, and trust their authority."""
    clear_environment(monkeypatch)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
    for proxy in (shared.proxy, shared.tls_proxy):
        proxy.login = proxy.answer = None
        proxy.seen.clear()
    return shared


def rest(url: str) -> str:
    """Send one request; return the text of the failure, empty after an answer."""
    try:
        body = (
            Http(HttpSettings(attempts=1, connect_timeout_s=5, read_timeout_s=5)).get(url, max_bytes=100).body
        )
    except CaptureError as error:
        return str(error)
    return "" if body == BODY else f"another body: {body!r}"


def stream(url: str) -> str:
    """Wait for one message; return the text of the failure, empty after a message."""

    async def received() -> str:
        messages: list[bytes] = []
        connection = Connection(1, 0, lambda _, message: messages.append(bytes(message)))
        task = asyncio.create_task(connection.run(url.replace("http", "ws", 1), lambda _: None))
        alive = asyncio.create_task(connection.alive.wait())
        await asyncio.wait({task, alive}, timeout=15, return_when=asyncio.FIRST_COMPLETED)
        alive.cancel()
        if not task.done():
            assert messages == [BODY]
            connection.abort(Cause.LIFE, "enough")
            await asyncio.wait_for(task, 5)
            return ""
        task.result()
        assert (connection.cause, connection.opened_s) == (Cause.CLOSED, None)
        return connection.detail

    return asyncio.run(received())


ASKED = pytest.mark.parametrize("ask", [rest, stream], ids=["REST", "stream"])


@ASKED
@pytest.mark.parametrize(
    ("variable", "value", "scheme"),
    [
        ("HTTPS_PROXY", "http://127.0.0.1:{plain}", "https"),
        ("https_proxy", "127.0.0.1:{plain}", "https"),
        ("ALL_PROXY", "127.0.0.1:{plain}", "https"),
        ("HTTP_PROXY", "127.0.0.1:{plain}", "http"),
        ("HTTPS_PROXY", "http://us%C3%A9r:p%E2%82%ACs%3As@127.0.0.1:{plain}", "https"),
        ("HTTPS_PROXY", "us%C3%A9r:p%E2%82%ACs%3As@127.0.0.1:{plain}", "https"),
        ("HTTP_PROXY", "us%C3%A9r:p%E2%82%ACs%3As@127.0.0.1:{plain}", "http"),
        ("HTTPS_PROXY", "https://127.0.0.1:{tls}", "https"),
        ("HTTP_PROXY", "https://127.0.0.1:{tls}", "http"),
    ],
)
def test_address_is_reached_through_the_proxy(
    variable: str,
    value: str,
    scheme: str,
    ask: Callable[[str], str],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the proxy can resolve the name, so an answer came through it; one case has a login."""
    world.proxy.login = "usér:p€s:s" if "@" in value else None
    monkeypatch.setenv(variable, value.format(plain=world.proxy.port, tls=world.tls_proxy.port))
    assert not ask(f"{scheme}://{HOST}/api")
    assert len(world.proxy.seen + world.tls_proxy.seen) == 1


@ASKED
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_loopback_never_goes_through_a_proxy(
    scheme: str, ask: Callable[[str], str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback would be that of the proxy."""
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{world.proxy.port}")
    assert not ask(f"{scheme}://127.0.0.1:{world.direct[scheme]}/api")
    assert not world.proxy.seen


@ASKED
def test_excepted_host_is_asked_directly(
    ask: Callable[[str], str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is not resolved, and the proxy receives no request."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{world.proxy.port}")
    monkeypatch.setenv("NO_PROXY", "exchange.test")
    failure = ask(f"https://{HOST}/api")
    assert failure
    assert "proxy" not in failure
    assert not world.proxy.seen


@ASKED
@pytest.mark.parametrize(
    "variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR", ""]
)
def test_authority_is_trusted_where_a_variable_names_it(
    variable: str,
    ask: Callable[[str], str],
    world: World,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only this authority is trusted then."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    if variable == "SSL_CERT_DIR":
        (tmp_path / "ca.pem").write_bytes(authority.bundle.read_bytes())
        subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
        monkeypatch.setenv(variable, str(tmp_path))
    elif variable:
        monkeypatch.setenv(variable, str(authority.bundle))
    failure = ask(f"https://127.0.0.1:{world.direct['https']}/api")
    assert not failure if variable else "certificate verify failed" in failure.lower().replace("_", " ")
    assert (len(trusted_certificates().get_ca_certs()) == 1) is bool(variable)


@ASKED
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (407, "the proxy http://127.0.0.1:{port} rejects the login (407)"),
        (403, "the proxy http://127.0.0.1:{port} refuses the connection (403)"),
        (502, "the proxy http://127.0.0.1:{port} refuses the connection (502)"),
        (b"no HTTP at all\r\n\r\n", "the proxy http://127.0.0.1:{port}"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\n\r\nno TLS at all", ""),
        (b"", "the proxy http://127.0.0.1:{port}"),
        (None, "the proxy http://127.0.0.1:{port}"),
    ],
    ids=["407", "403", "502", "no http", "closes", "garbage", "nothing", "dead"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_fails_is_one_text_that_names_it(
    answer: int | bytes | None,
    expected: str,
    scheme: str,
    ask: Callable[[str], str],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No other exception is raised, and no text contains the password."""
    world.proxy.answer = answer
    port = world.proxy.port if answer is not None else 9
    monkeypatch.setenv("ALL_PROXY", f"http://user:{SECRET}@127.0.0.1:{port}")
    failure = ask(f"{scheme}://{HOST}/api")
    assert failure
    if (
        scheme == "https" or ask is not rest or answer == 407
    ):  # a proxy's answer to an absolute address may be the exchange's own
        assert expected.format(port=port) in failure
    assert SECRET not in failure
    assert "\n" not in failure


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (407, ConfigError),
        (403, PermanentError),
        (502, NetworkError),
        (b"", TransientError),
        (b"no HTTP\r\n\r\n", TransientError),
    ],
)
def test_only_a_proxy_that_may_recover_is_asked_again(
    answer: int | bytes, kind: type[CaptureError], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login or a rule must be changed by a person, so it is not retried."""
    world.proxy.answer = answer
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{world.proxy.port}")
    with pytest.raises(kind) as failed:
        Http(HttpSettings(attempts=1)).get(f"https://{HOST}/", max_bytes=10)
    assert failed.value.remedy


@ASKED
@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HTTPS_PROXY", f"http://user:{SECRET}@p:port", "HTTPS_PROXY: is not the address of a proxy"),
        ("HTTPS_PROXY", f"socks5://user:{SECRET}@p:1", "HTTPS_PROXY: names a proxy of the kind socks5"),
        ("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem", "REQUESTS_CA_BUNDLE=/nowhere/ca.pem: cannot be read"),
    ],
)
def test_variable_that_cannot_be_used_is_one_text(
    variable: str,
    value: str,
    expected: str,
    ask: Callable[[str], str],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The case during a recording matters because a file of certificates may be removed."""
    del world
    monkeypatch.setenv(variable, value)
    failure = ask(f"https://{HOST}/api")
    assert failure.startswith(expected)
    assert SECRET not in failure
