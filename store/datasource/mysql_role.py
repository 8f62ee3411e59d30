"""What a MySQL or MariaDB user may do, read from its grants and those of its roles.

A read-only transaction holds back writes to rows. It does not hold back a user who reads the
server's files, ends others' queries or changes the server: those are refused at save and again at
query time. Whatever is granted on all databases beyond reading counts as that.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asyncmy.errors import MySQLError

from store.datasource.config import MYSQL_SYSTEM_DATABASES
from store.datasource.errors import RoleTooPowerful
from store.datasource.mysql import MysqlConnection
from store.datasource.role import MAX_GRANTS, RoleReport

MAX_ROLES = 50

_READING = frozenset(
    {"USAGE", "SELECT", "SHOW VIEW", "SHOW DATABASES", "SHOW CREATE ROUTINE", "REFERENCES"}
)
# On all databases these do no more than on each: a routine runs in the read-only transaction.
_READING_EVERYWHERE = _READING | {"EXECUTE"}
_PRIVILEGE = re.compile(r"[A-Z][A-Z_ ]*[A-Z]")
_GRANT = re.compile(
    r"GRANT (?P<privileges>.+?) ON (?P<kind>(?:TABLE|FUNCTION|PROCEDURE|PACKAGE BODY|PACKAGE) )?"
    r"(?P<database>\*|`(?:[^`]|``)*`|'(?:[^'])*'@'[^']*'|[^` ]+?)"
    r"(?:\.(?P<name>\*|`(?:[^`]|``)*`|\S+))? TO ",
    re.DOTALL,
)
_ROLE = re.compile(r"GRANT (?P<roles>[`'\"].*?) TO ", re.DOTALL)
_QUOTED = re.compile(r"`((?:[^`]|``)*)`|'([^']*)'")
_COLUMNS = re.compile(r"\s*\((?:[^`()]|`(?:[^`]|``)*`)*\)")


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges on one thing.

    Attributes:
        database: ``*`` for all; may be a pattern.
        name: Of a table or routine; ``*`` for all.
    """

    privileges: tuple[str, ...]
    database: str
    name: str
    kind: str
    with_grant: bool

    @property
    def is_everywhere(self) -> bool:
        """It counts in every database, or in one of the server's own."""
        return self.database == "*" or any(
            _matches(self.database, own) for own in MYSQL_SYSTEM_DATABASES
        )

    @property
    def powers(self) -> list[str]:
        """What no read-only transaction holds back."""
        if "PROXY" in self.privileges:
            return ["PROXY"]
        if not self.is_everywhere:
            return []
        found = [name for name in self.privileges if name not in _READING_EVERYWHERE]
        where = "" if self.database == "*" else f" on {self.database}"
        return [
            *(f"{name}{where}" for name in found),
            *(["GRANT OPTION"] if self.with_grant and self.database == "*" else []),
        ]

    @property
    def writes(self) -> str:
        """What of it could change something, for people; empty for nothing."""
        found = [name for name in self.privileges if name not in _READING]
        if self.with_grant:
            found.append("GRANT OPTION")
        where = f"{self.database}.{self.name}" if self.name else self.database
        return f"{', '.join(found)} on {self.kind}{where}" if found else ""


class UnknownGrant(Exception):
    """A line of SHOW GRANTS that cannot be read; it counts as too much."""


def _matches(pattern: str, name: str) -> bool:
    expression = "".join(
        {"%": ".*", "_": "."}.get(part, re.escape(part.removeprefix("\\")))
        for part in re.findall(r"\\.|.", pattern, re.DOTALL)
    )
    return re.fullmatch(expression, name, re.IGNORECASE | re.DOTALL) is not None


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def read_grants(lines: Iterable[str]) -> Iterator[Grant]:
    """Read the lines of SHOW GRANTS; those that give a role are passed over.

    Raises:
        UnknownGrant: One is of a form that is not known.
    """
    for line in lines:
        if _ROLE.match(line) or line.startswith(("SET DEFAULT ROLE ", "REVOKE ")):
            continue
        found = _GRANT.match(line)
        if found is None:
            raise UnknownGrant
        privileges = [part.strip() for part in _COLUMNS.sub("", found["privileges"]).split(",")]
        if any(_PRIVILEGE.fullmatch(part) is None for part in privileges):
            raise UnknownGrant
        yield Grant(
            tuple(privileges),
            _unquoted(found["database"]),
            _unquoted(found["name"] or ""),
            found["kind"] or "",
            "GRANT OPTION" in line[found.end() :],
        )


def _roles(lines: Iterable[str]) -> list[str]:
    """Names of the roles given, as SQL writes them."""
    found: list[str] = []
    for line in lines:
        match = _ROLE.match(line)
        # Without hosts: MariaDB's roles have none, MySQL activates all of them at once.
        found += [part.group(0) for part in _QUOTED.finditer(match["roles"])] if match else []
    return found


async def _shown(connection: MysqlConnection) -> list[str]:
    return [
        (text or b"").decode(errors="replace") for (text,) in await connection.fetch("SHOW GRANTS")
    ]


async def _all_lines(connection: MysqlConnection) -> list[str]:
    """Grants of the user and of every role it could take; the session is reset after that."""
    lines = await _shown(connection)
    waiting, seen = _roles(lines), set[str]()
    if not waiting:
        return lines
    if not connection.is_mariadb:
        await connection.query("SET ROLE ALL")
        lines = await _shown(connection)
    else:
        while waiting and len(seen) < MAX_ROLES:
            role = waiting.pop()
            if role in seen:
                continue
            seen.add(role)
            try:
                await connection.query(f"SET ROLE {role}")
            except MySQLError:  # a role within the role: it is shown with it
                continue
            more = await _shown(connection)
            lines += [line for line in more if line not in lines]
            waiting += _roles(more)
    await connection.reset()
    return lines


async def inspect_user(connection: MysqlConnection) -> RoleReport:
    """Everything there is to say about the user of `connection`."""
    lines = await _all_lines(connection)
    ((name,),) = await connection.fetch("SELECT CURRENT_USER()")
    powers: list[str] = []
    writes: list[str] = []
    try:
        for grant in read_grants(lines):
            powers += grant.powers
            writes += [grant.writes] if grant.writes else []
    except UnknownGrant:
        powers.append("a grant of an unknown kind")
    problems = []
    if powers:
        problems.append(
            RoleTooPowerful(
                f"The user can do more than work with rows "
                f"({', '.join(dict.fromkeys(powers[:8]))}), and a read-only transaction does not "
                "hold that back. Create a user for reading: CREATE USER reader IDENTIFIED BY '…', "
                "then GRANT SELECT, SHOW VIEW ON your_database.* TO reader."
            )
        )
    grants = list(dict.fromkeys(writes))[:MAX_GRANTS]
    return RoleReport(
        role=(name or b"").decode(errors="replace").partition("@")[0],
        writable=bool(grants),
        grants=grants,
        problems=problems,
    )
