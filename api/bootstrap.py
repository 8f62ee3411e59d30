"""The first inhabitants: the installation's administrator and the demo tenant.

Runs whenever an edge starts, on any number of edges at once: everything is made once, under a lock
of the database, in one transaction per tenant. What people changed since stays, except for what
the settings state anew (the demo's password and its datasource).
"""

from dataclasses import dataclass
from uuid import UUID, uuid5

import structlog
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from api.passwords import Passwords
from store import datasources, people, projects, tenants
from store.access import Role
from store.database import Database
from store.secrets import KeyRing, SecretError
from store.settings import Settings
from store.tables import Datasource, Project, User

log = structlog.get_logger(__name__)

# Any constants will do, as long as every edge has the same ones.
LOCK = 7_301_452
NAMESPACE = UUID("5a0e1c1e-6c1b-4a57-9f0f-6d1f5a7a0c11")

INSTALLATION_SLUG, DEMO_SLUG = "installation", "demo"
DEMO_DOMAIN = "demo.test"
ADA, GRACE = f"ada@{DEMO_DOMAIN}", f"grace@{DEMO_DOMAIN}"
DEMO_PROJECT, DEMO_DATASOURCE = "Demo", "nycflights13"


@dataclass(frozen=True, slots=True)
class _Builder:
    """One tenant's transaction."""

    session: AsyncSession
    tenant_id: UUID
    passwords: Passwords

    async def person(
        self, email: str, name: str, role: str, *, installation_admin: bool = False
    ) -> User:
        found = await people.by_email(self.session, email)
        if found is None:
            return await people.add(
                self.session, self.tenant_id, email, name, role,
                installation_admin=installation_admin,
            )  # fmt: skip
        return found

    async def set_password(self, user: User, password: SecretStr) -> None:
        given = password.get_secret_value()
        if given and not await self.passwords.matches(given, user.password_hash):
            user.password_hash = await self.passwords.hash(given)


async def bootstrap(
    database: Database, keys: KeyRing, passwords: Passwords, settings: Settings
) -> None:
    """Make what the settings ask for and is not there yet.

    Args:
        database: As the application's role; the schema is up to date.
        keys: Encrypt the demo datasource's password.
        passwords: Hash the passwords of the people made here.
        settings: ``ADMIN_*`` and ``DEMO*`` say what to make.
    """
    if settings.admin_email:
        await _installation(database, passwords, settings)
    if settings.demo:
        await _demo(database, keys, passwords, settings)


async def _tenant_id(database: Database, slug: str) -> UUID:
    async with database.session() as session:
        known = {tenant.slug: tenant.id for tenant in await tenants.everyone(session)}
    # Derived from the slug, so that edges that start together mean the same tenant.
    return known.get(slug) or uuid5(NAMESPACE, slug)


async def _lock(session: AsyncSession) -> None:
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


async def _tenant(session: AsyncSession, tenant_id: UUID, name: str, slug: str) -> bool:
    if await tenants.find(session) is not None:
        return False
    await tenants.add(session, tenant_id, name, slug, [])
    log.info("tenant_created", tenant_id=str(tenant_id), slug=slug)
    return True


async def _installation(database: Database, passwords: Passwords, settings: Settings) -> None:
    email = settings.admin_email.strip().lower()
    tenant_id = await _tenant_id(database, INSTALLATION_SLUG)
    async with database.tenant_session(tenant_id) as session:
        await _lock(session)
        await _tenant(session, tenant_id, "Installation", INSTALLATION_SLUG)
        build = _Builder(session, tenant_id, passwords)
        admin = await build.person(email, email.partition("@")[0], "admin")
        admin.role, admin.installation_admin, admin.active = "admin", True, True
        # Only a first password: one he has chosen himself since is his.
        if admin.password_hash is None:
            await build.set_password(admin, settings.admin_password)
        if admin.password_hash is None:
            log.warning("admin_without_password", setting="EVERTURN_ADMIN_PASSWORD")


async def _demo(
    database: Database, keys: KeyRing, passwords: Passwords, settings: Settings
) -> None:
    tenant_id = await _tenant_id(database, DEMO_SLUG)
    async with database.tenant_session(tenant_id) as session:
        await _lock(session)
        created = await _tenant(session, tenant_id, "Demo", DEMO_SLUG)
        if created:
            await tenants.set_domains(session, tenant_id, [DEMO_DOMAIN])
        build = _Builder(session, tenant_id, passwords)
        ada = await build.person(ADA, "Ada", "admin", installation_admin=True)
        grace = await build.person(GRACE, "Grace", "member")
        for user in (ada, grace):
            await build.set_password(user, settings.demo_password)
            if user.password_hash is None:
                log.warning("demo_without_password", setting="EVERTURN_DEMO_PASSWORD")
        if created:
            project = await projects.add(
                session, tenant_id, ada.id, DEMO_PROJECT,
                description="Ask about the flights that left New York in 2013.",
                project_id=_demo_id(tenant_id, DEMO_PROJECT),
            )  # fmt: skip
            await projects.set_member(session, tenant_id, project.id, grace.id, Role.EDITOR)
        await _demo_datasource(session, tenant_id, keys, settings)


async def _demo_datasource(
    session: AsyncSession, tenant_id: UUID, keys: KeyRing, settings: Settings
) -> None:
    given = settings.demo_datasource_url.get_secret_value()
    # By ids of our own: people may have renamed both, or deleted the project.
    project = await session.get(Project, _demo_id(tenant_id, DEMO_PROJECT))
    if not given or project is None:
        return
    url = make_url(given)
    config = {
        "host": url.host or "127.0.0.1",
        "port": url.port or 5432,
        "database": url.database or DEMO_DATASOURCE,
        "user": url.username or "",
        "ssl": url.query.get("sslmode", "prefer"),
    }
    password = str(url.password or "")
    datasource_id = _demo_id(tenant_id, DEMO_DATASOURCE)
    row = await session.get(Datasource, datasource_id)
    if row is None:
        await session.execute(
            insert(Datasource)
            .values(
                id=datasource_id,
                tenant_id=tenant_id,
                project_id=project.id,
                name=DEMO_DATASOURCE,
                kind="postgresql",
                config=config,
                secret=keys.encrypt(password, tenant_id),
            )
            # People made one of this name themselves: theirs it is.
            .on_conflict_do_nothing()
        )
    elif row.config != config or _opened(keys, row, tenant_id) != password:
        secret = keys.encrypt(password, tenant_id)
        await datasources.reconnect(session, row, config, secret)


def _demo_id(tenant_id: UUID, name: str) -> UUID:
    return uuid5(tenant_id, name)


def _opened(keys: KeyRing, row: Datasource, tenant_id: UUID) -> str | None:
    try:
        return keys.decrypt(row.secret, tenant_id) if row.secret else ""
    except SecretError:  # the key ring was replaced
        return None
