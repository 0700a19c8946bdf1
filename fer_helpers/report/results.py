"""What a notebook measured on photographs, kept as runs and small tables for readers who have none."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis.confusions import confusion_by_accuracy, outcomes_by_accuracy
from ..data.faceset import FaceSet
from ..files import FerError, explain_os_errors, read_json, write_atomic, write_json
from ..models.base import network_name
from ..training.runs import Run, finished_runs, load_runs, read_table, record_run, results_folder, run_table

_AGAIN = "run that notebook on photographs with record=True"


@dataclass(frozen=True, eq=False)
class Findings:
    """One notebook's run on photographs.

    Attributes
    ----------
    source : name of the data; ``images`` are counted by split.
    command : what made the tables.
    tables : data frames by name, with their first column as index.
    runs : a `runs.run_table` of the recorded runs, empty where the notebook trains nothing.
    """

    source: str
    images: dict[str, int]
    command: str
    tables: dict[str, pd.DataFrame]
    runs: pd.DataFrame

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self.tables:
            raise FerError(f"no table {name!r} is recorded, only {', '.join(self.tables)}; {_AGAIN}")
        return self.tables[name]

    def origin(self) -> str:
        """Markdown: which data, and which command made it."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.images.items())
        return f"Measured on {self.source} ({counts} images) by\n\n```bash\n{self.command}\n```"


def keep(notebook: str, faces: FaceSet, settings: Mapping[str, Any], tables: Mapping[str, pd.DataFrame],
         runs: Iterable[Run] = (), part: str = "", folder: Path | None = None, command: str = "",
         force: bool = False) -> None:
    """Keep what a notebook, such as "05_class_ambiguity", found, in place of what it kept before.

    Parameters
    ----------
    faces : what was measured; synthetic faces are refused, since every reader can measure those.
    settings : the notebook's parameters, but for the data's; the command to repeat the run is made of them.
    tables : data frames by name, as csv with six digits; names are file names. An index with several levels, which
        one column of a csv cannot hold, is refused.
    runs : kept by `runs.record_run`.
    part : tells several runs of one notebook apart, such as its class settings.
    folder : None takes the recorded results of the repository.
    command : what made the tables, where it was not the notebook.
    force : also in place of what is kept of other data.

    Raises
    ------
    FerError
        If the faces are synthetic, or a name or an index is none that a csv can keep; or if what is kept is of other
        data.
    """
    if faces.action_units is not None:
        raise FerError(f"{faces.source}: only findings on photographs are recorded; give their folder as data")
    for name, table in tables.items():
        if not re.fullmatch(r"\w+", name) or table.index.nlevels > 1:
            raise FerError(f"table {name!r} cannot be kept as csv; use letters, digits and _ for its name, and one "
                           "level of index")
    folder = (folder or results_folder()) / notebook / part
    source = Path(faces.source).name
    before = read_json(folder / "about.json", _AGAIN) if (folder / "about.json").exists() else {}
    if not force and before.get("fingerprint", faces.fingerprint) != faces.fingerprint:
        raise FerError(f"{folder}: holds what was measured on {before.get('source')}, other data than {source}; record "
                       "with force=True to replace it")
    words = [f"papermill notebooks/{notebook}.ipynb out.ipynb -p data path/to/{source} -p record True"]
    for name, value in settings.items():
        plain = isinstance(value, (str, int, float)) or value is None
        words.append(f"-p {name} {value}" if plain else f"-y '{{{name}: {json.dumps(value)}}}'")
    runs = list(runs)
    for run in runs:
        record_run(run, folder)
    for name, table in tables.items():
        write_atomic(folder / f"{name}.csv", functools.partial(table.to_csv, float_format="%.6g"))
    write_json(folder / "about.json", {
        "source": source, "fingerprint": faces.fingerprint, "command": command or " ".join(words),
        "tables": list(tables),
        "images": {split: int(count) for split, count in faces.counts().sum().items() if count}})
    for path in folder.iterdir():
        if path.suffix == ".csv" and path.stem not in tables:
            path.unlink()
        elif Run(path).finished and path.name not in {run.name for run in runs}:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)  # a link to a run: the run stays


def recall(notebook: str, part: str = "", folder: Path | None = None) -> Findings:
    """What `keep` kept of a notebook.

    Raises
    ------
    FerError
        If nothing is kept, or a file cannot be read.
    """
    folder = (folder or results_folder()) / notebook / part
    about = read_json(folder / "about.json", _AGAIN)
    try:
        with explain_os_errors(folder, "reading"):
            # A name must not lead to a file elsewhere.
            if not all(re.fullmatch(r"\w+", name) for name in about["tables"]):
                raise ValueError("a table has another name than keep gave it")
            tables = {name: read_table(folder / f"{name}.csv", index_col=0, keep_default_na=False, na_values=[""])
                      for name in about["tables"]}
        images = {str(split): int(count) for split, count in about["images"].items()}
        return Findings(str(about["source"]), images, str(about["command"]), tables, load_runs(folder))
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise FerError(f"{folder}: its recorded findings are damaged ({error!r}); {_AGAIN}") from error


def method_answers(method: str = "plain", folder: Path | None = None) -> dict[str, list[pd.DataFrame]]:
    """The test answers that the comparison of methods (``benchmarks/methods.py``) recorded of one of them: by network,
    a table a seed, indexed by image id: true, predicted, confidence, in_train. Empty where nothing is recorded."""
    folder = (folder or results_folder()) / "05_class_ambiguity" / "study"
    if not (folder / "protocol.json").exists():
        return {}
    recipes = read_json(folder / "protocol.json", _AGAIN)["recipes"]
    return {f"{network_name(recipe['arch'])}, {recipe['epochs']} epochs": [
        read_table(path, index_col="id").iloc[:, :4] for path in sorted((folder / name).glob(f"{method}-*.csv.gz"))]
        for name, recipe in recipes.items()}


def all_runs(classes: int, folder: Path | None = None) -> pd.DataFrame:
    """Every recorded run with so many classes that had all of them to train on, of all notebooks, the study and none,
    as a `runs.run_table`.

    A run that two notebooks keep counts once.
    """
    found = {run.name: run for run in finished_runs(folder or results_folder(), below=True)}
    return run_table(run for run in found.values() if run.config.classes == classes and run.config.train_set == "all"
                     and run.config.validation == "stratified")


def method_outcomes() -> pd.DataFrame:
    """`methods.compare_methods` as recorded, with the columns ``network`` and ``arch``."""
    return recall("05_class_ambiguity", "methods")["outcomes"].reset_index()


def recorded_start() -> pd.DataFrame:
    """The losses of the first steps on sixteen photographs, a column a network."""
    return recall("03_architectures", "6_classes")["early"]


def by_accuracy() -> pd.DataFrame:
    """How often fear is called happiness, by accuracy: `confusions.confusion_by_accuracy` of all recorded runs with six
    classes to learn from, and of the ways to learn."""
    return pd.concat([confusion_by_accuracy(all_runs(6)), outcomes_by_accuracy(method_outcomes())]).sort_values(
        "accuracy")


def votes() -> pd.DataFrame:
    """The `dataset_statistics.vote_table` of FER2013's test images."""
    return recall("01_data_exploration", "votes")["votes"]
