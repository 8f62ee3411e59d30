"""What of the web a project's tools may ask, and how often; read when it is used."""

from uuid import UUID

from activities.tools.tool import Reach
from store import http_pace
from store.database import Database
from store.projects import ProjectSettings
from store.tables import Project


class ProjectWeb:
    """The web as one project may use it; implements `activities.tools.tool.Web`."""

    def __init__(self, database: Database, tenant_id: UUID, project_id: UUID) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._project_id = project_id

    async def reach(self) -> Reach:
        """What the project's settings allow now."""
        async with self._database.tenant_session(self._tenant_id) as session:
            project = await session.get_one(Project, self._project_id)
            settings = ProjectSettings.of(project.settings)
        return Reach(settings.http_allowed_hosts, settings.http_allowed_ports)

    async def admit(self, host: str) -> int:
        """See `store.http_pace.admit`."""
        async with self._database.tenant_session(self._tenant_id) as session:
            return await http_pace.admit(session, self._tenant_id, host)
