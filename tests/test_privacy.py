"""Nothing leaves the machine unasked: no name is looked up, and no library writes down who asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from skimage import data

pytestmark = pytest.mark.slow
ALONE = ["unshare", "--net", "--mount", sys.executable, str(Path(__file__).parent / "support" / "alone.py")]


def alone(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with ``command`` behind a name server of our own, with ``home`` for a home."""
    private = {"HOME": str(home), "FER_RUNS": str(home.parent / "runs"), "FER_CACHE": str(home.parent / "cache"),
               "MPLCONFIGDIR": str(home.parent / "matplotlib"), "IPYTHONDIR": str(home.parent / "ipython")}
    # CI is a variable that alone keeps some libraries quiet; users have none.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "XDG_CACHE_HOME")}
    return subprocess.run([*ALONE, sys.executable, *command], cwd=home.parent, capture_output=True, text=True,
                          check=False, timeout=400, env=environment | private)


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root on Linux may make a network of its own")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    Image.fromarray(data.astronaut()).save(tmp_path / "photo.png")
    return tmp_path / "home"


def test_a_look_up_would_be_seen(home):
    question = "import socket\ntry: socket.getaddrinfo('somewhere.example', 80)\nexcept OSError: pass"
    done = alone("-c", question, home=home)
    assert done.stdout.splitlines()[-1] == "looked up: ['somewhere.example']"


#: Commands one after the other, as each would wait seconds for Python and torch.
COMMANDS = """
import json, sys
from fer_helpers.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["fer", *words]
    try:
        main()
    except SystemExit as left:
        assert not left.code, words
"""


@pytest.mark.parametrize("commands", [
    [["predict", "photo.png", "--out", "answers", "--attribution"],
     ["export", "--onnx", "faces.onnx", "--data", "faces"]],
    pytest.param([["train", "arch=simple_cnn", "epochs=1", "batch_size=32", "train_limit=64", "--data", "faces"],
                  ["report", "--data", "faces", "--notebooks", "notebooks"]], marks=pytest.mark.nightly)],
    ids=["predict and export", "train and report"])
def test_commands_look_nothing_up_and_leave_nothing_at_home(home, folder, commands):
    (home.parent / "faces").symlink_to(folder)
    cells = [nbformat.v4.new_markdown_cell("# 02 · Data"),
             nbformat.v4.new_code_cell('data = ""', metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell("from fer_helpers.data import load_faces\nlen(load_faces(data))")]
    (home.parent / "notebooks").mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), home.parent / "notebooks" / "02_data.ipynb")
    done = alone("-c", COMMANDS, json.dumps(commands), home=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "looked up: []"
    assert [path for path in home.rglob("*") if path.is_file()] == []
