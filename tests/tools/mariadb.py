"""A real MariaDB with a shop in it, from Debian's package: only the server's own programs."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from activities.tools.tool import Datasource
from embedded.ports import LOOPBACK, free_port
from embedded.processes import Child, Command
from store.datasource.config import MysqlConfig
from store.datasource.mysql import DRIVER_ERRORS, MysqlConnection, connect_to
from tests.tools.world import Sink

SETTINGS = (
    "--no-defaults", "--skip-name-resolve", "--skip-log-bin", "--skip-networking=0",
    "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0",
    "--performance-schema=OFF", "--table-open-cache=200",
    "--max-connections=100", "--character-set-server=utf8mb4", "--event-scheduler=OFF",
    "--log-bin-trust-function-creators=1",
)  # fmt: skip

AS_ROOT = ("--user=root",) if os.geteuid() == 0 else ()

SHOP = r"""
CREATE DATABASE shop CHARACTER SET utf8mb4;
CREATE DATABASE other;
USE shop;
CREATE TABLE orders (
    id int PRIMARY KEY, customer varchar(100) NOT NULL, total decimal(12,2), `delete` boolean,
    at datetime DEFAULT '2024-05-06 07:08:09'
);
INSERT INTO orders (id, customer, total, `delete`)
    SELECT seq, concat('customer ', seq), seq * 1.25, seq % 2 = 0 FROM seq_1_to_1500;
CREATE TABLE order_lines (
    order_id int, position int, article text, PRIMARY KEY (order_id, position),
    FOREIGN KEY (order_id) REFERENCES orders (id)
);
INSERT INTO order_lines SELECT seq, 1, concat('article ', seq) FROM seq_1_to_100;
CREATE TABLE log (at timestamp DEFAULT current_timestamp, what text);
CREATE TABLE plain_log (what text) ENGINE = MyISAM;
CREATE TABLE secrets (token text);
INSERT INTO secrets VALUES ('CANARY-SECRET');
CREATE TABLE other.things (id int);
CREATE SEQUENCE s1;
CREATE VIEW plain AS SELECT id, upper(customer) AS customer FROM orders;
CREATE FUNCTION bump() RETURNS int BEGIN INSERT INTO log (what) VALUES ('bump'); RETURN 1; END;
CREATE FUNCTION bump_plain() RETURNS int
    BEGIN INSERT INTO plain_log (what) VALUES ('bump'); RETURN 1; END;
CREATE FUNCTION json_overlaps_too(a int) RETURNS int
    BEGIN INSERT INTO log (what) VALUES ('overlap'); RETURN 1; END;
CREATE VIEW bumping AS SELECT bump() AS b;
CREATE VIEW bumping_plain AS SELECT bump_plain() AS b;
CREATE PROCEDURE p() INSERT INTO log (what) VALUES ('procedure');
CREATE TABLE kinds (
    a tinyint, b smallint unsigned, c mediumint, d bigint unsigned, e decimal(30,10), f float,
    g double, h date, i datetime(6), j timestamp NULL, k time(3), l year, m bit(9), n json,
    o varbinary(20), p blob, q enum('x','y'), r set('a','b'), s char(5), t longtext, u binary(3),
    w bigint
);
SET SESSION sql_mode = '', time_zone = '+00:00';
INSERT INTO kinds VALUES (
    -1, 65535, 5, 18446744073709551615, 12345678901234567890.5, 0.1, 1e300, '0000-00-00',
    '2024-05-06 07:08:09.123456', '2024-05-06 07:08:09', '-838:59:59', 2024, b'101010101',
    '{"a": 12345678901234567890}', x'ff00', x'0102', 'x', 'a,b', 'abc', 'text', x'ff',
    9007199254740993
);
CREATE USER reader IDENTIFIED BY 'reader-password';
GRANT SELECT, SHOW VIEW ON shop.* TO reader;
CREATE USER writer IDENTIFIED BY 'writer-password';
GRANT ALL ON shop.* TO writer;
"""

STATE = """
SELECT
    (SELECT concat(count(*), ' ', bit_xor(crc32(concat_ws('|', id, customer, total, `delete`, at))))
     FROM shop.orders),
    (SELECT count(*) FROM shop.order_lines), (SELECT count(*) FROM shop.log),
    (SELECT count(*) FROM shop.plain_log), (SELECT next_not_cached_value FROM shop.s1),
    (SELECT group_concat(table_schema, '.', table_name ORDER BY 1 SEPARATOR ' ')
     FROM information_schema.tables WHERE table_schema IN ('shop', 'other')),
    (SELECT group_concat(user, host, priv ORDER BY 1) FROM mysql.global_priv),
    @@global.sql_mode, @@global.general_log, @@global.max_statement_time
