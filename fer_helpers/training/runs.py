"""A run is a folder: train once, keep everything, read it back as tidy tables. Notebooks read runs, never globals.

Layout of ``<store>/<run id>/``: config.json, environment.json, history.csv, predictions.csv (validation and test,
by image id), weights.safetensors and, written last, metrics.json; a run without it is not finished. While it
trains there is also checkpoint.pt; a run that failed has failure.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import os
import platform
import shutil
import subprocess
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from filelock import FileLock
from torch import nn

from ..data.emotions import TAXONOMY
from ..data.faceset import SPLITS, FaceSet
from ..files import (
    FerError,
    check_file,
    digest,
    explain_os_errors,
    home,
    printable,
    read_json,
    write_atomic,
    write_json,
)
from ..metrics.evaluation import Comparison, Evaluation, compare, evaluate
from ..models.base import Network
from ..models.factory import create_model, list_models
from .checkpoints import delete_checkpoint, read_history
from .config import METHOD_SETTINGS, TrainConfig
from .distributed import current_context
from .prediction import predict_logits
from .trainer import Fitted, fit, prepare_faces, settle_classes

#: What is kept of a run among recorded results: all but its weights.
RECORD = ("config.json", "environment.json", "history.csv", "predictions.csv", "metrics.json")
WEIGHTS = "weights.safetensors"
#: The file that says that a run is finished: it is written last.
METRICS = RECORD[-1]
#: What predictions.csv is called where `record_run` packs it.
PACKED = "predictions.csv.gz"
#: Where recorded results lie in the repository, and trainings on the drawn faces, some with their weights.
RESULTS, DRAWN = "data/results", "data/drawn"
RETRAIN = "move the run's folder elsewhere and train it again"
#: Bytes of a run's table that are read: predictions on a million images. In memory it takes up to ten times that.
MAX_TABLE = 128 << 20
_WIDEST = 1 << 16  # bytes of a table's first line: pandas takes a kilobyte for each column
_ENVIRONMENT: dict[str, Any] = {
    "data": str, "data_fingerprint": str, "images": dict, "device": str, "precision": str, "best_epoch": int,
    "train_seconds": (int, float)}
_HISTORY = ("epoch", "lr", "train_loss", "train_accuracy", "grad_norm", "val_loss", "val_accuracy", "seconds")
_PREDICTIONS = {"id": str, "split": str, "true": str, "predicted": str, "confidence": float, "in_train": bool}


class Interrupted(KeyboardInterrupt):
    """A training that was interrupted; the message says what is kept, and is all that a notebook shows of it."""

    def _render_traceback_(self) -> list[str]:  # asked by IPython
        return [str(self)]


def default_store() -> Path:
    """``FER_RUNS`` if set, else ``runs`` here, or beside the notebooks' folder where that is the current one."""
    store, here = os.environ.get("FER_RUNS"), Path.cwd()
    return Path(store) if store else (here.parent if here.name == "notebooks" else here) / "runs"


def results_folder() -> Path:
    """`RESULTS` of the repository, see `files.home`."""
    return home() / RESULTS


