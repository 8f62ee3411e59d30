"""Prometheus metrics of an edge, on a port of their own (``METRICS_PORT``)."""

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, start_http_server

from api.rooms import Rooms


def serve(rooms: Rooms, host: str, port: int) -> None:
    """Serve ``/metrics`` on `host`:`port` from a thread of its own.

    Raises:
        OSError: The port is taken.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    connections = Gauge(
        "everturn_active_connections", "Open sockets of this edge.", registry=registry
    )
    connections.set_function(lambda: rooms.connections)
    listening = Gauge(
        "everturn_bus_listening", "1 while the bus reaches this edge.", registry=registry
    )
    listening.set_function(lambda: rooms.listening)
    start_http_server(port, addr=host, registry=registry)
