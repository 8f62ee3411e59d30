"""Tool_policies."""

from fastapi import APIRouter

router = APIRouter(prefix="/api", tags=["tool_policies"])
