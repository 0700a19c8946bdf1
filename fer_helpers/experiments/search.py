"""Search of a grid without running all of it: which run to do next, by what those before came to. By Optuna."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ..files import FerError, check_file, digest, explain_os_errors
from ..training.checkpoints import read_history
from ..training.runs import Run

#: The file of a store that remembers its searches. A journal, as sqlite's locks fail on network file systems.
JOURNAL = "search.log"
#: Bytes of it: a hundred thousand trials. Optuna reads all of it, and takes some ten times as much memory.
MOST_JOURNAL = 64 << 20


@dataclass(frozen=True)
class Search:
    """How to look for the best run of a grid; the best is the one most often right on validation images.

    Attributes
    ----------
    trials : how many runs.
    sampler : "tpe" (Bergstra et al. 2011), which learns from the runs before, or "random".
    prune : whether to end a run that after some epoch is right less often than the median of those before was then
        (Golovin et al. 2017).
    seed : of what is chosen.
    """

    trials: int
    sampler: str = "tpe"
    prune: bool = True
    seed: int = 0


class Study:
    """One search, which goes on where it was when made anew with the same grid and store.

    Parameters
    ----------
    search : what is asked for.
    grid : settings of each combination with the id of its run.
    store : folder of runs.

    Raises
    ------
    FerError
        If the sampler is unknown, or the journal cannot be read or written.
    """

    def __init__(self, search: Search, grid: Sequence[tuple[Mapping[str, Any], str]], store: Path) -> None:
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        if search.sampler not in samplers:
            raise FerError(f"search: unknown sampler {search.sampler!r}; known are {', '.join(samplers)}")
        self.store = store
        self.settings = {name: dict(given) for given, name in grid}
        self.name_of = {tuple(given.values()): name for given, name in grid}
        values = {key: dict.fromkeys(given[key] for given, _ in grid) for key in grid[0][0]}
        self.space: dict[str, optuna.distributions.BaseDistribution] = {
            key: optuna.distributions.CategoricalDistribution(list(own)) for key, own in values.items()}
        self.random = random.Random(search.seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = store / JOURNAL
        with explain_os_errors(path, "writing"):
            store.mkdir(parents=True, exist_ok=True)
            try:
                if path.exists():
                    check_file(path, MOST_JOURNAL)
                self.study = optuna.create_study(
                    storage=JournalStorage(JournalFileBackend(str(path))), load_if_exists=True, direction="maximize",
                    study_name=digest(*sorted(self.settings), length=8), sampler=samplers[search.sampler](
                        seed=search.seed),
                    pruner=optuna.pruners.MedianPruner() if search.prune else optuna.pruners.NopPruner())
                ended = [(trial.user_attrs["run"], trial.state) for trial in self.study.get_trials(
                    deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])]
            except (FerError, OSError):
                raise
            except Exception as error:  # how Optuna meets a journal that is none: ValueError, KeyError, assertions
                raise FerError(f"{path}: is no journal of a search ({type(error).__name__}); delete it to start "
                               "anew") from error
        #: Runs that an earlier search of the same grid has ended, and whether it pruned them.
        self.known = {name: state == TrialState.PRUNED for name, state in ended}
        self.free = [name for name in self.settings if name not in self.known]
        self.left = min(search.trials - len(self.known), len(self.free))
        self.trials: dict[str, optuna.Trial] = {}
        self.seen: dict[str, tuple[int, int]] = {}
        self.told = 0

    def ask(self) -> str:
        """The run to do next; there must be one ``left``."""
        trial = self.study.ask(self.space)
        name = self.name_of[tuple(trial.params[key] for key in self.space)]
        if name not in self.free:
            # What promises most has been had: of the others, one that differs from it least.
            wanted = self.settings[name]
            self.study.tell(trial, state=TrialState.FAIL)
            self.random.shuffle(self.free)
            name = max(self.free, key=lambda free: sum(wanted[key] == value for key, value in
                                                       self.settings[free].items()))
            self.study.enqueue_trial(self.settings[name])
            trial = self.study.ask(self.space)
        trial.set_user_attr("run", name)
        self.trials[name] = trial
        self.free.remove(name)
        self.left -= 1
        return name

    def hopeless(self, name: str) -> bool:
        """Whether the run, which is under way, should be pruned."""
        path, trial = self.store / name / "checkpoint.pt", self.trials[name]
        # Only with a further epoch, or another run to compare it with, can the answer be a new one.
        news = path.stat().st_mtime_ns if path.exists() else 0, self.told
        if news == self.seen.get(name):
            return False
        self.seen[name] = news
        for row in read_history(path):
            with warnings.catch_warnings(action="ignore"):  # of epochs reported before
                trial.report(row["val_accuracy"], int(row["epoch"]))
        return trial.should_prune()

    def tell(self, name: str, finished: bool, pruned: bool) -> None:
        """How a run that was asked for ended."""
        state = TrialState.PRUNED if pruned else TrialState.FAIL
        value = None
        if finished:
            with contextlib.suppress(FerError):  # damaged
                value, state = Run(self.store / name).metrics["val"].accuracy.value, TrialState.COMPLETE
        self.study.tell(self.trials.pop(name), value, state)
        self.told += 1
