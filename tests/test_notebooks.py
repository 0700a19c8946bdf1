"""The committed notebooks keep the form that their readers, papermill and the report rely on."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest

from fer_helpers.experiments import read_plan
from fer_helpers.report import claims, results
from fer_helpers.training import runs

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request):
    return nbformat.read(request.param, 4).cells


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def test_it_opens_with_a_title_a_question_and_the_parameters(cells):
    assert re.match(r"# 0\d · ", cells[0].source) and "**Question.**" in cells[0].source
    assert code(cells)[0].metadata.tags == ["parameters"]


def test_in_jupyterlab_nothing_but_the_parameters_stands_before_the_answer(cells):
    asked = next(number for number, cell in enumerate(cells) if "answer" in cell.metadata.get("tags", ()))
    assert all(cell.metadata["jupyter"]["source_hidden"] for cell in cells[2:asked])


def test_it_finds_the_package_before_anything_of_it_is_imported(cells):
    assert next(number for number, cell in enumerate(code(cells)) if "import" in cell.source) == 1
    assert code(cells)[1].source == code(nbformat.read(NOTEBOOKS[0], 4).cells)[1].source


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Python without any package."""
    venv.create(folder := tmp_path_factory.mktemp("bare"), symlinks=sys.platform != "win32")
    return folder


