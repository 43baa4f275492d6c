"""The sandbox as an application, in a thread, and in the foreground."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from signal import SIGINT, SIGTERM, signal
from types import FrameType, TracebackType
from typing import Self, cast

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from capture_pipeline.binance.urls import Market
from capture_pipeline.errors import ConfigError, NetworkError
from sandbox_exchange.archive.http import ArchiveHost
from sandbox_exchange.archive.publisher import Archive
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.config import SandboxConfig, load_config
from sandbox_exchange.faults.matcher import FaultBook
from sandbox_exchange.http.protocol import OpenProtocol
from sandbox_exchange.http.request_log import RequestLog
from sandbox_exchange.market.irregular import checksum_form
from sandbox_exchange.market.market import SyntheticMarket
from sandbox_exchange.market.source import Source
from sandbox_exchange.rest.http import RestHost
from sandbox_exchange.rest.market_data import RestApi
from sandbox_exchange.rest.rate_limiter import AddressLimiter, Limiter
from sandbox_exchange.rest.trading import TradingApi
from sandbox_exchange.server.control import Control
from sandbox_exchange.server.fault_middleware import FaultMiddleware
from sandbox_exchange.sources.recorded import RecordedSource
from sandbox_exchange.sources.replay import ReplayFeed, ReplaySource, ReplayTrading
from sandbox_exchange.sources.synthetic import SyntheticSource
from sandbox_exchange.streams.control import StreamControl
from sandbox_exchange.streams.feed import MarketFeed
from sandbox_exchange.streams.hub import StreamHub
from sandbox_exchange.streams.messages import Feed

_START_S, _STOP_S = 20.0, 5.0


class Sandbox:
    """Everything that is served, without a socket.

    Attributes:
        config: What it is made of.
        clock: Sandbox time.
        market: The synthetic market; None in recorded mode.
        source: Klines and files, synthetic or recorded.
        archive: The published files.
        faults: The fault script at work.
        log: The requests.
        limits: What the address may do.
        streams: The stream connections.
        app: The ASGI application; its connections must come through `OpenProtocol` for faults that reset or cut them.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        """Build it.

        Raises:
            ConfigError: The recorded directory holds no kline file.
        """
        self.config = config = config or SandboxConfig()
        self.market: SyntheticMarket | None = None
        self.source: Source
        self._replay: ReplayFeed | None = None
        now, speed = config.now, 0 if config.frozen else config.speed
        feed: Feed | None = None
        if config.replay is not None:
            feed = self._replay = ReplayFeed(config.replay)
            self.source, now = ReplaySource(self._replay), self._replay.first_us
        elif config.recorded is not None:
            recorded = RecordedSource(config.recorded, config.market)
            self.source, now = (
                recorded,
                now or recorded.published_by(config.monthly_delay_hours, config.daily_delay_hours),
            )
        else:
            self.market = SyntheticMarket(config)
            self.source, feed = SyntheticSource(self.market, config), MarketFeed(self.market)
        # A replay's clock waits for the first listener, who would miss its beginning otherwise.
        self.clock = SandboxClock(now, speed=0 if self._replay else speed)
        self.faults = FaultBook(config.faults)
        self.log = RequestLog()
        self.limits = AddressLimiter(
            requests_until_ban=config.requests_until_ban,
            ban_s=config.ban_s,
            attempts=config.connection_attempts,
            window_s=config.connection_window_s,
            stated=config.ban_stated,
        )
        self.streams = StreamHub(feed, self.clock, self.faults, self.log, self.limits, config)
        if self._replay is not None:
            self.streams.on_first = lambda: self.clock.set_speed(speed)
        delays = {
            "monthly_delay_hours": config.monthly_delay_hours,
            "daily_delay_hours": config.daily_delay_hours,
        }
        self.archive = Archive(self.source, self.clock, **delays, form_of=partial(checksum_form, config))
        self.app = FaultMiddleware(Starlette(routes=self._routes()), self.faults, self.log, self.clock)

    def close(self) -> None:
        """End stalled answers and remove the temporary directory."""
        self.app.closing = True
        self.archive.close()

    def _routes(self) -> list[Route]:
        hosts = [route for market in Market for route in self._rest(market).routes()]
        control = Control(self.clock, self.log, self.faults, self.archive, self.limits)
        streams = StreamControl(self.streams)
        return [
            *control.routes(),
            *streams.routes(),
            *hosts,
            *ArchiveHost(self.archive, self.faults).routes(),
        ]

    def _rest(self, market: Market) -> RestHost:
        config = self.config
        budget = config.weight_budget if market is Market.SPOT else config.um_weight_budget
        api = RestApi(market, self.source, self.clock, budget)
        trading = ReplayTrading(self._replay) if self._replay else TradingApi(market, self.market, self.clock)
        return RestHost(market, api, trading, Limiter(budget, self.limits), self.faults, config.rest_lag_s)


class _Server(uvicorn.Server):
    """uvicorn that ends quietly on SIGINT and SIGTERM, and tells its application so."""

    def __init__(self, sandbox: Sandbox, on_ready: Callable[[], None] | None = None) -> None:
        settings = uvicorn.Config(
            sandbox.app,
            host="127.0.0.1",
            http=OpenProtocol,
            ws=cast("type[asyncio.Protocol]", sandbox.streams.connection),
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
        )
        super().__init__(settings)
        self._sandbox = sandbox
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the main thread only, and do not raise them again after the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal(number, self.handle_exit) for number in (SIGINT, SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self.stop()

    def stop(self) -> None:
        """End soon, also with requests that stall."""
        self._sandbox.app.closing = True
        self.should_exit = True


class SandboxServer:
    """A sandbox on 127.0.0.1 in a background thread, as a context manager.

    Attributes:
        sandbox: What is served.
        port: Its port, known from the start.
    """

    def __init__(self, config: SandboxConfig | None = None, port: int = 0) -> None:
        """Bind the port; 0 takes a free one.

        Raises:
            ConfigError: The port is taken, or the configuration cannot be served.
        """
        self.sandbox = Sandbox(config)
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        self._ready = threading.Event()
        self._server = _Server(self.sandbox, self._ready.set)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="sandbox", daemon=True
        )

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Start; ready when this returns.

        Raises:
            NetworkError: It does not start.
        """
        self._thread.start()
        if not self._ready.wait(_START_S):
            raise NetworkError("the sandbox does not start", where=self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End within a second, also with stalled requests."""
        self._server.stop()
        self._thread.join(_STOP_S)
        self.sandbox.close()


def serve(config: SandboxConfig, port: int, on_ready: Callable[[Sandbox, str], None]) -> None:
    """Serve in the foreground until SIGINT or SIGTERM.

    Args:
        config: What to serve.
        port: Port on 127.0.0.1; 0 takes a free one.
        on_ready: Called with the sandbox and its URL once requests are answered.

    Raises:
        ConfigError: The port is taken, or the configuration cannot be served.
    """
    sandbox = Sandbox(config)
    bound = _bound(port)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    try:
        _Server(sandbox, lambda: on_ready(sandbox, url)).run(sockets=[bound])
    finally:
        sandbox.close()


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port {port} cannot be used: {error.strerror}", remedy="choose another --port"
        ) from None
    return listener


__all__ = ["Sandbox", "SandboxConfig", "SandboxServer", "load_config", "serve"]
