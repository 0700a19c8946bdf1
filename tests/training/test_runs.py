import contextlib
import getpass
import gzip
import io
import json
import os
import pickle
import platform
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import Payload, easy_faces, wait_for
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from fer_helpers.data.emotions import CLASS_SETS, EMOTIONS, TAXONOMY
from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError, digest
from fer_helpers.metrics.evaluation import compare, evaluate
from fer_helpers.training import runs
from fer_helpers.training.checkpoints import read_history
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.prediction import predict_logits
from fer_helpers.training.runs import (
    DRAWN,
    PACKED,
    RECORD,
    Interrupted,
    Run,
    compare_runs,
    default_store,
    environment,
    finished_runs,
    load_or_train,
    load_runs,
    load_weights,
    markdown_table,
    predict_table,
    record_run,
    recorded_runs,
    run_id,
    run_table,
    train_run,
)
from fer_helpers.training.trainer import Diverged, Trainer, prepare_faces
from fer_helpers.transforms.augmentation import TTA

TINY = TrainConfig(arch="simple_cnn", epochs=2, batch_size=16, val_fraction=0.2, augmentation="none",
                   precision="fp32", warmup_epochs=0.0)
FILES = {"config.json", "environment.json", "history.csv", "predictions.csv", "weights.safetensors", "metrics.json"}


def train(config: TrainConfig, faces: FaceSet, store: Path) -> Run:
    return train_run(config, faces, store, device="cpu", progress=False)


@pytest.fixture(scope="module")
def leaky() -> FaceSet:
    """Three test images are copies of train images; disgust stays outside the six classes."""
    faces = easy_faces()
    images, train, test = faces.images.clone(), faces.split == "train", faces.split == "test"
    kept = faces.labels.numpy() != 1
    images[np.flatnonzero(test & kept)[:3]] = images[np.flatnonzero(train & kept)[:3]]
    return replace(faces, images=images)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(leaky, store) -> Run:
    return train(TINY, leaky, store)


@pytest.fixture
def copy(run, tmp_path) -> Run:
    """The same run in a folder of its own, to be damaged."""
    shutil.copytree(run.folder, tmp_path / "store" / run.name)
    return Run(tmp_path / "store" / run.name)


# ---------------------------------------------------------------- what is kept

def test_a_finished_run_has_the_documented_files_and_no_other(run, leaky, store):
    assert {path.name for path in run.folder.iterdir()} == FILES
    assert run.folder == store / run_id(TINY, leaky)
    assert run.name == run.folder.name


