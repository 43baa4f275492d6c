"""The numbers of a status as Prometheus metrics, served over HTTP on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from capture_pipeline.printable import printable
from capture_pipeline.sessions.status import Status

_COUNTERS = {
    "messages": "Messages recorded.",
    "file_bytes": "Bytes of the recording.",
    "dropped_messages": "Messages that the disk had no room for.",
    "gaps": "Gaps in the ledger.",
    "ids_lost": "Ids lost.",
}
_GAUGES = {
    "messages_per_s": "Messages per second, over the last five seconds.",
    "late_s": "Seconds from the planned start to the first message.",
    "waiting_bytes": "Bytes that are not written yet.",
    "disk_free_bytes": "Free bytes on the disk of the recording.",
    "held": "Messages held back for a predecessor.",
    "lag_ms": "Capture time minus event time of the newest message.",
    "rss_bytes": "Resident memory.",
}


class StatusCollector(Collector):
    """Converts the latest status on each request."""

    def __init__(self, status: Callable[[], Status | None]) -> None:
        """Store the source of the status; the server calls it from its own threads."""
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the status; none before the first status."""
        status = self._status()
        if status is None:
            return
        session = printable(status.session)
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"capture_{name}", text, labels=["session"])
            counter.add_metric([session], getattr(status, name))
            yield counter
        gauges = {name: (text, getattr(status, name)) for name, text in _GAUGES.items()}
        gauges["connections"] = "Open connections.", len(status.connections)
        for name, (text, value) in gauges.items():
            if value is not None:
                gauge = GaugeMetricFamily(f"capture_{name}", text, labels=["session"])
                gauge.add_metric([session], value)
                yield gauge
        error = printable(status.last_error)
        failing = GaugeMetricFamily(
            "capture_connection_error",
            "1 while a connection does not deliver, with its error.",
            labels=["session", "error"],
        )
        failing.add_metric([session, error], int(bool(error)))
        yield failing


def serve_metrics(port: int, status: Callable[[], Status | None]) -> WSGIServer:
    """Serve the metrics of a status for every GET on a port of 127.0.0.1, in a thread.

    Raises:
        OSError: The port is in use.
    """
    registry = CollectorRegistry()
    registry.register(StatusCollector(status))
    server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)
    return server
