"""The ``fer`` command: what its help shows can be run, it starts fast, and it refuses in one line."""

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from conftest import easy_faces, fer, fer_here
from farm import wait_until
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner

from fer_helpers.cli import app, main
from fer_helpers.experiments.notebooks import find_notebooks, notebook_defaults
from fer_helpers.files import FerError
from fer_helpers.inference.detection import SMALLEST_FACE
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.methods import configure
from fer_helpers.training.runs import train_run
from fer_helpers.training.settings import read_settings

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def commands(command=None, path=()):
    command = command or typer.main.get_command(app)
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def examples(command):
    lines = (command.epilog or "").split("\n\n")
    return [words[words.index("fer") + 1:] for line in lines if "fer" in (words := shlex.split(line.replace("'", "")))]


EXAMPLES = [(path, words) for path, command in commands() for words in examples(command)]


def check(words):
    """Parse and validate a command as it would be before it does anything."""
    command, name = dict(commands())[()], "fer"
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name, *words = words
        command = command.commands[name]
    try:
        context = command.make_context(name, list(words))
    except typer.Exit:  # --help
        return name, {}
    settings = [pair for pair in context.params.get("settings") or [] if not pair.endswith(".yaml")]
    read = read_settings(settings)
    if name == "train":
        assert all(len(values) == 1 for values in read.values())
        configure({key: value for key, (value,) in read.items()})
    elif name == "sweep" and settings:
        for values in itertools.product(*read.values()):
            configure(dict(zip(read, values, strict=True)))
    elif name == "report":
        known = set().union(*(notebook_defaults(path) for path in find_notebooks(NOTEBOOKS)))
        assert set(read) <= known
        configure({key: value for key, (value,) in read.items()})
    return name, context.params


def test_every_command_has_an_example():
    assert [path for path, command in commands() if not examples(command) and path != ("data",)] == []


@pytest.mark.parametrize(("path", "words"), EXAMPLES, ids=[" ".join(words) for _, words in EXAMPLES])
def test_an_example_of_the_help_is_accepted(path, words):
    name, _ = check(words)
    assert (*path, name)[-1] == name and (not path or name == path[-1])


@pytest.mark.parametrize("words", [["sweep", "augmentation=flip,affine"], ["train", "speed=1"], ["train", "epochs=0"],
                                   ["report", "epoch=1"], ["sweep", "lr=1", "lr=2"]])
def test_a_wrong_example_would_be_found(words):
    with pytest.raises((AssertionError, FerError)):
        check(words)


def test_the_help_of_train_names_every_setting(tmp_path):
    shown = fer_here("train", "--help", cwd=tmp_path).stdout
    assert [name for name in TrainConfig().to_dict() if f" {name}=" not in shown] == []


@pytest.mark.parametrize("code", ["import fer_helpers", "import fer_helpers.training.settings",
                                  *(f"from fer_helpers.cli import main; import sys; sys.argv = {words}\n"
                                    "try: main()\nexcept SystemExit: pass" for words in (
                                        ["fer", "--help"], ["fer", "--version"], ["fer", "train", "--help"],
                                        ["fer", "sweep", "--help"], ["fer", "train", "epochs"]))])
def test_what_needs_no_network_does_not_wait_for_torch(code):
    slow = "import sys\nassert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{slow}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_version_is_that_of_the_package(tmp_path):
    assert fer_here("--version", cwd=tmp_path).stdout == f"fer_helpers {version('fer_helpers')}\n"


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """Calls the command in ``tmp_path``, in this process, and returns what it says on standard error as it refuses."""
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fer", *arguments])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 2
        return capsys.readouterr().err

    return call


