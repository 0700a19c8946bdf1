"""What a person gets who installs the package alone: the wheel and the core's libraries, nothing of the extras."""

import importlib.metadata as metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image
from skimage import data

REPOSITORY = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def closure(requirements: list[str]) -> set[str]:
    """Names of the installed distributions that ``requirements`` ask for, and those ask for, without extras."""
    found: set[str] = set()
    open_ones = [Requirement(text) for text in requirements]
    while open_ones:
        asked = open_ones.pop()
        name = re.sub(r"[-_.]+", "-", asked.name).lower()
        if name in found or asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        found.add(name)
        open_ones += [Requirement(text) for text in metadata.requires(name) or ()]
    return found


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages: the wheel, built here, and links to what its core asks for."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("core")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "fer_helpers", source / "fer_helpers", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
             "--wheel-dir", str(source), str(source)]
    subprocess.run(build, check=True)
    wheel, = source.glob("*.whl")
    shutil.unpack_archive(wheel, target, "zip")
    about, = metadata.distributions(name="fer_helpers", path=[str(target)])
    for name in closure(about.requires or []):
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            link = target / file.parts[0]
            if file.parts[0] not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(distribution.locate_file(file.parts[0]))
    return target


def photograph(folder: Path) -> None:
    """A public-domain portrait that scikit-image brings, as ``photo.png``."""
    Image.fromarray(data.astronaut()).save(folder / "photo.png")


def run(core: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``fer`` in a Python that sees the standard library and the folder ``core``."""
    code = "from fer_helpers.cli import main; main()"
    private = {"PYTHONPATH": str(core), "FER_RUNS": str(cwd / "runs"), "FER_CACHE": str(cwd / "cache")}
    return subprocess.run([sys.executable, "-S", "-c", code, *arguments], cwd=cwd, capture_output=True, text=True,
                          check=False, timeout=300, env=os.environ | private)


def test_the_core_asks_for_fourteen_libraries_at_most(core):
    about, = metadata.distributions(name="fer_helpers", path=[str(core)])
    asked = [Requirement(text) for text in about.requires or []]
    assert len([one for one in asked if one.marker is None]) <= 14


def test_without_extras_it_trains_lists_predicts_and_annotates(core, folder, tmp_path):
    done = run(core, "train", "arch=simple_cnn", "epochs=1", "batch_size=32", "train_limit=64", "--data", str(folder),
               cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "simple_cnn" in run(core, "runs", cwd=tmp_path).stdout
    photograph(tmp_path)
    done = run(core, "predict", "photo.png", "--format", "json", "--out", "drawn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    face, = json.loads(done.stdout)["faces"]
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert len(list((tmp_path / "drawn").iterdir())) == 1


@pytest.mark.parametrize(("extra", "arguments"), [
    ("report", ["results"]), ("report", ["report"]), ("sweep", ["sweep", "epochs=1"]),
    pytest.param("export", ["export", "--data", "faces"], marks=pytest.mark.nightly),
    ("download", ["data", "download", "new"]),
    pytest.param("lab", ["predict", "photo.png", "--out", "a", "--attribution"], marks=pytest.mark.nightly)])
def test_a_missing_extra_is_named_in_one_line(core, folder, tmp_path, extra, arguments):
    photograph(tmp_path)
    (tmp_path / "faces").symlink_to(folder)
    done = run(core, *arguments, cwd=tmp_path)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and f"pip install 'fer_helpers[{extra}]'" in line and "Traceback" not in done.stderr
