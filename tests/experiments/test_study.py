"""The study's plan and what is trained of it, on faces and plans of a few seconds; and the repository's own plan."""

import gzip
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import easy_faces, fer_here, fit_quietly
from corpus import csv_text

from fer_helpers.data.faceset import FaceSet
from fer_helpers.experiments import study as plan
from fer_helpers.experiments.study import PLAN, RESULTS, TRIAL, Study, read_plan
from fer_helpers.files import FerError, digest
from fer_helpers.models.factory import check_arch
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import PACKED, RECORD, run_id
from fer_helpers.training.trainer import prepare_faces

ROOT = Path(__file__).parents[2]
TINY = ("{arch: simple_cnn, epochs: 1, batch_size: 8, train_limit: 24, augmentation: none, precision: fp32, "
        "val_fraction: 0.2, schedule: constant, lr: 0.001}")
TEXT = f"""
x-tiny: &tiny {TINY}

seeds:
  about: one training from two seeds
  runs:
    - {{<<: *tiny, name: plain, seed: [0, 1]}}

tuned:
  about: a rate that validation chooses, and more seeds of the better schedule
  runs:
    - {{<<: *tiny, name: tuned, wanted: 5, optimizer: adam, schedule: [cosine, step], epochs: 2, repeat: [1],
       short: {{epochs: 1, schedule: constant}},
       trials: [{{lr: 1.0e-30}}, {{lr: 0.002}}, {{lr: 100.0, optimizer: sgd}}]}}
"""


@pytest.fixture(scope="module")
def few() -> FaceSet:
    return easy_faces(train=8, test=2)


def study_of(text: str, folder: Path) -> Study:
    (folder / "study.yaml").write_text(text)
    return Study(read_plan(folder / "study.yaml"), folder / "results")


def one_group(*entries: str) -> str:
    rows = "".join(f"    - {{<<: *tiny, {entry}}}\n" for entry in entries)
    return f"x-tiny: &tiny {TINY}\ngroup:\n  about: a group\n  runs:\n{rows}"


def train(study: Study, faces: FaceSet, folder: Path, *groups: str, **options) -> list[str]:
    return study.train(faces, groups, folder / "store", progress=False, **options)


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def nothing_learns(monkeypatch):
    """From when it is called on, a step of any training fails the test."""
    def step(*args, **options):
        raise AssertionError("something is trained")

    return lambda: monkeypatch.setattr(torch.Tensor, "backward", step)


@pytest.fixture(scope="module")
def done(few, tmp_path_factory) -> Path:
    """The folder of a study of `TEXT` that is trained."""
    folder = tmp_path_factory.mktemp("done")
    assert train(study_of(TEXT, folder), few, folder) == []
    return folder


# ---------------------------------------------------------------- what is trained and recorded

def test_all_that_a_plan_names_is_trained_and_recorded_under_its_name(done, few):
    study = study_of(TEXT, done)
    assert study.missing() == []
    table = study.table()
    assert list(table.index) == ["seeds", "tuned"] and list(table) == ["recorded", "missing", "hours", "about"]
    assert table["recorded"].tolist() == [2, 3 + 3] and not table[["missing", "hours"]].any(axis=None)
    seeds = study.recorded("seeds")
    assert seeds["name"].tolist() == ["plain"] * 2 and seeds["seed"].tolist() == [0, 1]
    assert all(run.name == run_id(run.config, few) for run in seeds["run"])
    assert study.recorded("tuned")["name"].tolist() == ["tuned"] * 3


def test_weights_are_gone_and_neither_pixels_nor_paths_are_kept(done, few):
    assert files_below(done / "store") == {}
    kept = files_below(done / "results")
    names = {*RECORD, PACKED, "trials.csv", "data.json"} - {"predictions.csv"}
    assert {Path(path).name for path in kept} == names
    assert {path for path in kept if path.count("/") < 2} == {"data.json", "tuned/trials.csv"}
    assert max(map(len, kept.values())) < 20_000 and not any(str(done).encode() in content for content in kept.values())
    for path, content in kept.items():
        if path.endswith(".gz"):  # of nothing but test images, by their names
            rows = gzip.decompress(content).decode().splitlines()
            assert len(rows) == 1 + (few.with_classes(6).split == "test").sum()


