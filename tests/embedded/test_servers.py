"""The two servers alone, as the rest of the test suite uses them."""

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client

from embedded import postgres, roles, temporal
from embedded.ports import free_port
from embedded.processes import Child, ChildEnded
from embedded.readiness import http_status


async def test_roles_reach_their_own_database_only(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "data") as server:
        for dsn, who in [
            (server.superuser_dsn, ("postgres", "postgres")),
            (server.owner_dsn, ("everturn_owner", "everturn")),
            (server.app_dsn, ("everturn_app", "everturn")),
            (server.demo_owner_dsn, ("demo_owner", "nycflights13")),
            (server.demo_reader_dsn, ("demo_reader", "nycflights13")),
        ]:
            connection = await asyncpg.connect(dsn)
            row = await connection.fetchrow("SELECT current_user, current_database()")
            assert row is not None
            assert tuple(row) == who
            await connection.close()
        for role, database in [
            (roles.DEMO_READER, roles.DATABASE),
            (roles.DEMO_READER, "postgres"),
            (roles.APP, roles.DEMO_DATABASE),
            (roles.APP, "template1"),
        ]:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await asyncpg.connect(server.dsn(role, database))


async def test_the_application_role_has_no_special_powers(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "data") as server:
        connection = await asyncpg.connect(server.app_dsn)
        powers = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles"
            " WHERE rolname = current_user"
        )
        assert powers is not None
        assert not any(powers)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE mine (id int)")
        await connection.close()


async def test_the_demo_reader_only_reads(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "data") as server:
        owner = await asyncpg.connect(server.demo_owner_dsn)
        await owner.execute("CREATE TABLE flights (id int); INSERT INTO flights VALUES (1)")
        await owner.close()
        reader = await asyncpg.connect(server.demo_reader_dsn)
        assert await reader.fetchval("SELECT count(*) FROM flights") == 1
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.execute("DELETE FROM flights")
        await reader.execute("SET default_transaction_read_only = off")
        for forbidden in (
            "DELETE FROM flights",
            "CREATE TABLE other (id int)",
            "CREATE TEMP TABLE other (id int)",
            "SELECT lo_create(0)",
            "SELECT pg_read_file('/etc/passwd')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(forbidden)
        await reader.close()


async def test_data_and_passwords_outlive_the_server(tmp_path: Path) -> None:
    async with postgres.running(tmp_path) as first:
        connection = await asyncpg.connect(first.owner_dsn)
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        await connection.close()
    async with postgres.running(tmp_path) as second:
        assert second.keys == first.keys
        connection = await asyncpg.connect(second.owner_dsn)
        assert await connection.fetchval("SELECT number FROM kept") == 7
        await connection.close()


async def test_a_foreign_pid_in_the_pid_file_is_no_obstacle(tmp_path: Path) -> None:
    async with postgres.running(tmp_path):
        pass
    own_pid = (await asyncio.to_thread(Path("/proc/self").resolve)).name
    (postgres.cluster(tmp_path) / "postmaster.pid").write_text(f"{own_pid}\n")
    async with postgres.running(tmp_path) as again:
        connection = await asyncpg.connect(again.app_dsn)
        await connection.close()


async def test_another_server_on_the_port_is_noticed(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "one") as one:
        with pytest.raises((postgres.ForeignServer, ChildEnded)):
            async with postgres.running(tmp_path / "two", one.port):
                pass


async def test_temporal_knows_our_search_attributes_and_keeps_its_state(tmp_path: Path) -> None:
    for start in ("first", "second"):
        async with temporal.running(tmp_path / "temporal.db") as server:
            client = await Client.connect(server.address)
            query = " and ".join(f"{name} = 'x'" for name in temporal.SEARCH_ATTRIBUTES)
            assert (await client.count_workflows(query)).count == 0
            if start == "first":
                await client.start_workflow("Waits", id="kept", task_queue="nobody-polls")
            assert (await client.get_workflow_handle("kept").describe()).id == "kept"


async def test_temporal_serves_its_web_ui() -> None:
    async with temporal.running(ui_port=free_port()) as server:
        assert server.ui_port
        assert server.ui_url.endswith(str(server.ui_port))
        assert await http_status(server.ui_port, "/") == 200


async def test_no_process_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[Child] = []
    original = Child.__init__

    def remember(self: Child, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        children.append(self)

    monkeypatch.setattr(Child, "__init__", remember)
    async with postgres.running(tmp_path), temporal.running():
        assert all(child.alive for child in children if child.command.name != "initdb")
    assert {child.command.name for child in children} == {"initdb", "postgres", "temporal"}
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
@pytest.mark.parametrize("identity", ["namespace", "owner"])
async def test_started_by_root_the_server_is_not_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    """Below a folder that only root may enter, whichever of the two ways a machine allows."""
    monkeypatch.setenv("EVERTURN_UNPRIVILEGED_AS", identity)
    closed = postgres.make_private(tmp_path / "closed")
    try:
        async with postgres.running(closed / "data") as server:
            first = server.keys
        async with postgres.running(closed / "data") as server:
            assert server.keys == first
            connection = await asyncpg.connect(server.superuser_dsn)
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
            await connection.close()
    except ChildEnded as error:
        if "no other identity works here" in str(error):
            pytest.skip(f"this machine does not allow: {identity}")
        raise
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if identity == "namespace":
        assert int(lines["CapEff"], 16) == 0
    else:
        assert "0" not in lines["Uid"].split("\t")
