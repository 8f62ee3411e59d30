"""A project's datasources as its tools get them."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import undefer

from activities.tools.tool import Datasource, ToolNotFound
from store.database import Database
from store.secrets import KeyRing
from store.tables import Datasource as DatasourceRow


class ProjectDatasources:
    """The datasources of one project, read when they are used; implements `Datasources`.

    For one run of a tool: what it has read once stays what it is.
    """

    def __init__(
        self, database: Database, keys: KeyRing, tenant_id: UUID, project_id: UUID
    ) -> None:
        self._database = database
        self._keys = keys
        self._tenant_id = tenant_id
        self._project_id = project_id
        self._read: dict[UUID, Datasource] = {}

    async def list(self) -> Sequence[Datasource]:
        """All of the project, by name."""
        async with self._database.tenant_session(self._tenant_id) as session:
            rows = await session.scalars(
                select(DatasourceRow)
                .where(DatasourceRow.project_id == self._project_id)
                .order_by(DatasourceRow.name)
            )
            return [self._open(row) for row in rows]

    async def get(self, datasource_id: str) -> Datasource:
        """One by id.

        Raises:
            ToolNotFound: Unknown, malformed, or of another project or tenant.
        """
        try:
            wanted = UUID(datasource_id)
        except ValueError:
            wanted = UUID(int=0)
        if wanted in self._read:
            return self._read[wanted]
        async with self._database.tenant_session(self._tenant_id) as session:
            row = await session.scalar(
                select(DatasourceRow)
                .where(DatasourceRow.id == wanted, DatasourceRow.project_id == self._project_id)
                .options(undefer(DatasourceRow.operations))
            )
            if row is None:
                raise ToolNotFound(
                    "This project has no datasource with that id. Call list_datasources."
                )
            self._read[wanted] = replace(self._open(row), operations=row.operations)
            return self._read[wanted]

    def _open(self, row: DatasourceRow) -> Datasource:
        return Datasource(
            id=row.id,
            tenant_id=row.tenant_id,
            name=row.name,
            kind=row.kind,
            version=row.version,
            config=row.config,
            secret=self._keys.decrypt(row.secret, row.tenant_id) if row.secret else "",
            cache_seconds=row.cache_seconds,
        )