def test_what_is_recorded_is_not_trained_again(done, few, nothing_learns):
    before = {path: path.stat().st_mtime_ns for path in (done / "results").rglob("*") if path.name != "data.json"}
    nothing_learns()
    assert train(study_of(TEXT, done), few, done) == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_trials_choose_the_setting_of_the_lowest_validation_loss(done, few):
    study = study_of(TEXT, done)
    trials = study.trials("tuned")
    assert list(trials) == TRIAL and trials["name"].tolist() == ["tuned"] * 3
    losses = {}
    for settings, found in zip(trials["settings"].map(json.loads), trials["val_loss"], strict=True):
        if settings["lr"] == 100:
            assert found == math.inf
            continue
        # As the entry says, of the first of its schedules; ``short`` has the last word.
        config = TrainConfig(arch="simple_cnn", epochs=1, batch_size=8, train_limit=24, augmentation="none",
                             precision="fp32", val_fraction=0.2, schedule="constant", optimizer="adam",
                             lr=settings["lr"])
        losses[settings["lr"]] = fit_quietly(config, prepare_faces(config, few)).history["val_loss"].min()
        assert found == pytest.approx(losses[settings["lr"]], rel=1e-4)
    assert {run.config.lr for run in study.recorded("tuned")["run"]} == {min(losses, key=losses.get)}
    assert {run.config.optimizer for run in study.recorded("tuned")["run"]} == {"adam"}


@pytest.mark.parametrize("best", ["cosine", "step"])
def test_more_seeds_are_trained_of_the_best_by_validation(best, done, tmp_path):
    shutil.copytree(done / "results", tmp_path / "results")
    for run in study_of(TEXT, tmp_path).recorded("tuned")["run"]:
        if run.config.seed == 1:
            shutil.rmtree(run.folder)
            continue
        values = json.loads((run.folder / "metrics.json").read_text())
        values["val"]["accuracy"] = [0.9, 0.8, 0.95] if run.config.schedule == best else [0.2, 0.1, 0.3]
        (run.folder / "metrics.json").write_text(json.dumps(values))
    again, = study_of(TEXT, tmp_path).missing(["tuned"])
    assert (again.config.schedule, again.config.seed, again.ready) == (best, 1, True)


@pytest.mark.parametrize(("losses", "chosen"), [((1.5, 1.4, 1.3), 100.0), ((1.5, 1.3, 1.4), 0.002),
                                                ((1.2, 1.3, math.inf), 1e-30), ((math.inf,) * 3, 1e-30)])
def test_the_rest_of_an_entry_waits_for_its_trials_and_goes_by_them(losses, chosen, tmp_path):
    study = study_of(TEXT, tmp_path)
    waiting = study.missing(["tuned"])
    assert [(bool(job.trial), job.ready) for job in waiting] == [(True, True)] * 3 + [(False, False)] * 3
    rows = [[digest(job.config.identity(), length=8), "tuned", job.trial, loss, 0.3, 1.0]
            for job, loss in zip(sorted(waiting[:3], key=lambda job: [1e-30, 0.002, 100].index(job.config.lr)), losses,
                                 strict=True)]
    (tmp_path / "results" / "tuned").mkdir(parents=True)
    pd.DataFrame(rows, columns=TRIAL).sample(frac=1, random_state=0).to_csv(
        tmp_path / "results" / "tuned" / "trials.csv", index=False)
    left = study.missing(["tuned"])
    assert {job.config.lr for job in left} == {chosen}
    # Further seeds wait for what they are further seeds of.
    assert [(job.config.seed, job.ready) for job in left] == [(0, True), (0, True), (1, False)]


def test_the_most_wanted_comes_first_and_then_the_cheapest(tmp_path):
    study = study_of(one_group("name: small, arch: compact, seed: [0, 1], train_limit: null",
                               "name: dear, arch: vgg16, train_limit: null",
                               "name: wanted, arch: vgg16, wanted: 0.5, train_limit: null",
                               "name: long, arch: compact, epochs: 3, seed: [0], train_limit: null",
                               "name: tried, arch: compact, wanted: 1.5, seed: 4, train_limit: null, "
                               "short: {epochs: 2}, trials: [{lr: 0.1}]"), tmp_path)
    jobs = study.missing()
    assert [(job.entry.name, job.config.seed, bool(job.trial)) for job in jobs] == [
        ("wanted", 0, False), ("small", 0, False), ("long", 0, False), ("dear", 0, False), ("tried", 4, True),
        ("small", 1, False), ("tried", 4, False)]
    seconds = dict(zip([job.entry.name for job in jobs], study.seconds(jobs), strict=True))
    assert seconds["long"] == pytest.approx(3 * seconds["small"]) and seconds["wanted"] == seconds["dear"]
    assert study.table().loc["group", "hours"] == pytest.approx(sum(study.seconds(jobs)) / 3600)


