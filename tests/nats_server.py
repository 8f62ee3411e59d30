"""A NATS server from its wheel, as a child process; it asks for a password and can cut clients."""

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import nats

from embedded.ports import LOOPBACK, free_port
from embedded.processes import Child, Command
from embedded.readiness import http_get, until_ready

START_WITHIN = timedelta(seconds=20)
# What an URL must quote, and what a log must not show.
USER, PASSWORD = "ever@turn", "CANARY/bus:p@ss%20word"

CONFIG = """
listen: "{host}:{port}"
http: "{host}:{http_port}"
max_control_line: 4KB
accounts {{
  SYS: {{ users: [ {{ user: sys, password: sys }} ] }}
  APP: {{ users: [
    {{ user: {user}, password: {password} }},
    {{ user: mute, password: mute, permissions: {{ publish: "other.>", subscribe: "other.>" }} }},
  ] }}
}}
system_account: SYS
{more}
"""


class NatsServer:
    """Where it is and how it is started; `child` runs.

    Args:
        folder: For its configuration.
        more: More lines of configuration.
        scheme: ``nats`` or ``tls``, as clients are to write it.
    """

    def __init__(self, folder: Path, *, more: str = "", scheme: str = "nats") -> None:
        self.port, self.http_port = free_port(), free_port()
        user, password = quote(USER, safe=""), quote(PASSWORD, safe="")
        self.url = f"{scheme}://{user}:{password}@{LOOPBACK}:{self.port}"
        self.child: Child | None = None
        self._config = folder / f"nats-{self.port}.conf"
        self._config.write_text(
            CONFIG.format(
                host=LOOPBACK, port=self.port, http_port=self.http_port, more=more,
                user=json.dumps(USER), password=json.dumps(PASSWORD),
            )
        )  # fmt: skip

    async def start(self, hear: Callable[[str], None] | None = None) -> Child:
        """Start it, again after it was killed."""
        program = str(Path(sys.executable).with_name("nats-server"))
        child = Child(Command(name="nats", argv=[program, "-c", str(self._config)]), hear)

        async def ready() -> bool:
            return (await http_get(self.http_port, "/healthz"))[0] == 200

        await until_ready(child, ready, within=START_WITHIN)
        self.child = child
        return child

    async def connections(self, name: str) -> list[int]:
        """Numbers of the connections that call themselves so."""
        async with httpx.AsyncClient(verify=False) as http:  # loads no certificates for http
            answer = await http.get(f"http://{LOOPBACK}:{self.http_port}/connz?limit=1000")
        found = answer.json()["connections"]
        return [each["cid"] for each in found if each.get("name") == name]

    async def cut(self, name: str) -> int:
        """End the connections that call themselves so; how many there were."""
        numbers = await self.connections(name)
        client = await nats.connect(f"nats://sys:sys@{LOOPBACK}:{self.port}")
        try:
            for number in numbers:
                subject = f"$SYS.REQ.SERVER.{client._server_info['server_id']}.KICK"
                answer = json.loads(
                    (await client.request(subject, json.dumps({"cid": number}).encode(), 2)).data
                )
                assert "error" not in answer, answer
        finally:
            await client.close()
        return len(numbers)

    async def client(self) -> Any:
        """A client of another's making."""
        return await nats.connect(f"nats://{LOOPBACK}:{self.port}", user=USER, password=PASSWORD)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send something past the application."""
        client = await self.client()
        try:
            await client.publish(subject, payload)
            await asyncio.sleep(0)
            await client.flush()
        finally:
            await client.close()
