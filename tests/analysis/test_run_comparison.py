import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from fer_helpers.analysis import run_comparison
from fer_helpers.files import FerError
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import run_table, train_run

SMALL = TrainConfig(arch="simple_cnn", classes=7, optimizer="sgd", lr=0.01, batch_size=14, val_fraction=0.2,
                    augmentation="flip")


@pytest.fixture(scope="module")
def runs(faces, tmp_path_factory):
    store = tmp_path_factory.mktemp("seeds")
    # Two rates stand for two architectures: what is paired does not depend on the layers.
    configs = [dataclasses.replace(SMALL, lr=rate, seed=seed, epochs=2) for rate in (0.01, 0.002) for seed in (0, 1)]
    table = run_table(train_run(config, faces, store, progress=False) for config in configs)
    return table.assign(arch=np.where(table["lr"] == 0.01, "fast", "slow"))


def test_seeds_are_paired_and_pooled(runs):
    table = run_comparison.seed_differences(runs, "fast", "slow")
    assert list(table.index) == ["seed 0", "seed 1", "all seeds"]
    by_arch = runs.set_index(["arch", "seed"])["test_accuracy"]
    for seed in (0, 1):
        assert table.loc[f"seed {seed}", "value"] == pytest.approx(by_arch["fast", seed] - by_arch["slow", seed])
    assert table.loc["all seeds", "value"] == pytest.approx(table["value"].iloc[:2].mean())
    one = run_comparison.seed_differences(runs[runs["seed"] == 1], "fast", "slow")
    assert list(one.index) == ["seed 1", "all seeds"]


def test_shares_over_seeds_are_those_of_all_answers(runs):
    answers = run_comparison.answer_tables(runs)
    accuracy, confused = run_comparison.over_seeds(answers), run_comparison.over_seeds(answers, "fear", "happiness")
    for arch, own in runs.groupby("arch"):
        scores = [run.metrics["test"] for run in own["run"]]
        assert accuracy.loc[arch, "value"] == pytest.approx(np.mean([s.accuracy.value for s in scores]))
        rates = [s.rate("fear", "happiness").value for s in scores]
        assert confused.loc[arch, "value"] == pytest.approx(np.mean(rates))
        assert accuracy.loc[arch, "seeds"] == len(own) and accuracy.loc[arch, "images"] == scores[0].count
        assert confused.loc[arch, "images"] == scores[0].confusion[scores[0].classes.index("fear")].sum()


def test_runs_without_a_common_seed_do_not_pair(runs):
    apart = runs[(runs["arch"] == "slow") == (runs["seed"] == 1)]
    with pytest.raises(FerError, match="no seed in common"):
        run_comparison.seed_differences(apart, "fast", "slow")


def test_error_consistency_is_kappa_of_being_right_on_the_same_images():
    first, second = np.array([1, 1, 1, 0, 0, 0, 1, 0]), np.array([1, 1, 0, 0, 0, 1, 1, 0])
    found = run_comparison.error_consistency(first, second)
    assert found.value == pytest.approx(cohen_kappa_score(first, second)) and found.low < found.value < found.high
    assert run_comparison.error_consistency(first, first).value == pytest.approx(1)
    random = np.random.default_rng(0)
    apart = run_comparison.error_consistency(random.random(4000) < 0.7, random.random(4000) < 0.4)
    assert apart.low < 0 < apart.high


def test_people_are_observers_by_their_votes():
    """Ten images, ten votes each: where all agree two people are right or wrong together, where they are split not."""
    ids, right = [f"image {number}" for number in range(40)], np.arange(40) % 2 == 0
    true = pd.Series("fear", ids)
    table = pd.DataFrame({"true": true, "predicted": np.where(right, "fear", "anger")}, index=ids)
    agreed = pd.DataFrame({"fear": np.where(right, 10, 0), "anger": np.where(right, 0, 10)}, index=ids)
    split = pd.DataFrame({"fear": 5, "anger": 5}, index=ids)

    def kappa(votes, first, second):
        rows = run_comparison.same_errors({"net": [table, table]}, votes).set_index(["first", "second"])
        return rows.loc[(first, second), "value"]

    assert kappa(agreed, "net", "people") == kappa(agreed, "people", "people") == kappa(agreed, "net", "net") == 1
    assert kappa(split, "net", "people") == pytest.approx(0)
    assert kappa(split, "people", "people") == pytest.approx(-1 / 9)  # drawn without replacement: 4 of 9 others agree
    alone = run_comparison.same_errors({"net": [table], "other": [table]})
    assert list(alone["second"]) == ["other"] and alone["value"].item() == 1
