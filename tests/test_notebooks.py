"""The committed notebooks keep the form that their readers, papermill and the report rely on."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.display import Markdown

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


def test_it_installs_itself_where_nothing_is_installed_yet(cells, monkeypatch):
    """On Binder and Colab, before anything of the package is imported."""
    first = next(number for number, cell in enumerate(code(cells)) if "import" in cell.source)
    assert first == 1
    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    shell = SimpleNamespace(run_line_magic=lambda *words: asked.append(words))
    exec(code(cells)[1].source, {"get_ipython": lambda: shell})
    assert asked == [("pip", "install --quiet ..")]
    monkeypatch.undo()
    exec(code(cells)[1].source, {"get_ipython": lambda: shell})
    assert len(asked) == 1


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


def test_what_is_said_of_photographs_is_what_the_recorded_tables_say(cells, monkeypatch):
    """The section needs nothing but imports and recorded findings, so it can be run here without a notebook."""
    monkeypatch.chdir(NOTEBOOKS[0].parent)
    imports = [node for cell in code(cells) for node in ast.parse(cell.source).body
               if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {"record": False}
    exec(compile(ast.Module(imports, []), "imports", "exec"), names)
    start = next((number for number, cell in enumerate(cells) if cell.source.startswith("## On photographs")), None)
    if start is None:
        pytest.skip("has no such section")
    end = next((number for number, cell in enumerate(cells) if re.match("## .* drawn faces", cell.source)), len(cells))
    said = 0
    for cell in code(cells[start:end]):
        *body, last = ast.parse(cell.source).body
        exec(compile(ast.Module(body, []), cell.id, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), cell.id, "eval"), names)
            if isinstance(value, Markdown):
                there = cell.outputs[-1].data["text/markdown"]
                if value.data.startswith("Computed from") and value.data != there:
                    pytest.skip("trainings of the study were recorded since it was executed: make notebooks")
                assert value.data == there
                said += 1
        else:
            exec(compile(ast.Module([last], []), cell.id, "exec"), names)
        plt.close("all")
    assert said >= 2


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
            if re.search(r"load_or_train|converging_runs|TrainConfig\(|^(common|train_sets)\b", words) and \
                    not re.search("prepare_faces|rate_range", words):
                exec(words, names)


def test_the_answer_of_the_workhorse_states_the_accuracy_of_its_table():
    cells = code(nbformat.read(NOTEBOOKS[1], 4).cells)
    answer = next(cell.outputs[0].data["text/markdown"] for cell in cells if "answer" in cell.metadata.tags)
    table = next(cell.outputs[0].data["text/plain"] for cell in cells if '"clean_test")' in cell.source)
    row = next(line for line in table.splitlines() if line.startswith("accuracy"))
    tested = [float(number) for number in re.findall(r"0\.\d+", row)[3:6]]  # columns val, test, clean_test
    said = re.search(r"right on ([\d.]+)% \[([\d.]+), ([\d.]+)\] of", answer)
    assert [float(number) / 100 for number in said.groups()] == pytest.approx(tested, abs=6e-4)
