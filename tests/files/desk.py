"""One project's folder and the tools that work in it."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import update

from activities.tools.arguments import parse_arguments
from activities.tools.list_files import ListFiles
from activities.tools.read_file import ReadFile
from activities.tools.registry import Registry
from activities.tools.search_files import SearchFiles
from activities.tools.tool import ToolContext
from activities.tools.write_file import WriteFile
from store import people, projects, tenants
from store.database import Database
from store.files.folder import Folder, project_folder
from store.files.project_files import ProjectFiles
from store.tables import Tenant
from tests.tools.world import ListedDatasources


def registry_of(files: ProjectFiles) -> Registry:
    return Registry([ListFiles(files), SearchFiles(files), ReadFile(files), WriteFile(files)])


@dataclass
class Desk:
    database: Database
    files: ProjectFiles
    registry: Registry
    tenant_id: UUID
    user_id: UUID
    project_id: UUID
    path: Path

    @classmethod
    async def of(cls, database: Database, files: ProjectFiles, files_dir: Path) -> "Desk":
        tenant_id, name = uuid4(), f"t{uuid4().hex[:10]}"
        async with database.tenant_session(tenant_id) as session:
            await tenants.add(session, tenant_id, name, name, [])
            user = await people.add(session, tenant_id, f"ada@{name}.test", "Ada", "member")
            project = await projects.add(session, tenant_id, user.id, "Shop")
        path = project_folder(files_dir, tenant_id, project.id)
        return cls(database, files, registry_of(files), tenant_id, user.id, project.id, path)

    async def limit(self, **limits: int) -> None:
        async with self.database.tenant_session(self.tenant_id) as session:
            await session.execute(update(Tenant).values(limits=limits))

    async def drop(self) -> None:
        async with self.database.tenant_session(self.tenant_id) as session:
            await projects.drop(session, self.project_id)

    @property
    def folder(self) -> Folder:
        return self.files.folder(self.tenant_id, self.project_id)

    @property
    def incoming(self) -> list[Path]:
        folder = self.path.parents[1] / ".incoming"
        return list(folder.iterdir()) if folder.exists() else []

    def put(self, path: str, content: str | bytes = b"") -> Path:
        """A file, past the store."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    async def __call__(self, tool_name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool as the executor does."""
        tool = self.registry.get(tool_name)
        assert tool is not None
        context = ToolContext(
            tenant_id=self.tenant_id,
            project_id=self.project_id,
            execution_id=uuid4(),
            attempt=1,
            idempotency_key=str(uuid4()),
            deadline=timedelta(seconds=10),
            datasources=ListedDatasources([]),
        )
        result = await tool.run(parse_arguments(tool, json.dumps(arguments)), context)
        # What every result must be: strict JSON.
        return dict(json.loads(json.dumps(result, allow_nan=False, ensure_ascii=False).encode()))
