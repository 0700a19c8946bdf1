"""Searches: they find the best of a grid without all of it, go on where they were, and end what is hopeless."""

import itertools
import shutil

import optuna
import pandas as pd
import pytest
from conftest import fer_here
from farm import none_left

from fer_helpers.experiments.search import JOURNAL, GridSearch, Search
from fer_helpers.experiments.sweeps import Cluster
from fer_helpers.files import FerError, read_json, write_json
from fer_helpers.training.checkpoints import save_checkpoint

GRID = {f"run-{lr}-{depth}-{kind}": {"lr": lr, "depth": depth, "kind": kind} for lr, depth, kind in
        itertools.product([0.001, 0.003, 0.01, 0.03, 0.1], [1, 2, 3, 4, 5], ["a", "b", None])}


def worth(name: str) -> float:
    """Accuracy of a run; best are lr 0.01, depth 4 and kind b."""
    lr, depth, kind = name.removeprefix("run-").split("-")
    return 0.9 - 0.1 * abs([0.001, 0.003, 0.01, 0.03, 0.1].index(float(lr)) - 2) - 0.1 * abs(int(depth) - 4) \
        - 0.2 * (kind != "b")


@pytest.fixture
def finish(template):
    """Leaves a finished run of such a worth in the study's store."""
    def leave(study: GridSearch, name: str) -> None:
        metrics = read_json(template.folder / "metrics.json", "")
        metrics["val"]["accuracy"][0] = worth(name)
        write_json(study.store / name / "metrics.json", metrics)

    return leave


def run_all(study: GridSearch, finish) -> list[str]:
    asked = []
    while name := study.ask():
        asked.append(name)
        finish(study, name)
        study.tell(asked[-1], finished=True, pruned=False)
    return asked


def test_what_came_before_guides_the_search(tmp_path, finish):
    asked = run_all(GridSearch(Search(35), GRID, tmp_path), finish)
    assert len(asked) == len(set(asked)) == 35
    assert sum(map(worth, asked[20:])) / 15 > sum(map(worth, asked[:10])) / 10 + 0.1
    assert max(map(worth, asked)) >= 0.8


def test_the_same_seed_searches_alike_and_random_sampling_too(tmp_path, finish):
    searches = [Search(6), Search(6), Search(6, seed=1), Search(6, "random")]
    first, again, other, random = (run_all(GridSearch(search, GRID, tmp_path / str(number)), finish)
                                   for number, search in enumerate(searches))
    assert first == again != other and len(set(random)) == 6


def test_a_search_of_all_is_the_whole_grid(tmp_path, finish):
    small = dict(list(GRID.items())[:6])
    assert set(run_all(GridSearch(Search(100), small, tmp_path), finish)) == set(small)


def test_a_search_made_anew_goes_on(tmp_path, finish):
    first = GridSearch(Search(8), GRID, tmp_path)
    asked = [first.ask() for _ in range(3)]
    for name in asked[:2]:
        finish(first, name)
        first.tell(name, finished=True, pruned=False)
    second = GridSearch(Search(8), GRID, tmp_path)  # the third was under way when all ended
    assert set(second.known) == set(asked[:2]) and second.left == 6
    assert len(run_all(second, finish)) == 6
    assert GridSearch(Search(8), GRID, tmp_path).left == 0
    assert GridSearch(Search(8), dict(list(GRID.items())[:20]), tmp_path).left == 8, "another grid is another search"


