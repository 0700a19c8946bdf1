import pytest
from conftest import easy_faces

from fer_helpers.study import STUDY_HAPPY, protocol, run_study, steps


@pytest.fixture(scope="module")
def many():
    return easy_faces(train=60, test=6)


def test_the_protocol_is_the_published_one():
    config = protocol("vgg19")
    assert (config.loss, config.optimizer, config.lr, config.epochs, config.batch_size) == (
        "binary_cross_entropy", "rmsprop", 1e-4, 10, 128)
    assert not config.batch_norm and protocol("resnet50").batch_norm and config.augmentation == "none"


def test_every_step_changes_something_and_keeps_what_came_before(many):
    plan = list(steps("vgg19", many, epochs=2))
    names, configs, data = zip(*plan, strict=True)
    assert len(set(names)) == len(names)
    for (_, before, old), (_, after, new) in zip(plan, plan[1:], strict=False):
        assert before != after or old.fingerprint != new.fingerprint
    assert configs[-1].epochs == 6 and configs[-1].loss == "cross_entropy" and configs[-1].batch_norm
    assert data[-1] is many


def test_the_first_steps_see_the_studys_share_of_happy_faces(many):
    skewed = next(steps("simple_cnn", many))[2]
    train = skewed.counts()["train"]
    assert train["happiness"] / train.sum() == pytest.approx(STUDY_HAPPY, abs=0.02)


def test_the_study_becomes_a_table_of_runs_in_order(many, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_RUNS", str(tmp_path))
    table = run_study(many, "simple_cnn", epochs=1, train_limit=128)
    assert list(table["step"]) == [name for name, _, _ in steps("simple_cnn", many)]
    assert table["top_answer"].between(1 / 6, 1).all() and (table["majority"] > 0).all()
    assert (table["classes"] == 6).all() and len(list(tmp_path.glob("*/metrics.json"))) == len(table)
