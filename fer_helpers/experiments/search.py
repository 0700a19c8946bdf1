"""Search of a grid without running all of it: which run to do next, by what those before came to. By Optuna."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import FerError, check_file, digest, explain_os_errors, needs_extra
from ..training.checkpoints import read_history
from ..training.runs import Run

#: The file of a store that remembers its searches. A journal, as sqlite's locks fail on network file systems.
JOURNAL = "search.log"
#: Bytes of it: a hundred thousand trials. Optuna reads all of it, and takes some ten times as much memory.
MAX_JOURNAL = 64 << 20


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


class GridSearch:
    """A search of one grid, which goes on where it was when made anew with the same grid and store.

    Parameters
    ----------
    search : what is asked for.
    grid : settings of each combination by the id of its run.
    store : folder of runs.

    Attributes
    ----------
    known : runs that an earlier search of the same grid has ended, and whether it pruned them.
    left : how many runs may still be asked for.
    trials : those asked for that have not ended, by run.

    Raises
    ------
    FerError
        If the sampler is unknown, or the journal cannot be read or written.
    """

    def __init__(self, search: Search, grid: Mapping[str, Mapping[str, Any]], store: Path) -> None:
        with needs_extra("sweep"):
            import optuna
            from optuna.storages.journal import JournalFileBackend
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        if search.sampler not in samplers:
            raise FerError(f"search: unknown sampler {search.sampler!r}; known are {', '.join(samplers)}")
        self.store, self.settings, self.states = store, grid, optuna.trial.TrialState
        axes = next(iter(grid.values()))
        self.space: dict[str, Any] = {key: optuna.distributions.CategoricalDistribution(
            list(dict.fromkeys(given[key] for given in grid.values()))) for key in axes}
        self.random = random.Random(search.seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = store / JOURNAL
        with explain_os_errors(path, "writing"):
            store.mkdir(parents=True, exist_ok=True)
            try:
                if path.exists():
                    check_file(path, MAX_JOURNAL)
                self.study = optuna.create_study(
                    storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))), load_if_exists=True,
                    direction="maximize", study_name=digest(*sorted(grid), length=8),
                    sampler=samplers[search.sampler](seed=search.seed),
                    pruner=optuna.pruners.MedianPruner() if search.prune else optuna.pruners.NopPruner())
                self.known: dict[str, bool] = {
                    trial.user_attrs["run"]: trial.state == self.states.PRUNED for trial in self.study.get_trials(
                        deepcopy=False, states=[self.states.COMPLETE, self.states.PRUNED])}
            except (FerError, OSError):
                raise
            except Exception as error:  # how Optuna meets a journal that is none: ValueError, KeyError, assertions
                raise FerError(f"{path}: is no journal of a search ({type(error).__name__}); choose another store, or "
                               "move it away to start anew") from error
        self.free = [name for name in grid if name not in self.known]
        self.left = min(search.trials - len(self.known), len(self.free))
        self.trials: dict[str, Any] = {}

    def ask(self) -> str | None:
        """The run to do next; None if none is ``left``."""
        if self.left <= 0:
            return None
        trial = self.study.ask(self.space)
        name = next((name for name in self.free if self.settings[name] == trial.params), None)
        if name is None:
            # What promises most has been had: of the others, one that differs from it least.
            self.study.tell(trial, state=self.states.FAIL)
            self.random.shuffle(self.free)
            name = max(self.free, key=lambda free: sum(trial.params[key] == value for key, value in
                                                       self.settings[free].items()))
            self.study.enqueue_trial(dict(self.settings[name]))
            trial = self.study.ask(self.space)
        trial.set_user_attr("run", name)
        self.trials[name] = trial
        self.free.remove(name)
        self.left -= 1
        return name

    def should_prune(self, name: str) -> bool:
        """Whether the run, which is under way, is worse than most were after as many epochs."""
        trial = self.trials[name]
        for row in read_history(self.store / name / "checkpoint.pt"):
            with warnings.catch_warnings(action="ignore"):  # of epochs reported before
                trial.report(row["val_accuracy"], int(row["epoch"]))
        return bool(trial.should_prune())

    def tell(self, name: str, finished: bool, pruned: bool) -> None:
        """How a run that was asked for ended."""
        state, value = self.states.PRUNED if pruned else self.states.FAIL, None
        if finished:
            with contextlib.suppress(FerError):  # damaged
                value, state = Run(self.store / name).metrics["val"].accuracy.value, self.states.COMPLETE
        self.study.tell(self.trials.pop(name), value, state)
