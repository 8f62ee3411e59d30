"""Metrics stand on a port of their own."""

import httpx

from embedded.ports import free_port
from tests.system import System


async def scrape(port: int) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.get(f"http://127.0.0.1:{port}/metrics")


async def test_metrics_of_an_edge_have_their_own_port(system: System) -> None:
    port = free_port()
    edge = await system.start_edge(EVERTURN_METRICS_PORT=str(port))
    try:
        assert "everturn_active_connections 0.0" in (await scrape(port)).text
        assert "everturn_active_connections" not in (await scrape(edge.port)).text
    finally:
        await edge.child.stop()


async def test_metrics_of_a_worker_are_its_sdks(system: System) -> None:
    port = free_port()
    worker = await system.start_worker(EVERTURN_METRICS_PORT=str(port))
    try:
        assert "temporal_" in (await scrape(port)).text
    finally:
        await worker.stop()
