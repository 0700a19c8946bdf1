"""What is done to images: augmentation of training batches, corruptions and occlusions of test images.
What these do to a network's answers is in `analysis`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .augmentation import POLICIES, augment, draw, normalise, policy, views
    from .corruptions import CORRUPTIONS, SEVERITIES, corrupt
    from .occlusions import OCCLUSIONS
else:
    __getattr__ = hand_on(__name__, {
        "POLICIES": "augmentation", "augment": "augmentation", "draw": "augmentation", "normalise": "augmentation",
        "policy": "augmentation", "views": "augmentation",
        "CORRUPTIONS": "corruptions", "SEVERITIES": "corruptions", "corrupt": "corruptions",
        "OCCLUSIONS": "occlusions",
    })

__all__ = [
    "CORRUPTIONS", "OCCLUSIONS", "POLICIES", "SEVERITIES", "augment", "corrupt", "draw", "normalise", "policy", "views",
]
