"""One look for all figures: a colour per emotion, a few inks, sizes. Needs matplotlib only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib

#: One colour per emotion, told apart in the common forms of colour blindness (after Okabe & Ito 2008).
COLORS = {
    "anger": "#d55e00", "disgust": "#8a7d00", "fear": "#7b3fa0", "happiness": "#e6a100", "sadness": "#0072b2",
    "surprise": "#009e73", "neutral": "#7f7f7f",
}
INK, ACCENT, BASELINE = "#333333", "#0072b2", "#999999"
#: The lines of networks and of optimizers, which never share a figure.
SERIES = {
    "simple CNN": "#8172b3", "compact": "#4c72b0", "VGG16": "#55a868", "VGG19": "#c44e52", "ResNet50": "#dd8452",
    "SGD": "#8172b3", "AdamW": "#55a868", "Adam": "#4c72b0", "RMSprop": "#c44e52", "Muon": "#dd8452",
}

#: Matplotlib's settings, after seaborn's theme "ticks".
STYLE: dict[Any, Any] = {
    "figure.dpi": 110, "savefig.dpi": 110, "figure.constrained_layout.use": True,
    "font.size": 10.8, "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "sans-serif"],
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlesize": "medium", "axes.labelsize": 10.8,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
    "axes.linewidth": 1.25, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.prop_cycle": "cycler('color', ['4c72b0', 'dd8452', '55a868', 'c44e52', '8172b3', '937860', 'da8bc3', "
                       "'8c8c8c', 'ccb974', '64b5cd'])",
    "xtick.labelsize": 9.9, "ytick.labelsize": 9.9, "xtick.major.size": 6, "ytick.major.size": 6,
    "xtick.major.width": 1.25, "ytick.major.width": 1.25, "xtick.minor.size": 4, "ytick.minor.size": 4,
    "xtick.minor.width": 1, "ytick.minor.width": 1, "grid.color": "0.8", "grid.linewidth": 1,
    "legend.fontsize": 9.9, "legend.title_fontsize": 10.8, "legend.frameon": False,
    "lines.solid_capstyle": "round", "patch.edgecolor": "w", "patch.force_edgecolor": True, "image.cmap": "gray",
}


def use_style() -> None:
    """Set the style for this process; notebooks call it once."""
    matplotlib.rcParams.update(STYLE)


def line_styles(names: Iterable[str]) -> list[dict[str, Any]]:
    """Matplotlib's settings of a line for each name: emotions, networks and optimizers, and what is named after one
    ("VGG19, plain"), keep their colour in all figures; the second and third line of a colour are broken."""
    styles: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        color = next((color for key, color in (COLORS | SERIES).items() if name.startswith(key)), f"C{number}")
        styles.append({"color": color, "ls": ("-", "--", ":")[sum(style["color"] == color for style in styles) % 3]})
    return styles
