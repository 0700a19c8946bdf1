"""A drawn face to change by hand, and what a network makes of it, live: `face_studio` for JupyterLab."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import HTML, Button, Dropdown, FloatSlider, HBox, Layout, Tab, VBox, Widget
from matplotlib.figure import Figure

from ..data.emotions import ACTION_UNITS, EMOTIONS, PROTOTYPES, action_unit_vector
from ..data.rendering import RANGES, FaceParams, render
from ..data.synthetic import sample_params
from ..inference.pretrained import Pretrained, load_pretrained, probabilities
from ..viz import plots
from ..viz.style import COLORS
from .base import Explorer, Picture, bars, locked, text_on

#: Fields of `rendering.FaceParams` by the tab that holds their sliders.
GROUPS = {
    "expression": ("gaze", "asymmetry", "parting"),
    "pose": ("yaw", "pitch", "roll", "shift_x", "shift_y", "scale"),
    "light": ("light_x", "light_y", "light", "brightness", "contrast", "background"),
    "occlusion": ("occluder", "occluder_x", "occluder_y", "occluder_size", "glasses", "beard"),
    "camera": ("blur", "noise"),
    "person": ("face_width", "face_length", "jaw", "skin", "hair_tone", "hairline", "hair_length", "fringe",
               "brow_thickness", "eye_size", "eye_spacing", "iris", "nose_size", "mouth_width", "lip_fullness", "age"),
}
OCCLUDERS = (("nothing", 0.0), ("a dark bar", 1.0), ("fingers", 2.0))


def face_probabilities(network: Pretrained, image: torch.Tensor) -> dict[str, float]:
    """Calibrated probability of each class for one face, uint8 (48, 48), as `photographs.predict` gives it."""
    return dict(zip(network.config.class_names, map(float, probabilities(network, image[None])[0]),
                    strict=True))


class FaceStudio(Explorer):
    """`face_studio`. ``units`` holds the sliders by action unit, ``settings`` those of `RANGES` by name; ``image`` and
    ``probs`` are what they draw and what the network says of it."""

    summary = "Drawn faces at full expression of each emotion, and the network's answers; in JupyterLab, with sliders."

    def __init__(self, network: Pretrained | None = None) -> None:
        self.network, self._held, self._seed = network or load_pretrained(), False, 0
        self.units = {unit: _slider(f"AU{unit} {name}", 0, 0, 1) for unit, name in ACTION_UNITS.items()}
        self.settings = {name: _slider(name.replace("_", " "), middle, low, high)
                         for name, (low, middle, high) in RANGES.items() if name != "occluder"}
        self.settings["occluder"] = Dropdown(options=OCCLUDERS, value=0.0, description="hidden by",
                                             layout=Layout(width="360px"), style={"description_width": "185px"})
        for slider in (*self.units.values(), *self.settings.values()):
            slider.observe(self._moved, "value")
        presets = [self._preset(name) for name in EMOTIONS]
        others = [self._button("another person", "Someone else with the same expression", lambda _: self.meet()),
                  self._button("start over", "The average face, at rest", lambda _: self.start_over())]
        self.picture = Picture(288)
        self.answer = HTML(layout=Layout(width="288px"))
        tabs = Tab([_columns([*(self.units.values() if group == "expression" else ()),
                              *(self.settings[name] for name in names)]) for group, names in GROUPS.items()],
                   titles=[*GROUPS], layout=Layout(flex="1 1 640px"))
        super().__init__([HBox(presets, layout=Layout(flex_flow="row wrap")), HBox(
            [VBox([self.picture, self.answer, HBox(others)]), tabs], layout=Layout(flex_flow="row wrap"))])
        self.refresh()

    def _preset(self, name: str) -> Button:
        return self._button(name, f"All action units of {name} at full strength", lambda _: self.express(name),
                            COLORS[name])

    @staticmethod
    def _button(name: str, hint: str, do: Callable[[Button], object], color: str | None = None) -> Button:
        button = Button(description=name, tooltip=hint, layout=Layout(width="auto"))
        if color:
            button.style.button_color, button.style.text_color = color, text_on(color)
        button.on_click(do)
        return button

    def params(self) -> FaceParams:
        """The one face that the sliders describe."""
        fields = {name: torch.tensor([slider.value], dtype=torch.float32) for name, slider in self.settings.items()}
        units = torch.tensor([[slider.value for slider in self.units.values()]], dtype=torch.float32)
        return dataclasses.replace(FaceParams.neutral(), action_units=units, seed=torch.tensor([self._seed]), **fields)

    def _moved(self, change: Any) -> None:
        # JupyterLab sends a value back as it places it, which may differ in the sixteenth digit.
        if abs(change.new - change.old) > 1e-9:
            self.refresh()

    @locked
    def refresh(self) -> None:
        """Draw the face and ask the network."""
        if self._held:
            return
        self.image = render(self.params()).images[0]
        self.probs = face_probabilities(self.network, self.image)
        best = max(self.probs, key=self.probs.__getitem__)
        self.picture.show(self.image.numpy(), f"drawn face; the network's answer is {best}")
        self.answer.value = bars(self.probs, mark=best)

    @contextlib.contextmanager
    def _at_once(self) -> Iterator[None]:
        """Many sliders move, the face is drawn once."""
        with self.lock:
            self._held = True
            try:
                yield
            finally:
                self._held = False
            self.refresh()

    def express(self, emotion: str) -> None:
        """Show the action units of an emotion's prototype at full strength, and no other."""
        with self._at_once():
            for slider, value in zip(self.units.values(), action_unit_vector(PROTOTYPES[emotion]), strict=True):
                slider.value = value

    def meet(self) -> None:
        """Replace the person, and nothing else, by a random one."""
        generator = torch.Generator().manual_seed(self._seed + 1)
        other = sample_params(torch.tensor([EMOTIONS.index("neutral")]), generator)
        with self._at_once():
            self._seed += 1
            for slider, value in ((self.settings[name], float(getattr(other, name))) for name in GROUPS["person"]):
                slider.value = slider.min + slider.step * round((value - slider.min) / slider.step)

    def start_over(self) -> None:
        """The average face, frontal, unoccluded, at rest."""
        with self._at_once():
            self._seed = 0
            for slider in self.units.values():
                slider.value = 0
            for name, slider in self.settings.items():
                slider.value = RANGES[name][1]

    def figure(self) -> Figure:
        figure, axes = plt.subplots(2, len(EMOTIONS), figsize=(1.55 * len(EMOTIONS), 3.9), squeeze=False, sharey="row")
        plain = FaceParams.neutral(len(EMOTIONS))
        units = torch.tensor([action_unit_vector(PROTOTYPES[name]) for name in EMOTIONS])
        images = render(dataclasses.replace(plain, action_units=units)).images
        for name, image, (above, below) in zip(EMOTIONS, images, axes.T, strict=True):
            probs = face_probabilities(self.network, image)
            above.imshow(image, vmin=0, vmax=255, cmap="gray", interpolation="nearest")
            above.set_title(name, color=COLORS[name], loc="center")
            above.set_axis_off()
            below.barh([*probs], np.array([*probs.values()]), color=[COLORS[emotion] for emotion in probs])
            below.set(xlim=(0, 1), xticks=[0, 1])
        axes[1, 0].invert_yaxis()
        return plots.set_title(figure, "each emotion's action units, drawn at full strength, and the network's answer")


