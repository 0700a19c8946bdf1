"""The studies behind recorded results, in small: the scripts run, go on where they were, and keep what they promise."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import easy_faces

from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError
from fer_helpers.models.factory import create_model
from fer_helpers.training import methods
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import train_run

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
TINY = TrainConfig(arch="simple_cnn", epochs=1, batch_size=16, val_fraction=0.2, augmentation="standard",
                   precision="fp32", optimizer="adam", lr=1e-3, train_limit=48)


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module


def test_a_study_of_methods_tunes_and_compares_and_goes_on(folder, tmp_path, benchmark):
    study = benchmark("method_study")
    protocol = study.Protocol({"small": TINY}, {"small": 1}, {"train_limit": 16}, images=2)
    arguments = str(folder), ["focal"], tmp_path / "study", str(tmp_path / "runs")
    assert study.study_methods(protocol, *arguments, seconds=0).missing == 16  # trials
    found = study.study_methods(protocol, *arguments)
    assert found.missing == 0 and found.tuning.groupby("method").size().to_dict() == {"plain": 8, "focal": 8}
    assert set(found.outcomes["method"]) == {"plain", "focal"}
    run = train_run(study.chosen(protocol, found.tuning, "small", "plain"), load_faces(folder), tmp_path / "runs")
    pd.testing.assert_frame_equal(study.read_answers(tmp_path / "study", "small")["plain"][0].table,
                                  methods.answers(run).table, atol=6e-5)
    again = study.study_methods(replace(protocol, seeds={"small": 2}), *arguments)
    assert again.missing == 0 and set(again.outcomes["seeds"]) == {2}
    pd.testing.assert_frame_equal(again.tuning, found.tuning)
    with pytest.raises(FerError, match="another protocol"):
        study.study_methods(replace(protocol, images=3), *arguments)


def test_transfer_reads_easy_features_and_scores_a_class_that_was_never_trained(faces, benchmark):
    transfer = benchmark("transfer")
    table = transfer.linear_evaluation(create_model("simple_cnn", 6, seed=0),
                                       easy_faces(train=60, test=20, noise=60).with_classes(6), (0.05, 1.0))
    assert list(table["labels"]) == [18, 360] and table.loc[1.0, "value"] > max(0.9, table.loc[0.05, "value"])
    found = transfer.zero_shot(replace(TINY, arch="compact", head="text", train_limit=None), faces, "happiness",
                               bootstraps=50, progress=False)
    assert found.auc.low <= found.auc.value <= found.auc.high and found.confusion.sum() == 36
    row = found.classes.index("happiness")
    assert found.named.value == found.confusion[row, row] / found.confusion[row].sum()
    others = np.delete(found.confusion, row, 0)
    assert found.claimed.value == pytest.approx(others[:, row].sum() / others.sum())
    with pytest.raises(FerError, match="zero-shot needs head='text'"):
        transfer.zero_shot(TINY, faces, "fear")
