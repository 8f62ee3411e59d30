"""Metrics stand on a port of their own."""

from embedded.ports import free_port
from embedded.readiness import http_get
from tests.system import System


async def test_metrics_have_their_own_port(system: System) -> None:
    port = free_port()
    edge = await system.start_edge(EVERTURN_METRICS_PORT=str(port))
    try:
        status, body = await http_get(port, "/metrics")
        assert status == 200
        assert b"everturn_active_connections 0.0" in body
        status, body = await http_get(edge.port, "/metrics")
        assert b"everturn_active_connections" not in body
    finally:
        await edge.child.stop()
    port = free_port()
    worker = await system.start_worker(EVERTURN_METRICS_PORT=str(port))
    try:
        status, body = await http_get(port, "/metrics")
        assert status == 200
        assert b"temporal_" in body
    finally:
        await worker.stop()
