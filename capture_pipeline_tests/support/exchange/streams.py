"""Helpers of stream tests: a sandbox on loopback and clients of its streams."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from typing import Any

import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from capture_pipeline.binance.periods import parse_time
from sandbox_exchange.server.server import SandboxConfig, SandboxServer

NOW = "2025-02-20T10:30:00Z"
NOW_US = parse_time(NOW)
TRADE, DEPTH = "btcusdt@trade", "btcusdt@depth@100ms"
BOTH = f"/stream?streams={TRADE}/{DEPTH}"
BUSY = {
    "symbol": "BTCUSDT",
    "base_price": 60000,
    "tick_size": "0.01",
    "lot_size": "0.00001",
    "trades_per_day": 200_000,
}


class Exchange:
    """Running sandbox with its control interface."""

    def __init__(self, server: SandboxServer) -> None:
        self.server = server
        self.url = server.url

    def connect(self, path: str = BOTH) -> ClientConnection:
        """Connect a client without limits of message size and queue."""
        address = self.url.replace("http", "ws", 1) + path
        return connect(address, max_size=None, max_queue=None, compression=None, ping_interval=None)

    def get(self, path: str, **params: Any) -> Any:
        answer = requests.get(self.url + path, params=params, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def control(self, endpoint: str, document: Any = None, method: str = "POST") -> Any:
        answer = requests.request(
            method if document is not None else "GET",
            f"{self.url}/_sandbox/{endpoint}",
            json=document,
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def advance(self, seconds: float) -> None:
        self.control("clock", {"advance_s": seconds})

    def faults(self, *rules: dict[str, Any]) -> None:
        """Replace the fault script."""
        self.control("faults", list(rules), "PUT")

    def injected(self) -> list[int]:
        """Return the number of injections of each rule."""
        return [rule["injected"] for rule in self.control("faults")["faults"]]

    def connections(self) -> list[dict[str, Any]]:
        """Return all connections, closed ones first."""
        state = self.control("streams")
        return [*state["gone"], *state["connections"]]


@contextmanager
def exchange(**settings: Any) -> Iterator[Exchange]:
    """Run a sandbox with one busy symbol and, by default, a stopped clock."""
    config = {"now": NOW, "frozen": True, "symbols": [BUSY], "weight_budget": 10**6, **settings}
    with SandboxServer(SandboxConfig.model_validate(config)) as server:
        yield Exchange(server)


def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"the condition was not met within {within_s:g} s"
        time.sleep(0.01)


def receive(client: ClientConnection, count: int) -> list[bytes]:
    """Receive the next messages as bytes."""
    return [client.recv(timeout=60, decode=False) for _ in range(count)]


def receive_data(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    """Receive the data of the next messages of a combined stream."""
    return [json.loads(message)["data"] for message in receive(client, count)]


def receive_rest(client: ClientConnection) -> tuple[list[bytes], ConnectionClosed]:
    """Receive all messages until the connection ends; return them with the end."""
    messages = []
    while True:
        try:
            messages.append(client.recv(timeout=60, decode=False))
        except ConnectionClosed as closed:
            return messages, closed


def close_code(closed: ConnectionClosed) -> int:
    """Return the close code; 1006 without a close frame."""
    return closed.rcvd.code if closed.rcvd else 1006


def check_aggregates(aggregates: list[dict[str, Any]], trades: dict[int, tuple[str, str, int, bool]]) -> None:
    """Check that aggregates combine exactly these trades.

    Args:
        aggregates: Messages or rows of REST, in order.
        trades: Price, quantity, time and maker by id, in order. Other ids are not trades of the market.
    """
    counted: list[int] = []
    for one in aggregates:
        ids = [number for number in range(one["f"], one["l"] + 1) if number in trades]
        assert (ids[0], ids[-1]) == (one["f"], one["l"])
        assert {(price, time, maker) for price, _, time, maker in map(trades.__getitem__, ids)} == {
            (one["p"], one["T"], one["m"])
        }
        assert sum(Decimal(trades[number][1]) for number in ids) == Decimal(one["q"])
        counted += ids
    assert counted == list(trades)
    assert [one["a"] for one in aggregates] == list(
        range(aggregates[0]["a"], aggregates[0]["a"] + len(aggregates))
    )
    assert {one["l"] - one["f"] for one in aggregates} >= {0, 1, 2}
    assert any(one["T"] == other["T"] and one["p"] != other["p"] for one, other in pairwise(aggregates))


def raw_connection(box: Exchange, path: str) -> socket.socket:
    """Open a socket and complete the handshake; the socket answers no pings."""
    raw = socket.create_connection(("127.0.0.1", box.server.port), timeout=10)
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    )
    raw.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += raw.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return raw
