"""The file tools on a real folder: attacks with their controls (F01-F20), and what people need."""

import asyncio
import contextlib
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activities.tools import search_files
from activities.tools.arguments import InvalidArguments
from activities.tools.bounds import MAX_MODEL_BYTES, size
from activities.tools.tool import (
    ToolError,
    ToolFailed,
    ToolNotFound,
    ToolRefused,
    ToolTooLarge,
)
from store.files.folder import Folder
from store.files.project_files import ProjectFiles
from tests.files.desk import Desk, registry_of
from tests.files.test_paths import REFUSED
from workflows.types import Effect, Queue

PATH_TOOLS = ("list_files", "search_files", "read_file", "write_file")
MIB = 1024 * 1024


async def with_path(desk: Desk, tool: str, path: str) -> dict[str, object]:
    more = {"search_files": {"query": "root"}, "write_file": {"content": "x"}}.get(tool, {})
    return await desk(tool, path=path, **more)


def tree(root: Path) -> dict[str, object]:
    """Everything beneath a folder, to see that nothing happened to it."""
    return {
        str(path.relative_to(root)): (
            os.readlink(path) if path.is_symlink()
            else path.read_bytes() if path.is_file() else path.stat().st_mode
        )
        for path in sorted(root.rglob("*"))
        if path.name != ".incoming"
    }  # fmt: skip


def test_what_they_are(desk: Desk) -> None:
    for name in PATH_TOOLS:
        tool = desk.registry.get(name)
        assert tool is not None
        assert tool.queue == Queue.TOOLS_FILES
        assert tool.deadline.total_seconds() == 10
        assert tool.effect is (Effect.IDEMPOTENT if name == "write_file" else Effect.READ)


# --- attacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", PATH_TOOLS)
async def test_paths_that_lead_elsewhere(desk: Desk, tmp_path: Path, tool: str) -> None:
    desk.put("inside.txt", "root")
    outside = tmp_path / "outside.txt"
    outside.write_text("root of all")
    before = tree(tmp_path)
    for case, (path, rule) in REFUSED.items():
        if tool in ("list_files", "search_files") and path in ("", "a/"):
            continue  # the project's own folder, and a folder
        if "\0" in path or "\ud800" in path:
            with pytest.raises(InvalidArguments):  # the schema's guard is before ours
                await with_path(desk, tool, path)
            continue
        if len(path) > 1024:
            continue
        with pytest.raises(ToolRefused, match=rule) as refused:
            await with_path(desk, tool, path)
        assert "root" not in refused.value.message, case
    assert tree(tmp_path) == before


@pytest.mark.parametrize("target", ["outside.txt", "outside", "/etc/passwd", "inside.txt", "gone"])
async def test_links_are_refused(desk: Desk, tmp_path: Path, target: str) -> None:
    """F04: on read, write, list and search; as a file and as a folder on the way."""
    desk.put("inside.txt", "root inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.txt").write_text("root")
    (tmp_path / "outside.txt").write_text("root")
    to = desk.path / "inside.txt" if target == "inside.txt" else tmp_path / target
    (desk.path / "link").symlink_to(to)
    before = tree(tmp_path)
    for tool in PATH_TOOLS:
        for path in ("link", "link/secret.txt", "link/new/file"):
            with pytest.raises(ToolRefused, match="path-link"):
                await with_path(desk, tool, path)
    assert [item["path"] for item in (await desk("list_files"))["items"]] == ["inside.txt"]
    found = (await desk("search_files", query="root"))["matches"]
    assert [match["path"] for match in found] == ["inside.txt"]
    assert tree(tmp_path) == before


