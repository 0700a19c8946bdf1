import numpy as np
import pytest
from conftest import easy_faces

from fer_helpers.analysis import published
from fer_helpers.experiments.reproduction import (
    ARCHS,
    DIRECTIONS,
    NAMES,
    compare_with_published,
    reproduced,
    step_gains,
    training_curves,
    way_out,
)
from fer_helpers.experiments.study import Study, read_plan
from fer_helpers.files import FerError
from fer_helpers.report import study_claims as claims

PLAN = """
original:
  about: the study
  runs:
    - &first {name: simple CNN, arch: simple_cnn, train_set: original, epochs: 1, batch_size: 16, augmentation: none,
              keep: last, seed: [0, 1]}
way-out:
  about: mended
  runs:
    - &second {<<: *first, name: all happy faces, seed: 0, train_set: without-sadness+surprise+neutral}
    - {<<: *second, name: the missing classes, train_set: all, epochs: 12, lr: 0.02}
    - {<<: *second, name: not recorded, epochs: 400}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "plan.yaml").write_text(PLAN)
    found, faces = Study(read_plan(folder / "plan.yaml"), folder / "results"), easy_faces(train=24, test=8)
    (folder / "part.yaml").write_text(PLAN.rsplit("\n", 2)[0])
    part = Study(read_plan(folder / "part.yaml"), folder / "results")
    assert part.train(faces, store=folder / "store", progress=False) == []
    return found


def test_every_network_of_the_study_is_one_of_ours_and_is_in_the_plan():
    named = {entry.settings["arch"] for entry in read_plan().entries if entry.group == "original"}
    assert named == set(ARCHS.values()) and list(ARCHS) == list(NAMES) and set(published.REPORTED) < set(ARCHS)


def test_the_plan_trains_as_the_study_did():
    configs = [job.config for entry in read_plan().entries if entry.group == "original"
               for job, _ in Study(read_plan(), "nowhere").jobs(entry)]
    told = {(c.optimizer, c.lr, c.momentum, c.root_eps, c.batch_size, c.loss, c.augmentation, c.train_set, c.keep)
            for c in configs}
    assert told == {("rmsprop", 1e-4, 0.9, 1e-7, 128, "sigmoid_cross_entropy", "none", "original", "last")}
    assert {c.arch: c.epochs for c in configs} == {arch: len(own) for arch, own in published.published_curves().assign(
        arch=lambda table: table["arch"].map(ARCHS)).groupby("arch")}
    assert {c.arch for c in configs if c.validation == "last"} == {"simple_cnn"}
    assert {c.arch for c in configs if c.batch_norm} == {"original_resnet50"}


def test_each_step_of_the_plans_way_out_changes_one_thing():
    plan = read_plan()
    study = Study(plan, "nowhere")
    for arch in ("simple_cnn", "original_resnet50", "original_vgg19"):
        configs = [job.config.to_dict() for entry in plan.entries if entry.group in ("original", "way-out")
                   for job, _ in study.jobs(entry) if job.config.arch == arch and job.config.seed == 0]
        changes = [{key for key in after if before[key] != after[key]} for before, after in zip(configs, configs[1:],
                                                                                            strict=False)]
        # which images are in train is one thing, though a limit keeps their number; so is taking all of them
        together = ({"train_set", "train_limit"}, {"train_limit", "val_fraction", "keep"})
        assert len(configs) >= 9 and all(len(change) == 1 or change in together for change in changes)


def test_recorded_seeds_stand_beside_the_published_matrix(study):
    assert [run.config.seed for run in reproduced(study)["simple_cnn"]] == [0, 1]
    found = compare_with_published(study)
    assert list(found) == ["simple_cnn"] and found["simple_cnn"].seeds == 2
    matrices = [run.metrics["test"].confusion for run in reproduced(study)["simple_cnn"]]
    np.testing.assert_allclose(found["simple_cnn"].reproduced, np.mean(matrices, 0) / 8)
    curves = training_curves(study).groupby("arch")["who"].unique()
    assert set(curves["simple_cnn"]) == {"published", "seed 0", "seed 1"} and list(curves["vgg19"]) == ["published"]


def test_the_way_out_ends_before_the_first_gap_and_has_both_directions(study):
    table = way_out("simple_cnn", study)
    assert list(table["step"]) == ["as published", "all happy faces", "the missing classes"]
    for true, predicted in DIRECTIONS:
        rate = table["run"].iloc[0].metrics["test"].rate(true, predicted)
        assert tuple(table[[f"{true} → {predicted}{end}" for end in ("", " low", " high")]].iloc[0]) == (
            rate.value, rate.low, rate.high)
    np.testing.assert_allclose(step_gains(table)["value"], table["test_accuracy"].diff().iloc[1:])
    assert way_out("vgg19", study).empty


def test_a_claim_about_a_training_says_so_when_its_record_says_otherwise(study):
    theirs = published.published_matrix("simple_cnn").to_numpy()
    close = abs(compare_with_published(study)["simple_cnn"].accuracy.value - np.trace(theirs) / theirs.sum())
    again, mended = claims.repeated(study) + claims.mended(study)
    assert again.holds == (close <= claims.CLOSE) and "simple CNN, trained so again" in str(again)
    assert str(again).startswith("*Not borne out here:*") != again.holds
    called = way_out("simple_cnn", study)[["happiness → fear", "happiness → anger"]].sum(axis=1).to_numpy()
    step = way_out("simple_cnn", study)["step"].iloc[int((called[:-1] - called[1:]).argmax()) + 1]
    assert f"What mends the simple CNN: {step}.**" in mended.sentence


def test_where_nothing_is_recorded_only_the_published_outputs_speak(tmp_path):
    empty = Study(read_plan(), tmp_path)
    assert [claim.source for claim in claims.about_the_study(empty)] == ["published outputs"] * 2
    with pytest.raises(FerError, match="fer study original"):
        reproduced(empty)


def test_every_recorded_claim_holds_on_its_record():
    found = [*claims.about_the_study(), claims.one_answer(), claims.simple_cnn()]
    assert len(found) >= 5 and [claim.sentence for claim in found if not claim.holds] == []


def test_a_claim_fails_when_the_published_matrix_is_changed(monkeypatch):
    assert claims.one_answer().holds and claims.direction().holds and claims.simple_cnn().holds
    matrix = published.published_matrix("vgg19")
    matrix.loc["anger", ["anger", "fear"]] = [1, 957]
    monkeypatch.setattr(published, "published_matrix", lambda arch: matrix)
    assert not claims.one_answer().holds and not claims.direction().holds
    monkeypatch.setattr(published, "VALIDATION", ("0.3005", *published.VALIDATION[1:]))
    assert not claims.simple_cnn().holds
    monkeypatch.setattr(published, "TRAIN_IMAGES", 9810)
    monkeypatch.setitem(published.FER2013_TRAIN, "anger", 9000)
    assert not claims.train_folder().holds
