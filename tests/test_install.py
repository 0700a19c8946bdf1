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


#: Commands one after the other, as each would wait seconds for Python and torch.
COMMANDS = """
import contextlib, io, json, sys
from fer_helpers.cli import main
done = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["fer", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as left:
            done.append([left.code, out.getvalue(), said.getvalue()])
print(json.dumps(done))
"""


def run(core: Path, *commands: list[str], cwd: Path) -> list[tuple[int, str, str]]:
    """Of each ``fer`` command, in a Python that sees the standard library and the folder ``core``: exit code, output
    and what it says on standard error."""
    private = {"PYTHONPATH": str(core), "FER_RUNS": str(cwd / "runs"), "FER_CACHE": str(cwd / "cache")}
    done = subprocess.run([sys.executable, "-S", "-c", COMMANDS, json.dumps(commands)], cwd=cwd, capture_output=True,
                          text=True, check=False, timeout=300, env=os.environ | private)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_core_asks_for_fourteen_libraries_at_most(core):
    about, = metadata.distributions(name="fer_helpers", path=[str(core)])
    asked = [Requirement(text) for text in about.requires or []]
    assert len([one for one in asked if one.marker is None]) <= 14


def test_without_extras_it_trains_lists_predicts_annotates_and_tells_what_is_missing(core, folder, tmp_path):
    photograph(tmp_path)
    lacking = {"report": ["report"], "sweep": ["sweep", "epochs=1"], "download": ["data", "download", "new"],
               "export": ["export", "--data", str(folder)],
               "lab": ["predict", "photo.png", "--out", "a", "--attribution"]}
    train, runs, predict, *refused = run(
        core, ["train", "arch=simple_cnn", "epochs=1", "batch_size=32", "train_limit=64", "--data", str(folder)],
        ["runs"], ["predict", "photo.png", "--format", "json", "--out", "drawn"], ["results"], *lacking.values(),
        cwd=tmp_path)
    assert train[0] == runs[0] == predict[0] == 0, (train, runs, predict)
    assert "simple_cnn" in runs[1]
    face, = json.loads(predict[1])["faces"]
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert len(list((tmp_path / "drawn").iterdir())) == 1
    for extra, (code, _, said) in zip(["report", *lacking], refused, strict=True):
        assert code and f"pip install 'fer_helpers[{extra}]'" in said.strip().splitlines()[-1]
