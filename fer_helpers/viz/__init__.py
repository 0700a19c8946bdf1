"""Figures: one style, one colour per emotion, and a function a figure.
What is drawn is computed in `analysis` and `metrics`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .plots import COLORS, use_style
else:
    __getattr__ = hand_on(__name__, {
        "COLORS": "plots", "use_style": "plots",
    })

__all__ = ["COLORS", "use_style"]