"""


def program(name: str) -> str:
    """Path of one of the server's programs; the test is skipped without."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        assert not os.environ.get("EVERTURN_REQUIRE_MARIADB"), "MariaDB is missing"
        pytest.skip("MariaDB is not installed (Debian: mariadb-server-core)")
    return found


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is."""

    port: int
    folder: Path


async def _initialise(data: Path) -> None:
    """Make the server's own tables, with an administrator who needs no password from here.

    What mariadb-install-db does, which needs programs of the client's package.
    """
    scripts = Path("/usr/share/mysql")
    script = b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n" + b"".join(
        (scripts / f"mysql_{name}.sql").read_bytes()
        for name in ("system_tables", "performance_tables", "system_tables_data")
    )
    process = await asyncio.create_subprocess_exec(
        program("mariadbd"), *SETTINGS, "--bootstrap", f"--datadir={data}", *AS_ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate(script)
    assert process.returncode == 0, said.decode(errors="replace")[-2000:]


@asynccontextmanager
async def running(folder: Path, *options: str) -> AsyncIterator[Server]:
    """An empty server on a port of its own, as long as the block runs."""
    data = folder / "mariadb"
    data.mkdir(mode=0o700)
    await _initialise(data)
    port = free_port()
    command = Command(
        name="mariadbd",
        argv=[
            program("mariadbd"), *SETTINGS, f"--datadir={data}", f"--port={port}",
            f"--bind-address={LOOPBACK}", f"--socket={data / 's'}", f"--pid-file={data / 'pid'}",
            *AS_ROOT, *options,
        ],
    )  # fmt: skip
    async with Child(command) as child:
        for _ in range(300):
            assert child.alive, "\n".join(child.tail)
            with suppress(*DRIVER_ERRORS, TimeoutError):
                (await administrator(port)).close()
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("\n".join(child.tail))
        yield Server(port, data)


async def administrator(port: int, database: str = "mysql") -> MysqlConnection:
    """A connection that may do everything."""
    config = MysqlConfig.model_construct(
        host=LOOPBACK, port=port, database=database, user="root", ssl="disable"
    )
    return await connect_to(LOOPBACK, config, "", timedelta(seconds=5))


@dataclass(slots=True)
class MariaShop:
    """The database, seen by its administrator."""

    port: int
    admin: MysqlConnection
    sink: Sink

    async def run(self, *statements: str) -> None:
        """Statements of the administrator."""
        for statement in statements:
            await self.admin.query(statement)

    async def state(self) -> list[Any]:
        """Everything a query must not change."""
        (row,) = await self.admin.fetch(STATE)
        files = [path for path in (Path("/tmp/pwned"),) if path.exists()]
        return [*row, self.sink.connections, *files]

    async def busy(self) -> list[bytes]:
        """What runs on behalf of datasources."""
        rows = await self.admin.fetch(
            "SELECT info FROM information_schema.processlist"
            " WHERE user <> 'root' AND info IS NOT NULL"
        )
        return [row[0] or b"" for row in rows]

    async def locks(self) -> list[Any]:
        """Transactions open on behalf of datasources, and rows locked."""
        return await self.admin.fetch(
            "SELECT trx_state, trx_rows_locked FROM information_schema.innodb_trx"
            " JOIN information_schema.processlist ON id = trx_mysql_thread_id WHERE user <> 'root'"
        )

    async def connections(self) -> int:
        """Connections of datasources."""
        ((count,),) = await self.admin.fetch(
            "SELECT count(*) FROM information_schema.processlist"
            " WHERE user NOT IN ('root', 'system user')"
        )
        return int(count or 0)

    def source(self, user: str = "reader", **changes: Any) -> Datasource:
        """A datasource on it."""
        config = {"host": "127.0.0.1", "port": self.port, "database": "shop", "user": user}
        source = Datasource(uuid4(), uuid4(), "shop", "mysql", 1, config, f"{user}-password")
        return replace(source, **changes)


@asynccontextmanager
async def shop_in(server: Server, sink: Sink) -> AsyncIterator[MariaShop]:
    """The shop, made anew."""
    admin = await administrator(server.port)
    try:
        shop = MariaShop(server.port, admin, sink)
        await shop.run(*(part for part in SHOP.strip().removesuffix(";").split(";\n")))
        yield shop
    finally:
        admin.close()
