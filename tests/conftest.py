"""Fixtures for every test."""

from tests.support.postgres import postgres_server, postgres_url

import cohortium.link  # noqa: F401 - limits gRPC to TLS 1.3, before any test imports it

__all__ = ["postgres_server", "postgres_url"]
