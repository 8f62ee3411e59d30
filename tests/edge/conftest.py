"""Fixtures of the edge's tests."""

from tests.edge.rest_fixtures import (
    alpha_fixture,
    beta_fixture,
    company_fixture,
    rest_fixture,
    rest_server_fixture,
)

__all__ = [
    "alpha_fixture",
    "beta_fixture",
    "company_fixture",
    "rest_fixture",
    "rest_server_fixture",
]
