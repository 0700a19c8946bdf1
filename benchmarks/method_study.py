"""The comparison of all methods under one protocol: a long job, shared out to processes, stopped and resumed at will.

Layout of its folder: protocol.json; tuning.csv, a row per trial; and ``<network>/<method>-<seed>.csv.gz``, the test
answers of a run. All are small and hold no image.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from fer_helpers.data import FaceSet, load_faces
from fer_helpers.data.emotions import class_set
from fer_helpers.files import FerError, read_json, write_atomic, write_json
from fer_helpers.training import METHODS, Diverged, TrainConfig, compare_methods, fit, prepare_faces, train_run
from fer_helpers.training.methods import Answers, answers, stress, trial_config, trials, tuned
from fer_helpers.training.runs import teacher_config

#: Columns of tuning.csv: the setting tried and its value, the factor of the rate, accuracy on validation images.
TRIAL = ["method", "setting", "value", "factor", "val_accuracy"]


@dataclass(frozen=True)
class Protocol:
    """What is the same for all methods.

    Attributes
    ----------
    recipes : the plain configuration of each network, by a name for it: equal steps and augmentation for all methods,
        unless augmentation is the subject. Methods are tuned on the first; the others take over the strength that was
        chosen, and another architecture keeps the rate of its own recipe.
    seeds : how many, by the names of ``recipes``.
    trial : settings that make a recipe shorter for tuning, such as epochs and train_limit; a teacher's stays whole.
    images : test images that `methods.stress` looks at.
    """

    recipes: Mapping[str, TrainConfig]
    seeds: Mapping[str, int]
    trial: Mapping[str, Any]
    images: int = 200

    def to_dict(self, fingerprint: str) -> dict[str, Any]:
        """What must not change while a study goes on; more seeds and networks may be asked for."""
        return {"recipes": {name: recipe.to_dict() for name, recipe in self.recipes.items()},
                "tuned": self.first, "trial": dict(self.trial), "images": self.images, "data": fingerprint}

    @property
    def first(self) -> str:
        """The network that methods are tuned on."""
        return next(iter(self.recipes))

    @property
    def short(self) -> TrainConfig:
        """The recipe of a trial."""
        return dataclasses.replace(self.recipes[self.first], **self.trial)

    @property
    def whole(self) -> dict[str, Any]:
        """What turns `short` back into the recipe."""
        return {name: getattr(self.recipes[self.first], name) for name in self.trial}


@dataclass(frozen=True, eq=False)
class MethodStudy:
    """Several methods, tuned and compared under one protocol; as far as it has got.

    Attributes
    ----------
    tuning : every trial of every method, best first: method, setting, value (as text), factor (of the rate),
        val_accuracy (of the kept epoch; 0 where it diverged).
    outcomes : `methods.compare_methods` of every network, with its name in the column ``network`` and its architecture
        in ``arch``: of the methods and seeds that are finished, seed for seed.
    missing : trainings still to be done.
    """

    tuning: pd.DataFrame
    outcomes: pd.DataFrame
    missing: int


def study_methods(protocol: Protocol, data: str, names: Iterable[str], folder: Path, store: str | None = None,
                  processes: int = 1, seconds: float = float("inf"), device: str = "auto") -> MethodStudy:
    """Tune each method on the first network, then train it on every network, seed after seed.

    The reference of mCE is the plain network among ``recipes`` that is a ResNet50; without one mCE is left out. A
    teacher does not teach its own kind: "distilled" is left out for the architecture that teaches.

    Parameters
    ----------
    data : as for `readers.load_faces`.
    names : of `methods.METHODS`; "plain" is always among them.
    folder : what is finished is kept there at once, and never done twice.
    store : of the runs themselves, see `runs.train_run`; trials keep none.
    processes : trainings at a time.
    seconds : begin no training after these.

    Raises
    ------
    FerError
        If ``folder`` holds a study under another protocol, or all trials of a method diverged; and as `train_run`.
    """
    names, folder, end = list(dict.fromkeys(["plain", *names])), Path(folder), time.monotonic() + seconds
    faces = _faces(data)
    known, own = folder / "protocol.json", protocol.to_dict(faces.fingerprint)
    if known.exists():
        before = read_json(known, "name another folder")
        recipes = before.get("recipes", {})
        if before | {"recipes": own["recipes"] | recipes} != own | {"recipes": recipes | own["recipes"]}:
            raise FerError(f"{known}: a study under another protocol or on other data; name another folder")
        own["recipes"] = recipes | own["recipes"]
    write_json(known, own)
    work = functools.partial(_work, data=data, store=store, device=device, whole=protocol.whole)
    results = functools.partial(_results, work, processes, end)
    tuning = _tune(protocol, names, folder / "tuning.csv", results)
    left = sum(len(trials(name)) for name in names) - len(tuning)
    if not left:
        left = _train(protocol, names, tuning, folder, results)
    return MethodStudy(tuning, _compared(protocol, names, folder, faces), left)


def _tune(protocol: Protocol, names: list[str], path: Path, results: Results) -> pd.DataFrame:
    """The finished trials, as `MethodStudy.tuning`."""
    done = pd.read_csv(path, dtype={"value": str}) if path.exists() else pd.DataFrame(columns=TRIAL)
    seen = set(zip(done["method"], done["value"], done["factor"], strict=True))
    todo = [((name, strength, factor), trial_config(protocol.short, name, strength, factor))
            for name in names for strength, factor in trials(name)
            if (name, *map(str, strength.values()), factor) not in seen]
    for (name, strength, factor), result in results(todo, 0, "tuning"):
        (setting, value), = strength.items()
        row = (name, setting, str(value), factor, 0.0 if result is None else result)
        done = pd.DataFrame([*done.itertuples(index=False, name=None), row], columns=TRIAL).sort_values(
            ["method", "val_accuracy"], ascending=[True, False], kind="stable", ignore_index=True)
        write_atomic(path, functools.partial(done.to_csv, index=False))
    return done[done["method"].isin(names)]


def _train(protocol: Protocol, names: list[str], tuning: pd.DataFrame, folder: Path, results: Results) -> int:
    """Train what is not in the folder yet, seed by seed; how many remain."""
    best = tuning.groupby("method")["val_accuracy"].max()
    if len(hopeless := best.index[best == 0]):
        raise FerError(f"method={hopeless[0]!r}: all trials diverged; lower lr and name another folder than {folder}")
    todo = []
    for seed in range(max(protocol.seeds.values())):
        for network, recipe in protocol.recipes.items():
            if seed >= protocol.seeds[network]:
                continue
            (folder / network).mkdir(exist_ok=True)
            for name in names:
                config = dataclasses.replace(chosen(protocol, tuning, network, name), seed=seed)
                if config.teacher != recipe.arch and not _answers(folder, network, name, seed).exists():
                    todo.append(((network, name, seed), config))
    left = len(todo)
    for (network, name, seed), result in results(todo, protocol.images, "methods"):
        if result is None:
            raise FerError(f"{network} by method={name!r} diverged with seed {seed}; lower the rate of the recipe")
        table = result.table.join(result.errors)
        # gzip by a fixed time: the same answers are the same file.
        write_atomic(_answers(folder, network, name, seed), functools.partial(
            table.to_csv, float_format="%.4f", compression={"method": "gzip", "mtime": 1}))
        left -= 1
    return left


def chosen(protocol: Protocol, tuning: pd.DataFrame, network: str, name: str) -> TrainConfig:
    """How a network is trained by a method, after `MethodStudy.tuning`."""
    recipe = protocol.recipes[network]
    config = tuned(recipe, tuning[tuning["method"] == name])
    same = recipe.arch == protocol.recipes[protocol.first].arch
    return config if same else dataclasses.replace(config, lr=recipe.lr)


def _answers(folder: Path, network: str, name: str, seed: int) -> Path:
    return folder / network / f"{name}-{seed}.csv.gz"


def read_answers(folder: Path, network: str) -> dict[str, list[Answers]]:
    """By method, seed after seed, what the finished runs of a network answered, as `study_methods` kept it."""
    found: dict[str, list[Answers]] = {}
    for name in METHODS:
        for seed in itertools.takewhile(lambda seed: _answers(folder, network, name, seed).exists(),  # noqa: B023
                                        itertools.count()):
            table = pd.read_csv(_answers(folder, network, name, seed), index_col="id", dtype={"id": str})
            head = ["true", "predicted", "confidence", "in_train"]
            errors = table.drop(columns=head).dropna().astype(int)
            found.setdefault(name, []).append(Answers(table[head], errors))
    return found


def _compared(protocol: Protocol, names: list[str], folder: Path, faces: FaceSet) -> pd.DataFrame:
    """Outcomes of what is finished: as many seeds as the method with the fewest has."""
    known = {network: read_answers(folder, network) for network in protocol.recipes}
    known = {network: {name: found[name] for name in names if name in found} for network, found in known.items()
             if "plain" in found}
    reference = next((known[network]["plain"] for network, recipe in protocol.recipes.items()
                      if recipe.arch == "resnet50" and network in known), [])
    outcomes = [pd.DataFrame()]
    for network, found in known.items():
        least = min(map(len, found.values()))
        recipe = protocol.recipes[network]
        test = faces.with_classes(recipe.classes).only("test")
        votes = None if test.votes is None else pd.DataFrame(test.vote_shares().numpy(), test.ids, test.classes)
        outcomes.append(compare_methods({name: own[:least] for name, own in found.items()}, class_set(recipe.classes),
                                        reference, votes).assign(network=network, arch=recipe.arch))
    return pd.concat(outcomes, ignore_index=True)


# --- Processes -------------------------------------------------------------------------------------------------------

Results = Callable[[Sequence[tuple[Any, TrainConfig]], int, str], Iterator[tuple[Any, Any]]]
_faces = functools.cache(load_faces)  # once in each process


def _results(work: Callable[..., tuple[Any, Any]], processes: int, end: float, todo: Sequence[tuple[Any, TrainConfig]],
             images: int, what: str) -> Iterator[tuple[Any, Any]]:
    """Key and result of each of ``todo`` that is begun in time, as they come: accuracy on validation images where
    ``images`` is 0, else `Answers`; None of one that diverged."""
    begun = itertools.takewhile(lambda _: time.monotonic() < end, todo)
    parallel = Parallel(processes, return_as="generator_unordered", pre_dispatch="n_jobs")
    yield from tqdm(parallel(delayed(work)(key, config, images) for key, config in begun), what, len(todo),
                    disable=not todo)


def _work(key: Any, config: TrainConfig, images: int, data: str, store: str | None, device: str, whole: dict[str, Any]
          ) -> tuple[Any, float | Answers | None]:
    faces = _faces(data)
    try:
        if not images:  # a trial, of which nothing but its validation counts
            teacher = None
            if config.teacher:
                taught = teacher_config(dataclasses.replace(config, **whole))
                teacher = train_run(taught, faces, store, device, False).model()
            fitted = fit(config, prepare_faces(config, faces), None, device, False, teacher)
            return key, float(fitted.history["val_accuracy"].iloc[fitted.best_epoch - 1])
        run = train_run(config, faces, store, device, progress=False)
    except Diverged:
        return key, None
    return key, answers(run, stress(run, faces, images, device))
