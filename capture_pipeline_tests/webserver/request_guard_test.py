"""Requests that the request guard forwards and refuses."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from capture_pipeline.request_guard import LOOPBACK_NAMES, RequestGuard
from capture_pipeline.webserver.app import accepted_hosts, check_request

OWN = {"Host": "127.0.0.1:3000"}
JSON = {"Content-Type": "application/json"}


async def service(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept everything."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await PlainTextResponse(f"reached {Request(scope).method}")(scope, receive, send)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Start a service with the rules of the webserver behind the guard; yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    guarded = RequestGuard(service, LOOPBACK_NAMES, check_request)
    server = uvicorn.Server(uvicorn.Config(guarded, lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def ask(port: int, method: str, path: str, headers: list[tuple[str, str]]) -> tuple[int, str]:
    """Send one request with exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    with closing(connection), connection.getresponse() as answer:
        return answer.status, answer.read().decode()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/", {"Host": "localhost:3000"}, 200),
        ("GET", "/", {"Host": "[::1]:3000"}, 200),
        ("GET", "/", {"Host": "LOCALHOST:3000"}, 200),
        ("GET", "/", {"Host": "evil.example:3000"}, 403),
        ("GET", "/", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", "/", {"Host": "127.0.0.1@evil.example"}, 403),
        ("GET", "/", {"Host": ""}, 403),
        ("GET", "/", {"Host": "[::1"}, 403),
        ("GET", "/runs", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("GET", "/logs/x", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", "/logs/x", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ("GET", "/logs/x", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ("GET", "/graphql", {}, 403),
        ("HEAD", "/graphql", {}, 403),
        ("GET", "/graphql/", {}, 403),
        ("GET", "/dagster/graphql", {}, 403),
        ("POST", "/graphql", JSON, 200),
        ("POST", "/graphql", {"Content-Type": "Application/JSON; charset=utf-8"}, 200),
        ("POST", "/graphql", {**JSON, "Origin": "http://127.0.0.1:3000"}, 200),
        ("POST", "/graphql", {**JSON, "Origin": "http://127.0.0.1:8000"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": "http://localhost:3000"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": "https://evil.example"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": "null"}, 403),
        ("POST", "/graphql", {**JSON, "Origin": ""}, 403),
        ("POST", "/graphql", {"Content-Type": "text/plain"}, 403),
        ("POST", "/graphql", {"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ("POST", "/graphql", {"Content-Type": "multipart/form-data; boundary=x"}, 403),
        ("POST", "/graphql", {"Content-Type": "text/plain; application/json"}, 403),
        ("POST", "/graphql", {}, 403),
        ("POST", "/report_asset_materialization/bars", JSON, 403),
        ("PUT", "/graphql", JSON, 403),
        ("DELETE", "/", {}, 403),
    ],
)
def test_only_requests_of_own_pages_and_programs_reach_the_service(
    port: int, method: str, path: str, headers: Mapping[str, str], status: int
) -> None:
    """Host name and origin must be those of the service; GraphQL must be JSON by POST."""
    found, text = ask(port, method, path, list({**OWN, **headers}.items()))
    assert found == status
    assert method == "HEAD" or (text == f"reached {method}") == (status == 200)


@pytest.mark.parametrize(
    ("headers", "is_reached"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:3000"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Host": "evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket"}, False),
    ],
)
def test_only_websockets_of_own_pages_and_programs_are_accepted(
    port: int, headers: Mapping[str, str], *, is_reached: bool
) -> None:
    """A refused handshake is answered with 403."""
    own = f"127.0.0.1:{port}"
    sent = {name: value.replace("127.0.0.1:3000", own) for name, value in headers.items()}
    host = sent.pop("Host", own)
    if is_reached:
        with connect(f"ws://{host}/graphql", additional_headers=sent, proxy=None):
            return
    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"ws://{host}/graphql",
            sock=socket.create_connection(("127.0.0.1", port)),
            additional_headers=sent,
            proxy=None,
        )
    assert refused.value.response.status_code == 403


def test_two_host_headers_are_refused(port: int) -> None:
    """Servers differ in which of two headers counts; the HTTP library or the guard refuses both."""
    assert ask(port, "GET", "/", [("Host", "127.0.0.1:3000"), ("Host", "evil.example")])[0] in {400, 403}


def test_a_missing_host_header_is_refused(port: int) -> None:
    """Every browser and every HTTP/1.1 client sends the header."""
    assert ask(port, "GET", "/", [])[0] in {400, 403}


def test_further_names_come_from_the_environment() -> None:
    """They are needed for a proxy with another host name."""
    assert accepted_hosts("") == LOOPBACK_NAMES
    assert accepted_hosts(" Capture.example.org ,b.example,") == LOOPBACK_NAMES | {
        "capture.example.org",
        "b.example",
    }
