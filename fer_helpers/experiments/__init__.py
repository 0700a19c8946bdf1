"""Many trainings: the study's plan, sweeps and searches, executed notebooks, learning rates, methods.
A single one is in `training`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .learning_rates import rate_range, time_to_accuracy, tune_rates
    from .method_study import Protocol, study_methods
    from .notebooks import Limits, execute, find_notebooks
    from .search import Search
    from .study import Study, read_plan
    from .sweeps import Cluster, sweep
    from .transfer import linear_evaluation, zero_shot
else:
    __getattr__ = hand_on(__name__, {
        "rate_range": "learning_rates", "time_to_accuracy": "learning_rates", "tune_rates": "learning_rates",
        "Protocol": "method_study", "study_methods": "method_study",
        "Limits": "notebooks", "execute": "notebooks", "find_notebooks": "notebooks",
        "Search": "search",
        "Study": "study", "read_plan": "study",
        "Cluster": "sweeps", "sweep": "sweeps",
        "linear_evaluation": "transfer", "zero_shot": "transfer",
    }, extra="sweep")

__all__ = [
    "Cluster", "Limits", "Protocol", "Search", "Study", "execute", "find_notebooks", "linear_evaluation", "rate_range",
    "read_plan", "study_methods", "sweep", "time_to_accuracy", "tune_rates", "zero_shot",
]