def test_what_is_missing_costs_what_its_architecture_took_before(done):
    study = study_of(TEXT + one_group("name: ten, epochs: 10, seed: 9, train_limit: 240").partition("group:")[0]
                     .replace("x-tiny: &tiny", "x-more: &more") + "\nten:\n  about: ten epochs\n  runs:\n    - "
                     "{<<: *more, name: ten, epochs: 10, seed: 9, train_limit: 240}\n", done)
    runs = [run for group in ("seeds", "tuned") for run in study.recorded(group)["run"]]
    each = np.median([run.environment["train_seconds"] / 24 / len(run.history) for run in runs])
    assert study.seconds(study.missing(["ten"])) == pytest.approx([240 * 10 * each])


# ---------------------------------------------------------------- interruptions and failures

def test_without_time_nothing_begins_and_the_data_are_noted(few, tmp_path, nothing_learns):
    nothing_learns()
    study = study_of(TEXT, tmp_path)
    assert train(study, few, tmp_path, minutes=0) == [] and len(study.missing()) == 8
    assert list(files_below(tmp_path / "results")) == ["data.json"]


def test_an_interrupted_study_goes_on_to_what_it_would_have_become(done, few, tmp_path, monkeypatch):
    study, steps, backward = study_of(TEXT, tmp_path), iter(range(4)), torch.Tensor.backward

    def interrupted(*args, **options):  # in the second training, of three steps as the first
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return backward(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.Tensor, "backward", interrupted)
        train(study, few, tmp_path, "seeds")
    again = study_of(TEXT, tmp_path)
    assert len(again.missing(["seeds"])) == 1
    assert train(again, few, tmp_path, "seeds") == [] and again.missing(["seeds"]) == []
    whole, resumed = files_below(done / "results"), files_below(tmp_path / "results")
    assert {path for path in whole if not path.startswith("tuned")} == set(resumed)
    whole = {path: whole[path] for path in resumed}
    for path in whole:
        if path.endswith((".gz", "config.json", "metrics.json", "data.json")):
            assert resumed[path] == whole[path], path
    assert files_below(tmp_path / "store") == {}


def test_a_diverging_run_is_reported_once_and_the_rest_goes_on(few, tmp_path):
    study = study_of(one_group("name: too fast, wanted: 0, lr: 100", "name: slow"), tmp_path)
    failed, = train(study, few, tmp_path)
    assert failed.startswith("group, too fast: simple_cnn: ") and "lower lr" in failed
    assert study.recorded("group")["name"].tolist() == ["slow"]
    assert [job.entry.name for job in study.missing()] == ["too fast"]


def test_what_waits_for_a_diverged_run_is_left_and_the_study_ends(few, tmp_path):
    study = study_of(one_group("name: too fast, lr: [100], repeat: [1, 2]"), tmp_path)
    assert len(train(study, few, tmp_path)) == 1
    assert [job.ready for job in study.missing()] == [True, False, False]


def test_other_data_are_refused_in_a_line_that_names_both(done, few, nothing_learns):
    nothing_learns()
    before, other = files_below(done / "results"), easy_faces(train=8, test=2, seed=1)
    with pytest.raises(FerError, match=rf"data\.json: what is recorded there comes of easy faces "
                                       rf"\({few.fingerprint}\), and easy faces is other data "
                                       rf"\({other.fingerprint}\); name another folder with --results"):
        train(study_of(TEXT, done), other, done)
    assert files_below(done / "results") == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"source": "x"}', "\x00"])
def test_a_damaged_note_of_the_data_is_named(content, few, tmp_path):
    study = study_of(TEXT, tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "data.json").write_text(content)
    with pytest.raises(FerError, match=r"data\.json: .*take it from the repository again"):
        train(study, few, tmp_path)


@pytest.mark.parametrize("content", [b"", b"trial,name\na,b\n", b"\xff\xfe\x00", b"trial,name,settings,val_loss,"
                                     b"val_accuracy,seconds\na,b,{},much,0.1,1\n"])
def test_a_damaged_table_of_trials_is_named(content, tmp_path):
    study = study_of(TEXT, tmp_path)
    (tmp_path / "results" / "tuned").mkdir(parents=True)
    (tmp_path / "results" / "tuned" / "trials.csv").write_bytes(content)
    with pytest.raises(FerError, match=r"trials\.csv: not a table of trials.*take it from the repository again"):
        study.missing()


# ---------------------------------------------------------------- scripts

SCRIPT = """
made:
  about: what a script makes
  script: make.py
  makes: made/about.json
"""


@pytest.mark.parametrize(("code", "failures"), [
    ("import pathlib, sys; p = pathlib.Path('data/made/about.json'); p.parent.mkdir(parents=True); "
     "p.write_text(sys.argv[2])", []), ("raise SystemExit(3)", ["made: make.py ended with 3"])])
