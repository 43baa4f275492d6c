"""Servers that send single bytes slowly: requests end at their deadline, and a fast download continues."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture_pipeline.binance.archive.client import ArchiveClient, Download
from capture_pipeline.binance.http.deadline import Deadline
from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import Interval, Month
from capture_pipeline.binance.urls import ArchiveFile, Market
from capture_pipeline.errors import NetworkError, RateLimitedError, RequestRefusedError, ServerError
from capture_pipeline_tests.support.exchange.answers import Handle, answer, server
from capture_pipeline_tests.support.exchange.network import clear_environment, make_authority, tls_front

STEP_S = 0.05
SETTINGS = HttpSettings(answer_timeout_s=0.6, read_timeout_s=10, attempts=1)


def send_slowly(connection: socket.socket, parts: Iterator[bytes]) -> None:
    """Send the parts again and again until the client closes, one each 0.05 s."""
    for part in parts:
        connection.sendall(part)
        time.sleep(STEP_S)


def forever(part: bytes) -> Iterator[bytes]:
    return itertools.repeat(part)


def body(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    send_slowly(connection, forever(b"x"))


def body_without_length(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    send_slowly(connection, forever(b"x"))


def status_line(connection: socket.socket, _: str) -> None:
    send_slowly(connection, itertools.chain([b"HTTP/1.1 200 "], forever(b"O")))


def headers(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    send_slowly(connection, forever(b"x"))


def chunk_size(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    send_slowly(connection, forever(b"0"))


def packed_nothing(connection: socket.socket, _: str) -> None:
    """Return a gzip stream of empty blocks: the library reads on, because it has no output."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10])
    send_slowly(connection, forever(b"\x00\x00\x00\xff\xff"))


def redirects(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: ")
    send_slowly(connection, forever(b"/"))


SLOW: list[Handle] = [body, body_without_length, status_line, headers, chunk_size, packed_nothing, redirects]


@pytest.mark.parametrize("handle", SLOW, ids=lambda handle: handle.__name__)
@pytest.mark.timeout(30)
def test_an_answer_has_to_be_whole_by_its_deadline(handle: Handle) -> None:
    """Single bytes restart the read timeout, but not the deadline."""
    with server(handle) as url, pytest.raises(NetworkError) as failed:
        Http(SETTINGS).get(url, max_bytes=1 << 20)
    assert (
        str(failed.value)
        == f"{url}: sent too little within 0.6 s (if the line is slow, raise http.answer_timeout_s)"
    )


@pytest.mark.timeout(30)
def test_the_body_of_an_error_has_to_be_whole_too() -> None:
    """The error follows from the status, which is known before the body."""

    def handle(connection: socket.socket, _: str) -> None:
        connection.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000000\r\n\r\n")
        send_slowly(connection, forever(b"x"))

    with server(handle) as url, pytest.raises((ServerError, NetworkError)):
        Http(SETTINGS).get(url, max_bytes=1 << 20)


def test_a_connection_that_is_used_again_is_watched_again() -> None:
    """The second answer of a kept connection is slow."""
    answers = []

    def handle(connection: socket.socket, _: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        answers.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        send_slowly(connection, forever(b"x"))

    with server(handle) as url:
        http = Http(SETTINGS)
        assert http.get(url, max_bytes=10).body == b"ok"
        with pytest.raises(NetworkError, match="sent too little within"):
            http.get(url, max_bytes=1 << 20)
    assert len(answers) == 1


@pytest.mark.timeout(60)
def test_a_connection_with_tls_is_shut_down_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS detaches the descriptor of the watched socket."""
    clear_environment(monkeypatch)
    authority = make_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.signed)
    with (
        server(body) as url,
        tls_front(int(url.rpartition(":")[2]), context) as port,
        pytest.raises(NetworkError, match="sent too little"),
    ):
        Http(SETTINGS).get(f"https://127.0.0.1:{port}", max_bytes=1 << 20)


@pytest.mark.timeout(60)
def test_a_handshake_of_tls_ends_by_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends a TLS record byte by byte and never completes it."""
    clear_environment(monkeypatch)
    listener = socket.create_server(("127.0.0.1", 0))

    def take() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            send_slowly(connection, itertools.chain([b"\x16\x03\x03\x3f\xff"], forever(b"\x02")))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    with listener, pytest.raises(NetworkError, match="sent too little within"):
        Http(SETTINGS).get(f"https://127.0.0.1:{listener.getsockname()[1]}", max_bytes=1 << 20)
    thread.join(10)


ZIP = bytes(range(256)) * 40


def client(url: str, **settings: float) -> ArchiveClient:
    return ArchiveClient(Http(SETTINGS.model_copy(update=settings)), url, url)


def test_a_download_goes_on_for_as_long_as_it_brings_enough() -> None:
    """The download takes several times `answer_timeout_s`."""
    began = []

    def handle(connection: socket.socket, _: str) -> None:
        began.append(time.monotonic())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ZIP))
        send_slowly(connection, (ZIP[at : at + 256] for at in range(0, len(ZIP), 256)))

    sink = io.BytesIO()
    with server(handle) as url:
        assert client(url, least_download_kb_s=0.5).download(example_file(), sink, Download())
    assert sink.getvalue() == ZIP
    assert len(began) == 1


@pytest.mark.timeout(30)
def test_a_download_that_brings_too_little_ends_and_keeps_what_came() -> None:
    """The received bytes remain for the next attempt."""
    sink = io.BytesIO()
    with server(body) as url, pytest.raises(NetworkError, match="sent too little within"):
        client(url, least_download_kb_s=1.0).download(example_file(), sink, Download())
    assert sink.getvalue().startswith(b"xxx")


def example_file() -> ArchiveFile:
    return ArchiveFile(Market.SPOT, "BTCUSDT", Interval.H1, Month(2025, 1))


def test_a_deadline_leaves_no_thread_behind() -> None:
    deadline = Deadline(60)
    with deadline.enforce():
        assert [thread.name for thread in threading.enumerate()].count("deadline") == 1
    for left in [thread for thread in threading.enumerate() if thread.name == "deadline"]:
        left.join(10)
        assert not left.is_alive()


def test_what_is_answered_in_time_is_whole() -> None:
    with server(lambda connection, _: answer(connection, {"a": 1})) as url:
        assert Http(SETTINGS).get(url, max_bytes=100).body == b'{"a": 1}'


@pytest.mark.parametrize(
    ("sent", "wait_s"),
    [("inf", 60.0), ("nan", 60.0), ("1e300", 259_200.0), ("-5", 1.0), ("7", 7.0), ("soon", 60.0)],
)
def test_a_wait_that_a_server_asks_for_is_a_number_of_seconds(sent: str, wait_s: float) -> None:
    """A missing or unusable header gives the default."""
    with (
        server(lambda connection, _: answer(connection, {}, "429 Slow", Retry_After=sent)) as url,
        pytest.raises(RateLimitedError) as refused,
    ):
        Http(SETTINGS).get(url, max_bytes=100)
    assert refused.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    "content", [b"[" * 9000, b'{"code": 1e999, "msg": "x"}', b'{"code": [], "msg": 1}', b"\xff\xfe"]
)
def test_the_body_of_an_error_may_be_anything(content: bytes) -> None:
    """The kind of the error follows from the status."""
    with (
        server(lambda connection, _: answer(connection, content, "400 Bad")) as url,
        pytest.raises(RequestRefusedError) as refused,
    ):
        Http(SETTINGS).get(url, max_bytes=100)
    assert str(refused.value) == f"{url}: refuses the request (400)"
