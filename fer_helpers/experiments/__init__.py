"""Many trainings: the study's plan, sweeps and searches, executed notebooks, learning rates.
A single one is in `training`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .learning_rates import rate_range, time_to_accuracy
    from .notebooks import Limits, execute, find_notebooks
    from .search import Search
    from .study import Study, read_plan
    from .sweeps import Cluster, sweep
else:
    __getattr__ = hand_on(__name__, {
        "rate_range": "learning_rates", "time_to_accuracy": "learning_rates",
        "Limits": "notebooks", "execute": "notebooks", "find_notebooks": "notebooks",
        "Search": "search",
        "Study": "study", "read_plan": "study",
        "Cluster": "sweeps", "sweep": "sweeps",
    }, extra="sweep")

__all__ = [
    "Cluster", "Limits", "Search", "Study", "execute", "find_notebooks", "rate_range", "read_plan", "sweep",
    "time_to_accuracy",
]
