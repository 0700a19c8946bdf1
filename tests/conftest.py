"""What all tests share: a private home for results, a few tiny faces, a disk that is full, a user without rights."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.context
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from click.testing import Result
from farm import Experiment
from legible import faults
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from fer_helpers.cli import app
from fer_helpers.data.emotions import EMOTIONS, VOTE_COLUMNS
from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.readers import load_faces
from fer_helpers.data.synthetic import make_faces
from fer_helpers.metrics.evaluation import Evaluation, evaluate
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import Run, train_run
from fer_helpers.training.trainer import Fitted, fit
from fer_helpers.viz import use_style

matplotlib.use("Agg")
# A shell lets what it starts in the background ignore Ctrl-C, and what that starts inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: The user's data folder, read before the tests hide it; the fixture `real_data` hands it out.
REAL_DATA = os.environ.get("FER_DATA")

# Fixed examples: a suite that fails on one machine fails on all of them.
hypothesis.settings.register_profile("fer", deadline=None, derandomize=True, database=None, max_examples=30)
hypothesis.settings.load_profile("fer")


#: The files that take longest: several processes, which take one file after the other, are then busy to the end.
LONGEST = ("test_faults", "test_cli", "test_trainer", "test_hostile", "test_onnx_export", "test_objective",
           "test_sweeps", "test_widgets", "test_site", "test_synthetic", "test_readers", "test_runs",
           "test_distributed", "test_cluster", "test_privacy", "test_photographs", "test_install",
           "test_text_embeddings", "test_methods", "test_study", "test_reproduction", "test_real_data", "test_mapped",
           "test_validation", "test_duplicates", "test_search", "test_learning_rates", "test_layers", "test_benchmarks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the user's data or writes in the user's folders."""
    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # what one worker read, the others need not
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("FER_CACHE", str(common / "cache"))
        patch.delenv("FER_DATA", raising=False)
        yield


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder or file of the real FER2013 images, also in ``FER_DATA`` for this test; skips where not given."""
    if not REAL_DATA or not Path(REAL_DATA).exists():  # it may also be a name such as "synthetic"
        pytest.skip("FER_DATA names no file or folder: no real data here")
    monkeypatch.setenv("FER_DATA", REAL_DATA)
    return Path(REAL_DATA)


def easy_images(labels: np.ndarray, seed: int = 0, noise: float = 45) -> torch.Tensor:
    """uint8 (N, 48, 48): a ramp whose direction tells the class, under noise of its own in every image."""
    random = np.random.default_rng(seed)
    line = np.linspace(-1, 1, 48)
    angle = 2 * np.pi * np.asarray(labels)[:, None, None] / 7
    ramp = np.cos(angle) * line[None, None, :] + np.sin(angle) * line[None, :, None]
    pixels = 128 + 50 * ramp + noise * random.standard_normal(ramp.shape)
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))


def easy_faces(train: int = 16, test: int = 6, seed: int = 0, noise: float = 45, votes: bool = False) -> FaceSet:
    """``train`` and ``test`` images of each of the seven emotions, in mixed order: learnt in a few epochs."""
    each = np.concatenate([np.repeat("train", train), np.repeat("test", test)])
    order = np.random.default_rng(seed).permutation(7 * len(each))
    labels, split = np.repeat(np.arange(7), len(each))[order], np.tile(each, 7)[order]
    table = torch.zeros(len(labels), len(VOTE_COLUMNS))
    for row, label in enumerate(labels):
        table[row, VOTE_COLUMNS.index(EMOTIONS[label])] = 10
    return FaceSet(easy_images(labels, seed, noise), torch.from_numpy(labels),
                   np.array([f"face{number:04d}" for number in range(len(labels))]), split, EMOTIONS,
                   votes=table if votes else None, source="easy faces")


@pytest.fixture(scope="session")
def clean_server() -> multiprocessing.context.ForkServerContext:
    """Processes that start from a server that has imported torch but never used it: quick, and safe to fork.

    The first optimizer of a process imports torch's compiler, which takes longer than these trainings.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fer_helpers.cli", "fer_helpers.training.runs", "torch._dynamo"])
    return context


fit_quietly = functools.partial(fit, device="cpu", progress=False)


def weights_equal(first: Fitted, second: Fitted) -> bool:
    a, b = first.model.state_dict(), second.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def same_history(first: Fitted, second: Fitted) -> bool:
    return first.history.drop(columns="seconds").equals(second.history.drop(columns="seconds"))