def found(bare, here, file=None):
    """What the first cells find in a kernel that starts ``here``: the package, and what they would install."""
    parameters, first = (cell.source for cell in code(nbformat.read(NOTEBOOKS[0], 4).cells)[:2])
    opened = "" if file is None else f"__vsc_ipynb_file__ = {str(file)!r}\n"
    program = (f"class get_ipython: run_line_magic = staticmethod(print)\n{opened}{parameters}\n{first}\n"
               "print(util.find_spec('fer_helpers').origin)")
    names = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([sysconfig.get_path("scripts", "venv", {"base": bare}) + "/python", "-c", program], cwd=here,
                          env=names, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(params=["fer_helpers", "my clone"])
def content(request, clone, tmp_path_factory):
    """A folder with a clone of the repository in it, as on Colab; and the clone."""
    for folder in ("fer_helpers", "notebooks"):
        (clone / folder).mkdir()
    (clone / "fer_helpers" / "__init__.py").touch()
    return (here := tmp_path_factory.mktemp("content")), clone.rename(here / request.param)


def test_a_kernel_that_starts_anywhere_about_a_clone_finds_it(content, bare, tmp_path_factory):
    here, clone = content
    package, install = str(clone / "fer_helpers" / "__init__.py"), f'pip install --quiet "{clone}"'
    assert found(bare, clone) == [package]  # it can be imported: nothing is to do
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for start, file in ((here, None), (clone / "notebooks", None), (elsewhere, clone / "notebooks" / "01.ipynb")):
        assert found(bare, start, file) == [install, package]


def test_an_installed_package_is_not_installed_again_where_a_clone_hides_it(content, bare):
    here, clone = content
    site = Path(sysconfig.get_path("purelib", "venv", {"base": bare}))
    (site / "fer_helpers-1.dist-info").mkdir()
    (site / "fer_helpers-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fer_helpers\nVersion: 1\n")
    try:
        assert found(bare, here) == [str(clone / "fer_helpers" / "__init__.py")]
    finally:
        shutil.rmtree(site / "fer_helpers-1.dist-info")


@pytest.mark.parametrize("folders", [(), ("fer_helpers",)], ids=["nothing", "a folder of that name"])
def test_where_there_is_no_clone_the_error_says_so(bare, tmp_path, folders):
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(AssertionError, match="no clone of fer_helpers in .* or above; open this notebook in one"):
        found(bare, tmp_path)


@pytest.mark.parametrize("notebook", ["05_class_ambiguity", "06_failure_analysis"])
def test_what_is_recorded_is_found_from_any_folder(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Measured on" in results.recall(notebook).origin()
    assert read_plan().entries


def test_it_answers_early_and_ends_with_its_limits(cells):
    answers = [number for number, cell in enumerate(code(cells)) if "answer" in cell.metadata.tags]
    assert len(answers) == 1
    assert "\n## What this does not show\n" in f"\n{cells[-1].source}\n"


def test_no_cell_is_longer_than_fifteen_lines(cells):
    assert [cell.source for cell in code(cells) if len(cell.source.splitlines()) > 15] == []


def test_it_was_executed_whole_and_without_an_error(cells):
    assert all(cell.execution_count for cell in code(cells)), "not rendered: make notebooks"
    assert not [output for cell in code(cells) for output in cell.outputs if output.output_type == "error"]


def test_nothing_in_it_tells_of_the_machine_it_ran_on(cells):
    text = "\n".join(cell.source for cell in cells)
    for output in (output for cell in code(cells) for output in cell.outputs):
        shown = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
        text += f"\n{shown}{output.get('text', '')}"
    assert not re.search(r"/(root|home|tmp|work)/|Traceback|site-packages", text)


def test_its_answer_is_what_is_recorded_of_photographs(cells, monkeypatch):
    monkeypatch.chdir(NOTEBOOKS[0].parent)
    number = cells[0].source[2:4]
    answer, = (cell for cell in code(cells) if "answer" in cell.metadata.tags)
    there, found = answer.outputs[-1].data["text/markdown"], claims.recorded(number)
    if number == "04" and there.count("\n") + 1 != len(found):
        pytest.skip("trainings of the study were recorded since it was executed: make notebooks")
    assert there.startswith(claims.answer(found))


def test_its_figures_stand_over_captions_that_say_whose_faces_they_are(cells):
    for cell in code(cells):
        kinds = [output.get("metadata", {}).get("figure") for output in cell.outputs]
        captions = [output.data["text/markdown"] for output, kind in zip(cell.outputs, kinds, strict=True)
                    if kind == "caption"]
        assert [kind for kind in kinds if kind] == ["faces" if "faces=True" in cell.source else "numbers",
                                                    "caption"] * len(captions)
        assert all(re.match(r"\*\*(Photographs|Drawn faces|Published outputs)\.\*\* ", text) for text in captions)
        assert "image/png" not in str(cell.outputs) or captions or "browser." in cell.source \
            or "monitor." in cell.source or "face_editor." in cell.source


@pytest.mark.parametrize("name", ["03_architectures", "04_optimization", "05_class_ambiguity", "06_failure_analysis"])
def test_by_default_it_shows_kept_trainings_and_trains_none(name, monkeypatch):
    monkeypatch.chdir(NOTEBOOKS[0].parent)
    shown = code(nbformat.read(next(path for path in NOTEBOOKS if path.stem == name), 4).cells)
    names = {"tqdm": lambda configs, **_: configs}
    for cell in shown[:3]:
        exec(cell.source, names)
    monkeypatch.setattr(runs, "train_run", lambda config, *_, **__: pytest.fail(f"is not kept: {config.command()}"))
    for cell in shown[3:]:
        # Of the cells with trainings those statements that lead to them.
        for statement in ast.parse(cell.source).body:
            words = ast.unparse(statement)
            needed = r"load_or_train|converging_runs|TrainConfig\(|^(common|train_sets|faces|own|known|wanted)\b"
            if re.search(needed, words) and \
                    not re.search("prepare_faces|rate_range", words):
                exec(words, names)


def test_the_answer_of_the_workhorse_states_the_accuracy_of_its_table():
    cells = code(nbformat.read(NOTEBOOKS[1], 4).cells)
    answer = next(cell.outputs[0].data["text/markdown"] for cell in cells if "answer" in cell.metadata.tags)
    table = next(cell.outputs[0].data["text/markdown"] for cell in cells if '"clean_test")' in cell.source)
    row = next(line for line in table.splitlines() if line.startswith("| accuracy"))
    tested = [float(number) for number in re.findall(r"0\.\d+", row)[3:6]]  # columns val, test, clean_test
    said = re.search(r"here and now.* right on ([\d.]+)% \[([\d.]+), ([\d.]+)\] of", answer)
    assert [float(number) / 100 for number in said.groups()] == pytest.approx(tested, abs=6e-4)
