"""Claims as objects; that each recorded one holds, and fails with its record, is in `tests/test_readme.py`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fer_helpers.data.emotions import CLASS_SETS
from fer_helpers.metrics.evaluation import evaluate
from fer_helpers.metrics.intervals import Estimate
from fer_helpers.report import claims, results
from fer_helpers.report.text import Claim


@pytest.fixture
def scores():
    """Of a network that always gives the first of six equally frequent classes."""
    return evaluate(np.arange(600) % 6, np.tile([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], (600, 1)), CLASS_SETS[6], 0)


def test_a_claim_that_does_not_hold_says_so():
    assert str(Claim("**Fear is rare.** 4%.", True)) == "**Fear is rare.** 4%."
    assert str(Claim("**Fear is rare.** 4%.", False)) == "*Not borne out here:* **Fear is rare.** 4%."
    assert Claim("**Fear is rare.** 4%.", True).number == "4%."


def test_an_answer_lists_claims_and_folds_what_is_recorded_beside_one_s_own():
    own, kept = Claim("Mine.", True), Claim("Theirs.", True)
    assert claims.answer([own]) == "> - Mine."
    text = claims.answer([own], [kept])
    assert text.index("Mine.") < text.index("<details><summary>What is recorded of FER2013") < text.index("Theirs.")


def test_of_a_network_that_has_not_learned_only_that_is_said(scores, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    found = claims.about_single_faces(scores, np.ones(3, bool), np.ones(3), pd.DataFrame(), pd.DataFrame())
    assert [str(claim).split("**")[1] for claim in found] == ["It has learned."] and not found[0].holds
    pairs = claims.about_pairs({6: scores}, Estimate(0.9, 0.8, 1.0), "people", results.method_outcomes())
    assert [claim.sentence.split("**")[1] for claim in pairs] == ["It has learned.", "No remedy changes it."]
    table = pd.DataFrame({"true": np.repeat(["fear", "happiness"], 50), "predicted": "fear"},
                         [f"image {number}" for number in range(100)])
    early = pd.DataFrame({"resnet50": [1.8, 0.1, 0.1, 0.1], "vgg19, plain": 1.8, "vgg19, batch norm": 1.6})
    first, start = claims.about_architectures({"simple CNN": [table], "compact": [table]}, pd.DataFrame(), early)
    assert "It has learned" in str(first) and not first.holds and start.holds
