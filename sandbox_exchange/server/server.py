"""Sandbox server: the ASGI application, and its server in a thread or in the foreground."""

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
from sandbox_exchange.config.models import SandboxConfig, load_config
from sandbox_exchange.faults.matcher import FaultInjector
from sandbox_exchange.http.protocol import OpenProtocol
from sandbox_exchange.http.request_log import RequestLog
from sandbox_exchange.market.irregularities import checksum_form
from sandbox_exchange.market.market import SyntheticMarket
from sandbox_exchange.market.source import Source
from sandbox_exchange.rest.http import RestHost
from sandbox_exchange.rest.market_data import RestApi
from sandbox_exchange.rest.rate_limiter import AddressLimiter, WeightLimiter
from sandbox_exchange.rest.trading import TradingApi
from sandbox_exchange.server.control import Control
from sandbox_exchange.server.fault_middleware import FaultMiddleware
from sandbox_exchange.server.stream_control import StreamControl
from sandbox_exchange.sources.recordings import RecordedSource
from sandbox_exchange.sources.replay import ReplayFeed, ReplaySource, ReplayTrading
from sandbox_exchange.sources.synthetic import SyntheticSource
from sandbox_exchange.streams.feed import MarketFeed
from sandbox_exchange.streams.hub import StreamHub
from sandbox_exchange.streams.messages import Feed

_START_S, _STOP_S = 20.0, 5.0


class Sandbox:
    """Application of the sandbox, without a socket.

    Attributes:
        config: Settings.
        clock: Sandbox time.
        market: Synthetic market; None if recorded files or a recorded session are served.
        source: Klines and files, synthetic or recorded.
        archive: Published files.
        faults: Fault script with its counts.
        log: Log of the requests.
        limits: Limits of the client's address.
        streams: Stream connections.
        app: ASGI application. Faults that reset or cut a connection need `OpenProtocol`.
    """

    def __init__(self, config: SandboxConfig | None = None) -> None:
        """Build the application.

        Raises:
            ConfigError: The directory `recorded` contains no kline file, or the file `replay` is no
                recording.
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
                now or recorded.all_published_us(config.monthly_delay_hours, config.daily_delay_hours),
            )
        else:
            self.market = SyntheticMarket(config)
            self.source, feed = SyntheticSource(self.market, config), MarketFeed(self.market)
        # The clock of a replay starts with the first subscriber, which would miss messages otherwise.
        self.clock = SandboxClock(now, speed=0 if self._replay else speed)
        self.faults = FaultInjector(config.faults)
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
            self.streams.on_first_subscription = lambda: self.clock.set_speed(speed)
        delays = {
            "monthly_delay_hours": config.monthly_delay_hours,
            "daily_delay_hours": config.daily_delay_hours,
        }
        self.archive = Archive(
            self.source, self.clock, **delays, checksum_form=partial(checksum_form, config)
        )
        self.app = FaultMiddleware(Starlette(routes=self._routes()), self.faults, self.log, self.clock)

    def close(self) -> None:
        """End stalled responses and remove the temporary directory."""
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
        return RestHost(
            market, api, trading, WeightLimiter(budget, self.limits), self.faults, config.rest_lag_s
        )


class _Server(uvicorn.Server):
    """uvicorn server that stops without a traceback on SIGINT and SIGTERM, and ends stalled responses."""

    def __init__(self, sandbox: Sandbox, on_ready: Callable[[], None] | None = None) -> None:
        settings = uvicorn.Config(
            sandbox.app,
            host="127.0.0.1",
            http=OpenProtocol,
            ws=cast("type[asyncio.Protocol]", sandbox.streams.create_connection),
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
        """Handle signals in the main thread only, and do not raise them again after the server stopped."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal(number, self.handle_exit) for number in (SIGINT, SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self.stop()

    def stop(self) -> None:
        """Stop within a second, even if responses are stalled."""
        self._sandbox.app.closing = True
        self.should_exit = True


class SandboxServer:
    """Context manager that runs a sandbox on 127.0.0.1 in a background thread.

    Attributes:
        sandbox: Application that is served.
        port: Port on 127.0.0.1, bound by the constructor.
    """

    def __init__(self, config: SandboxConfig | None = None, port: int = 0) -> None:
        """Build the application and bind the port; 0 selects a free port.

        Raises:
            ConfigError: The port is in use, or the application cannot be built.
        """
        self.sandbox = Sandbox(config)
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self._ready = threading.Event()
        self._server = _Server(self.sandbox, self._ready.set)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="sandbox", daemon=True
        )

    @property
    def url(self) -> str:
        """Address `http://127.0.0.1:PORT`, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Start the server and wait until it accepts requests.

        Raises:
            NetworkError: The server does not start within 20 seconds.
        """
        self._thread.start()
        if not self._ready.wait(_START_S):
            raise NetworkError(f"the sandbox did not start within {_START_S:g} s", where=self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self._server.stop()
        self._thread.join(_STOP_S)
        self.sandbox.close()


def serve(config: SandboxConfig, port: int, on_ready: Callable[[Sandbox, str], None]) -> None:
    """Serve in the foreground until SIGINT or SIGTERM.

    Args:
        config: Settings.
        port: Port on 127.0.0.1; 0 selects a free port.
        on_ready: Called with the sandbox and its URL when the server accepts requests.

    Raises:
        ConfigError: The port is in use, or the application cannot be built.
    """
    sandbox = Sandbox(config)
    listener = _bind(port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        _Server(sandbox, lambda: on_ready(sandbox, url)).run(sockets=[listener])
    finally:
        sandbox.close()


def _bind(port: int) -> socket.socket:
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
