"""Prometheus metrics of an edge, on a port of their own (``METRICS_PORT``)."""

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, start_http_server

from api.rooms import Rooms
from store.database import Database


def serve(rooms: Rooms, database: Database, host: str, port: int) -> None:
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
    in_use = Gauge(
        "everturn_database_connections", "Database connections in use.", registry=registry
    )
    in_use.set_function(lambda: database.in_use)
    limit = Gauge(
        "everturn_database_connections_limit", "Most of them this process opens.", registry=registry
    )
    limit.set(database.pool_size)
    start_http_server(port, addr=host, registry=registry)