def test_a_finished_run_is_returned_not_trained_again(run, leaky, store):
    before = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    assert train(TINY, leaky, store).folder == run.folder
    assert {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before


def test_the_configuration_comes_back(run):
    assert run.config == TINY


def test_history_has_a_row_per_epoch(run):
    assert run.history["epoch"].tolist() == [1, 2]
    assert np.isfinite(run.history.to_numpy()).all()
    assert run.environment["best_epoch"] == run.history["epoch"][run.history["val_loss"].idxmin()]


def test_predictions_are_those_of_validation_and_test_by_image_id(run, leaky):
    view, table = prepare_faces(TINY, leaky), run.predictions
    rows = view.take(view.split != "train")
    assert table["id"].tolist() == rows.ids.tolist()
    assert table["split"].tolist() == rows.split.tolist()
    assert table["true"].tolist() == [view.classes[label] for label in rows.labels]
    assert table["in_train"].dtype == bool
    test = table["split"] == "test"
    assert table.loc[test, "in_train"].sum() == 3
    assert set(table["id"]).isdisjoint(view.only("train").ids)


def test_probabilities_sum_to_one_and_decide_the_prediction(run):
    table = run.predictions
    probs = table[[f"prob_{name}" for name in CLASS_SETS[6]]].to_numpy()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(probs.max(1), table["confidence"], atol=1e-6)
    assert table["predicted"].tolist() == [CLASS_SETS[6][number] for number in probs.argmax(1)]
    for split in ("val", "test"):
        np.testing.assert_array_equal(run.probabilities(split), probs[(table["split"] == split).to_numpy()])


def test_the_stored_model_gives_the_stored_predictions(run, leaky):
    view, model = prepare_faces(TINY, leaky), run.model()
    assert not model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    probs = predict_logits(model, view.only("test").images).softmax(1)
    np.testing.assert_allclose(run.probabilities("test"), probs, atol=2e-5)
    again = predict_table(model, view)
    assert again["predicted"].tolist() == run.predictions["predicted"].tolist()
    assert again["id"].tolist() == run.predictions["id"].tolist()


def test_metrics_are_those_of_the_stored_predictions(run):
    table = run.predictions
    parts = {"val": table["split"] == "val", "test": table["split"] == "test",
             "clean_test": (table["split"] == "test") & ~table["in_train"]}
    assert set(run.metrics) == set(parts)
    for split, rows in parts.items():
        part = table[rows]
        labels = part["true"].map(CLASS_SETS[6].index).to_numpy()
        expected = evaluate(labels, part[[f"prob_{name}" for name in CLASS_SETS[6]]].to_numpy(), CLASS_SETS[6])
        assert run.metrics[split].accuracy.value == expected.accuracy.value
        assert run.metrics[split].ece.value == pytest.approx(expected.ece.value, abs=1e-4)
        np.testing.assert_array_equal(run.metrics[split].confusion, expected.confusion)


def test_the_clean_test_excludes_leaked_images(run):
    assert run.metrics["test"].count == 36
    assert run.metrics["clean_test"].count == 33


def test_the_majority_is_that_of_the_train_split(tmp_path):
    faces = easy_faces()
    rare = (faces.split == "train") & (faces.labels.numpy() != 3) & (np.arange(len(faces)) % 3 > 0)
    run = train(replace(TINY, epochs=1), faces.take(~rare), tmp_path)
    test = run.predictions[run.predictions["split"] == "test"]
    assert run.metrics["test"].majority.value == pytest.approx((test["true"] == "happiness").mean())


def test_a_run_of_some_epochs_learns_something(leaky, tmp_path):
    run = train(replace(TINY, epochs=5), leaky, tmp_path)
    assert run.metrics["test"].accuracy.low > run.metrics["test"].chance


# ---------------------------------------------------------------- identity

@pytest.mark.parametrize(("classes", "names"), [
    (8, TAXONOMY), ("data", TAXONOMY), ("neutral+contempt+anger", ("anger", "neutral", "contempt"))])
def test_a_run_learns_the_classes_it_is_told(classes, names, tmp_path):
    faces = easy_faces(train=10, test=4)
    more = easy_faces(train=10, test=4, noise=30)
    scorn = more.take(more.labels.numpy() == EMOTIONS.index("neutral"))
    both = FaceSet(torch.cat([faces.images, scorn.images]), torch.cat([faces.labels, torch.full((len(scorn),), 7)]),
                   np.r_[faces.ids, np.char.add("scorn-", scorn.ids)], np.r_[faces.split, scorn.split], TAXONOMY)
    config = TrainConfig(arch="compact", epochs=1, batch_size=16, classes=classes)
    run = train(config, both, tmp_path)
    assert run.config.class_names == run.metrics["test"].classes == names and f"-c{len(names)}-" in run.name
    assert run.predictions["predicted"].isin(names).all() and run.probabilities().shape[1] == len(names)
    assert run.model()(both.images[:1, None].float() / 255).shape == (1, len(names))
    assert train_run(config, both, tmp_path, "cpu", progress=False).folder == run.folder


def test_any_change_gives_another_id(leaky):
    configs = [TINY, *(replace(TINY, **change) for change in (
        {"lr": 0.01}, {"epochs": 3}, {"seed": 1}, {"classes": 3}, {"arch": "compact"}, {"optimizer": "adam"},
        {"patience": 2}, {"label_smoothing": 0.1}, {"precision": "bf16"}, {"weight_decay": 0.0}))]
    assert len({run_id(config, leaky) for config in configs}) == len(configs)
    assert run_id(TINY, leaky) == run_id(TrainConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))), leaky)
    assert run_id(TINY, leaky) != run_id(TINY, leaky.take(np.arange(1, len(leaky))))


