"""Numbers about data and networks, for questions: statistics, baselines, confusions, errors, attribution.
It draws nothing and writes no sentences; `viz` and `report` do."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .attribution import attribute, attribution_by_region
    from .baselines import compare_all, eigenface_regression
    from .confusions import confusion_by_accuracy, confusion_correlation, pair_verdicts, rate_changes
    from .dataset_statistics import human_agreement, image_statistics
    from .embeddings import looks_and_meaning, separation
    from .error_analysis import failure_types, region_importance
    from .label_errors import doubtful_labels
    from .leakage import measure_leak
    from .published import REPORTED
    from .robustness import corruption_errors
    from .run_comparison import answer_tables, over_seeds, same_errors, seed_differences
    from .training_dynamics import first_steps
else:
    __getattr__ = hand_on(__name__, {
        "attribute": "attribution", "attribution_by_region": "attribution",
        "compare_all": "baselines", "eigenface_regression": "baselines",
        "confusion_by_accuracy": "confusions", "confusion_correlation": "confusions", "pair_verdicts": "confusions",
        "rate_changes": "confusions",
        "human_agreement": "dataset_statistics", "image_statistics": "dataset_statistics",
        "looks_and_meaning": "embeddings", "separation": "embeddings",
        "failure_types": "error_analysis", "region_importance": "error_analysis",
        "doubtful_labels": "label_errors",
        "measure_leak": "leakage",
        "REPORTED": "published",
        "corruption_errors": "robustness",
        "answer_tables": "run_comparison", "over_seeds": "run_comparison", "same_errors": "run_comparison",
        "seed_differences": "run_comparison",
        "first_steps": "training_dynamics",
    }, extra="lab")

__all__ = [
    "REPORTED", "answer_tables", "attribute", "attribution_by_region", "compare_all",
    "confusion_by_accuracy", "confusion_correlation", "corruption_errors", "doubtful_labels", "eigenface_regression",
    "failure_types", "first_steps", "human_agreement", "image_statistics", "looks_and_meaning", "measure_leak",
    "over_seeds",
    "pair_verdicts", "rate_changes", "region_importance", "same_errors", "seed_differences", "separation",
]
