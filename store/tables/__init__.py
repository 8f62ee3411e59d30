"""Tables. Names are the field's; every tenant table has ``tenant_id`` and a row-level policy.

The policies, the functions that may look across tenants and the grants are in ``migrations/``;
the one door for reading and writing is `store.database.Database.tenant_session`.
"""

from store.tables.base import Base
from store.tables.people import (
    ApiToken,
    Project,
    ProjectMember,
    Session,
    SocketTicket,
    Tenant,
    TenantDomain,
    User,
)
from store.tables.records import AuditEntry, Room, RoomEvent, Usage
from store.tables.sources import CachedResult, Datasource, FileRemoval, HttpPace, McpServer, McpTool
from store.tables.talk import Conversation, Draft, Message, Turn
from store.tables.tools import ToolDecision, ToolExecution, ToolGrant, ToolIntervention, ToolPolicy

__all__ = [
    "ApiToken",
    "AuditEntry",
    "Base",
    "CachedResult",
    "Conversation",
    "Datasource",
    "Draft",
    "FileRemoval",
    "HttpPace",
    "McpServer",
    "McpTool",
    "Message",
    "Project",
    "ProjectMember",
    "Room",
    "RoomEvent",
    "Session",
    "SocketTicket",
    "Tenant",
    "TenantDomain",
    "ToolDecision",
    "ToolExecution",
    "ToolGrant",
    "ToolIntervention",
    "ToolPolicy",
    "Turn",
    "Usage",
    "User",
]
