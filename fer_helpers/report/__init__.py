"""What is told: recorded results, sentences and tables about them, and the site of all notebooks.
The numbers behind them come from `analysis` and `experiments`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .results import all_runs, keep, recall
    from .site import build_site, report
    from .study_claims import about_the_study
else:
    __getattr__ = hand_on(__name__, {
        "about_the_study": "study_claims",
        "all_runs": "results", "keep": "results", "recall": "results",
        "build_site": "site", "report": "site",
    }, extra="report")

__all__ = ["about_the_study", "all_runs", "build_site", "keep", "recall", "report"]
