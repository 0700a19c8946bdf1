import dataclasses

import numpy as np
import pytest

from fer_helpers.analysis import training_dynamics
from fer_helpers.experiments import learning_rates
from fer_helpers.files import FerError
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import run_table, train_run
from fer_helpers.training.trainer import prepare_faces

SMALL = TrainConfig(arch="simple_cnn", classes=7, optimizer="sgd", lr=0.01, epochs=4, batch_size=14, val_fraction=0.2,
                    augmentation="flip")


@pytest.fixture(scope="module")
def view(faces):
    return prepare_faces(SMALL, faces)


def test_the_range_test_raises_the_rate_by_a_constant_factor_until_the_loss_explodes(view):
    result = learning_rates.rate_range(dataclasses.replace(SMALL, momentum=0.0), view, 1e-4, 1e3, steps=60)
    tried = result.table.index.to_numpy()
    np.testing.assert_allclose(tried[1:] / tried[:-1], 1e7 ** (1 / 59))
    assert tried[0] == pytest.approx(1e-4) and len(tried) < 60
    exploded = result.table["smoothed"] > 4 * result.table["smoothed"].cummin()
    assert exploded.iloc[-1] and exploded.sum() == 1
    assert result.suggested == result.table["smoothed"].iloc[6:].idxmin() / 10


def test_the_suggested_rate_trains_and_a_hundred_times_as_much_does_not(view):
    config = dataclasses.replace(SMALL, arch="compact", warmup_epochs=0.0, schedule="constant")
    found = learning_rates.rate_range(config, view, steps=30).suggested
    final = [training_dynamics.first_steps(dataclasses.replace(config, lr=rate), view, 12)["loss"].tail(5).mean()
             for rate in (found, 100 * found)]
    assert final[0] < 1.9 and not final[1] < final[0]


@pytest.mark.parametrize("bad", [{"low": 0.0}, {"low": 2.0}, {"steps": 5}])
def test_a_range_test_without_a_range_is_refused(bad, view):
    with pytest.raises(FerError, match="low < high"):
        learning_rates.rate_range(SMALL, view, **bad)


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    return train_run(dataclasses.replace(SMALL, epochs=2), faces, tmp_path_factory.mktemp("rates"), progress=False)


def test_a_diverging_rate_leaves_a_gap_among_the_runs(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_RUNS", str(tmp_path))
    configs = [dataclasses.replace(SMALL, lr=rate, epochs=1, warmup_epochs=0.0, schedule="constant")
               for rate in (100.0, 0.01)]
    assert [run.config.lr for run in learning_rates.converging_runs(configs, faces)] == [0.01]


def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_reached_it(run):
    runs, history = run_table([run]), run.history
    target = history["val_accuracy"].max()
    first = int(history.loc[history["val_accuracy"].idxmax(), "epoch"])
    row = learning_rates.time_to_accuracy(runs, target).iloc[0]
    assert row["epoch"] == first and row["seconds"] == pytest.approx(history["seconds"].iloc[:first].sum())
    assert row["steps"] == first * (run.environment["images"]["train"] // 14)
    assert learning_rates.time_to_accuracy(runs, 1.01).isna().all(axis=None)
