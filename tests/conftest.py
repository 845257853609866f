"""Fixtures for every test, and the order in which files of tests are run."""

import gc
from collections import Counter

import pytest
from tests.support.postgres import postgres_server, postgres_url

import cohortium.link  # noqa: F401 - limits gRPC to TLS 1.3, before any test imports it

__all__ = ["postgres_server", "postgres_url"]

gc.disable()


def pytest_collection_finish() -> None:
    """What was loaded to find the tests stays until the end: it is no garbage to look for."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests come first where workers share the files, so that all end together."""
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path], item.path))
