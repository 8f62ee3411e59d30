"""Administration of a tenant and of the installation; one module per subject."""

from fastapi import APIRouter

from api.routes import admin_people, admin_reports, admin_tenants

router = APIRouter(prefix="/api/admin", tags=["admin"])
for part in (admin_tenants, admin_people, admin_reports):
    router.include_router(part.router)
