"""An exported file answers as PyTorch does, whatever the network and the number of images; int8 stays close."""

import dataclasses
import re

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import easy_faces
from corpus import write_tree
from typer.testing import CliRunner

from fer_helpers.cli import app
from fer_helpers.data.emotions import CLASS_SETS
from fer_helpers.files import FerError
from fer_helpers.inference.onnx_export import Answering, answers, export_onnx, quantise, session
from fer_helpers.inference.pretrained import Pretrained, load_pretrained
from fer_helpers.inference.pretrained import answers as told
from fer_helpers.metrics.calibration import Calibration, rescale
from fer_helpers.models.factory import create_model
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.prediction import predict_logits

IMAGES = easy_faces().images


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped network's file, and how it was checked."""
    return export_onnx(load_pretrained(), tmp_path_factory.mktemp("onnx") / "shipped.onnx", IMAGES[:40])


def test_the_file_answers_as_pytorch_does_for_any_number_of_images(shipped):
    network = load_pretrained()
    assert shipped.difference <= 1e-4 and shipped.agreement == 1
    logits = predict_logits(network.model, IMAGES[:70], tta=network.config.tta).double().softmax(1).numpy()
    expected = rescale(logits, network.calibration.temperature)
    for count in (1, 2, 7, 70):
        found = answers(shipped.path, IMAGES[:count])
        assert found.shape == (count, 7) and found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)


def test_the_file_tells_how_to_read_it(shipped):
    found, calibration = session(shipped.path, 1), load_pretrained().calibration
    (given,), outputs = found.get_inputs(), found.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [48, 48])
    assert [one.name for one in outputs] == ["probabilities", "votes"]
    kept = found.get_modelmeta().custom_metadata_map
    assert kept["classes"].split(",") == list(CLASS_SETS[7]) and float(kept["threshold"]) == calibration.threshold


def test_a_network_that_tells_votes_has_a_second_output(tmp_path):
    model = create_model("mobile", 3, seed=0, votes=True).eval()
    calibration = Calibration(1.5, 0.6, 0.8, 0.5, 100, vote_temperature=2.0)
    network = Pretrained(model, TrainConfig(arch="mobile", classes=3, votes=1.0, tta="flip"), {}, calibration)
    path = export_onnx(network, tmp_path / "network.onnx", IMAGES[:5]).path
    running = session(path)
    assert [one.name for one in running.get_outputs()] == ["probabilities", "votes"]
    found, (probs, votes) = running.run(None, {"images": IMAGES[:9].numpy()}), told(network, IMAGES[:9])
    np.testing.assert_allclose(found[0], probs, atol=1e-4)
    np.testing.assert_allclose(found[1], votes, atol=1e-4)
    assert np.abs(probs - votes).max() > 1e-3


@pytest.mark.parametrize("arch, options", [
    ("simple_cnn", {"tta": "ten_crop"}), pytest.param("vgg16", {}, marks=pytest.mark.nightly),
    pytest.param("resnet50", {"tta": "ten_crop"}, marks=pytest.mark.nightly),
    pytest.param("compact", {"head": "attention"}, marks=pytest.mark.nightly),
    ("compact", {"head": "regions", "cbam": True})])
def test_every_network_can_be_exported(tmp_path, arch, options):
    config = TrainConfig(arch=arch, classes=3, **options)
    model = create_model(arch, 3, seed=0, head=config.head, cbam=config.cbam).eval()
    network = Pretrained(model, config, {}, Calibration(1.5, 0.6, 0.8, 0.5, 100))
    found = export_onnx(network, tmp_path / "network.onnx", IMAGES[:5])
    assert found.difference <= 1e-4
    assert answers(found.path, IMAGES[:3]).sum(1) == pytest.approx(1, abs=1e-5)


def test_int8_saves_most_of_three_bytes_a_weight_and_answers_alike_on_photographs(shipped, tmp_path, real_data):
    from fer_helpers.data.readers import load_faces

    faces = load_faces()
    train, tests = faces.only("train").images[::220], faces.only("test").images[:200]
    network = load_pretrained()
    small = quantise(network, shipped.path, tmp_path / "small.onnx", train, tests)
    weights = sum(weight.numel() for weight in network.model.parameters())
    assert shipped.path.stat().st_size - small.path.stat().st_size > 2.5 * weights
    assert small.agreement > 0.95


def test_int8_of_drawn_faces_answers_alike_more_often_than_not(shipped, tmp_path):
    small = quantise(load_pretrained(), shipped.path, tmp_path / "small.onnx", IMAGES[:64], IMAGES[64:])
    assert small.agreement > 0.8 and 0 < small.difference < 0.5
    kinds = {value.type for value in onnxruntime.InferenceSession(str(small.path)).get_inputs()}
    assert kinds == {"tensor(uint8)"}


def test_a_network_whose_answers_cannot_be_confirmed_is_not_kept(tmp_path):
    model = create_model("simple_cnn", 3, seed=0).eval()
    network = Pretrained(model, TrainConfig(arch="simple_cnn", classes=3), {}, Calibration(1.5, 0.6, 0.8, 0.5, 100))
    next(model.parameters()).data[:] = float("nan")
    with pytest.raises(FerError, match="onnxruntime differs by nan from PyTorch"):
        export_onnx(network, tmp_path / "network.onnx", IMAGES[:5])
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_the_plain_file(tmp_path):
    with pytest.raises(FerError, match="plain.onnx: is missing; export it first"):
        quantise(load_pretrained(), tmp_path / "plain.onnx", tmp_path / "small.onnx", IMAGES[:5], IMAGES[:5])


def test_the_temperature_is_inside(shipped):
    network = load_pretrained()
    warm = dataclasses.replace(network, calibration=dataclasses.replace(network.calibration, temperature=4.0))
    with torch.inference_mode():
        cold, warmer = (Answering(one)(IMAGES[:20])[0].max(1).values for one in (network, warm))
    assert (warmer < cold).all()


def test_the_command_writes_a_file_that_looks_twice_and_one_of_int8_and_tells_what_that_costs(shipped, tmp_path):
    target = tmp_path / "faces.onnx"
    folders = [f"{split}/{name}" for split in ("train", "test") for name in CLASS_SETS[7]]
    data = write_tree(tmp_path / "data", folders, 4)
    words = ["export", "--onnx", str(target), "--int8", "--data", str(data), "--tta"]
    result = CliRunner().invoke(app, [*words, "flip"])
    assert result.exit_code == 0, result.output
    assert re.search(r"faces.onnx: [\d,]+ bytes, differs from PyTorch by \d", result.stdout)
    assert re.search(r"faces-int8.onnx: .* a change of [+-]\d+\.\d points \[", result.stdout)
    assert sorted(path.name for path in tmp_path.glob("*.onnx*")) == ["faces-int8.onnx", "faces.onnx"]
    # The small network looks once by itself.
    once, twice = ((answers(file, IMAGES[:10]), answers(file, IMAGES[:10].flip(2))) for file in (shipped.path, target))
    assert np.abs(np.subtract(*once)).max() > 1e-3
    np.testing.assert_allclose(*twice, atol=1e-5)
    assert CliRunner().invoke(app, [*words, "blink"]).exit_code == 1