def test_a_refusal_is_the_exit_code_and_the_one_line_of_a_process(tmp_path):
    done = fer("train", "epochs=1", "epochs=2", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "error: epochs is given twice; leave one of them out\n"


@pytest.mark.parametrize("command", ["train", "sweep", "report"])
def test_a_setting_that_is_given_twice_is_refused_in_one_line(command, refusal, tmp_path):
    assert refusal(command, "epochs=1", "epochs=2") == "error: epochs is given twice; leave one of them out\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    for seed in (0, 1):
        train_run(TrainConfig(arch="simple_cnn", classes=7, epochs=1, batch_size=16, seed=seed), easy_faces(), folder,
                  progress=False)
    return folder


def test_a_run_is_recorded_by_its_name_or_its_folder(store, tmp_path):
    first, second = sorted(path for path in store.iterdir() if path.is_dir())
    assert fer_here("record", first.name, "--store", store, cwd=tmp_path).exit_code == 0
    assert fer_here("record", second, tmp_path / "data" / "results", "--weights", cwd=tmp_path).exit_code == 0
    assert "fer train" in (tmp_path / "data" / "results" / Path(second).name / "README.md").read_text()  # its card
    assert sorted(path.name for path in (tmp_path / "data" / "results").iterdir()) == [first.name, second.name]


@pytest.mark.parametrize("command", ["record", "publish", "push"])
def test_a_run_that_is_not_there_is_named_and_nothing_is_advised_against_it(command, store, tmp_path):
    (tmp_path / "half").mkdir()
    for name in ("nobody", tmp_path / "half"):
        done = fer_here(command, name, *(["user/faces"] if command == "push" else []), "--store", store, cwd=tmp_path)
        assert f"{name}: is no finished run; fer runs lists them" in str(done.exception)
    other = fer_here("publish", next(store.iterdir()).name, "--store", store, cwd=tmp_path)
    assert "is a 7-class simple_cnn; publish a 7-class mobile or compact" in str(other.exception)


def test_the_help_of_predict_says_how_small_a_face_may_be():
    shown = CliRunner().invoke(app, ["predict", "--help"]).stdout
    assert f"{SMALLEST_FACE} pixels" in " ".join(shown.replace("│", " ").split())


@pytest.mark.parametrize(("words", "letters"), [(["train", "--help"], "cp1252"), (["train", "--help"], "ascii"),
                                                (["data", "check", "."], "ascii")])
def test_output_that_has_not_all_letters_is_whole(words, letters, folder):
    done = subprocess.run([sys.executable, "-c", "from fer_helpers.cli import main; main()", *words], cwd=folder,
                          env=os.environ | {"PYTHONIOENCODING": letters}, capture_output=True, encoding=letters)
    assert done.returncode == 0 and "Traceback" not in done.stderr and len(done.stdout) > 500


@pytest.mark.parametrize("words", [["predict", "https://example.org/a.jpg"], ["data", "check", "s3://faces/fer2013.csv"]])
def test_an_address_is_not_fetched_and_the_way_out_told(words, refusal):
    told = refusal(*words)
    assert "nothing is fetched; download it" in told and len(told.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)], ids=str)
def test_an_interrupted_training_says_in_one_line_what_is_kept(number, folder, tmp_path):
    # A shell lets what it starts in the background ignore SIGINT; SIGTERM must end it all the same.
    words = ["train", "arch=simple_cnn", "epochs=60", "batch_size=32", "--data", str(folder), "--store", str(tmp_path)]
    kind = "SIG_IGN" if number == signal.SIGTERM else "default_int_handler"
    code = f"import signal; signal.signal(signal.SIGINT, signal.{kind})"
    command = subprocess.Popen([sys.executable, "-c", f"{code}\nfrom fer_helpers.cli import main; main()", *words],
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"TQDM_DISABLE": "1"})
    wait_until(lambda: list(tmp_path.glob("*/checkpoint.pt")))
    command.send_signal(number)
    _, said = command.communicate(timeout=120)
    assert command.returncode == 130
    assert re.fullmatch(rf"interrupted: [1-9]\d? of 60 epochs are kept in {tmp_path}/\S+; the same command .*\n", said)


@pytest.mark.slow
@pytest.mark.parametrize("words", [  # little, much, and what is written as it is found; the others repeat that
    ["--version"], ["train", "--help"], ["predict", "pictures", "--format", "csv"],
    *(pytest.param(words, marks=pytest.mark.nightly) for words in (["models"], ["runs"], ["runs", "--csv"],
                                                                   ["study", "--list"], ["results"]))], ids=" ".join)
def test_who_reads_but_the_beginning_of_an_output_sees_no_traceback(words, store, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        Image.fromarray(astronaut()[:256, 100:356]).save(tmp_path / "pictures" / f"{number}.png")
    reader, writer = os.pipe()
    os.close(reader)  # before anything is written: all of it is too much
    with os.fdopen(writer):
        done = subprocess.run([sys.executable, "-c", "from fer_helpers.cli import main; main()", *words], cwd=tmp_path,
                              stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
                              env=os.environ | {"FER_RUNS": str(store)})
    assert done.returncode == 1 and "Traceback" not in done.stderr and "rror" not in done.stderr
