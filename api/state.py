"""What one edge process is made of; built once by `api.app`, reached by every route."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from api.decisions import Decisions
from api.interventions import Interventions
from api.lookups import Lookups
from api.passwords import Passwords
from api.rooms import Rooms
from api.throttle import Throttle
from api.turns import Turns
from api.turnstile import Turnstile
from store.bus import Publisher
from store.database import Database
from store.files.project_files import ProjectFiles
from store.mcp.surroundings import Surroundings
from store.runs import TurnRuns
from store.secrets import KeyRing
from store.settings import Settings
from store.shapes import TemporalLinks
from store.tool_runs import ToolRuns


@dataclass(frozen=True, slots=True)
class Edge:
    """Resources of the process."""

    settings: Settings
    database: Database
    lookups: Lookups
    keys: KeyRing
    publisher: Publisher
    rooms: Rooms
    turns: Turns
    decisions: Decisions
    runs: TurnRuns
    passwords: Passwords
    throttle: Throttle
    links: TemporalLinks
    tool_runs: ToolRuns
    interventions: Interventions
    files: ProjectFiles
    uploads: Turnstile
    mcp: Surroundings


def edge_of(connection: HTTPConnection) -> Edge:
    """The process's `Edge`."""
    edge: Edge = connection.app.state.edge
    return edge


CurrentEdge = Annotated[Edge, Depends(edge_of)]
