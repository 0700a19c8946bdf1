"""The study: every recorded training, by group, from a plan file that says which are wanted; one command trains what is
missing, and a table says what is there.

Layout of its results: data.json, which data; ``<group>/<run id>/``, a run's small files (`runs.record_run`); and
``<group>/trials.csv``, what the group's settings were chosen from on validation images. Weights are not kept.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..data.emotions import EMOTIONS, class_set
from ..data.faceset import FaceSet
from ..files import FerError, bar_options, digest, home, read_json, read_yaml, write_atomic, write_json
from ..models.factory import model_table
from ..training.config import TrainConfig
from ..training.runs import (
    Run,
    default_store,
    finished_runs,
    read_table,
    record_run,
    run_id,
    run_table,
    train_run,
)
from ..training.train_sets import ORIGINAL_HAPPY, missing_classes
from ..training.trainer import Diverged

#: The plan, and where its results are kept, in the repository.
PLAN, RESULTS = "data/study.yaml", "data/results/study"
#: Columns of trials.csv: identity of the trial's configuration, what was tried, what validation said of its best epoch.
TRIAL = ["trial", "name", "settings", "val_loss", "val_accuracy", "seconds"]
_MAX_RUNS = 1000  # trainings of an entry
#: Operations a second of a processor that nothing is recorded of yet; of all of FER2013's train split.
_SPEED, _TRAIN = 1e11, (3995, 436, 4097, 7215, 4830, 3171, 4965)


@dataclass(frozen=True)
class Entry:
    """Some trainings of a group that belong together.

    Attributes
    ----------
    name : what a reader calls them.
    settings : of `TrainConfig`, equal in all; ``axes``: settings with several values, all combined.
    wanted : what is trained first: lowest ``wanted`` plus seed, then cheapest.
    trials : alternative settings; those with the lowest validation loss after the short training that ``short`` makes
        of it are what the entry is trained with.
    repeat : seeds of one more training each of the best, by validation accuracy, of those above.
    """

    group: str
    name: str
    settings: dict[str, Any]
    axes: dict[str, list[Any]]
    wanted: float = 1
    trials: tuple[dict[str, Any], ...] = ()
    short: dict[str, Any] = dataclasses.field(default_factory=dict)
    repeat: tuple[int, ...] = ()


@dataclass(frozen=True)
class Script:
    """A group whose results a script of the repository makes: ``makes`` exists, under data/results, once it is done."""

    group: str
    script: str
    makes: str


@dataclass(frozen=True)
class Plan:
    """What a plan file says: texts about groups, by name, and what belongs to them."""

    about: dict[str, str]
    entries: tuple[Entry, ...]
    scripts: tuple[Script, ...]


@dataclass(frozen=True)
class Job:
    """One training of the study; a ``trial`` only chooses settings. Not ``ready`` while trials that it waits for are
    missing: then ``config`` is what it costs, not what it will be."""

    entry: Entry
    config: TrainConfig
    trial: str = ""
    ready: bool = True


def read_plan(path: Path | str | None = None) -> Plan:
    """The plan of that file; None takes the repository's.

    Raises
    ------
    FerError
        If it is missing or no plan, or a setting is none of `TrainConfig`.
    """
    path = Path(path or home() / PLAN)
    see = f"see the one of the repository, {PLAN}"
    content, about, entries, scripts, place = read_yaml(path, see), {}, [], [], str(path)
    try:
        for group, parts in content.items():
            if group.startswith("x-"):  # a place for what several groups refer to
                continue
            place = f"{path}: {group}"
            about[group] = str(parts["about"])
            scripts += [Script(group, str(parts["script"]), str(parts["makes"]))] if "script" in parts else []
            for number, values in enumerate(parts.get("runs", ()), 1):
                place = f"{path}: {group}, {dict(values).get('name', f'entry {number}')}"
                entries.append(_entry(group, values))
    except FerError as error:
        raise FerError(f"{place}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FerError(f"{place}: is no plan ({type(error).__name__}: {error}); {see}") from error
    return Plan(about, tuple(entries), tuple(scripts))


def _entry(group: str, values: dict[str, Any]) -> Entry:
    """The entry of these values, all its configurations tried once."""
    own: dict[str, Any] = {"name": str(values["name"])}
    own |= {key: kind(values[key]) for key, kind in (("wanted", float), ("trials", tuple), ("short", dict),
                                                    ("repeat", tuple)) if key in values}
    rest = {key: value for key, value in values.items() if key not in own}
    axes = {key: value for key, value in rest.items() if isinstance(value, list)}
    if not 0 < math.prod(map(len, axes.values())) <= _MAX_RUNS:
        raise FerError(f"its lists combine to none or to more than {_MAX_RUNS} trainings; write others")
    entry = Entry(group, settings={key: value for key, value in rest.items() if key not in axes}, axes=axes, **own)
    for number, chosen in enumerate(entry.trials or [{}]):
        configs = [*_configs(entry, chosen), *([_trial(entry, number)] if entry.trials else [])]
        for seed in entry.repeat:
            dataclasses.replace(configs[0], seed=seed)
    return entry


def _configs(entry: Entry, chosen: dict[str, Any]) -> Iterator[TrainConfig]:
    for values in itertools.product(*entry.axes.values()):
        yield TrainConfig.from_dict(entry.settings | dict(zip(entry.axes, values, strict=True)) | chosen)


class Study:
    """A plan and what is recorded of it in ``results``; None takes the repository's."""

    def __init__(self, plan: Plan, results: Path | str | None = None) -> None:
        self.plan, self.results = plan, Path(results or home() / RESULTS)
        self._runs: dict[str, dict[TrainConfig, Run]] = {}

    def runs(self, group: str) -> dict[TrainConfig, Run]:
        """The recorded runs of a group by their configuration."""
        if group not in self._runs:
            self._runs[group] = {run.config: run for run in finished_runs(self.results / group)}
        return self._runs[group]

    def trials(self, group: str) -> pd.DataFrame:
        """The recorded trials of a group, with the columns `TRIAL`; ``settings`` is JSON."""
        path = self.results / group / "trials.csv"
        if not os.path.lexists(path):
            return pd.DataFrame(columns=TRIAL)
        try:
            return read_table(path, dtype=dict.fromkeys(TRIAL[:3], str) | dict.fromkeys(TRIAL[3:], float))
        except ValueError as error:
            raise FerError(f"{path}: not a table of trials ({error}); take it from the repository again") from error

    def jobs(self, entry: Entry) -> list[tuple[Job, Run | None]]:
        """Every training of an entry, with its run where it is recorded; trials first, theirs is None."""
        jobs: list[tuple[Job, Run | None]] = []
        chosen, ready = {}, True
        if entry.trials:
            known = self.trials(entry.group).drop_duplicates("trial").set_index("trial")
            tried = {_trial(entry, number): number for number in range(len(entry.trials))}
            jobs = [(Job(entry, config, json.dumps(entry.trials[number])), None) for config, number in tried.items()
                    if _identity(config) not in known.index]
            ready = not jobs
            losses = {number: known["val_loss"].get(_identity(config), math.inf) for config, number in tried.items()}
            chosen = entry.trials[min(losses, key=losses.__getitem__)]
        recorded = self.runs(entry.group)
        main = [(config, recorded.get(config) if ready else None) for config in _configs(entry, chosen)]
        jobs += [(Job(entry, config, ready=ready), run) for config, run in main]
        finished = ready and all(run for _, run in main)
        best = max(main, key=lambda pair: pair[1].metrics["val"].accuracy.value if pair[1] else 0)[0]
        more = [dataclasses.replace(best, seed=seed) for seed in entry.repeat]
        return jobs + [(Job(entry, config, ready=finished), recorded.get(config) if finished else None)
                       for config in more]

    def missing(self, groups: Iterable[str] = ()) -> list[Job]:
        """What is not recorded of these groups, or of all: the most wanted first, then the cheapest."""
        wanted = self._groups(groups)
        jobs = [job for entry in self.plan.entries if entry.group in wanted
                for job, run in self.jobs(entry) if run is None]
        seconds = self.seconds(jobs)
        order = sorted(range(len(jobs)), key=lambda at: (
            jobs[at].entry.wanted + (0 if jobs[at].trial else jobs[at].config.seed), seconds[at]))
        return [jobs[at] for at in order]

    def table(self, groups: Iterable[str] = ()) -> pd.DataFrame:
        """A row per group: recorded and missing trainings, the hours that the missing ones take on a machine like the
        one that recorded the others, and what the group is."""
        rows = {}
        for group in self._groups(groups):
            jobs = [pair for entry in self.plan.entries if entry.group == group for pair in self.jobs(entry)]
            left = [job for job, run in jobs if run is None]
            scripts = [self._made(script) for script in self.plan.scripts if script.group == group]
            rows[group] = {"recorded": len(jobs) - len(left) + len(self.trials(group)) + sum(scripts),
                           "missing": len(left) + len(scripts) - sum(scripts),
                           "hours": sum(self.seconds(left)) / 3600, "about": self.plan.about[group]}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")

    def recorded(self, group: str) -> pd.DataFrame:
        """The recorded runs of a group that the plan names, as a `runs.run_table` with a column ``name``."""
        found = [(job.entry.name, run) for entry in self.plan.entries if entry.group in self._groups([group])
                 for job, run in self.jobs(entry) if run is not None]
        table = run_table(run for _, run in found)
        return table.assign(name=[name for name, _ in found]) if found else table

    def seconds(self, jobs: Sequence[Job]) -> list[float]:
        """Estimated time of each: what its architecture took per image in the recorded runs, or a guess from its
        arithmetic."""
        costs, fallback = self._costs()
        found = []
        for job in jobs:
            config = job.config
            each = costs.get(config.arch) or 3e6 * _mflops(config.arch) * fallback
            found.append(_images(config) * config.epochs * each * (0.67 if config.progressive else 1))
        return found

    @functools.cached_property
    def _measured(self) -> list[tuple[str, float]]:
        rows = []
        for group in self.plan.about:
            for config, run in self.runs(group).items():
                images = run.environment.get("images", {}).get("train", 0) * len(run.history)
                if images and "train_seconds" in run.environment:
                    rows.append((config.arch, run.environment["train_seconds"] / images
                                 / (0.67 if config.progressive else 1)))
        return rows

    def _costs(self) -> tuple[dict[str, float], float]:
        """Seconds per train image by architecture, and per operation of architectures that nothing is known of: the
        least of those known, since small networks keep no processor busy."""
        measured = pd.DataFrame(self._measured, columns=["arch", "seconds"]).groupby("arch")["seconds"].median()
        if measured.empty:
            return {}, 1 / _SPEED
        return measured.to_dict(), min(1 / _SPEED, float((measured / (3e6 * measured.index.map(_mflops))).min()))

    def _groups(self, groups: Iterable[str]) -> list[str]:
        names = list(groups) or list(self.plan.about)
        if unknown := set(names) - set(self.plan.about):
            raise FerError(f"group {sorted(unknown)[0]!r} is not in the plan; choose of {', '.join(self.plan.about)}")
        return names

    def _made(self, script: Script) -> bool:
        return (self.results.parent / script.makes).exists()

    # --- Training -----------------------------------------------------------------------------------------------------

    def train(self, faces: FaceSet, groups: Iterable[str] = (), store: Path | str | None = None,
              minutes: float = math.inf, progress: bool = True) -> list[str]:
        """Train what is missing and record it; what failed, one sentence each.

        Parameters
        ----------
        store : folder in which trainings go on where they were interrupted; None takes "study" in
            `runs.default_store`. What is recorded leaves it.
        minutes : begin no training after these.

        Raises
        ------
        FerError
            If results of other data are recorded, or a folder cannot be written.
        """
        groups, store = self._groups(groups), Path(store or default_store() / "study")
        self._same_data(faces)
        end, failed = time.monotonic() + 60 * minutes, dict[TrainConfig | Script, str]()
        with tqdm(total=sum(self.seconds(self.missing(groups))) / 3600, desc="study",
                  bar_format="{l_bar}{bar}| {n:.2f} of {total:.2f} h{postfix}", **bar_options(progress)) as bar:
            while time.monotonic() < end:
                left = [job for job in self.missing(groups) if job.config not in failed]
                if not any(job.ready for job in left):
                    break
                place = next(place for place, job in enumerate(left) if job.ready)
                job, seconds = left[place], self.seconds(left)
                bar.total = bar.n + sum(seconds) / 3600
                bar.set_postfix_str(f" | {len(left)} left, now {job.entry.group}: {job.entry.name}")
                try:
                    self._record(job, train_run(job.config, faces, store, progress=progress))
                except Diverged as error:
                    if job.trial:
                        self._add_trial(job, math.inf, 0.0, 0.0)
                        shutil.rmtree(store / run_id(job.config, faces), ignore_errors=True)
                    else:
                        failed[job.config] = f"{job.entry.group}, {job.entry.name}: {error}"
                bar.update(seconds[place] / 3600)
            for script in self.plan.scripts:
                if script.group in groups and not self._made(script) and time.monotonic() < end:
                    done = subprocess.run([sys.executable, str(home() / script.script), "--data", faces.source],
                                          check=False)
                    if done.returncode:
                        failed[script] = f"{script.group}: {script.script} ended with {done.returncode}"
        return list(failed.values())

    def _record(self, job: Job, run: Run) -> None:
        if job.trial:
            best = run.history.loc[run.history["val_loss"].idxmin()]
            self._add_trial(job, best["val_loss"], best["val_accuracy"], run.environment["train_seconds"])
        else:
            kept = record_run(run, self.results / job.entry.group, packed=True)
            self._runs.setdefault(job.entry.group, {})[job.config] = kept
            vars(self).pop("_measured", None)
        shutil.rmtree(run.folder)  # its weights, of which a study has hundreds

    def _add_trial(self, job: Job, loss: float, accuracy: float, seconds: float) -> None:
        row = pd.DataFrame([(_identity(job.config), job.entry.name, job.trial, loss, accuracy, seconds)], columns=TRIAL)
        known = self.trials(job.entry.group)
        table = row if known.empty else pd.concat([known, row])
        write_atomic(self.results / job.entry.group / "trials.csv",
                     lambda path: table.to_csv(path, index=False, float_format="%.5g"))

    def _same_data(self, faces: FaceSet) -> None:
        path, own = self.results / "data.json", {
            "source": Path(faces.source).name, "fingerprint": faces.fingerprint,
            "images": faces.counts().to_dict(orient="index")}
        known = read_json(path, "take it from the repository again") if path.exists() else own
        if not isinstance(known, dict) or not own.keys() <= known.keys():
            raise FerError(f"{path}: does not say what data are recorded; take it from the repository again")
        if known["fingerprint"] != faces.fingerprint:
            raise FerError(f"{path}: what is recorded there comes of {known['source']} ({known['fingerprint']}), and "
                           f"{faces.source} is other data ({faces.fingerprint}); name another folder with --results")
        write_json(path, known)


