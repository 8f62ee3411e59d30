"""Files over REST: who may, what is refused, and that no file is ever a page (F01-F20, R16)."""

import asyncio
import os
import time
import unicodedata
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api.routes import files as routes
from store.files.folder import project_folder
from tests.edge.rest_fixtures import ORIGIN, Company, Rest, checked
from tests.files.test_paths import PASSES, REFUSED

MIB = 1024 * 1024


def path_of(company: Company, path: str | None = None) -> str:
    base = f"/api/projects/{company.project_id}/files"
    return base if path is None else f"{base}/{quote(path, safe='')}"


async def upload(who: httpx.AsyncClient, url: str, content: Any, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/octet-stream", **headers}
    return await who.put(url, content=content, headers=sent)


def folder_of(rest: Rest, company: Company) -> Path:
    return project_folder(
        rest.settings.files_root, uuid.UUID(company.id), uuid.UUID(company.project_id)
    )


def incoming(rest: Rest) -> list[Path]:
    folder = rest.settings.files_root / ".incoming"
    return list(folder.iterdir()) if folder.exists() else []


async def limit(company: Company, **limits: int) -> None:
    checked(await company.admin.patch("/api/admin/tenant", json={"limits": limits}))


# --- controls ------------------------------------------------------------------------------------

NAMES = [path for path in PASSES if "~" not in path]


@pytest.mark.parametrize("path", NAMES)
async def test_a_file_comes_back_as_it_was(alpha: Company, path: str) -> None:
    url = path_of(alpha, path)
    for content in (b"first", b"", bytes(range(256))):
        answer = checked(await upload(alpha.editor, url, content))
        assert (answer["path"], answer["size"]) == (path, len(content))
        read = await alpha.viewer.get(url)
        assert (read.status_code, read.content) == (200, content)
        assert read.headers["content-length"] == str(len(content))
    listed = checked(await alpha.viewer.get(path_of(alpha), params={"prefix": path}))["items"]
    assert path in [item["path"] for item in listed]
    checked(await alpha.editor.delete(url))
    assert (await alpha.viewer.get(url)).status_code == 404


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("binary", [False, True])
async def test_a_megabyte(alpha: Company, chunked: bool, binary: bool) -> None:
    content = (bytes(range(256)) if binary else b"line of text....") * (MIB // 16)
    content = content[:MIB]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, MIB, 10_007):
            yield content[start : start + 10_007]

    url = path_of(alpha, "big.bin")
    checked(await upload(alpha.editor, url, pieces() if chunked else content))
    assert (await alpha.viewer.get(url)).content == content


async def test_one_name_has_one_spelling(alpha: Company, rest: Rest) -> None:
    url = path_of(alpha, unicodedata.normalize("NFD", "café/ü.txt"))
    checked(await upload(alpha.editor, url, b"x"))
    assert (await alpha.viewer.get(path_of(alpha, "café/ü.txt"))).content == b"x"
    prefix = unicodedata.normalize("NFD", "café/")
    listed = checked(await alpha.viewer.get(path_of(alpha), params={"prefix": prefix}))["items"]
    assert [item["path"] for item in listed] == ["café/ü.txt"]


async def test_lists_come_in_pages(company: Company) -> None:
    paths = sorted(f"{folder}/{n}.txt" for folder in ("a", "b b", "ü") for n in range(5))
    for path in [*paths, "z.txt"]:
        checked(await upload(company.editor, path_of(company, path), b"x"))
    found, cursor = [], None
    while True:
        params = {"limit": "4"} | ({"cursor": cursor} if cursor else {})
        page = checked(await company.viewer.get(path_of(company), params=params))
        assert len(page["items"]) <= 4
        found += [item["path"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [*paths[:10], "z.txt", *paths[10:]]
    some = checked(await company.viewer.get(path_of(company), params={"prefix": "b b/"}))
    assert [item["path"] for item in some["items"]] == paths[5:10]
    empty = checked(await company.viewer.get(path_of(company), params={"prefix": "../"}))
    assert empty == {"items": [], "next_cursor": None}
    for bad in ("x", "WzFd", "bnVsbA"):
        answer = await company.viewer.get(path_of(company), params={"cursor": bad})
        assert answer.status_code == 422


async def test_a_browser_uploads_from_our_page(alpha: Company) -> None:
    url = path_of(alpha, "page.txt")
    headers = {"origin": ORIGIN, "content-type": "text/plain"}
    checked(await upload(alpha.editor, url, b"x", **headers))
    headers["origin"] = "https://evil.test"
    assert (await upload(alpha.editor, url, b"evil", **headers)).status_code == 403
    assert (await alpha.editor.delete(url, headers=headers)).status_code == 403
    assert (await alpha.viewer.get(url)).content == b"x"


# --- attacks -------------------------------------------------------------------------------------


# A URL with half a character or a line break names no route at all.
ASKED = [case for case in REFUSED if case not in {"half a character", "F07 newline"}]


@pytest.mark.parametrize("case", ASKED)
async def test_paths_that_lead_elsewhere(rest: Rest, company: Company, case: str) -> None:
    path, rule = REFUSED[case]
    checked(await upload(company.editor, path_of(company, "inside.txt"), b"x"))
    url = path_of(company, path)
    for answer in (
        await company.viewer.get(url),
        await upload(company.editor, url, b"evil"),
        await company.editor.delete(url),
    ):
        assert answer.status_code == 422, answer.text
        assert (answer.json()["code"], rule in answer.json()["detail"]) == ("refused", True)
    rows = await rest.audited(company, outcome="refused")
    assert [row["reason"] for row in rows] == [f"refused: {rule}"] * 3
    actions = {row["action"] for row in rows}
    assert actions == {"request.download_file", "request.upload_file", "request.delete_file"}
    [file] = folder_of(rest, company).iterdir()
    assert file.read_bytes() == b"x"


async def test_links_are_refused(rest: Rest, company: Company, tmp_path: Path) -> None:
    """F04"""
    (tmp_path / "outside.txt").write_text("root")
    checked(await upload(company.editor, path_of(company, "inside.txt"), b"x"))
    folder = folder_of(rest, company)
    (folder / "file").symlink_to(tmp_path / "outside.txt")
    (folder / "folder").symlink_to(tmp_path)
    for path in ("file", "folder", "folder/outside.txt", "folder/new.txt"):
        url = path_of(company, path)
        for answer in (
            await company.viewer.get(url),
            await upload(company.editor, url, b"evil"),
            await company.editor.delete(url),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "refused"), answer.text
            assert "path-link" in answer.json()["detail"]
    listed = checked(await company.viewer.get(path_of(company)))["items"]
    assert [item["path"] for item in listed] == ["inside.txt"]
    assert (tmp_path / "outside.txt").read_text() == "root"
    assert os.listdir(tmp_path) == ["outside.txt"]


async def test_another_tenants_or_projects_file_is_not_found(
    rest: Rest, alpha: Company, company: Company
) -> None:
    """F16"""
    checked(await upload(company.editor, path_of(company, "plans.txt"), b"secret"))
    other = checked(await company.owner.post("/api/projects", json={"name": "Other"}))["id"]
    there = f"/api/projects/{company.project_id}/files"
    random = f"/api/projects/{uuid.uuid4()}/files"
    for who in (alpha.owner, alpha.admin, company.outsider):
        for suffix in ("", "/plans.txt", "/..%2Fx", "/%00"):
            for method in ("GET", "PUT", "DELETE") if suffix else ("GET",):
                sent = {"headers": {"content-type": "application/octet-stream"}, "content": b"x"}
                more = sent if method == "PUT" else {}
                theirs = await who.request(method, there + suffix, **more)
                nobodys = await who.request(method, random + suffix, **more)
                assert theirs.status_code == nobodys.status_code == 404
                assert theirs.content == nobodys.content
    url = f"/api/projects/{other}/files/plans.txt"
    assert (await company.owner.get(url)).status_code == 404
    traversed = await company.owner.get(
        f"/api/projects/{other}/files/..%2F{company.project_id}%2Fplans.txt"
    )
    assert (traversed.status_code, traversed.json()["code"]) == (422, "refused")
    assert (await company.viewer.get(path_of(company, "plans.txt"))).content == b"secret"


async def test_roles_hold(rest: Rest, company: Company) -> None:
    url = path_of(company, "a.txt")
    refused = await upload(company.viewer, url, b"x")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    checked(await upload(company.editor, url, b"x"))
    assert (await company.viewer.delete(url)).status_code == 403
    assert (await company.viewer.get(url)).content == b"x"
    token = checked(
        await company.editor.post("/api/auth/tokens", json={"name": "t", "scopes": ["read"]})
    )["token"]
    program = rest.client()
    program.headers["authorization"] = f"Bearer {token}"
    assert (await program.get(url)).content == b"x"
    assert (await upload(program, url, b"y")).status_code == 403
    assert (await rest.client().get(url)).status_code == 401
    assert (await upload(rest.client(), url, b"y")).status_code == 401
    # A role that ends while the file is on its way ends the upload.
    member = f"/api/projects/{company.project_id}/members/{company.people['editor']}"

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half "
        checked(await company.owner.put(member, json={"role": "viewer"}))
        yield b"of it"

    assert (await upload(company.editor, url, pieces())).status_code == 403
    assert (await company.viewer.get(url)).content == b"x"
    assert incoming(rest) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.html", b"<script>alert(1)</script>"),
        ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        (".ssh/authorized_keys", b"ssh-ed25519 AAAA"),
        ('a";filename=x.html', b"x"),
        ("zeile äöü 🚀.js", b"alert(1)"),
    ],
)
async def test_no_file_is_a_page(alpha: Company, name: str, content: bytes) -> None:
    """F18"""
    url = path_of(alpha, name)
    checked(
        await upload(alpha.editor, url, content, **{"content-type": "text/html"}, origin=ORIGIN)
    )
    for headers in ({}, {"accept": "text/html"}, {"range": "bytes=0-3"}):
        read = await alpha.viewer.get(url, headers=headers)
        assert read.headers["content-type"] == "application/octet-stream"
        shown = quote(name.rpartition("/")[2], safe="")
        assert read.headers["content-disposition"] == f"attachment; filename*=UTF-8''{shown}"
        assert read.headers["x-content-type-options"] == "nosniff"
        policy = read.headers["content-security-policy"]
        assert policy.startswith("sandbox; default-src 'none'")
        assert "'self'" not in policy
        assert read.headers["cache-control"] == "no-store"
        assert read.headers["x-frame-options"] == "DENY"


async def test_the_quota_holds(rest: Rest, company: Company) -> None:
    """F14"""
    await limit(company, file_bytes=1000, project_files_bytes=1500)
    a, b = path_of(company, "a"), path_of(company, "b")
    checked(await upload(company.editor, a, b"a" * 900))

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 100):
            yield b"x" * 100

    for url, content in [
        (a, b"A" * 1001), (a, pieces(1100)), (b, b"B" * 601), (b, pieces(700)),
        (path_of(company, "c/d"), b"C" * 700),
    ]:  # fmt: skip
        answer = await upload(company.editor, url, content)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text
    assert (await company.viewer.get(a)).content == b"a" * 900
    assert [path.name for path in folder_of(rest, company).iterdir()] == ["a"]
    assert incoming(rest) == []
    checked(await upload(company.editor, b, b"B" * 600))
    checked(await company.editor.delete(a))
    checked(await upload(company.editor, path_of(company, "c"), b"C" * 900))