def face_studio(network: Pretrained | None = None) -> FaceStudio:
    """Change a drawn face by sliders for every action unit, pose, light and occlusion, and watch a network's answer.

    Parameters
    ----------
    network : from `loading.load_network`; None takes the small one that ships, which learned from photographs.

    Raises
    ------
    FerError
        If that network is missing or damaged.
    """
    return FaceStudio(network)


def _slider(name: str, value: float, low: float, high: float) -> FloatSlider:
    return FloatSlider(value=value, min=low, max=high, step=_step(low, value, high), description=name,
                       readout_format=".2f" if high - low > 0.1 else ".3f", layout=Layout(width="360px"),
                       style={"description_width": "185px"}, tooltip=name)


def _step(low: float, value: float, high: float) -> float:
    """About a hundredth of the range, so that ``value`` is a whole number of steps from ``low``: JupyterLab moves every
    other value to the nearest step, and the face would not be the one that was asked for."""
    start, length = (Fraction(str(end)) - Fraction(str(low)) for end in (value, high))
    common = Fraction(math.gcd(start.numerator * length.denominator, length.numerator * start.denominator),
                      start.denominator * length.denominator)
    return float(common / math.ceil(100 * common / length))


def _columns(sliders: list[Widget]) -> HBox:
    """Two columns of sliders, one where there is no room."""
    half = -(-len(sliders) // 2) if len(sliders) > 8 else len(sliders)
    return HBox([VBox(sliders[:half]), VBox(sliders[half:])], layout=Layout(flex_flow="row wrap"))
