"""Numbers with intervals: accuracy and its kin, comparisons, calibration.
They know labels and probabilities, neither faces nor networks."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .calibration import Calibration, calibrate, ece_change, rescale, risk_coverage, selective_accuracy
    from .evaluation import Evaluation, calibration_bins, compare, compare_seeds, evaluate
    from .intervals import Estimate, bootstrap_mean, difference, holm, wilson
else:
    __getattr__ = hand_on(__name__, {
        "Calibration": "calibration", "calibrate": "calibration", "ece_change": "calibration", "rescale": "calibration",
        "risk_coverage": "calibration", "selective_accuracy": "calibration",
        "Evaluation": "evaluation", "calibration_bins": "evaluation", "compare": "evaluation",
        "compare_seeds": "evaluation", "evaluate": "evaluation",
        "Estimate": "intervals", "bootstrap_mean": "intervals", "difference": "intervals", "holm": "intervals",
        "wilson": "intervals",
    })

__all__ = [
    "Calibration", "Estimate", "Evaluation", "bootstrap_mean", "calibrate", "calibration_bins", "compare",
    "compare_seeds", "difference", "ece_change", "evaluate", "holm", "rescale", "risk_coverage", "selective_accuracy",
    "wilson",
]