@pytest.mark.parametrize(("change", "needed"), [
    ({"init": "he"}, {}), ({"root_eps": 1e-7}, {"optimizer": "rmsprop"}), ({"train_set": "original"}, {}),
    ({"validation": "last"}, {}), ({"drop_last": False}, {}), ({"loss": "sigmoid_cross_entropy"}, {})])
def test_the_settings_of_the_original_study_change_the_id(change, needed, leaky):
    config = replace(TINY, lr=0.01, **needed)
    changed = replace(config, **change)
    assert run_id(changed, leaky) != run_id(config, leaky)
    assert TrainConfig.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


def test_every_recorded_run_has_the_id_that_its_settings_and_data_have_now(pytestconfig):
    checked = 0
    for path in sorted((pytestconfig.rootpath / "data" / "results").rglob("config.json")):
        settings = json.loads(path.read_text())
        # That network and that loss were redefined, or renamed, when the original study was read again.
        if not (path.parent / "metrics.json").exists() or settings.get("loss") == "binary_cross_entropy" or (
                settings["arch"] == "simple_cnn" and "init" not in settings):
            continue
        run = Run(path.parent)
        identity = digest(run.config.identity(), run.environment["data_fingerprint"], length=8)
        assert run.name.endswith(f"-{identity}"), run
        checked += 1
    assert checked