async def test_a_link_in_the_place_of_the_projects_folder(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x").write_text("root")
    desk.path.parent.mkdir(parents=True)
    desk.path.symlink_to(tmp_path / "elsewhere")
    for tool in PATH_TOOLS:
        with pytest.raises(ToolRefused, match="path-link"):
            await with_path(desk, tool, "x")
    assert os.listdir(tmp_path / "elsewhere") == ["x"]


async def test_devices_are_never_opened(desk: Desk) -> None:
    """F09: a pipe would be waited for; what is no file is passed over by lists and searches."""
    desk.put("file.txt", "root")
    os.mkfifo(desk.path / "pipe")
    async with asyncio.timeout(5):
        for tool in PATH_TOOLS:
            with pytest.raises(ToolRefused, match="path-device"):
                await with_path(desk, tool, "pipe")
        assert [item["path"] for item in (await desk("list_files"))["items"]] == ["file.txt"]
        assert len((await desk("search_files", query="root"))["matches"]) == 1


async def test_a_path_that_changes_while_it_is_walked(desk: Desk, tmp_path: Path) -> None:
    """A folder and a link take turns under the same name; what is outside is never reached."""
    desk.put("way/file.txt", "inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file.txt").write_text("OUTSIDE")
    way, aside = desk.path / "way", desk.path / "aside"
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            # A writer may make a folder of that name in between.
            for step in (
                lambda: way.rename(aside),
                lambda: way.symlink_to(tmp_path / "outside"),
                way.unlink,
                lambda: shutil.rmtree(way) if aside.exists() else None,
                lambda: aside.rename(way),
            ):
                with contextlib.suppress(OSError):
                    step()

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for number in range(400):
            try:
                if number % 4:
                    seen.add((await desk("read_file", path="way/file.txt"))["content"])
                else:
                    await desk("write_file", path="way/file.txt", content="written")
            except ToolError as error:
                seen.add(error.code)
    finally:
        done.set()
        swapping.join()
    assert seen & {"inside", "written"}
    assert seen <= {"inside", "written", "refused", "not_found", "unavailable"}
    assert (tmp_path / "outside/file.txt").read_text() == "OUTSIDE"


async def test_another_projects_file_is_not_found(desk: Desk, other: Desk) -> None:
    """F16: there is no path that names it, and its own path names nothing here."""
    await other("write_file", path="plans/secret.txt", content="root")
    for tool in ("list_files", "search_files", "read_file"):
        with pytest.raises(ToolNotFound) as theirs:
            await with_path(desk, tool, "plans/secret.txt")
        with pytest.raises(ToolNotFound) as nobodys:
            await with_path(desk, tool, "plans/nobody.txt")
        assert theirs.value.message.replace("secret", "nobody") == nobodys.value.message
    way = f"../../{other.tenant_id}/{other.project_id}/plans/secret.txt"
    with pytest.raises(ToolRefused, match="path-parent"):
        await desk("read_file", path=way)
    assert (await desk("list_files"))["items"] == []
    assert (await other("read_file", path="plans/secret.txt"))["content"] == "root"


async def test_nothing_is_written_for_a_project_that_is_gone(desk: Desk, tmp_path: Path) -> None:
    await desk.drop()
    with pytest.raises(ToolNotFound):
        await desk("write_file", path="a.txt", content="x")
    assert not desk.path.exists()
    assert desk.incoming == []


async def test_a_huge_file_is_read_in_pieces(desk: Desk) -> None:
    """F12: capped, with a mark; nothing is read but the piece."""
    with desk.put("huge.bin").open("wb") as file:
        file.write(b"begin ")
        file.truncate(1024**3)
    with desk.put("huge.txt").open("wb") as file:
        file.write(b"begin " + b"x" * MIB)
        file.seek(1024**3 - 3)
        file.write(b"end")
    async with asyncio.timeout(5):
        read = await desk("read_file", path="huge.txt")
        assert (read["truncated"], read["size"]) == (True, 1024**3)
        assert read["content"].startswith("begin xxx")
        assert size(read) <= MAX_MODEL_BYTES
        last = await desk("read_file", path="huge.txt", offset=1024**3 - 3)
        assert (last["content"], last["truncated"]) == ("end", False)
        binary = await desk("read_file", path="huge.bin")
        assert (binary["binary"], binary["content"]) == (True, "")


async def test_the_quota_holds(desk: Desk) -> None:
    """F14: a write past it leaves the old content, and nothing else."""
    await desk.limit(file_bytes=1000, project_files_bytes=1500)
    await desk("write_file", path="a.txt", content="a" * 900)
    await desk("write_file", path="b.txt", content="b" * 500)
    with pytest.raises(ToolTooLarge, match="A file has at most 1000 bytes"):
        await desk("write_file", path="a.txt", content="A" * 1001)
    with pytest.raises(ToolTooLarge, match="files are full"):
        await desk("write_file", path="b.txt", content="B" * 601)
    with pytest.raises(ToolTooLarge, match="files are full"):
        await desk("write_file", path="c/d.txt", content="c" * 101)
    assert tree(desk.path) == {
        "a.txt": b"a" * 900, "b.txt": b"b" * 500,
    }  # fmt: skip
    assert desk.incoming == []
    # What is replaced does not count: this fits to the byte.
    await desk("write_file", path="b.txt", content="B" * 600)
    await desk("write_file", path="a.txt", content="A" * 900)


async def test_the_number_of_files_is_limited(desk: Desk) -> None:
    await desk.limit(project_files=3)
    await desk("write_file", path="a/b.txt", content="")
    with pytest.raises(ToolTooLarge, match="3 files and folders"):
        await desk("write_file", path="c/d.txt", content="")
    await desk("write_file", path="e.txt", content="")
    await desk("write_file", path="e.txt", content="again")


async def test_writers_that_come_together_do_not_pass_the_quota_together(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if in processes of their own, and with time between measuring and writing."""
    measure = Folder.check_room

    def slowly(self: Folder, *arguments: Any) -> None:
        measure(self, *arguments)
        time.sleep(0.02)

    monkeypatch.setattr(Folder, "check_room", slowly)
    await desk.limit(project_files_bytes=10_000)
    processes = [ProjectFiles(desk.database, tmp_path / "files") for _ in range(2)]
    desks = [replace(desk, registry=registry_of(files)) for files in processes]

    async def write(number: int) -> bool:
        try:
            await desks[number % 2]("write_file", path=f"{number}.txt", content="x" * 1_000)
        except ToolTooLarge:
            return False
        return True

    kept = await asyncio.gather(*map(write, range(30)))
    assert sum(kept) == 10
    assert sum(path.stat().st_size for path in desk.path.iterdir()) == 10_000
    assert desk.incoming == []
    for files in processes:
        files.close()


async def test_a_folder_is_no_file(desk: Desk) -> None:
    desk.put("a/b.txt", "x")
    with pytest.raises(ToolFailed, match="is a folder"):
        await desk("write_file", path="a", content="x")
    with pytest.raises(ToolFailed, match="is a file"):
        await desk("write_file", path="a/b.txt/c", content="x")
    for path in ("a", "a/b.txt/c"):
        with pytest.raises(ToolNotFound):
            await desk("read_file", path=path)


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"path": None}, {"path": 5}, {"path": "a", "mode": "w"}, {"path": "a", "offset": -1},
        {"path": "a", "limit": 0}, {"path": "a", "offset": "0"}, {"path": "a" * 1025},
    ],
)  # fmt: skip
async def test_arguments_are_checked(desk: Desk, arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArguments):
        await desk("read_file", **arguments)


# --- controls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "a.txt", "a/b/c/d.txt", "über uns/naïve.txt", "日本語/報告 1.md", "with  space.txt",
        ".ssh/authorized_keys", "x.html", "emoji 👩‍👩‍👧.txt", "'; DROP TABLE x; --", "-rf",
    ],
)  # fmt: skip
async def test_a_file_is_what_was_written(desk: Desk, path: str) -> None:
    for content in ("first\n", "", "zweiter Text: äöü 🚀\r\nsecond"):
        written = await desk("write_file", path=path, content=content)
        assert written == {"path": path, "size": len(content.encode())}
        read = await desk("read_file", path=path)
        assert (read["path"], read["content"], read["truncated"]) == (path, content, False)
        listed = await desk("list_files")
        assert [item["path"] for item in listed["items"]] == [path]
        assert listed["items"][0]["size"] == len(content.encode())
        assert listed["items"][0]["modified"].endswith("+00:00")
    assert (desk.path / path).read_bytes() == content.encode()
    assert desk.incoming == []


async def test_one_file_under_both_spellings(desk: Desk) -> None:
    await desk("write_file", path="cafe\u0301.txt", content="one")
    await desk("write_file", path="café.txt", content="two")
    assert os.listdir(desk.path) == ["café.txt"]
    assert (await desk("read_file", path="cafe\u0301.txt"))["content"] == "two"


@pytest.mark.parametrize("unit", ["a", "ä", "€", "🚀", '"', "\x01", "\n"])
@pytest.mark.parametrize("limit", [None, 1, 7, 4096])
async def test_a_text_is_read_piece_by_piece(desk: Desk, unit: str, limit: int | None) -> None:
    text = unit * (MIB // len(unit.encode()) // (40 if limit and limit < 10 else 1) // 10) + "end"
    if limit and limit < 10:
        text = unit * 50 + "end"
    desk.put("t.txt", text)
    pieces, offset = [], 0
    while offset is not None:
        given = {} if limit is None else {"limit": limit}
        read = await desk("read_file", path="t.txt", offset=offset, **given)
        assert size(read) <= MAX_MODEL_BYTES
        assert read["truncated"] is (read["next_offset"] is not None)
        pieces.append(read["content"])
        offset = read["next_offset"]
    assert "".join(pieces) == text


async def test_a_text_of_one_megabyte(desk: Desk) -> None:
    desk.put("big.txt", "line of text\n" * 80_660)
    read = await desk("read_file", path="big.txt")
    assert read["size"] == 80_660 * 13
    assert 8_000 < len(read["content"]) <= 16_384
    assert (await desk("read_file", path="big.txt", offset=5, limit=2))["content"] == "of"
    beyond = await desk("read_file", path="big.txt", offset=10 * MIB)
    assert (beyond["content"], beyond["truncated"]) == ("", False)
    # From the middle of a character on: from the next one on.
    desk.put("umlauts.txt", "äöü")
    assert (await desk("read_file", path="umlauts.txt", offset=1))["content"] == "öü"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
async def test_texts_of_other_programs(desk: Desk, encoding: str) -> None:
    desk.put("t.txt", ("Größe: 5 €\n" * 20_000).encode(encoding))
    read = await desk("read_file", path="t.txt")
    assert read["content"].startswith("Größe: 5 €\nGröße")
    following = await desk("read_file", path="t.txt", offset=read["next_offset"], limit=30)
    assert (read["content"] + following["content"]) in "Größe: 5 €\n" * 20_000
    [first, *_] = (await desk("search_files", query="GRÖSSE: 5 €".replace("SS", "ß")))["matches"]
    assert (first["line"], first["text"]) == (1, "Größe: 5 €")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"PK\x03\x04abc", "a ZIP archive"),
        (b"SQLite format 3\0", "a SQLite database"),
        (bytes(range(256)) * 4096, "a binary file"),
    ],
)
async def test_what_is_no_text_is_described(desk: Desk, content: bytes, said: str) -> None:
    desk.put("thing", content)
    read = await desk("read_file", path="thing")
    assert said in read["note"]
    assert (read["content"], read["size"], read["truncated"]) == ("", len(content), False)
    with pytest.raises(ToolFailed, match="no table"):
        await desk("read_file", path="thing", table=True)


async def test_tables(desk: Desk) -> None:
    head = "\ufeffname;price;note\r\n"
    rows = [f'"Stuhl; {n}";{n},50;"zwei\r\nZeilen"\r\n' for n in range(500)]
    desk.put("preise.csv", head + "".join(rows))
    read = await desk("read_file", path="preise.csv", table=True)
    assert [column["name"] for column in read["columns"]] == ["name", "price", "note"]
    assert read["rows"][1] == ["Stuhl; 1", "1,50", "zwei\r\nZeilen"]
    assert (read["row_count"], read["next_offset"], read["truncated"]) == (100, 100, True)
    last = await desk("read_file", path="preise.csv", table=True, offset=498, limit=10)
    assert [row[0] for row in last["rows"]] == ["Stuhl; 498", "Stuhl; 499"]
    assert (last["next_offset"], last["truncated"]) == (None, False)
    desk.put("t.tsv", "a\tb\n1,5\t2\n")
    assert (await desk("read_file", path="t.tsv", table=True))["rows"] == [["1,5", "2"]]
    desk.put("wide.csv", "a,b\n" + f"{'x' * 1500},y\n" * 100)
    wide = await desk("read_file", path="wide.csv", table=True)
    assert wide["truncated"]
    assert size(wide) <= MAX_MODEL_BYTES
    desk.put("line.csv", "x" * MIB)
    with pytest.raises(ToolFailed, match="too long"):
        await desk("read_file", path="line.csv", table=True)
    desk.put("empty.csv", "")
    assert (await desk("read_file", path="empty.csv", table=True))["rows"] == []


async def test_lists(desk: Desk) -> None:
    assert await desk("list_files") == {"items": [], "truncated": False}
    for path in ("b.txt", "a/2.txt", "a/1.txt", "a/c/3.txt", "z.txt"):
        await desk("write_file", path=path, content=path)
    for name in (b"\xff\xfe.bin", b"con\x07trol", "nfd-e\u0301".encode()):
        (desk.path / os.fsdecode(name)).write_bytes(b"cannot be named")
    paths = [item["path"] for item in (await desk("list_files"))["items"]]
    assert paths == ["a/1.txt", "a/2.txt", "a/c/3.txt", "b.txt", "z.txt"]
    for folder in ("a", "a/", "./a"):
        inner = [item["path"] for item in (await desk("list_files", path=folder))["items"]]
        assert inner == paths[:3]
    assert [item["path"] for item in (await desk("list_files", path="b.txt"))["items"]] == ["b.txt"]
    with pytest.raises(ToolNotFound):
        await desk("list_files", path="nope")
    for number in range(1000):
        desk.put(f"many/{number:04}.txt")
    listed = await desk("list_files")
    assert listed["truncated"]
    assert size(listed) <= MAX_MODEL_BYTES


async def test_searches(desk: Desk) -> None:
    desk.put("a.txt", "one\nTwo HELLO\r\nthree")
    desk.put("notes/b.md", "hello hello\n\nnothing\nsay Hello")
    desk.put("binary.bin", b"\0hello")
    desk.put("upper.txt", "STRASSE\nGrüße")
    found = await desk("search_files", query="hello")
    assert [(m["path"], m["line"], m["text"]) for m in found["matches"]] == [
        ("a.txt", 2, "Two HELLO"), ("notes/b.md", 1, "hello hello"), ("notes/b.md", 4, "say Hello"),
    ]  # fmt: skip
    assert found["truncated"] is False
    inner = (await desk("search_files", query="hello", path="notes"))["matches"]
    assert [match["line"] for match in inner] == [1, 4]
    assert len((await desk("search_files", query="hello", path="a.txt"))["matches"]) == 1
    assert [m["line"] for m in (await desk("search_files", query="GRÜSSE"))["matches"]] == [2]
    # It is a text, not a pattern.
    assert (await desk("search_files", query=".*"))["matches"] == []
    long = "x" * 200_000
    desk.put("long.txt", f"{long}needle{long}needle{long}\nneedle")
    found = await desk("search_files", query="NEEDLE")
    assert {match["line"] for match in found["matches"]} == {1, 2}
    assert all(len(match["text"]) < 500 and "needle" in match["text"] for match in found["matches"])
    desk.put("many.txt", "hit\n" * 100_000)
    many = await desk("search_files", query="hit")
    assert many["truncated"]
    assert size(many) <= MAX_MODEL_BYTES


@pytest.mark.parametrize("place", range(65_530, 65_542))
async def test_a_match_over_the_pieces_of_a_long_line(desk: Desk, place: int) -> None:
    desk.put("long.txt", "x" * place + "needle" + "y" * 70_000)
    [match] = (await desk("search_files", query="needle"))["matches"]
    assert match["line"] == 1


async def test_a_search_has_its_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_files, "SEARCH_SECONDS", 0.05)
    for number in range(40):
        desk.put(f"{number}.txt", "nothing in it\n" * 150_000)
    async with asyncio.timeout(5):
        found = await desk("search_files", query="needle")
    assert found == {"matches": [], "truncated": True}


async def test_a_search_nobody_waits_for_ends(desk: Desk) -> None:
    for number in range(100):
        desk.put(f"{number}.txt", "nothing in it\n" * 150_000)
    searching = asyncio.create_task(desk("search_files", query="needle"))
    await asyncio.sleep(0.1)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    # Its thread is free again long before all of it was read.
    idle = [desk.files.run(lambda _stop: threading.get_ident()) for _ in range(8)]
    async with asyncio.timeout(2):
        await asyncio.gather(*idle)