@dataclass(frozen=True)
class Run:
    """A finished run on disk. Every property reads its file when first asked and raises `FerError` if it is broken.

    Attributes
    ----------
    folder : where it lies; its name is the run's id.
    """

    folder: Path

    @property
    def name(self) -> str:
        return Path(os.path.abspath(self.folder)).name  # also of ".", and of "..", which leads elsewhere as a name

    @property
    def finished(self) -> bool:
        return os.path.exists(self.folder / METRICS)  # unlike Path.exists, also of a name that no disk could hold

    @property
    def has_weights(self) -> bool:
        """Whether `model` finds what it needs."""
        return (self.folder / WEIGHTS).exists()

    @functools.cached_property
    def config(self) -> TrainConfig:
        path = self.folder / "config.json"
        with _naming(path):
            return TrainConfig.from_dict(read_json(path, RETRAIN))

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, machine, data fingerprint, precision, seconds, best epoch: what the configuration leaves open."""
        path = self.folder / "environment.json"
        values = _read_object(path)
        if wrong := [name for name, kind in _ENVIRONMENT.items()
                     if name in values and not isinstance(values[name], kind)]:
            raise FerError(f"{path}: {wrong[0]} is {values[wrong[0]]!r}; {RETRAIN}")
        return values

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch, see `trainer.Fitted`."""
        path = self.folder / "history.csv"
        with _table_errors(path):
            table = read_table(path, dtype=dict.fromkeys(_HISTORY, float))
            if (table["epoch"] != np.arange(1, len(table) + 1)).any() or table[list(_HISTORY)].isna().any(axis=None):
                raise ValueError("epochs are missing")
            return table.astype({"epoch": int})

    @functools.cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per validation and test image: id, split, true, predicted, confidence, in_train, prob_<class> …;
        of one that learned people's votes also vote_<class>, the shares it tells, and people_<class>, those of FER+."""
        plain, packed = self.folder / "predictions.csv", self.folder / PACKED
        path = packed if packed.exists() and not plain.exists() else plain
        with _table_errors(path):
            table = read_table(path, dtype=_PREDICTIONS, keep_default_na=False)
            columns = [name for name in table if name.startswith("prob_")]
            names = tuple(name.removeprefix("prob_") for name in columns)
            if len(names) < 2 or names != tuple(name for name in TAXONOMY if name in names):
                raise ValueError(f"its probabilities are of {names}")
            votes = [name for name in table if name.startswith(("vote_", "people_"))]
            if votes and votes != [f"{kind}_{name}" for kind in ("vote", "people") for name in names]:
                raise ValueError(f"its votes are {votes}")
            table[votes] = table[votes].replace("", "nan")  # images that nobody voted on
            table = table.astype(dict.fromkeys(columns + votes, float))
            probs = table[["confidence", *columns]]
            if not ((probs >= 0) & (probs <= 1)).all(axis=None):
                raise ValueError("a probability is not from 0 to 1")
            if not table["id"].is_unique or set(table["split"]) - set(SPLITS) or {*table["true"], *table["predicted"]} \
                    - set(names):
                raise ValueError("an id stands there twice, or a split or class is unknown")
            return table

    @functools.cached_property
    def metrics(self) -> dict[str, Evaluation]:
        """Keys "val", "test" and "clean_test" (test images whose pixels do not also stand in train)."""
        path = self.folder / METRICS
        values = _read_object(path)
        if missing := {"val", "test", "clean_test"} - set(values):
            raise FerError(f"{path}: {', '.join(sorted(missing))} missing; {RETRAIN}")
        with _naming(path):
            scores = {split: Evaluation.from_dict(value) for split, value in values.items()}
        if len({one.classes for one in scores.values()}) > 1:
            raise FerError(f"{path}: its parts are of different classes; {RETRAIN}")
        return scores

    def probabilities(self, split: str = "test") -> np.ndarray:
        """float64 (N, C): class probabilities of one split, in the order of `predictions`."""
        rows = self.predictions[self.predictions["split"] == split]
        columns = [f"prob_{name}" for name in self.metrics[split].classes]
        if missing := set(columns) - set(rows):
            raise FerError(f"{self.folder / 'predictions.csv'}: {', '.join(sorted(missing))} missing; {RETRAIN}")
        return np.asarray(rows[columns])

    def votes(self, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
        """float64 (N, C) shares of people's votes, and those that the network told, of the images of a split that have
        votes; none where the network did not learn them."""
        rows = self.predictions[self.predictions["split"] == split]
        people, told = (rows.filter(regex=f"^{kind}_").to_numpy() for kind in ("people", "vote"))
        known = np.isfinite(people).all(1) & (people.shape[1] > 0)
        return people[known], told[known]

    def model(self) -> Network:
        """The trained network, on the CPU, in evaluation mode."""
        return load_weights(self.folder / WEIGHTS, self.config)


def train_run(config: TrainConfig, faces: FaceSet, store: Path | str | None = None, device: str = "auto",
              progress: bool = True) -> Run:
    """Train, evaluate and keep a run; one that is finished already is returned as it is, an interrupted one resumed.
    One that another process trains in the same store, on whatever machine, is waited for.

    Parameters
    ----------
    config : what to train.
    faces : the whole data set, all classes, as `readers.load_faces` returns it.
    store : folder of runs; None takes `default_store`.
    device, progress : as for `trainer.fit`.

    Raises
    ------
    FerError
        As `trainer.fit`, or if the store cannot be written. The reason is also kept in the run's failure.json.
    Interrupted
        In place of ``KeyboardInterrupt``, once it trains.
    """
    config = settle_classes(config, faces)
    view = prepare_faces(config, faces)
    folder = Path(store or default_store()) / run_id(config, faces)
    if (run := Run(folder)).finished:
        return run
    if not len(view.clean_test().only("test")):
        raise FerError(f"{faces.source}: every test image also stands in train; add test images that do not")
    teacher = _teacher(config, faces, store, device, progress) if config.teacher else None
    context = current_context()
    with contextlib.ExitStack() as stack:
        if context.is_main:  # the system frees the lock of a process that was killed
            with explain_os_errors(folder / "lease", "writing"):
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / "lease"))
        if context.broadcast(not run.finished):
            _train(folder, config, faces, view, device, progress, teacher)
        if context.is_main:
            with contextlib.suppress(OSError):  # the run is finished: nobody waits for its lock any more
                (folder / "lease").unlink()
    return run


