"""Figures: one style, one colour per emotion, and a function a figure.
What is drawn is computed in `analysis` and `metrics`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .plots import show
    from .style import COLORS, use_style
else:
    __getattr__ = hand_on(__name__, {
        "COLORS": "style", "show": "plots", "use_style": "style",
    }, extra="lab")

__all__ = ["COLORS", "show", "use_style"]
