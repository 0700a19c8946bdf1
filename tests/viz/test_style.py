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