def load_or_train(config: TrainConfig, faces: FaceSet, fresh: bool = False, progress: bool = True) -> Run:
    """The run of these settings on this data that the repository keeps in `DRAWN`; where there is none, or ``fresh``,
    that of `train_run`. Of a recorded one the weights may be missing, see `Run.has_weights`."""
    run = Run(home() / DRAWN / run_id(config, faces))
    return run if run.finished and not fresh else train_run(config, faces, progress=progress)


def _train(folder: Path, config: TrainConfig, faces: FaceSet, view: FaceSet, device: str, progress: bool,
           teacher: nn.Module | None) -> None:
    """The part of `train_run` that one process, or all of one training together, does at a time."""
    start, context = time.perf_counter(), current_context()
    if context.is_main:
        write_json(folder / "config.json", config.to_dict())
        (folder / "failure.json").unlink(missing_ok=True)
    try:
        fitted = fit(config, view, folder / "checkpoint.pt", device, progress, teacher)
    except FerError as error:
        if context.is_main:
            write_json(folder / "failure.json", {"error": str(error)})
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {len(read_history(folder / 'checkpoint.pt'))} of {config.epochs} epochs are "
                          f"kept in {printable(str(folder))}; the same command or cell goes on from there") from None
    if context.is_main:
        _keep(folder, config, fitted, faces, view, start)
    context.wait()