def recorded(group: str) -> pd.DataFrame:
    """`Study.recorded` of the repository's plan and results; `FerError` if nothing of the group is recorded."""
    table = Study(read_plan()).recorded(group)
    if table.empty:
        raise FerError(f"nothing of the group {group!r} is recorded; make study FER_DATA=path/to/fer2013 does that")
    return table


@functools.cache
def _mflops(arch: str) -> float:
    return float(model_table([arch])["mflops"].iloc[0])


def _trial(entry: Entry, number: int) -> TrainConfig:
    """The short training of the first of an entry's configurations with one of its alternatives."""
    first = {name: values[0] for name, values in entry.axes.items()}
    return TrainConfig.from_dict(entry.settings | first | entry.trials[number] | entry.short)


def _identity(config: TrainConfig) -> str:
    return digest(config.identity(), length=8)


def _images(config: TrainConfig) -> int:
    """About how many images of FER2013 a configuration trains on."""
    missing, names = missing_classes(config.train_set), class_set(config.classes)
    happy = ORIGINAL_HAPPY if config.train_set == "original" else 1.0
    count = sum(number * (happy if name == "happiness" else 1) for name, number in zip(EMOTIONS, _TRAIN, strict=True)
                if name in names and name not in missing)
    return int(min(count * (1 - config.val_fraction), config.train_limit or math.inf))
