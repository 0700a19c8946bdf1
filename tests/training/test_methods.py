import gc
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import easy_faces

from fer_helpers.data.emotions import CLASS_SETS, REGIONS
from fer_helpers.files import FerError
from fer_helpers.metrics.evaluation import compare_seeds, evaluate
from fer_helpers.training import methods
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.methods import (
    METHODS,
    OUTCOMES,
    Answers,
    compare_methods,
    trials,
    tuned,
    with_method,
)
from fer_helpers.training.runs import default_store, train_run
from fer_helpers.transforms.corruptions import CORRUPTIONS
from fer_helpers.transforms.occlusions import OCCLUSIONS

TINY = TrainConfig(arch="compact", epochs=2, batch_size=16, val_fraction=0.2, augmentation="standard", precision="fp32",
                   optimizer="adam", lr=1e-3)
SIX = CLASS_SETS[6]
HARDER = (*CORRUPTIONS, *OCCLUSIONS)
COUNTED = ["nothing", *HARDER, *(f"hidden {region}" for region in REGIONS)]


def made_up(accuracy: float, seed: int, images: int = 300, errors: bool = True) -> Answers:
    """Answers of a run that is right in about so many images, whose names and labels are always the same."""
    random = np.random.default_rng(seed)
    true = np.arange(images) % 6
    answered = np.where(random.random(images) < accuracy, true, random.integers(0, 6, images))
    names = np.array(SIX)
    ids = pd.Index([f"face{number}" for number in range(images)], name="id")
    table = pd.DataFrame({"true": names[true], "predicted": names[answered],
                          "confidence": random.uniform(0.2, 1, images), "in_train": np.arange(images) % 10 == 0}, ids)
    wrong = pd.DataFrame({name: random.binomial(5 if name in HARDER else 1, 1 - accuracy, 50)
                          for name in COUNTED}, index=ids[:50])
    return Answers(table, wrong if errors else None)


def voted(images: int = 300) -> pd.DataFrame:
    """Seven votes in ten for the label, three for the class after it; for the first image none."""
    true = np.arange(images) % 6
    shares = 0.7 * np.eye(6)[true] + 0.3 * np.eye(6)[(true + 1) % 6]
    shares[0] = np.nan
    return pd.DataFrame(shares, [f"face{number}" for number in range(images)], SIX)


@pytest.fixture(scope="module")
def table():
    runs = {name: [made_up(accuracy, start + seed) for seed in range(4)]
            for name, accuracy, start in (("plain", 0.5, 0), ("better", 0.8, 10), ("alike", 0.5, 20))}
    return compare_methods(runs, SIX, [made_up(0.4, 30)], voted()).set_index(["method", "outcome"])


# --- settings