def interrupt_fit(config: TrainConfig, faces: FaceSet, path: Path, after_steps: int) -> None:
    """Fit until the user presses Ctrl-C in the step after so many."""
    steps, backward = iter(range(after_steps)), torch.Tensor.backward

    def interrupted(*args, **options):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return backward(*args, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.Tensor, "backward", interrupted)
        fit_quietly(config, faces, path)


@pytest.fixture(scope="session")
def faces() -> FaceSet:
    """112 train and 42 test images; anger to neutral equally often."""
    return easy_faces()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, for the time of the test an empty repository."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "fer_helpers"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def full_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A mounted disk of 64 KiB, or of the size given as parameter: anything larger finds no space."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '64k')}", "none", str(folder)]
    mounted = (sys.platform == "linux" and os.geteuid() == 0
               and subprocess.run(command, capture_output=True, check=False).returncode == 0)
    if not mounted:
        pytest.skip("only root on Linux may mount the small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def locked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, for the time of the test one that may be read but not written."""
    folder = tmp_path / "locked"
    folder.mkdir()
    if not hasattr(os, "geteuid"):
        pytest.skip("rights of folders are tested where POSIX rules them")
    monkeypatch.chdir(folder)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:  # root may write anywhere, so be nobody for a while; the path is relative because /tmp may be closed
        with contextlib.suppress(OSError):
            os.seteuid(65534)
    try:
        if os.access(".", os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            pytest.skip("this user may write everywhere")
        yield Path(".")
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


class Payload:
    """A pickle that would leave a trace when unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def wait_for(path: Path, process: multiprocessing.Process) -> None:
    """Return as soon as ``path`` exists, or ``process`` has ended."""
    deadline = time.monotonic() + 120
    while not path.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.fixture
def figure_style() -> Iterator[None]:
    """The project's style on; afterwards every figure is looked at, as a reader would, and closed."""
    use_style()
    yield
    found = [fault for number in plt.get_fignums() for fault in faults(plt.figure(number))]
    plt.close("all")
    assert not found


@pytest.fixture(scope="session")
def scores() -> Evaluation:
    """Seven classes of 20 images; most of what is answered is wrong."""
    labels = np.repeat(np.arange(7), 20)
    return evaluate(labels, np.eye(7)[np.roll(labels, 5)], EMOTIONS, majority=3)


def texts(figure: Figure) -> list[str]:
    """What a reader of the figure reads."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_visible()]


def fer(*arguments: object, cwd: Path, **environment: object) -> subprocess.CompletedProcess[str]:
    """The installed command, in a process of its own."""
    return subprocess.run([sys.executable, "-c", "from fer_helpers.cli import main; main()", *map(str, arguments)],
                          cwd=cwd, capture_output=True, text=True, check=False, timeout=500,
                          env=os.environ | {key: str(value) for key, value in environment.items()})


def fer_here(*arguments: object, cwd: Path) -> Result:
    """The same command without a process: for what starts in a moment and would wait seconds for Python and torch."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="session")
def short_workhorse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Notebook 02 as far as its answer, in a folder ``notebooks`` of its own.

    What follows draws figures of the run, whatever was trained and how, and takes most of the time.
    """
    notebook = nbformat.read(Path(__file__).parent.parent / "notebooks" / "02_training.ipynb", 4)
    answer = next(number for number, cell in enumerate(notebook.cells) if "answer" in cell.metadata.get("tags", []))
    notebook.cells = notebook.cells[:answer + 1]
    target = tmp_path_factory.mktemp("short") / "notebooks" / "02_training.ipynb"
    target.parent.mkdir()
    nbformat.write(notebook, target)
    return target


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of drawn faces as a class-folder tree on disk."""
    root = tmp_path_factory.mktemp("faces")
    faces = make_faces(dict.fromkeys(EMOTIONS, 60), test=dict.fromkeys(EMOTIONS, 12), seed=5)
    for image, label, name, split in zip(faces.images.numpy(), faces.labels, faces.ids, faces.split, strict=True):
        place = root / split / faces.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{name}.png")
    return root


@pytest.fixture(scope="session")
def template(folder, tmp_path_factory) -> Run:
    config = TrainConfig(arch="simple_cnn", epochs=1, batch_size=32, train_limit=64)
    return train_run(config, load_faces(folder), tmp_path_factory.mktemp("template"), "cpu", progress=False)


@pytest.fixture
def experiment(tmp_path, folder, template):
    made = []

    def make(seeds, **acts):
        made.append(Experiment(tmp_path, folder, template, seeds,
                               {int(name.removeprefix("seed")): given for name, given in acts.items()}))
        return made[-1]

    yield make
    for one in made:
        one.close()
