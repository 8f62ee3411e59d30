"""A writer of files is killed in the middle (F20): old or new content, and nothing left behind."""

import asyncio
import json
from pathlib import Path
from uuid import UUID

import httpx

from store.files.folder import project_folder
from tests.faults.scene import Scene
from tests.system import checked

SWEPT_WITHIN = 60


def folder_of(scene: Scene) -> Path:
    team = scene.team
    root = scene.system.folder / "data/files"
    return project_folder(root, UUID(team.tenant_id), UUID(team.project_id))


def incoming(scene: Scene) -> list[Path]:
    return list((scene.system.folder / "data/files/.incoming").iterdir())


async def swept(scene: Scene) -> None:
    async def nothing() -> bool:
        return not incoming(scene)

    await scene.system.until(nothing, timeout=SWEPT_WITHIN)


async def test_a_worker_killed_while_it_writes(scene: Scene) -> None:
    await scene.allow("write_file")
    call = {"path": "notes/a.txt", "content": "new content\n" * 1000}
    question = f"#tool:write_file:{json.dumps(call)} #say:written"
    url = f"/api/projects/{scene.team.project_id}/files/notes/a.txt"
    octets = {"content-type": "application/octet-stream"}
    checked(await scene.team.ada.put(url, content=b"old content", headers=octets))
    for worker in list(scene.system.workers):
        await scene.kill(worker)
    # It dies when all is on the disk and nothing in its place.
    dying = await scene.system.start_worker(FAULT_POINT="K13:1")
    async with scene.team.room("ada", 1) as ada:
        turn = await scene.ask(ada, question)
        await scene.gone(dying, within=30)
        assert (folder_of(scene) / "notes/a.txt").read_bytes() == b"old content"
        await swept(scene)
        assert (await scene.team.grace.get(url)).content == b"old content"
        await scene.hire()
        assert await ada.turn(turn, timeout=45) == "completed"
    # The effect is idempotent: it was tried again.
    assert (await scene.execution(turn))["attempt"] == 2
    assert (await scene.team.grace.get(url)).text == call["content"]
    await swept(scene)
    assert [path.name for path in folder_of(scene).rglob("*")] == ["notes", "a.txt"]


async def test_an_edge_killed_while_it_takes_a_file(scene: Scene) -> None:
    url = f"/api/projects/{scene.team.project_id}/files/big.bin"
    octets = {"content-type": "application/octet-stream"}
    checked(await scene.team.ada.put(url, content=b"old", headers=octets))
    edge = scene.system.edges[0]
    held = asyncio.Event()

    async def pieces():
        for _ in range(20):
            yield bytes(256 * 1024)
        await held.wait()

    uploading = asyncio.create_task(scene.team.ada.put(url, content=pieces(), headers=octets))
    await scene.system.until(lambda: asyncio.sleep(0, bool(incoming(scene))))
    await scene.kill(edge.child)
    held.set()
    (outcome,) = await asyncio.gather(uploading, return_exceptions=True)
    assert isinstance(outcome, httpx.HTTPError)
    # The other edge sees that nobody writes it any more.
    await swept(scene)
    assert (folder_of(scene) / "big.bin").read_bytes() == b"old"
