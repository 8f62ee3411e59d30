"""Members."""

from fastapi import APIRouter

router = APIRouter(prefix="/api", tags=["members"])