def test_a_training_kept_with_the_repository_is_not_trained_again(run, leaky, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_RUNS", "runs")
    Path("pyproject.toml").write_text('name = "fer_helpers"\n')  # a repository of its own
    record_run(run, DRAWN, packed=True, weights=True)
    kept = load_or_train(run.config, leaky)
    assert kept.folder == Path.cwd() / DRAWN / run.name and kept.has_weights and not Path("runs").exists()
    assert set(kept.predictions["split"]) == {"val", "test"}
    assert {name: one.to_dict() for name, one in kept.metrics.items()} == {
        name: one.to_dict() for name, one in run.metrics.items()}
    images = leaky.images[:8, None].float() / 255
    torch.testing.assert_close(kept.model()(images), run.model()(images), atol=0.05, rtol=0.05)
    for other in (load_or_train(run.config, leaky, fresh=True, progress=False),
                  load_or_train(replace(run.config, seed=5), leaky, progress=False)):
        assert other.folder.parent == Path("runs")


def test_weights_are_kept_only_where_asked_for_and_missing_ones_are_named(run, tmp_path):
    kept = record_run(run, tmp_path)
    assert not kept.has_weights and set(kept.predictions["split"]) == {"test"}
    with pytest.raises(FerError, match=r"weights\.safetensors"):
        kept.model()


def test_every_kept_training_on_drawn_faces_is_of_them_and_has_learned(pytestconfig):
    faces, kept = load_faces("synthetic"), finished_runs(pytestconfig.rootpath / DRAWN)
    asked = [run.folder for run in kept if run.has_weights]
    assert len(kept) > 10 and all((folder / "README.md").exists() for folder in asked)
    assert 0 < sum((folder / "weights.safetensors").stat().st_size for folder in asked) < 4_000_000
    for run in kept:
        assert run_id(run.config, faces) == run.name, "the drawn faces or the settings changed: train it anew"
        scores = run.metrics["test"]
        if run.config.train_set == "all":  # else what it cannot learn is the subject
            assert scores.accuracy.low > scores.majority.value + 0.15, run.name


def test_other_votes_give_another_id():
    voted = easy_faces(votes=True)
    assert run_id(TINY, voted) != run_id(TINY, replace(voted, votes=voted.votes.flip(1)))


def test_the_same_settings_have_the_same_id_however_they_are_written(leaky):
    assert run_id(replace(TINY, warmup_epochs=0, weight_decay=0), leaky) == run_id(
        replace(TINY, warmup_epochs=0.0, weight_decay=0.0, classes="6"), leaky)


def test_an_id_can_be_read_and_used_as_a_folder_name(leaky):
    name = run_id(replace(TINY, seed=3), leaky)
    assert name.startswith("simple_cnn-sgd-onecycle-c6-s3-")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")


def test_the_store_is_the_folder_of_the_environment_or_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_RUNS", str(tmp_path / "mine"))
    assert default_store() == tmp_path / "mine"
    monkeypatch.delenv("FER_RUNS")
    (tmp_path / "notebooks").mkdir()
    for folder in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(folder)
        assert default_store().resolve() == (tmp_path / "runs").resolve()


def test_a_run_without_a_store_goes_to_the_default_one(leaky, monkeypatch, tmp_path):
    monkeypatch.setenv("FER_RUNS", str(tmp_path))
    run = train_run(replace(TINY, epochs=1, train_limit=16), leaky, device="cpu", progress=False)
    assert run.folder.parent == tmp_path
    assert list(load_runs().index) == [run.name]


# ---------------------------------------------------------------- tables of runs

def test_load_runs_is_a_tidy_table(run, store):
    table = load_runs(store)
    assert table.index.name == "run_id"
    row = table.loc[run.name]
    for name, value in TINY.to_dict().items():
        assert row[name] == value or (value is None and pd.isna(row[name]))
    for split in ("val", "test", "clean_test"):
        scores = run.metrics[split]
        assert row[f"{split}_accuracy"] == scores.accuracy.value
        assert (row[f"{split}_low"], row[f"{split}_high"]) == (scores.accuracy.low, scores.accuracy.high)
        assert (row[f"{split}_macro_f1"], row[f"{split}_ece"]) == (scores.macro_f1.value, scores.ece.value)
    assert row["majority"] == run.metrics["test"].majority.value
    assert row["data"] == "easy faces"
    assert row["precision"] == "fp32"
    assert row["train_seconds"] > 0
    assert row["run"].folder == run.folder


def test_load_runs_of_an_empty_or_missing_store_is_empty(tmp_path):
    assert len(load_runs(tmp_path)) == 0
    assert len(load_runs(tmp_path / "nowhere")) == 0
    assert load_runs(tmp_path).index.name == "run_id"


def test_run_table_takes_any_runs_in_their_order(run, copy):
    other = Run(copy.folder.rename(copy.folder.with_name("another")))
    assert list(run_table([run, other]).index) == [run.name, "another"]
    assert list(run_table([other, run]).index) == ["another", run.name]


def test_runs_are_compared_image_by_image(run, leaky, tmp_path):
    other = train(replace(TINY, epochs=1, optimizer="adam", lr=1e-4), leaky, tmp_path)
    result = compare_runs(run, other)
    test = [one.predictions[one.predictions["split"] == "test"] for one in (run, other)]
    right = [(part["true"] == part["predicted"]).to_numpy() for part in test]
    assert result == compare(*right)
    assert compare_runs(run, run).p_value == 1


def test_runs_on_different_images_are_not_compared(run, copy):
    table = pd.read_csv(copy.folder / "predictions.csv")
    table.drop(table.index[table["split"] == "test"][0]).to_csv(copy.folder / "predictions.csv", index=False)
    with pytest.raises(FerError, match="different images"):
        compare_runs(run, copy)


def test_runs_are_paired_by_id_not_by_order(run, copy):
    table = pd.read_csv(copy.folder / "predictions.csv")
    table.iloc[::-1].to_csv(copy.folder / "predictions.csv", index=False)
    assert compare_runs(run, copy).only_first == compare_runs(run, copy).only_second == 0


# ---------------------------------------------------------------- environment

def test_the_environment_has_versions_and_no_names_of_host_or_user(run):
    values = run.environment
    assert values["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"fer_helpers", "torch", "torchvision", "numpy", "scikit-learn"} <= set(values["packages"])
    assert values["python"] == platform.python_version()
    assert values["images"] == {"train": 72, "val": 24, "test": 36}
    assert (values["device"], values["precision"]) == ("cpu", "fp32")
    assert 0 < values["train_seconds"] <= values["total_seconds"]
    text = json.dumps(values)
    for private in (platform.node(), str(Path.home()), getpass.getuser()):
        assert len(private) < 3 or f'"{private}' not in text
    assert platform.node() not in text or len(platform.node()) < 5


def test_the_environment_can_be_written_as_json():
    assert json.loads(json.dumps(environment())) == environment()


def test_the_fingerprint_of_the_whole_data_is_kept(run, leaky):
    assert run.environment["data_fingerprint"] == leaky.fingerprint


# ---------------------------------------------------------------- failures

def test_a_failing_fit_leaves_its_reason_and_is_not_listed(leaky, tmp_path):
    config = replace(TINY, lr=100, schedule="constant")
    with pytest.raises(Diverged) as raised:
        train(config, leaky, tmp_path)
    folder = tmp_path / run_id(config, leaky)
    assert json.loads((folder / "failure.json").read_text()) == {"error": str(raised.value)}
    assert json.loads((folder / "config.json").read_text()) == config.to_dict()
    assert not (folder / "metrics.json").exists()
    assert len(load_runs(tmp_path)) == 0


def test_a_later_success_removes_the_failure(leaky, tmp_path):
    config = replace(TINY, epochs=1, train_limit=16)
    folder = tmp_path / run_id(config, leaky)
    folder.mkdir()
    (folder / "failure.json").write_text('{"error": "an earlier try"}')
    assert {path.name for path in train(config, leaky, tmp_path).folder.iterdir()} == FILES


def test_an_interrupted_run_is_not_listed_and_is_resumed(leaky, tmp_path, clean_server):
    config = replace(TINY, epochs=4, augmentation="standard")
    folder = tmp_path / "killed" / run_id(config, leaky)
    process = clean_server.Process(target=train_run, args=(config, leaky, tmp_path / "killed", "cpu", False))
    process.start()
    wait_for(folder / "checkpoint.pt", process)
    process.kill()
    process.join()
    assert (folder / "checkpoint.pt").exists()
    assert not (folder / "metrics.json").exists(), "the run was over before it could be killed"
    assert len(load_runs(tmp_path / "killed")) == 0
    resumed, whole = train(config, leaky, tmp_path / "killed"), train(config, leaky, tmp_path / "whole")
    for name in ("weights.safetensors", "predictions.csv", "metrics.json", "config.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert list(load_runs(tmp_path / "killed").index) == [resumed.name]
    assert {path.name for path in resumed.folder.iterdir() if not path.name.startswith(".")} == FILES


@pytest.mark.parametrize("kept", [0, 2])
def test_who_interrupts_a_training_is_told_what_is_kept(leaky, tmp_path, monkeypatch, kept):
    config = replace(TINY, epochs=3)
    epoch, turns = Trainer._epoch, iter(range(kept))

    def interrupted(*args):
        if next(turns, None) is None:
            raise KeyboardInterrupt
        epoch(*args)

    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    with pytest.raises(Interrupted, match=f"interrupted: {kept} of 3 epochs are kept in .*; the same command") as told:
        train(config, leaky, tmp_path)
    assert str(tmp_path / run_id(config, leaky)) in str(told.value)
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        shell.user_ns["again"] = lambda: train(config, leaky, tmp_path)
        shell.run_cell("again()")
    assert shown.getvalue() == f"{told.value}\n"


def test_a_full_disk_names_the_file_and_the_fix(leaky, full_disk):
    with pytest.raises(FerError, match=r"free some space"):
        train(replace(TINY, epochs=1, train_limit=16), leaky, full_disk / "runs")
    assert len(load_runs(full_disk / "runs")) == 0
    assert not list(full_disk.glob("runs/*/.*"))


@pytest.fixture
def stopped_training(clean_server) -> Callable[[TrainConfig, FaceSet, Path], BaseProcess]:
    """Starts a process that holds the lock of a run and is stopped after its first epoch or so."""
    def start(config: TrainConfig, faces: FaceSet, store: Path) -> BaseProcess:
        process = clean_server.Process(target=train_run, args=(config, faces, store, "cpu", False))
        process.start()
        wait_for(store / run_id(config, faces) / "checkpoint.pt", process)
        os.kill(process.pid, signal.SIGSTOP)
        return process

    return start


def test_of_two_processes_one_trains_a_run_and_the_other_waits_for_it(leaky, tmp_path, stopped_training):
    """The second asks while the first, which holds the lock, is stopped: it neither trains nor gives up."""
    config = replace(TINY, epochs=4)
    folder = tmp_path / run_id(config, leaky)
    first = stopped_training(config, leaky, tmp_path)
    epochs = len(read_history(folder / "checkpoint.pt"))
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(train, config, leaky, tmp_path)
        time.sleep(1)
        assert not second.done() and len(read_history(folder / "checkpoint.pt")) == epochs < 4
        os.kill(first.pid, signal.SIGCONT)
        assert second.result(120).environment["total_seconds"] > 0
    first.join()
    assert first.exitcode == 0 and not (folder / "checkpoint.pt").exists()


def test_who_waits_for_a_run_whose_process_is_killed_goes_on_at_once(leaky, tmp_path, stopped_training):
    config = replace(TINY, epochs=2)
    first = stopped_training(config, leaky, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(train, config, leaky, tmp_path)
        time.sleep(0.5)
        first.kill()
        first.join()
        assert len(second.result(60).history) == 2


@pytest.mark.parametrize("full_disk", ["33m"], indirect=True)
def test_a_disk_that_fills_up_after_the_training_is_named_too(leaky, full_disk):
    # Room for the checkpoint (29 MB) but not for the weights (10 MB) beside it.
    with pytest.raises(FerError, match=r"weights\.safetensors.*free some space"):
        train(replace(TINY, epochs=1, train_limit=16), leaky, full_disk)
    assert [path.name for path in full_disk.glob("*/*.safetensors")] == []


def test_a_store_without_permission_is_named(leaky, locked_folder):
    with pytest.raises(FerError, match="no permission.*rights"):
        train(replace(TINY, epochs=1, train_limit=16), leaky, locked_folder / "runs")


def test_a_test_split_of_nothing_but_leaks_is_named_or_scored(leaky, tmp_path):
    test = np.flatnonzero(leaky.split == "test")
    models = np.flatnonzero((leaky.split == "train") & (leaky.labels.numpy() != 1))
    images = leaky.images.clone()
    images[test] = images[models[:len(test)]]
    try:
        run = train(replace(TINY, epochs=1), replace(leaky, images=images), tmp_path)
    except FerError as error:
        assert "test" in str(error)  # noqa: PT017
    else:
        assert run.metrics["test"].count == 36


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"test": {}}', b'{"test": 3}', b"\xff\xfe"])
def test_broken_metrics_name_their_file(content, copy):
    (copy.folder / "metrics.json").write_bytes(content)
    with pytest.raises(FerError, match=r"metrics\.json"):
        _ = copy.metrics["test"]
    with pytest.raises(FerError, match=r"metrics\.json"):
        load_runs(copy.folder.parent)


@pytest.mark.parametrize(("name", "read"), [
    ("config.json", lambda run: run.config), ("environment.json", lambda run: run.environment["packages"]),
    ("history.csv", lambda run: run.history["epoch"]), ("predictions.csv", lambda run: run.probabilities()),
    ("weights.safetensors", lambda run: run.model())])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x80" * 20, b"[]"], ids=["empty", "binary", "list"])
def test_every_other_broken_file_is_named_with_the_fix(name, read, content, copy):
    (copy.folder / name).write_bytes(content)
    with pytest.raises(FerError) as raised:
        read(copy)
    assert name in str(raised.value)
    assert "train it again" in str(raised.value)


@pytest.mark.parametrize(("name", "read"), [
    ("config.json", lambda run: run.config), ("environment.json", lambda run: run.environment),
    ("history.csv", lambda run: run.history), ("predictions.csv", lambda run: run.predictions),
    ("weights.safetensors", lambda run: run.model()), ("metrics.json", lambda run: run.metrics)])
def test_a_missing_file_is_named(name, read, copy):
    (copy.folder / name).unlink()
    with pytest.raises(FerError, match=name.replace(".", r"\.")):
        read(copy)


def test_a_configuration_of_an_unknown_setting_names_its_file(copy):
    (copy.folder / "config.json").write_text(json.dumps(TINY.to_dict() | {"gpu": 1}))
    with pytest.raises(FerError, match=r"config\.json.*gpu"):
        _ = copy.config


# ---------------------------------------------------------------- weights

def test_weights_of_another_architecture_or_class_number_are_refused(run):
    path = run.folder / "weights.safetensors"
    with pytest.raises(FerError, match=r"weights\.safetensors.*6-class compact"):
        load_weights(path, replace(TINY, arch="compact"))
    with pytest.raises(FerError, match=r"weights\.safetensors.*3-class simple_cnn"):
        load_weights(path, replace(TINY, classes=3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, copy):
    path = copy.folder / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["classifier.bias"][1] = value
    safetensors.torch.save_file(weights, path)
    with pytest.raises(FerError, match=r"weights\.safetensors: classifier\.bias.*NaN or infinite"):
        copy.model()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(share, copy):
    path = copy.folder / "weights.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(FerError, match=r"weights\.safetensors.*train it again"):
        copy.model()


def test_weights_with_a_tensor_missing_or_too_many_are_refused(copy):
    path = copy.folder / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    for changed in ({name: value for name, value in weights.items() if name != "classifier.bias"},
                    weights | {"extra": torch.zeros(1)}):
        safetensors.torch.save_file(changed, path)
        with pytest.raises(FerError, match=r"weights\.safetensors"):
            copy.model()


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FerError, match=r"nowhere\.safetensors"):
        load_weights(tmp_path / "nowhere.safetensors", TINY)


@pytest.mark.parametrize("write", [lambda value, path: path.write_bytes(pickle.dumps(value)), torch.save],
                         ids=["pickle", "torch"])
def test_a_pickle_in_place_of_the_weights_is_refused_and_not_run(write, tmp_path):
    path, trace = tmp_path / "weights.safetensors", tmp_path / "trace"
    write(Payload(trace), path)
    with pytest.raises(FerError, match=r"weights\.safetensors"):
        load_weights(path, TINY)
    assert not trace.exists()


def test_a_recorded_run_keeps_all_but_its_weights_and_reads_like_any(run, tmp_path):
    kept = record_run(run, tmp_path / "results")
    assert sorted(path.name for path in kept.folder.iterdir()) == sorted(RECORD)
    before, after = run_table([run]).drop(columns="run"), load_runs(tmp_path / "results").drop(columns="run")
    pd.testing.assert_frame_equal(before, after)
    assert compare_runs(run, kept).difference.value == 0
    with pytest.raises(FerError, match="weights.safetensors"):
        kept.model()


@pytest.fixture
def packed(run, tmp_path) -> Run:
    return record_run(run, tmp_path / "results", packed=True)


def test_a_packed_record_has_the_same_predictions_to_three_decimals_in_less_room(run, packed, tmp_path):
    assert {path.name for path in packed.folder.iterdir()} == {*RECORD, PACKED} - {"predictions.csv"}
    tested = run.predictions[run.predictions["split"] == "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(packed.predictions, tested, rtol=0, atol=0.0005001)
    np.testing.assert_allclose(packed.probabilities(), run.probabilities(), rtol=0, atol=0.0005001)
    decimals = packed.predictions[["confidence", "prob_fear"]] * 1000
    np.testing.assert_allclose(decimals, decimals.round(), atol=1e-9)
    assert compare_runs(run, packed).difference.value == 0
    plain = record_run(run, tmp_path / "plain")
    assert (packed.folder / PACKED).stat().st_size < (plain.folder / "predictions.csv").stat().st_size / 2
    assert load_runs(tmp_path / "results").drop(columns="run").equals(load_runs(tmp_path / "plain").drop(columns="run"))


def test_the_same_predictions_are_packed_to_the_same_bytes(run, packed, tmp_path):
    time.sleep(1.1)  # gzip notes the second
    again = record_run(run, tmp_path / "again", packed=True)
    assert (again.folder / PACKED).read_bytes() == (packed.folder / PACKED).read_bytes()


def torn(data: bytes) -> bytes:
    return data[:len(data) // 2]


@pytest.mark.parametrize("damage", [
    torn, lambda data: b"", lambda data: b"id,split\n", lambda data: data[:-8] + bytes(8), lambda data: data[:5],
    lambda data: data[:100] + bytes(200) + data[300:], lambda data: gzip.compress(b"id,split\na,test\n"),
    lambda data: gzip.compress(gzip.decompress(data)[:-20])
], ids=["half", "empty", "plain", "wrong sum", "start", "zeros within", "other columns", "cut before packing"])
def test_packed_predictions_that_are_damaged_are_named(damage, packed):
    path = packed.folder / PACKED
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FerError, match=r"predictions\.csv\.gz: .*train it again") as raised:
        _ = packed.predictions
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("content", [bytes(3 << 20), b"a,b\n" * (1 << 20), b"a,b\n" + b"1" * (3 << 20)],
                         ids=["zeros", "lines", "one line"])
def test_packed_predictions_that_unpack_to_too_much_are_named(content, packed, monkeypatch):
    monkeypatch.setattr(runs, "MAX_TABLE", 1 << 20)  # as a bomb for 128 MiB would take a while to make
    (packed.folder / PACKED).write_bytes(gzip.compress(content))
    with pytest.raises(FerError, match=r"predictions\.csv\.gz: .*unpacks to more than 1,048,576 bytes.*train it again"):
        _ = packed.predictions


def test_a_record_does_not_tell_where_the_data_lay(copy, tmp_path):
    environment = copy.environment | {"data": str(tmp_path / "private" / "fer2013")}
    (copy.folder / "environment.json").write_text(json.dumps(environment))
    kept = record_run(Run(copy.folder), tmp_path / "results")
    assert kept.environment == environment | {"data": "fer2013"}
    assert not [path for path in kept.folder.iterdir() if str(tmp_path) in path.read_text()]


def test_recorded_runs_are_found_from_the_repository_and_from_its_notebooks(run, clone, monkeypatch):
    assert recorded_runs().empty
    (clone / "notebooks").mkdir()
    record_run(run)
    for folder in (clone, clone / "notebooks"):
        monkeypatch.chdir(folder)
        assert list(recorded_runs().index) == [run.name]


def test_an_unfinished_run_is_not_recorded(copy, tmp_path):
    (copy.folder / "metrics.json").unlink()
    with pytest.raises(FerError, match=r"metrics\.json: is missing; only a finished run"):
        record_run(copy, tmp_path / "results")


def test_the_table_for_a_readme_has_a_line_per_run_with_its_intervals(run):
    lines = markdown_table(run_table([run])).splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1
    scores = run.metrics["test"].accuracy
    assert f"| {100 * scores.value:.1f} [{100 * scores.low:.1f}, {100 * scores.high:.1f}] |" in lines[2]
    assert f"| {100 * run.metrics['clean_test'].accuracy.value:.1f} [" in lines[2]


@pytest.mark.parametrize("tta", TTA)
def test_the_predictions_of_a_run_average_over_the_views_asked_for(tta, faces, tmp_path):
    run = train_run(replace(TINY, tta=tta, epochs=1), faces, tmp_path, progress=False)
    view = prepare_faces(run.config, faces)
    logits = predict_logits(run.model(), view.only("test").images, tta=tta)
    np.testing.assert_allclose(run.probabilities(), logits.softmax(1), atol=1e-4)
