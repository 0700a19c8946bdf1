"""papermill end to end: the real notebooks on small synthetic sets, through the command line as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import easy_faces, fer_here
from PIL import Image

from fer_helpers.cli import main
from fer_helpers.data import readers
from fer_helpers.data.readers import load_faces
from fer_helpers.experiments import notebooks, sweeps
from fer_helpers.files import FerError
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.methods import METHODS, configure
from fer_helpers.training.runs import load_runs, run_id

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TINY = ["epochs=1", "train_limit=128"]


def id_of(notebook: Path, folder: Path, **settings: object) -> str:
    """Of the run that a notebook trains with such settings."""
    given = notebooks.notebook_defaults(notebook) | settings
    return run_id(configure({name: given[name] for name in given.keys() - {"data", "settings"}}), load_faces(folder))


def test_the_six_notebooks_of_the_design_are_there():
    assert [path.stem for path in notebooks.find_notebooks(NOTEBOOKS)] == [
        "01_data_exploration", "02_training", "03_architectures", "04_optimization", "05_class_ambiguity",
        "06_failure_analysis"]


def test_a_folder_without_notebooks_is_an_error(tmp_path):
    with pytest.raises(FerError, match="numbered notebooks"):
        notebooks.find_notebooks(tmp_path)


@pytest.mark.parametrize(("axes", "message"), [
    ({"archs": ["vgg16"]}, "unknown setting archs"), ({"arch": ["vgg99"]}, "vgg99"), ({"arch": []}, "no value")])
def test_an_impossible_grid_is_refused_before_anything_runs(axes, message, folder, tmp_path):
    with pytest.raises(FerError, match=message):
        sweeps.sweep(axes, str(folder), tmp_path / "store", notebook=NOTEBOOKS / "02_training.ipynb", progress=False)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_a_sweep_of_the_workhorse_records_a_failed_run_and_goes_on(again, folder, tmp_path, short_workhorse):
    store = tmp_path / "store"
    grid = ["arch=simple_cnn", "method=plain,focal", *TINY]
    # One run is made to fail: where its checkpoint should be lies something else.
    victim = id_of(short_workhorse, folder, arch="simple_cnn", method="focal", epochs=1, train_limit=128)
    (store / victim).mkdir(parents=True)
    (store / victim / "checkpoint.pt").write_text("not a checkpoint")
    words = ["sweep", *grid, "--data", folder, "--store", store]
    done = fer_here(*words, "--jobs", 2, cwd=short_workhorse.parent.parent)
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    assert f"failed: {victim}" in done.stderr and "checkpoint.pt" in done.stderr
    table = pd.read_csv(store / "sweep.csv").set_index("run_id")
    assert list(table["status"]).count("finished") == 1 and table.loc[victim, "status"] == "failed"
    assert "move it elsewhere" in json.loads((store / victim / "failure.json").read_text())["error"]
    runs = load_runs(store)
    assert list(runs["focal"]) == [0]
    for run in runs["run"]:
        cells = nbformat.read(run.folder / "02_training.ipynb", 4).cells
        assert any("injected-parameters" in cell.metadata.get("tags", []) for cell in cells)
        assert "step/s" not in str(cells), "an executed notebook is a document: no progress bars"
    if again:  # once the cause is gone the same command trains just what is missing; test_faults.py shows it sooner
        (store / victim / "checkpoint.pt").unlink()
        done = fer_here(*words, cwd=short_workhorse.parent.parent)
        assert done.exit_code == 0, done.output
        table = pd.read_csv(store / "sweep.csv").set_index("run_id")
        assert list(table["status"]).count("skipped") == 1 and table.loc[victim, "status"] == "finished"
        assert not (store / victim / "failure.json").exists()


@pytest.mark.nightly  # a sweep starts papermill, too
def test_papermill_runs_the_workhorse_with_its_own_parameters(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "papermill", NOTEBOOKS / "02_training.ipynb", tmp_path / "out.ipynb", "-p", "arch",
         "simple_cnn", "-p", "optimizer", "adam", "-p", "classes", "3", "-p", "epochs", "1", "-p", "train_limit", "200",
         "--no-progress-bar"],
        capture_output=True, text=True, check=False,
        env=os.environ | {"FER_RUNS": str(tmp_path / "runs"), "TQDM_DISABLE": "1"})
    assert done.returncode == 0, done.stderr
    run = load_runs(tmp_path / "runs")["run"].iloc[0]
    assert run.config == TrainConfig(arch="simple_cnn", optimizer="adam", classes=3, epochs=1, train_limit=200,
                                     batch_size=64, augmentation="flip")


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    (tmp_path / "01_odd.ipynb").write_text("{}")
    with pytest.raises(FerError, match="01_odd.ipynb"):
        notebooks.notebook_defaults(tmp_path / "01_odd.ipynb")


@pytest.mark.parametrize(("arguments", "message"), [
    (["data", "check", "no/such/folder"], "no/such/folder"), (["train", "arch=vgg99"], "vgg99"),
    (["train", "epochs=-1"], "epochs=-1"), (["train", "epochs"], "KEY=VALUE"), (["train", "speed=9"], "speed"),
    (["train", "arch=vgg16,vgg19"], "fer sweep"), (["sweep", "archs=vgg16"], "archs"), (["runs"], "no finished run"),
    (["report", "--profile", "slow"], "quick, full"), (["sweep", "--data", "nowhere"], "nowhere"),
    (["train", "classes=5"], "classes=5"), (["train", "lr=abc"], "lr='abc'")])
def test_a_users_error_is_one_line_without_a_traceback(arguments, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fer", *arguments])
    monkeypatch.setenv("FER_DATA", str(folder))
    monkeypatch.setenv("FER_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(NOTEBOOKS.parent)
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr().err
    assert left.value.code == 2 and message in printed
    assert printed.startswith("error: ") and printed.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_train_and_runs_print_what_they_did(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_RUNS", str(tmp_path / "runs"))
    done = fer_here("train", "arch=simple_cnn", "batch_size=32", *TINY, "--data", folder, cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert "always the majority class" in done.stdout and "clean_test" in done.stdout
    assert "warning:" not in done.stderr
    listed = fer_here("runs", cwd=tmp_path)
    assert listed.exit_code == 0 and "simple_cnn-sgd-onecycle-c6-s0" in listed.stdout
    assert "clean_test_accuracy" in fer_here("runs", "--csv", cwd=tmp_path).stdout.splitlines()[0]


@pytest.mark.parametrize(("settings", "lacking"), [
    (["train_set=without-fear+sadness"], "fear, sadness, 33.3% of test (24 images)"),
    (["validation=last", "val_fraction=0.5"], "sadness, surprise, neutral, 50.0% of test (36 images)")])
def test_train_warns_of_classes_it_cannot_learn_and_trains(folder, tmp_path, settings, lacking):
    done = fer_here("train", "arch=simple_cnn", "batch_size=32", *TINY, *settings, "--data", folder, cwd=tmp_path)
    assert done.exit_code == 0 and "clean_test" in done.stdout
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and warnings[0].startswith(f"warning: Train holds no image of {lacking}: ")


@pytest.mark.parametrize("name", ["happiness", "neutral"])
def test_train_warns_of_a_class_that_it_sees_too_seldom_and_trains(tmp_path, monkeypatch, name):
    faces = easy_faces(train=60, test=60)
    own = (faces.labels.numpy() == faces.classes.index(name)) & (faces.split == "train")
    rare = faces.take(~own | (own.cumsum() <= 12))
    monkeypatch.setattr(readers, "load_faces", lambda *_, **__: rare)
    done = fer_here("train", "arch=simple_cnn", "batch_size=32", "epochs=1", cwd=tmp_path)
    assert done.exit_code == 0 and "clean_test" in done.stdout
    assert f"warning: {name.capitalize()} is 3.8% of train but 16.7% of test: " in done.stderr


def test_models_are_listed_with_their_cost(tmp_path):
    table = fer_here("models", cwd=tmp_path).stdout
    assert "resnet50" in table and "parameters" in table


def test_data_check_prints_a_table_or_json_and_fails_on_errors(folder, tmp_path):
    good = fer_here("data", "check", folder, "--json", cwd=tmp_path)
    assert good.exit_code == 0 and isinstance(json.loads(good.stdout), dict)
    blank = tmp_path / "blank"
    for split in ("train", "test"):
        for name in ("happy", "sad"):
            (blank / split / name).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(np.zeros((48, 48), np.uint8)).save(blank / split / name / f"{split}{name}{number}.png")
    bad = fer_here("data", "check", blank, cwd=tmp_path)
    assert bad.exit_code == 1 and "are blank" in bad.stdout


@pytest.mark.nightly
def test_every_method_runs_from_the_workhorse(folder, tmp_path, short_workhorse):
    """One after the other in one kernel: starting another for each would take most of the time."""
    notebook = nbformat.read(short_workhorse, 4)
    start = next(number for number, cell in enumerate(notebook.cells) if "\nconfig = " in cell.source)
    steps = [cell.source for cell in notebook.cells[start:] if cell.cell_type == "code"]
    # Drawn faces have no votes to learn from, and say so: that ends the notebook.
    names = sorted(METHODS, key=lambda name: name == "soft_votes")
    notebook.cells[start:] = [nbformat.v4.new_code_cell(source) for name in names
                              for source in (f"method = {name!r}", *steps)]
    nbformat.write(notebook, tmp_path / "methods.ipynb")
    tiny = {"arch": "compact", "optimizer": "adam", "epochs": 2, "train_limit": 48, "batch_size": 16}
    done = notebooks.execute(tmp_path / "methods.ipynb", tmp_path / "done.ipynb", tiny | {"data": str(folder)},
                         store=tmp_path / "runs")
    assert "has no human votes; FER+ (fer2013new.csv) must lie beside the images" in done.error
    assert {id_of(short_workhorse, folder, **tiny, method=name) for name in names[:-1]} \
        <= set(load_runs(tmp_path / "runs").index)
    told = [str(cell.outputs) for cell in nbformat.read(done.path, 4).cells if cell.source == steps[-1]]
    assert sum("The compact network is right on" in text for text in told) == len(names) - 1
