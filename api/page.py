"""The built page: immutable assets, and the one document for every path the page routes itself."""

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

MISSING = (
    "The page has not been built. `make up` builds it; by hand:"
    " cd frontend && npm ci && npm run build\n"
)


class Assets(StaticFiles):
    """Files with a hash in their name: kept by browsers for a year."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def mount(app: FastAPI, folder: Path) -> None:
    """Serve the page from `folder`; say how to build it where it is missing."""
    index = folder / "index.html"
    app.mount("/assets", Assets(directory=folder / "assets", check_dir=False), name="assets")

    def document(request: Request) -> Response:
        name = request.path_params["path"]
        if name.startswith(("api/", "ws/")):
            raise HTTPException(404)
        file = (folder / name).resolve() if name else index
        if name and file.is_relative_to(folder.resolve()) and file.is_file():
            return FileResponse(file)
        if not index.is_file():
            return PlainTextResponse(MISSING, status_code=503)
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    app.add_route("/{path:path}", document, methods=["GET", "HEAD"], include_in_schema=False)