def test_a_group_of_a_script_is_made_by_it_once(code, failures, few, clone):
    (clone / "make.py").write_text(code)
    (clone / "study.yaml").write_text(SCRIPT)
    study = Study(read_plan(clone / "study.yaml"), clone / "data" / "study")
    assert study.table()[["recorded", "missing"]].to_numpy().tolist() == [[0, 1]]
    assert train(study, few, clone, minutes=0) == [] and not (clone / "data" / "made").exists()
    assert train(study, few, clone) == failures
    assert study.table()[["recorded", "missing"]].to_numpy().tolist() == [[not failures, bool(failures)]]
    if not failures:
        assert (clone / "data" / "made" / "about.json").read_text() == "easy faces"
        (clone / "make.py").write_text("raise SystemExit(3)")
        assert train(study, few, clone) == []


# ---------------------------------------------------------------- reading a plan

@pytest.mark.parametrize(("text", "named"), [
    ("", "is no [pY]"), ("[", "is no [pY]"), ("- a\n- b\n", "is no [pY]"), ("group: 3", "group: is no [pY]"),
    ("group:\n  runs: []", "group: is no [pY]"), ("1: {about: x}", "is no [pY]"), ("\x00", "is no [pY]"),
    ("group: {about: x, runs: 3}", "group: is no [pY]"), ("group: {about: x, runs: [a]}", "group: is no [pY]"),
    ("group: {about: x, script: a.py}", "group: is no [pY]"), ("a: !!python/object:os.system {}", "is no [pY]"),
    ("group: {about: x, runs: [{arch: compact}]}", "group, entry 1: is no [pY]"),
    ("group: " + "[" * 3000, "is no [pY]"), ("a: &a {about: x, runs: [*a]}", "is no [pY]"),
    (one_group("name: one", "name: odd, epoch: 3"), r"group, odd: configuration: unknown setting \['epoch'\]"),
    (one_group("name: odd, arch: alexnet"), "group, odd: arch='alexnet' is unknown"),
    (one_group("name: odd, seed: [0, -1]"), "group, odd: seed=-1"), (one_group("name: odd, lr: fast"), "lr='fast'"),
    (one_group("name: odd, trials: [{lr: 0.1}, {rate: 0.1}]"), "group, odd: .*unknown setting.*'rate'"),
    (one_group("name: odd, trials: [{lr: 0.1}], short: {epochs: 0}"), "group, odd: epochs=0"),
    (one_group("name: odd, trials: 3"), "group, odd: is no [pY]"), (one_group("name: odd, short: 3"), "odd: is no"),
    (one_group("name: odd, trials: [3]"), "group, odd: is no [pY]"),
    (one_group("name: odd, repeat: [a]"), "group, odd: seed='a'"), (one_group("name: odd, repeat: 3"), "odd: is no pl"),
    (one_group("name: odd, wanted: soon"), "group, odd: is no [pY]"),
    (one_group("name: odd, seed: []"), "group, odd: its lists combine to none"),
    (one_group(f"name: odd, seed: {list(range(40))}, epochs: {list(range(1, 41))}"), "more than 1000 trainings"),
    (one_group("name: odd, root_eps: 1.0e-7"), "group, odd: root_eps=1e-07 is of rmsprop only"),
])
def test_a_damaged_plan_is_one_line_that_names_the_file_the_group_and_the_entry(text, named, tmp_path):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(FerError, match=rf"study\.yaml: .*{named}") as raised:
        read_plan(tmp_path / "study.yaml")
    assert str(raised.value).isprintable() and "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["nowhere.yaml", "."])
def test_a_missing_plan_is_named(path, tmp_path):
    with pytest.raises(FerError, match=r"check the path"):
        read_plan(tmp_path / path)


def test_an_unknown_group_is_refused_with_those_that_are_there(tmp_path):
    study = study_of(TEXT, tmp_path)
    for ask in (study.missing, study.table):
        with pytest.raises(FerError, match="group 'seed' is not in the plan; choose of seeds, tuned"):
            ask(["seed"])


# ---------------------------------------------------------------- the command

