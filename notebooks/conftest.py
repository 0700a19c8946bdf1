"""nbval gives up when a finished cell's output takes over five seconds to arrive, which a busy machine can need."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 120