class _Ensemble(nn.Module):
    """The mean logits of several networks."""

    def __init__(self, models: list[Network]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([model(images) for model in self.models]).mean(0)


def _teacher(config: TrainConfig, faces: FaceSet, store: Path | str | None, device: str, progress: bool) -> nn.Module:
    """What ``config`` learns from: finished runs, or a network that is trained now."""
    if config.teacher in list_models():
        return train_run(teacher_config(config), faces, store, device, progress).model()
    return _Ensemble([_taught(name, config, faces, store) for name in str(config.teacher).split("+")])


def _taught(name: str, config: TrainConfig, faces: FaceSet, store: Path | str | None) -> Network:
    """The network of the finished run of that name, if it left the same validation images out as ``config`` does."""
    run = Run(Path(store or default_store()) / name)
    if not run.finished:
        raise FerError(f"teacher={name!r}: {run.folder} is no finished run; name an architecture, or a run of this "
                       "store")
    held_out = ("classes", "train_set", "val_fraction", "validation", "seed")
    if other := [key for key in held_out if getattr(run.config, key) != getattr(config, key)]:
        raise FerError(f"teacher={name!r} has {other[0]}={getattr(run.config, other[0])!r}, not "
                       f"{getattr(config, other[0])!r}: it may have learned the validation images; set both alike")
    if run.environment.get("data_fingerprint") != faces.fingerprint:
        raise FerError(f"teacher={name!r} learned from {run.environment.get('data')}, other data than "
                       f"{faces.source}; train it on this data")
    return run.model()


def teacher_config(config: TrainConfig) -> TrainConfig:
    """The plain training of ``config.teacher`` that ``config`` learns from, with the same seed, so that both leave the
    same images out for validation.

    Whatever optimizer suits the student, the teacher has Adam at its usual rate and images in full size: what suits
    all architectures.
    """
    assert config.teacher is not None
    plain = TrainConfig()
    other = {name: getattr(plain, name) for name in (*METHOD_SETTINGS, "momentum", "root_eps", "progressive")}
    return dataclasses.replace(config, **other, arch=config.teacher, optimizer="adam", lr=None)


def _keep(folder: Path, config: TrainConfig, fitted: Fitted, faces: FaceSet, view: FaceSet, start: float) -> None:
    """Write all of a finished run; ``start`` is when it began."""
    _write_weights(folder, fitted.model.state_dict())
    write_atomic(folder / "history.csv", lambda path: fitted.history.to_csv(path, index=False))
    predictions = predict_table(fitted.model.to(fitted.device), view, fitted.precision, config.tta)
    write_atomic(folder / "predictions.csv", lambda path: predictions.to_csv(path, index=False, float_format="%.6g"))
    write_json(folder / "environment.json", {
        **environment(), "data": faces.source, "data_fingerprint": faces.fingerprint,
        "images": view.counts().sum().to_dict(), "device": fitted.device, "precision": fitted.precision,
        "processes": current_context().size, "best_epoch": fitted.best_epoch,
        "train_seconds": float(fitted.history["seconds"].sum()), "total_seconds": time.perf_counter() - start})
    write_json(folder / METRICS, {name: value.to_dict() for name, value in score(predictions, view).items()})
    delete_checkpoint(folder / "checkpoint.pt")


def _write_weights(folder: Path, state: Mapping[str, torch.Tensor]) -> None:
    # Serialised in memory first: safetensors reports a full disk as an error of its own, without errno.
    weights = safetensors.torch.save({name: value.contiguous() for name, value in state.items()})
    write_atomic(folder / WEIGHTS, lambda path: path.write_bytes(weights))


def record_run(run: Run, target: Path | str = RESULTS, packed: bool = False, weights: bool = False) -> Run:
    """Keep the small files of a finished run, `RECORD`, in the store ``target``; `load_runs` reads it like any.

    Of the predictions those on test images are kept, with four decimals, or ``packed`` by gzip with three; of the
    data's path its last part: where it lay on this machine is nobody's business, its fingerprint tells which it was.
    With ``weights`` those are kept, too, in float16, and the predictions on validation images.

    Raises
    ------
    FerError
        If the run is not finished or the store cannot be written.
    """
    folder = Path(target) / run.name
    if missing := [name for name in RECORD if not (run.folder / name).exists()]:
        raise FerError(f"{run.folder / missing[0]}: is missing; only a finished run can be recorded")
    write_json(folder / "environment.json",
               run.environment | {"data": Path(run.environment.get("data", "")).name})
    tested = run.predictions if weights else run.predictions[run.predictions["split"] == "test"]
    if packed:  # without name and time: the same predictions are the same file
        table = tested.to_csv(index=False, float_format="%.3f", lineterminator="\n").encode()
        write_atomic(folder / PACKED, functools.partial(Path.write_bytes, data=gzip.compress(table, mtime=0)))
    else:
        write_atomic(folder / "predictions.csv", lambda path: tested.to_csv(path, index=False, float_format="%.4f"))
    if weights:
        _write_weights(folder, half_weights(run))
    for name in ("config.json", "history.csv", METRICS):
        with explain_os_errors(run.folder / name, "reading"):
            content = (run.folder / name).read_bytes()
        write_atomic(folder / name, functools.partial(Path.write_bytes, data=content))
    return Run(folder)


def half_weights(run: Run) -> dict[str, torch.Tensor]:
    """The weights of a run in float16; `FerError` where one does not fit it."""
    weights = {name: value.half() if value.is_floating_point() else value
               for name, value in run.model().state_dict().items()}
    if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise FerError(f"{run.folder}: {broken[0]} does not fit float16; train with more weight_decay")
    return weights


def run_id(config: TrainConfig, faces: FaceSet) -> str:
    """Readable and unique: the same settings on the same data have the same id, any change gives another."""
    config = settle_classes(config, faces)
    return (f"{config.arch}-{config.optimizer}-{config.schedule}-c{len(config.class_names)}-s{config.seed}-"
            f"{digest(config.identity(), faces.fingerprint, length=8)}")


def load_runs(store: Path | str | None = None) -> pd.DataFrame:
    """All finished runs of a store as a `run_table`."""
    return run_table(finished_runs(store or default_store()))


def finished_runs(store: Path | str, below: bool = False) -> list[Run]:
    """The finished runs of a store by name, or also those in folders of any depth below it."""
    return [Run(path.parent) for path in sorted(Path(store).glob(f"{'**' if below else '*'}/{METRICS}"))]


def recorded_runs() -> pd.DataFrame:
    """What `record_run` keeps in the repository, as a `run_table`, most accurate first: measured on real photographs,
    for readers who have none. Empty outside the repository. Runs that belong to one notebook are in `results`."""
    table = load_runs(results_folder())
    return table.sort_values("test_accuracy", ascending=False) if len(table) else table


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Runs as a tidy table, a row each, indexed by run id.

    Columns: every setting of `TrainConfig`; ``data``, ``data_fingerprint``, ``best_epoch``, ``train_seconds``,
    ``precision``; ``<split>_accuracy``, ``_low``, ``_high``, ``<split>_macro_f1`` and ``<split>_ece`` for val, test
    and clean_test; ``majority``; and ``run``, the `Run` itself.
    """
    rows = {}
    for run in runs:
        row: dict[str, Any] = run.config.to_dict()
        row |= {key: run.environment.get(key)
                for key in ("data", "data_fingerprint", "best_epoch", "train_seconds", "precision")}
        for split, scores in run.metrics.items():
            row |= {f"{split}_accuracy": scores.accuracy.value, f"{split}_low": scores.accuracy.low,
                    f"{split}_high": scores.accuracy.high, f"{split}_macro_f1": scores.macro_f1.value,
                    f"{split}_ece": scores.ece.value}
        rows[run.name] = row | {"majority": run.metrics["test"].majority.value, "run": run}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run_id")


def markdown_table(table: pd.DataFrame) -> str:
    """A `run_table` for a README: accuracy in percent with intervals on the official and on the clean test."""
    def percent(row: pd.Series, split: str) -> str:
        return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * row[f"{split}_{end}"] for end in ("accuracy", "low", "high")))

    rows = {"network": table["arch"], "classes": table["classes"], "seed": table["seed"], "epochs": table["epochs"],
            "test images averaged over": table["tta"], "test accuracy, %": table.apply(percent, axis=1, split="test"),
            "without copies of train": table.apply(percent, axis=1, split="clean_test"),
            "macro F1": (100 * table["test_macro_f1"]).map("{:.1f}".format),
            "always the majority": (100 * table["majority"]).map("{:.1f}".format),
            "minutes": (table["train_seconds"] / 60).map("{:.0f}".format)}
    lines = [list(rows), ["---"] * len(rows), *map(list, zip(*rows.values(), strict=True))]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def compare_runs(first: Run, second: Run, split: str = "test") -> Comparison:
    """`evaluation.compare` of two runs, paired by image id; `FerError` if they did not see the same images."""
    tables = [run.predictions[run.predictions["split"] == split].set_index("id") for run in (first, second)]
    if set(tables[0].index) != set(tables[1].index):
        raise FerError(f"{first.name} and {second.name} were tested on different images; train both on the same data")
    return compare(*((table["true"] == table["predicted"]).loc[tables[0].index] for table in tables))


def load_weights(path: Path | str, config: TrainConfig, fix: str = RETRAIN) -> Network:
    """The network of ``config`` with weights from a safetensors file; ``fix`` is what mends a damaged one.

    Raises
    ------
    FerError
        If the file is missing or damaged, belongs to another architecture, or holds values that are not finite.
    """
    names = config.class_names
    model = create_model(config.arch, len(names), batch_norm=config.batch_norm, seed=0, head=config.head,
                         cbam=config.cbam, votes=config.votes > 0)
    # As float64, the widest there is, with a header of safetensors.
    check_file(path, (1 << 20) + 8 * sum(value.numel() for value in model.state_dict().values()))
    with explain_os_errors(path, "reading"):
        try:
            model.load_state_dict(safetensors.torch.load_file(path))
        except OSError:
            raise
        except Exception as error:  # safetensors knows types that torch has not, and raises what the dictionary does
            raise FerError(f"{path}: not the weights of a {len(names)}-class {config.arch}"
                           f"{'' if config.batch_norm else ' without batch norm'}; choose the file of that "
                           f"architecture or {fix}") from error
    # As the network holds them: float64 may have become infinite.
    if broken := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        raise FerError(f"{path}: {broken[0]} holds NaN or infinite values; {fix}")
    return model.eval()


def predict_table(model: Network, faces: FaceSet, precision: str = "fp32", tta: str = "none") -> pd.DataFrame:
    """Predictions on the val and test images of ``faces``, in the form of `Run.predictions`; ``vote_<class>`` where the
    network tells people's votes, and ``people_<class>``, which are those of FER+."""
    index = np.flatnonzero(faces.split != "train")
    seen, names = faces.take(index), np.array(faces.classes)
    logits = torch.cat([predict_logits(model, images, precision, tta, votes=True) for images in seen.parts()])
    told = [part.softmax(1).numpy() for part in logits.split(len(names), 1)]
    probs = told[0]
    table = {"id": seen.ids, "split": seen.split, "true": names[seen.labels.numpy()],
             "predicted": names[probs.argmax(1)], "confidence": probs.max(1), "in_train": faces.in_train()[index]}
    shares = dict(zip(("prob", "vote"), told, strict=False))
    if "vote" in shares:
        shares["people"] = seen.vote_shares().numpy()
    return pd.DataFrame(table | {f"{kind}_{name}": values[:, number] for kind, values in shares.items()
                                 for number, name in enumerate(faces.classes)})


def score(predictions: pd.DataFrame, faces: FaceSet) -> dict[str, Evaluation]:
    """`Run.metrics` from `Run.predictions`; ``faces`` gives the class order and the majority class of train."""
    majority = int(faces.counts()["train"].to_numpy().argmax())
    number = {name: position for position, name in enumerate(faces.classes)}
    test = predictions["split"] == "test"
    parts = {"val": predictions["split"] == "val", "test": test, "clean_test": test & ~predictions["in_train"]}
    return {name: evaluate(predictions.loc[rows, "true"].map(number).to_numpy(),
                           predictions.loc[rows, [f"prob_{c}" for c in faces.classes]].to_numpy(),
                           faces.classes, majority)
            for name, rows in parts.items()}


def environment() -> dict[str, Any]:
    """Versions and machine, without host or user names."""
    from importlib.metadata import version
    git = subprocess.run(["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True,
                         text=True, check=False) if shutil.which("git") else None
    return {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}",
            "threads": torch.get_num_threads(),
            "packages": {name: version(name) for name in ("fer_helpers", "torch", "torchvision", "numpy",
                                                          "scikit-learn")},
            "git_commit": git.stdout.strip() if git and git.returncode == 0 else None}


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before a message that does not have it."""
    try:
        yield
    except FerError as error:
        if str(path) in str(error):
            raise
        raise FerError(f"{path}: {error}; {RETRAIN}") from error


def _read_object(path: Path) -> dict[str, Any]:
    if not isinstance(values := read_json(path, RETRAIN), dict):
        raise FerError(f"{path}: not a JSON object; {RETRAIN}")
    return values


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """`pandas.read_csv` of a file of at most `MAX_TABLE` bytes; ``ValueError`` if it is no table, or lacks the columns
    in ``dtype`` where these are given, or rows of them."""
    with explain_os_errors(path, "reading"), _table_file(path) as file:
        header, rows, size = file.readline(_WIDEST), 0, 0
        for part in iter(lambda: file.read(1 << 20), b""):
            rows, size = rows + part.count(b"\n"), size + len(part)
            if size > MAX_TABLE:
                raise ValueError(f"it unpacks to more than {MAX_TABLE:,} bytes")
        # Each cell takes eight bytes in memory and one in the file, its comma, unless rows are left unfinished.
        if len(header) == _WIDEST or rows * (header.count(b",") + 1) > MAX_TABLE:
            raise ValueError("its first line is too long for its length")
        file.seek(0)
        table = pd.read_csv(file, encoding="utf-8", **options)
    if missing := set(options.get("dtype", ())) - set(table):
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    if "dtype" in options and not len(table):
        raise ValueError("holds no row")
    return table


@contextlib.contextmanager
def _table_file(path: Path) -> Iterator[BinaryIO]:
    """The file, unpacked as it is read where it is packed; ``ValueError`` if its packing is damaged."""
    try:
        with check_file(path, MAX_TABLE).open("rb") as file:
            yield gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"its packing is damaged: {error}") from error


@contextlib.contextmanager
def _table_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (ArithmeticError, TypeError, ValueError) as error:  # pandas' own errors are of these
        raise FerError(f"{path}: not a readable table ({error}); {RETRAIN}") from error