def test_a_run_below_the_median_is_hopeless(tmp_path, finish):
    study = GridSearch(Search(10), GRID, tmp_path)
    for accuracy in (0.3, 0.4, 0.5, 0.6, 0.7, 0.2):
        name = study.ask()
        (tmp_path / name).mkdir()
        assert not study.should_prune(name), "nothing is known of it yet"
        history = [{"epoch": epoch, "val_accuracy": accuracy} for epoch in (1, 2)]
        save_checkpoint(tmp_path / name / "checkpoint.pt", {"history": history})
        if accuracy < 0.3:
            assert study.should_prune(name)
            study.tell(name, finished=False, pruned=True)
        else:
            assert not study.should_prune(name)
            finish(study, name)
            study.tell(name, finished=True, pruned=False)
    known = GridSearch(Search(10), GRID, tmp_path).known
    assert list(known.values()) == [False] * 5 + [True]
    patient = GridSearch(Search(10, prune=False), GRID, tmp_path)
    name = patient.ask()
    (tmp_path / name).mkdir(exist_ok=True)
    save_checkpoint(tmp_path / name / "checkpoint.pt", {"history": [{"epoch": 1, "val_accuracy": 0.0}]})
    assert not patient.should_prune(name)


def test_failed_and_damaged_runs_count_as_failed(tmp_path, finish):
    study = GridSearch(Search(3), GRID, tmp_path)
    study.tell(study.ask(), finished=False, pruned=False)
    name = study.ask()
    finish(study, name)
    (tmp_path / name / "metrics.json").write_text("{")
    study.tell(name, finished=True, pruned=False)
    assert [trial.state for trial in study.study.trials] == [optuna.trial.TrialState.FAIL] * 2
    assert GridSearch(Search(3), GRID, tmp_path).left == 3


def test_an_unknown_sampler_and_a_journal_that_is_none_are_named(tmp_path):
    with pytest.raises(FerError, match="unknown sampler 'best'; known are tpe, random"):
        GridSearch(Search(3, "best"), GRID, tmp_path)
    (tmp_path / JOURNAL).write_text("{}\nnonsense\n")
    with pytest.raises(FerError, match=f"{JOURNAL}: is no journal"):
        GridSearch(Search(3), GRID, tmp_path)


def test_a_sweep_searches_and_prunes(experiment, tmp_path):
    """Five runs of it are finished. Of the two that are left one writes a bad first epoch and would train for ever."""
    bad = "folder.mkdir()\nshutil.copy(store / 'bad.pt', folder / 'checkpoint.pt')\ntime.sleep(600)\n"
    own = experiment(7, seed5=[bad])
    save_checkpoint(own.store / "bad.pt", {"history": [{"epoch": 1, "val_accuracy": 0.1}]})
    grid, left = {name: {"seed": seed} for seed, name in own.runs.items()}, {own.runs[5], own.runs[6]}
    before = GridSearch(Search(7, "random"), grid, own.store)
    while name := before.ask():
        if name in left:
            continue  # under way when all ended
        (own.store / name).mkdir()
        save_checkpoint(own.store / name / "checkpoint.pt", {"history": [{"epoch": 1, "val_accuracy": 0.5}]})
        assert not before.should_prune(name)
        (own.store / name / "checkpoint.pt").unlink()
        shutil.copytree(own.template.folder, own.store / name, dirs_exist_ok=True)
        before.tell(name, finished=True, pruned=False)
    table = own.sweep(Cluster(jobs=2), search=Search(7, "random"))
    assert table["status"].to_dict() == dict.fromkeys(range(5), "skipped") | {5: "pruned", 6: "finished"}
    assert own.intact() == set(range(7)) - {5}
    none_left(own)
    again = own.sweep(Cluster(jobs=2), search=Search(6, "random"))
    assert set(again["status"]) == {"skipped", "pruned"} and set(again.index) == set(table.index)
    known = pd.read_csv(own.store / "sweep.csv")
    assert known["val_accuracy"].is_monotonic_decreasing or known["val_accuracy"].isna().any()


def test_the_command_searches(experiment):
    own = experiment(3)
    done = fer_here("sweep", "seed=0,1,2", "--search", 2, "--data", own.data, "--store", own.store,
                    cwd=own.notebook.parent.parent)
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(own.store / "sweep.csv")) == len(own.intact()) == 2 and "dashboard: http" in done.output
