"""`style`: the project's look, set for a process only where a notebook asks for it."""

import matplotlib
import numpy as np

from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.inference.photographs import save_annotated
from fer_helpers.viz import style


def test_the_style_is_set_where_asked_for_and_nowhere_else(tmp_path):
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        save_annotated(tmp_path / "answer.png", np.zeros((40, 60, 3), np.uint8), [])
        assert dict(matplotlib.rcParams) == before
        style.use_style()
        assert matplotlib.rcParams["axes.edgecolor"] == style.INK != before["axes.edgecolor"]


def test_every_emotion_has_a_colour_of_its_own():
    assert set(style.COLORS) == set(EMOTIONS) and len(set(style.COLORS.values())) == 7


def test_a_network_keeps_its_colour_and_its_variants_are_told_apart():
    styles = style.line_styles(["VGG19, plain", "VGG19, batch norm", "AdamW, step", "Adam", "another"])
    assert [one["color"] for one in styles[:2]] == [style.SERIES["VGG19"]] * 2 and styles[0]["ls"] != styles[1]["ls"]
    assert [one["color"] for one in styles[2:4]] == [style.SERIES["AdamW"], style.SERIES["Adam"]]
    assert style.line_styles(["ResNet50", "VGG19"])[1] == style.line_styles(["VGG19"])[0] == styles[0]
    assert style.line_styles(["fear"])[0]["color"] == style.COLORS["fear"]
