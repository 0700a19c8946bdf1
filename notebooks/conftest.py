"""How nbval runs the notebooks: patiently, and in an order that keeps several processes busy to the end."""

import pytest

#: The longest first, as processes take one notebook after the other; 05 and 06 read a run that 02 has trained by then.
ORDER = ("04_optimization", "02_training", "03_architectures", "05_class_ambiguity", "06_failure_analysis",
         "01_data_exploration")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    for item in items:
        # nbval gives up when a finished cell's output takes over five seconds to arrive, which a busy machine can need.
        item.output_timeout = 120
