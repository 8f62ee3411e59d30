"""How long a message takes to the model, and a token to the reader.

Run as ``python -m bench.turn_latency``.
Everything of ours runs on this machine (PostgreSQL, Temporal, one edge, one worker), and the same
work is sent straight to the same model server in the same run. Figures are milliseconds; a token's
age is read from the token itself (`bench.clock_model`).
"""

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import orjson
import uvloop
from websockets.asyncio.client import connect

from embedded.ports import free_port
from embedded.processes import Child, Command
from embedded.readiness import http_get, until_ready
from tests.model_server import ModelServer
from tests.system import System, checked, running

TOKEN = re.compile(r"([RT])(\d+) ")
RESULTS = Path(__file__).parent / "results"
PASSWORD = "bench-password-1"
RATE = 50


@dataclass
class Sample:
    """What one way of asking measured, in milliseconds."""

    to_model: list[float] = field(default_factory=list)
    relay: list[float] = field(default_factory=list)

    def take(self, text: str, sent_ns: int, now_ns: int) -> None:
        for kind, stamp in TOKEN.findall(text):
            if kind == "R":
                self.to_model.append((int(stamp) - sent_ns) / 1e6)
            else:
                self.relay.append((now_ns - int(stamp)) / 1e6)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def direct(url: str, tokens: int, sample: Sample) -> None:
    """Ask the model server itself, as a script with httpx would."""
    body = {"messages": [{"role": "user", "content": f"#text:{tokens}:{RATE}"}], "stream": True}
    async with httpx.AsyncClient() as http:
        sent = time.monotonic_ns()
        async with http.stream("POST", f"{url}/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                now = time.monotonic_ns()
                if line.startswith("data: {"):
                    content = orjson.loads(line[6:])["choices"][0]["delta"]["content"]
                    sample.take(content, sent, now)


class Asker:
    """One room with one reader."""

    def __init__(self, http: httpx.AsyncClient, ws: str) -> None:
        self.http, self.ws = http, ws

    async def prepare(self) -> None:
        self.project = checked(await self.http.post("/api/projects", json={"name": "Bench"}))["id"]
        path = f"/api/projects/{self.project}/conversations"
        self.conversation = checked(await self.http.post(path, json={}))["id"]
        cookie = "; ".join(f"{k}={v}" for k, v in self.http.cookies.items())
        self.socket = await connect(
            f"{self.ws}?project={self.project}",
            origin=str(self.http.base_url).rstrip("/"),  # type: ignore[arg-type]
            additional_headers={"Cookie": cookie},
            ping_interval=None,
            proxy=None,
        )
        async for text in self.socket:
            if orjson.loads(text)["type"] == "project_joined":
                return

    async def ask(self, tokens: int, sample: Sample) -> None:
        sent = time.monotonic_ns()
        data = {
            "conversation_id": self.conversation,
            "project_id": self.project,
            "content": f"#text:{tokens}:{RATE}",
            "client_message_id": str(sent),
        }
        await self.socket.send(orjson.dumps({"type": "user_message", "data": data}).decode())
        async for text in self.socket:
            now = time.monotonic_ns()
            frame = orjson.loads(text)
            if frame["type"] == "assistant_response":
                sample.take(frame["data"]["content"], sent, now)
            elif frame["type"] == "turn_status" and frame["data"]["status"] in (
                "completed", "failed", "cancelled",
            ):  # fmt: skip
                assert frame["data"]["status"] == "completed", frame
                return
            elif frame["type"] == "error":
                raise RuntimeError(frame)


async def start(stack: AsyncExitStack, folder: Path) -> tuple[System, str]:
    """The embedded stack with the clock as its model."""
    port = free_port()
    command = Command(
        name="model",
        argv=[sys.executable, "-m", "bench.clock_model", "--port", str(port)],
        grace=timedelta(seconds=2),
    )
    model = await stack.enter_async_context(Child(command))

    async def answers() -> bool:
        return (await http_get(port, "/"))[0] == 404

    await until_ready(model, answers, within=timedelta(seconds=20))
    system = await stack.enter_async_context(running(folder, edges=0, workers=0, durable=True))
    system.model = ModelServer(port=port)
    demo = {"EVERTURN_DEMO": "1", "EVERTURN_DEMO_PASSWORD": PASSWORD}
    system.edges = [await system.start_edge(**demo)]
    system.workers = [await system.start_worker()]
    connection = await asyncpg.connect(system.postgres.owner_dsn)
    limits = '{"messages_per_minute": 1000000, "concurrent_turns": 10000}'
    await connection.execute("UPDATE tenants SET limits = $1", limits)
    await connection.close()
    return system, f"http://127.0.0.1:{port}/v1"


async def measure(
    turns: int, rounds: int, tokens: int, system: System, url: str
) -> dict[str, Sample]:
    """`turns` at once, `rounds` times, each way."""
    http = await system.sign_in("ada@demo.test", PASSWORD)
    askers = [Asker(http, system.edges[0].ws) for _ in range(turns)]
    for asker in askers:
        await asker.prepare()
    warm = Sample()
    await asyncio.gather(*(asker.ask(5, warm) for asker in askers))
    ours, straight = Sample(), Sample()
    for _ in range(rounds):
        await asyncio.gather(*(asker.ask(tokens, ours) for asker in askers))
        await asyncio.gather(*(direct(url, tokens, straight) for _ in range(turns)))
    for asker in askers:
        await asker.socket.close()
    return {"everturn": ours, "direct": straight}


def row(name: str, turns: int, sample: Sample) -> dict[str, object]:
    return {
        "way": name,
        "turns": turns,
        "send_to_model_p50": round(percentile(sample.to_model, 0.5), 2),
        "send_to_model_p99": round(percentile(sample.to_model, 0.99), 2),
        "relay_p50": round(percentile(sample.relay, 0.5), 2),
        "relay_p99": round(percentile(sample.relay, 0.99), 2),
        "relay_max": round(max(sample.relay), 2),
        "tokens": len(sample.relay),
    }


async def main(arguments: argparse.Namespace) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            system, url = await start(stack, Path(folder))
            for turns, rounds in ((1, arguments.rounds), (20, max(arguments.rounds // 5, 2))):
                for name, sample in (
                    await measure(turns, rounds, arguments.tokens, system, url)
                ).items():
                    rows.append(row(name, turns, sample))
                    print(json.dumps(rows[-1]), flush=True)
    result = {
        "at": datetime.now(UTC).isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tokens_per_second": RATE,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "turn_latency.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_known_args()[0]))
    sys.stdout.flush()
    os._exit(0)
