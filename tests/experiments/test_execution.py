"""`notebooks.execute` runs a notebook with this interpreter, whatever kernels lie about."""

import json
import sys

import nbformat
import pytest

from fer_helpers.experiments.notebooks import execute


@pytest.mark.parametrize("variable", ["JUPYTER_DATA_DIR", "JUPYTER_PATH"])
def test_a_kernel_of_another_environment_is_not_taken(tmp_path, monkeypatch, variable):
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(json.dumps({"argv": ["false", "{connection_file}"], "display_name": "Python 3",
                                                   "language": "python"}))
    monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys; print(sys.executable)")])
    nbformat.write(notebook, tmp_path / "which.ipynb")
    done = execute(tmp_path / "which.ipynb", tmp_path / "done.ipynb", {})
    assert done.error == ""
    assert nbformat.read(tmp_path / "done.ipynb", 4).cells[0].outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize("metadata", [{}, {"kernelspec": {"name": "python3", "display_name": ""}}],
                         ids=["no kernel", "no language"])
def test_a_notebook_that_is_never_begun_is_an_error_of_it(tmp_path, metadata):
    cells = [nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "odd.ipynb")
    done = execute(tmp_path / "odd.ipynb", tmp_path / "done.ipynb", {"x": 2})
    assert done.error and not (tmp_path / "done.ipynb").exists()
