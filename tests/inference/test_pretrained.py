"""The shipped networks: a run becomes one, it reads back, and on real faces it is as good as its card says."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import easy_faces

from fer_helpers import cli
from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError
from fer_helpers.inference.loading import load_network
from fer_helpers.inference.model_card import confidence_note, restrict_classes
from fer_helpers.inference.pretrained import SHIPPED, WEIGHTS, load_pretrained, publish
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.prediction import predict_logits
from fer_helpers.training.runs import Run, load_runs, train_run

REPOSITORY = Path(__file__).parents[2]
SETTINGS = dict(arch="compact", classes=7, epochs=1, batch_size=16, lr=0.01)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return train_run(TrainConfig(**SETTINGS), easy_faces(), tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def folder(run, tmp_path):
    return publish(run, tmp_path).parent


def test_a_published_run_reads_back_in_half_the_bytes_and_answers_alike(run, folder):
    found, images = load_pretrained(folder), easy_faces().images[:20]
    assert found.config == run.config and found.metrics["test"].accuracy == run.metrics["test"].accuracy
    assert found.calibration == load_network(str(run.folder)).calibration
    size = (folder / "network.safetensors").stat().st_size
    assert size < 0.52 * (run.folder / "weights.safetensors").stat().st_size
    np.testing.assert_allclose(predict_logits(found.model, images), predict_logits(run.model(), images), atol=0.05)
    assert not found.model.training and next(found.model.parameters()).dtype == torch.float32


def test_the_card_states_the_numbers_of_the_run(run, folder):
    card, test = (folder / "README.md").read_text(), run.metrics["test"]
    assert test.accuracy.percent in card and run.metrics["clean_test"].accuracy.percent in card
    for name in test.classes:
        assert test.recall[name].percent in card
    assert confidence_note(load_pretrained(folder).calibration) in card


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_card_tells_the_calibration_that_is_used(name):
    shipped = load_network(name)
    assert confidence_note(shipped.calibration) in (WEIGHTS / name / "README.md").read_text(encoding="utf-8")


def test_the_command_knows_the_networks_that_ship():
    assert list(cli.Shipped) == list(SHIPPED)


def test_both_shipped_networks_take_eight_megabytes_at_most():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 8e6


def test_only_networks_of_seven_classes_and_the_two_architectures_are_published(tmp_path, folder):
    assert folder.name == "best"
    for settings, words in (({"classes": 6}, "6-class compact"), ({"arch": "simple_cnn"}, "7-class simple_cnn")):
        other = train_run(TrainConfig(**SETTINGS | settings), easy_faces(), tmp_path, progress=False)
        with pytest.raises(FerError, match=f"{words}; publish a 7-class mobile or compact"):
            publish(other, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(("name", "content", "message"), [
    ("network.json", None, "is missing; install fer_helpers again"),
    ("network.json", b"{}", "is not what was written .*config"),
    ("network.json", b"[]", "install fer_helpers again"),
    ("network.safetensors", b"torn", "not the weights of a 7-class compact.*install fer_helpers again")])
def test_a_damaged_installation_is_named(folder, name, content, message):
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(FerError, match=message):
        load_pretrained(folder)


def test_weights_too_large_for_float16_are_refused(run, tmp_path):
    copy = Run(tmp_path / run.name)
    copy.folder.mkdir()
    for file in run.folder.iterdir():
        (copy.folder / file.name).write_bytes(file.read_bytes())
    weights = safetensors.torch.load_file(copy.folder / "weights.safetensors")
    weights["classifier.bias"][0] = 1e6
    safetensors.torch.save_file(weights, copy.folder / "weights.safetensors")
    with pytest.raises(FerError, match="classifier.bias does not fit float16"):
        publish(copy, tmp_path / "weights")


@pytest.mark.parametrize("split", ["test", "clean_test"])
@pytest.mark.parametrize("classes", [7, 6, 3])
def test_asked_for_some_classes_only_those_are_answered(run, classes, split):
    found = restrict_classes(run, classes, split)
    rows = run.predictions[(run.predictions["split"] == "test") & run.predictions["true"].isin(found.classes)]
    rows = rows[~rows["in_train"]] if split == "clean_test" else rows
    assert len(found.classes) == classes and found.count == len(rows)
    best = rows[[f"prob_{name}" for name in found.classes]].to_numpy().argmax(1)
    assert found.accuracy.value == pytest.approx((np.array(found.classes)[best] == rows["true"]).mean())
    assert found.majority.value == pytest.approx(rows["true"].value_counts(normalize=True).max())
    if classes == 7:
        np.testing.assert_array_equal(found.confusion, run.metrics[split].confusion)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_answers_real_faces_as_its_recorded_run_did(name, real_data):
    shipped, test = load_network(name), load_faces(progress=False).with_classes(7).only("test")
    some = test.take(np.arange(0, len(test), 6))
    (recorded,) = (run for run in load_runs(REPOSITORY / "data" / "results")["run"] if run.config == shipped.config)
    assert shipped.metrics["test"].to_dict() == recorded.metrics["test"].to_dict()
    said = recorded.predictions.set_index("id").loc[some.ids, [f"prob_{name}" for name in test.classes]].to_numpy()
    probs = predict_logits(shipped.model, some.images, "fp32", shipped.config.tta).softmax(1).numpy()
    assert np.abs(probs - said).max() < 0.02  # float16 on disk
    assert (probs.argmax(1) == said.argmax(1)).mean() > 0.99