@pytest.mark.parametrize("arch", ["compact", "resnet50"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_a_valid_configuration_with_eight_different_trials(method, arch):
    config = replace(TINY, arch=arch)
    tried = {(with_method(config, method, **strength), factor) for strength, factor in trials(method)}
    assert len(tried) == 8
    assert (with_method(config, method) == config) == (method == "plain")


def test_an_unknown_method_lists_the_choices():
    with pytest.raises(FerError, match="method='moco' is unknown; choose one of plain, regions"):
        with_method(TINY, "moco")


def test_pre_training_takes_half_of_the_epochs_and_needs_two():
    assert with_method(replace(TINY, epochs=5), "simclr_first").pretrain_epochs == 2
    with pytest.raises(FerError, match="set epochs to 2"):
        with_method(replace(TINY, epochs=1), "simclr_first")


def test_a_method_that_augments_differs_from_plain_by_that_alone():
    config = replace(TINY, augmentation="flip")
    assert with_method(config, "region_dropout") == replace(config, augmentation="flip+hide")


def test_the_best_trial_is_handed_on_to_a_longer_training():
    strength, factor = trials("focal")[2]
    table = pd.DataFrame([("focal", str(strength["focal"]), factor), ("focal", "0.5", 0.5)],
                         columns=["method", "value", "factor"])
    chosen = tuned(replace(TINY, epochs=5, lr=0.02), table)
    assert chosen.focal == strength["focal"] and chosen.lr == pytest.approx(0.02 * factor) and chosen.epochs == 5


# --- outcomes

def test_the_outcomes_are_those_that_evaluate_computes(table):
    run = made_up(0.8, 10)
    numbers = {name: number for number, name in enumerate(SIX)}
    true, predicted = (run.table[column].map(numbers).to_numpy() for column in ("true", "predicted"))
    confidence = run.table["confidence"].to_numpy()
    # Probabilities whose largest is the answer's: the rest is shared by the others.
    probs = np.repeat((1 - confidence[:, None]) / 5, 6, 1)
    probs[np.arange(300), predicted] = confidence
    sure = confidence > 0.5  # only there the answer is the most probable class
    scores = evaluate(true[sure], probs[sure], SIX)
    own = compare_methods({"plain": [Answers(run.table[sure])]}, SIX, []).set_index("outcome")["value"]
    expected = {"accuracy": scores.accuracy, "macro F1": scores.macro_f1, "fear recall": scores.recall["fear"],
                "fear → happiness": scores.rate("fear", "happiness"),
                "anger → happiness": scores.rate("anger", "happiness"), "ECE": scores.ece}
    for outcome, estimate in expected.items():
        assert own[outcome] == pytest.approx(estimate.value), outcome
    new = ~run.table["in_train"].to_numpy()[sure]
    assert own["clean accuracy"] == pytest.approx((true == predicted)[sure][new].mean())
    assert "mCE" not in own.index


def test_an_outcome_counts_the_images_that_it_is_about(table):
    counts = table.loc["better", "images"]
    assert set(counts[["accuracy", "ECE"]]) == {300} and counts["clean accuracy"] == 270  # a tenth is in train
    assert set(counts[["mCE", "partial faces", "favourite region"]]) == {50}
    assert set(counts[["fear recall", "fear → happiness", "anger → happiness"]]) == {50}  # a sixth


def test_vote_agreement_is_the_share_of_votes_for_the_answer_where_anybody_voted(table):
    run = made_up(0.8, 10).table[1:]
    after = {name: SIX[(number + 1) % 6] for number, name in enumerate(SIX)}
    next_to = run["predicted"] == run["true"].map(after)
    expected = np.where(run["predicted"] == run["true"], 0.7, np.where(next_to, 0.3, 0))
    found = compare_methods({"plain": [made_up(0.8, 10)]}, SIX, [], voted().iloc[::-1]).set_index("outcome")
    assert found.loc["vote agreement", "value"] == pytest.approx(expected.mean())
    assert table.loc[("better", "vote agreement"), "images"] == 299
    for none in (None, voted() * np.nan):
        assert "vote agreement" not in set(compare_methods({"plain": [made_up(0.8, 10)]}, SIX, [], none)["outcome"])


def test_mean_corruption_error_is_relative_to_the_reference():
    one = made_up(0.5, 1)
    half = Answers(one.table, one.errors * 0.5)
    found = compare_methods({"plain": [one], "half": [half]}, SIX, [one]).set_index(["method", "outcome"])["value"]
    assert found["plain", "mCE"] == pytest.approx(1) and found["half", "mCE"] == pytest.approx(0.5)


def test_a_corruption_on_which_the_reference_never_errs_does_not_count():
    one = made_up(0.5, 1)
    blind = Answers(one.table, one.errors.assign(jpeg=0))
    found = compare_methods({"plain": [one]}, SIX, [blind]).set_index("outcome")["value"]
    assert found["mCE"] == pytest.approx(1)
    unerring = Answers(one.table, one.errors * 0)
    assert "mCE" not in set(compare_methods({"plain": [one]}, SIX, [unerring])["outcome"])


def test_partial_faces_and_the_favourite_region_by_hand():
    one = made_up(0.5, 1)
    one.errors[list(OCCLUSIONS)] = 2
    one.errors["nothing"] = [1] * 10 + [0] * 40
    for region, errors in (("brows", 10), ("eyes", 20), ("nose", 5), ("mouth", 35)):
        one.errors[f"hidden {region}"] = [1] * errors + [0] * (50 - errors)
    found = compare_methods({"plain": [one]}, SIX, []).set_index("outcome")["value"]
    assert found["partial faces"] == pytest.approx(2 / 5) and found["favourite region"] == pytest.approx(25 / 50)


def test_differences_are_paired_and_their_interval_is_that_of_the_pigeonhole_bootstrap(table):
    correct = [np.stack([(made_up(accuracy, start + seed).table.eval("true == predicted")) for seed in range(4)])
               for accuracy, start in ((0.8, 10), (0.5, 0))]
    expected, found = compare_seeds(*correct), table.loc[("better", "accuracy")]
    assert found["difference"] == pytest.approx(expected.value)
    assert found["difference_low"] == pytest.approx(expected.low, abs=0.015)
    assert found["difference_high"] == pytest.approx(expected.high, abs=0.015)


def test_what_is_better_is_found_and_what_is_alike_is_not(table):
    assert table.loc[("better", "accuracy"), "p_holm"] < 0.05 < table.loc[("alike", "accuracy"), "p_holm"]
    assert table.loc[("better", "mCE"), "difference_high"] < 0
    assert (table["p_holm"].dropna() >= table["p_value"].dropna()).all()
    assert table.loc["plain", "p_value"].isna().all() and table.loc["plain", "difference"].isna().all()
    assert set(table.loc["better"].index) == set(OUTCOMES)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_a_large_difference_stands_among_as_many_methods_as_there_are():
    runs = {name: [made_up(0.8 if name == "cbam" else 0.5, 100 * place + seed) for seed in range(3)]
            for place, name in enumerate(METHODS)}
    table = compare_methods(runs, SIX, runs["plain"], voted()).set_index(["method", "outcome"])
    assert table["p_value"].notna().sum() == (len(METHODS) - 1) * len(OUTCOMES)
    assert table.loc[("cbam", "accuracy"), "p_holm"] < 0.001
    others = table.drop(index=["cbam", "plain"])
    assert (others["p_holm"] < 0.05).sum() <= 2


def test_a_method_identical_to_the_baseline_differs_by_nothing():
    runs = [made_up(0.6, seed) for seed in range(3)]
    found = compare_methods({"plain": runs, "copy": runs}, SIX, runs).set_index(["method", "outcome"]).loc["copy"]
    assert (found[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert (found["p_value"] == 1).all()


@pytest.mark.parametrize("other", [[made_up(0.5, 0)], [made_up(0.5, 0), made_up(0.5, 1, images=240)]])
def test_runs_that_do_not_pair_are_refused(other):
    with pytest.raises(FerError, match="other and plain differ in seeds or test images"):
        compare_methods({"plain": [made_up(0.5, 0), made_up(0.5, 1)], "other": other}, SIX, [])


def test_no_difference_is_claimed_too_often_where_there_is_none():
    """Of twenty pairs of equal methods about one may look different at the 5% level, before correction."""
    found = 0
    for number in range(20):
        runs = {name: [made_up(0.5, 1000 * number + 100 * place + seed, 150, errors=False) for seed in range(5)]
                for place, name in enumerate(("plain", "other"))}
        row = compare_methods(runs, SIX, []).set_index(["method", "outcome"]).loc[("other", "accuracy")]
        found += row["p_value"] < 0.05
    assert found <= 4


# --- corrupted images

def test_errors_under_stress_are_kept_with_the_run():
    few = easy_faces(train=12, test=4)
    run = train_run(replace(TINY, arch="simple_cnn", epochs=4), few, progress=False)
    shown = replace(few)
    first, alive = methods.stress(run, shown, images=12), weakref.ref(shown)
    del shown
    gc.collect()
    assert alive() is None  # what was measured keeps no data set
    assert list(first.columns) == COUNTED and len(first) == 12 and first.index.is_unique
    assert first.to_numpy().min() >= 0 and first[list(HARDER)].max(axis=None) <= 5
    answered = run.predictions.query("split == 'test'").set_index("id").loc[first.index]
    assert list(first["nothing"] == 1) == list(answered["true"] != answered["predicted"])
    path = default_store() / run.name / "stress-12.csv"
    pd.testing.assert_frame_equal(methods.stress(run, few, images=12), first, check_dtype=False)
    path.write_text(path.read_text().replace(",jpeg,", ",kept,"))  # what was kept is read, not measured again
    assert "kept" in methods.stress(run, few, images=12)