async def test_what_is_announced_too_large_is_not_taken(alpha: Company) -> None:
    taken = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += MIB
            yield bytes(MIB)

    url = path_of(alpha, "huge")
    answer = await upload(alpha.editor, url, pieces(), **{"content-length": str(51 * MIB)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert taken <= MIB
    # Nor is what was not announced, beyond the limit.
    answer = await upload(alpha.editor, url, pieces())
    assert answer.status_code == 413
    assert taken <= 53 * MIB
    assert (await alpha.viewer.get(url)).status_code == 404
    for length in ("-1", "1e3", "9" * 30, ""):
        answer = await upload(alpha.editor, url, b"", **{"content-length": length})
        assert answer.status_code in (400, 413, 422), length


async def test_other_bodies_are_bounded_as_ever(alpha: Company) -> None:
    for method, path in [
        ("POST", f"{path_of(alpha)}/x"), ("PUT", "/api/projects/x/members/y"),
        ("PATCH", f"{path_of(alpha)}/x"), ("PUT", "/files/x"), ("DELETE", f"{path_of(alpha)}/x"),
    ]:  # fmt: skip
        answer = await alpha.owner.request(
            method, path, content=bytes(2 * MIB), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413, method


async def test_uploads_of_many_do_not_pass_the_quota_together(rest: Rest, company: Company) -> None:
    await limit(company, project_files_bytes=10_000)
    answers = await asyncio.gather(
        *(upload(company.editor, path_of(company, f"{n}"), b"x" * 1000) for n in range(24))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [413] * 14
    assert sum(file.stat().st_size for file in folder_of(rest, company).iterdir()) == 10_000


async def test_an_upload_that_stands_still_ends(
    rest: Rest, alpha: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "SILENCE_SECONDS", 0.2)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.sleep(30)

    url = path_of(alpha, "still.txt")
    async with asyncio.timeout(10):
        answer = await upload(alpha.editor, url, pieces())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert (await alpha.viewer.get(url)).status_code == 404
    assert incoming(rest) == []


async def test_a_body_shorter_than_announced_changes_nothing(alpha: Company) -> None:
    url = path_of(alpha, "short.txt")
    checked(await upload(alpha.editor, url, b"whole"))
    answer = await upload(alpha.editor, url, b"half", **{"content-length": "100"})
    assert answer.status_code == 422
    assert (await alpha.viewer.get(url)).content == b"whole"


async def test_what_is_in_the_way_is_said(alpha: Company) -> None:
    checked(await upload(alpha.editor, path_of(alpha, "way/file"), b"x"))
    for path in ("way", "way/file/below"):
        answer = await upload(alpha.editor, path_of(alpha, path), b"y")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    for path in ("way", "way/file/below", "nothing"):
        assert (await alpha.viewer.get(path_of(alpha, path))).status_code == 404
        assert (await alpha.editor.delete(path_of(alpha, path))).status_code == 404


# --- ranges --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=6-", 206, b"6789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=3-99", 206, b"3456789"),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=0-1", 200, b"0123456789"),
        ("bytes=" + "9" * 40 + "-", 200, b"0123456789"),
        ("bytes=" + ",".join(["0-0"] * 10_000), 200, b"0123456789"),
    ],
)
async def test_ranges(alpha: Company, asked: str, status: int, content: bytes) -> None:
    url = path_of(alpha, "digits")
    checked(await upload(alpha.editor, url, b"0123456789"))
    started = time.perf_counter()
    answer = await alpha.viewer.get(url, headers={"range": asked})
    assert time.perf_counter() - started < 2
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers["content-length"] == str(len(content))
    if status == 416:
        assert answer.headers["content-range"] == "bytes */10"


async def test_a_range_is_of_one_content(alpha: Company) -> None:
    url = path_of(alpha, "digits")
    checked(await upload(alpha.editor, url, b"0123456789"))
    first = await alpha.viewer.get(url, headers={"range": "bytes=0-3"})
    same = {"range": "bytes=4-", "if-range": first.headers["etag"]}
    assert (await alpha.viewer.get(url, headers=same)).content == b"456789"
    checked(await upload(alpha.editor, url, b"abcdefghij"))
    assert (await alpha.viewer.get(url, headers=same)).content == b"abcdefghij"


# --- records -------------------------------------------------------------------------------------


async def test_writes_and_deletes_are_on_record(rest: Rest, company: Company) -> None:
    url = path_of(company, "notes/a.txt")
    checked(await upload(company.editor, url, b"x"))
    assert (await company.viewer.get(url)).is_success
    checked(await company.owner.delete(url))
    rows = [row for row in await rest.audited(company) if row["action"].startswith("file.")]
    assert [
        (row["action"], row["actor"]["email"], row["resource"], row["outcome"]) for row in rows
    ] == [
        ("file.delete", company.email("owner"), {"type": "file", "id": "notes/a.txt"}, "allowed"),
        ("file.write", company.email("editor"), {"type": "file", "id": "notes/a.txt"}, "allowed"),
    ]
    assert {row["project_id"] for row in rows} == {company.project_id}


async def test_a_deleted_projects_files_go(rest: Rest, company: Company) -> None:
    checked(await upload(company.editor, path_of(company, "a/b.txt"), b"x"))
    folder = folder_of(rest, company)
    assert folder.exists()
    checked(await company.owner.delete(f"/api/projects/{company.project_id}"))
    await rest.app.state.edge.files.carry_out_removals()
    assert not folder.exists()
    assert (await company.owner.get(path_of(company, "a/b.txt"))).status_code == 404
