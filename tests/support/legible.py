"""What holds for every figure of the project, whatever it shows."""

import itertools
import warnings

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

PAGE, SMALLEST = 736, 9  # pixels: the width of a page of the report, and the height of the smallest letters on it


def faults(figure: Figure) -> list[str]:
    """What a reader of the figure would look for in vain or could not read: panels without data, writing that is too
    small or lies over other writing, and what drawing warns of, such as a letter that the font lacks."""
    drawn, draw = {}, Text.draw

    def watched(self, renderer, *args, **options):  # what is drawn: of its ticks a panel has more than it shows
        drawn[self] = self.get_window_extent(renderer).padded(-1)
        draw(self, renderer, *args, **options)

    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always", UserWarning)
        patch.setattr(Text, "draw", watched)
        figure.canvas.draw()
    found = [str(warning.message) for warning in caught if warning.category is UserWarning]
    found += [f"panel {number} is empty" for number, axis in enumerate(figure.axes)
              if axis.axison and not axis.has_data()]
    boxes = {text: box for text, box in drawn.items() if text.get_visible() and text.get_text().strip()}
    scale = min(1, PAGE / figure.bbox.width) * figure.dpi / 72
    found += [f"{text.get_text()!r} is {size:.1f} pixels high" for text in boxes
              if (size := scale * text.get_fontsize()) < SMALLEST]
    return found + [f"{one.get_text()!r} lies over {other.get_text()!r}"
                    for one, other in itertools.combinations(boxes, 2) if boxes[one].overlaps(boxes[other])]
