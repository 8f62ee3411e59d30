"""Whether this edge lives, and whether what it needs is there."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import text
from starlette.responses import JSONResponse

from api.state import CurrentEdge

router = APIRouter(prefix="/api/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.get("/ready")
async def ready(edge: CurrentEdge) -> JSONResponse:
    """Each dependency and its state; 503 while one is down."""
    polled = await edge.runs.polled()
    dependencies: dict[str, Any] = {
        "database": _state(await _database(edge)),
        "bus": _state(edge.rooms.listening),
        "temporal": _state(polled is not None),
        "workers": _state(polled is True),
    }
    up = all(entry["state"] == "up" for entry in dependencies.values())
    return JSONResponse(
        {"status": "ready" if up else "not_ready", "dependencies": dependencies},
        status_code=200 if up else 503,
    )


def _state(up: bool) -> dict[str, str]:
    return {"state": "up" if up else "down"}


async def _database(edge: CurrentEdge) -> bool:
    try:
        async with edge.database.session() as session:
            await session.execute(text("SELECT 1"))
    except Exception:  # noqa: BLE001 -- whatever it is, the database is not ready
        return False
    return True