@pytest.fixture(scope="module")
def data(few, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "fer2013.csv"
    usage = [{"train": "Training", "test": "PublicTest"}[split] for split in few.split]
    path.write_text(csv_text(few.images.numpy(), few.labels.numpy(), usage))
    return path


@pytest.fixture
def study_command(data, tmp_path):
    def command(text: str, *more: object):
        (tmp_path / "study.yaml").write_text(text)
        return fer_here("study", *more, "--plan", "study.yaml", "--results", "results", cwd=tmp_path)

    return command


def test_the_list_shows_the_groups_and_trains_nothing(study_command, tmp_path, nothing_learns):
    nothing_learns()
    shown = study_command(TEXT, "--list")
    assert shown.exit_code == 0
    rows = {line.split()[0]: line.split()[1:3] for line in shown.stdout.splitlines() if not line.startswith(" ")}
    assert rows == {"group": [], "seeds": ["0", "2"], "tuned": ["0", "6"]}
    assert "one training from two seeds" in shown.stdout and not (tmp_path / "results").exists()
    assert "two seeds" not in study_command(TEXT, "tuned", "--list").stdout


def test_the_command_trains_a_group_and_its_exit_code_says_whether_something_is_missing(study_command, data, tmp_path,
                                                                                      nothing_learns):
    begun = study_command(TEXT, "seeds", "--data", data, "--store", "store", "--minutes", 0)
    assert begun.exit_code == 1 and "0        2" in begun.stdout
    trained = study_command(TEXT, "seeds", "--data", data, "--store", "store")
    assert trained.exit_code == 0 and trained.stdout.splitlines()[-1].split()[:4] == ["seeds", "2", "0", "0.0"]
    assert len(list((tmp_path / "results" / "seeds").glob("*/metrics.json"))) == 2
    nothing_learns()
    assert study_command(TEXT, "seeds", "--data", data, "--store", "store").exit_code == 0
    assert study_command(TEXT, "--list").exit_code == 0


def test_the_command_tells_what_failed_and_refuses_what_is_no_plan_or_group(study_command, data):
    failed = study_command(one_group("name: too fast, lr: 100"), "--data", data, "--store", "store")
    assert failed.exit_code == 1 and "failed: group, too fast: simple_cnn: " in failed.stderr
    for text, group in ((TEXT, "nothing"), ("", "seeds")):
        assert isinstance(study_command(text, group, "--list").exception, FerError)


# ---------------------------------------------------------------- the repository's own plan

@pytest.fixture(scope="module")
def own() -> Study:
    return Study(read_plan(ROOT / PLAN), ROOT / RESULTS)


def test_the_plan_of_the_repository_names_each_training_of_a_group_once(own):
    for group in own.plan.about:
        entries = [entry for entry in own.plan.entries if entry.group == group]
        configs = [(entry, job.config) for entry in entries for job, _ in own.jobs(entry) if not job.trial]
        assert configs or any(script.group == group for script in own.plan.scripts)
        assert len({config for _, config in configs}) == len(configs)
        named = {(entry.name, config.arch, config.classes): entry for entry, config in configs}
        assert len(named) == len(entries), group
        for _, config in configs:
            check_arch(config.arch)
            assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for script in own.plan.scripts:
        assert (ROOT / script.script).is_file()


def test_every_training_of_the_repository_is_estimated(own):
    seconds = own.seconds([job for entry in own.plan.entries for job, _ in own.jobs(entry)])
    assert np.isfinite(seconds).all() and min(seconds) > 1


def test_every_record_of_the_study_belongs_to_a_training_of_its_plan(own):
    groups = {path.name for path in (ROOT / RESULTS).iterdir() if path.is_dir()} if (ROOT / RESULTS).exists() else set()
    assert groups <= {entry.group for entry in own.plan.entries}
    for group in groups:
        entries = [entry for entry in own.plan.entries if entry.group == group]
        runs = own.runs(group)
        assert {job.config for entry in entries for job, run in own.jobs(entry) if run} == set(runs)
        known = json.loads((ROOT / RESULTS / "data.json").read_text())
        for config, run in runs.items():
            assert run.name.endswith("-" + digest(config.identity(), known["fingerprint"], length=8))
            assert run.environment["data_fingerprint"] == known["fingerprint"]
        tried = {digest(plan._trial(entry, number).identity(), length=8) for entry in entries
                 for number in range(len(entry.trials))}
        assert set(own.trials(group)["trial"]) <= tried


def test_what_is_recorded_is_handed_to_notebooks_and_what_is_not_says_how_to_get_it(done, clone, monkeypatch):
    for folder in (clone / "data", clone / "notebooks"):
        folder.mkdir()
    (clone / PLAN).write_text(TEXT)
    monkeypatch.chdir(clone / "notebooks")
    with pytest.raises(FerError, match="nothing of the group 'seeds' is recorded; make study FER_DATA="):
        plan.recorded("seeds")
    (clone / RESULTS).parent.mkdir(parents=True)
    (clone / RESULTS).symlink_to(done / "results")
    assert plan.recorded("seeds")["seed"].tolist() == [0, 1]
