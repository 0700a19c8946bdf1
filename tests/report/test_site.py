"""The report: the committed notebooks as a site, looked at as files; `tests/ui` looks at it in a browser."""

import contextlib
import functools
import io
import shutil
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import fer, fer_here

from fer_helpers.experiments import notebooks as execution
from fer_helpers.experiments.notebooks import Executed
from fer_helpers.files import FerError
from fer_helpers.report import site as report
from fer_helpers.training.runs import load_runs

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site of the committed notebooks and of one that never came to its first cell, and what was complained of."""
    out = tmp_path_factory.mktemp("site")
    done = [Executed(path, "", 1.0) for path in execution.find_notebooks(NOTEBOOKS)]
    done.append(Executed(NOTEBOOKS / "07_missing.ipynb", "KernelError: <no> kernel *here*", 1.0))
    (out / "kept.txt").write_text("not ours")
    with contextlib.redirect_stderr(io.StringIO()) as complaints:
        report.build_site(done, out, "Data: a test.", out / "no store",
                          ["experiments.sweeps", "metrics.evaluation", "analysis.embeddings", "training.trainer"])
    return out, complaints.getvalue()


@pytest.fixture(scope="module")
def site(built):
    """The folder of the site, and every page of it, parsed."""
    out, _ = built
    return out, {path.relative_to(out).as_posix(): BeautifulSoup(path.read_bytes(), "html.parser")
                 for path in out.rglob("*.html")}


def test_building_complains_of_nothing(built):
    assert built[1] == ""


def test_pages_link_to_what_exists_and_load_nothing_from_elsewhere(site):
    out, pages = site
    assert {"index.html", "04_optimization.html", "runs.html", "model_card_best.html", "model_card_small.html",
            "data_card.html", "search.html", "results.html", "training.html", "strangers.html",
            "api/index.html", "api/experiments.sweeps.html"} <= set(pages)
    for name, page in pages.items():
        for link in page.select("a[href]"):
            target, _, fragment = unquote(link["href"]).partition("#")
            if "://" in target:
                continue
            path = ((out / name).parent / target).resolve() if target else out / name
            assert path.exists(), (name, link)
            if fragment and path.suffix == ".html":
                assert pages[path.relative_to(out).as_posix()].find(id=fragment), (name, link)
        for loaded in page.select("script[src], img[src], link[rel=stylesheet]"):
            address = loaded.get("src") or loaded["href"]
            assert ((out / name).parent / address.partition("?")[0]).resolve().exists(), (name, loaded)


def test_what_lay_in_the_folder_stays_and_nothing_half_built_does(site):
    out, _ = site
    assert (out / "kept.txt").read_text() == "not ours" and not list(out.glob(".site*"))


def test_every_figure_is_described_and_its_caption_says_whose_faces_it_shows(site):
    _, pages = site
    page = pages["05_class_ambiguity.html"]
    figures = page.select(".cell_output img")
    assert len(figures) > 5 and all(len(figure["alt"]) > 30 for figure in figures)
    captions = [caption.get_text(" ", strip=True) for caption in page.select(".figure-caption")]
    assert [text.split(".")[0] for text in captions] == [f"Figure {number}" for number in range(1, len(captions) + 1)]
    assert {badge.get_text() for badge in page.select(".figure-caption .badge")} == {"Photographs", "Drawn faces"}
    assert len(page.select("img.numbers")) >= len(captions) - len(page.select("img.faces"))


def test_code_waits_for_a_switch_that_needs_no_javascript(site):
    out, pages = site
    for name in ("01_data_exploration.html", "06_failure_analysis.html"):
        assert len(pages[name].select("input#show-code[type=checkbox]")) == 1 and pages[name].select(".cell_input")
    assert "body:has(#show-code:not(:checked)) .cell_input" in (out / "_static" / "report.css").read_text()


def test_a_table_that_a_notebook_wrote_in_markdown_is_one(site):
    _, pages = site
    for name, word in (("02_training.html", "clean test"), ("04_optimization.html", "on the classes it had")):
        rows = [row for row in pages[name].select(".cell_output table tr") if row.find(string=word)]
        assert rows and not any(f"| {word}" in text for text in pages[name].find_all(string=True))


def test_the_front_page_tells_verdicts_answers_and_what_failed(site):
    _, pages = site
    page = pages["index.html"]
    text = " ".join(page.get_text(" ").split())
    assert "Fear is ambiguous with happiness" in text and "Measured on FER2013" in text and "Data: a test." in text
    for claim in ("People back a face", "It has learned.", "More weights do not settle it.", "not taken for happiness",
                  "train folder held three of its six classes", "It errs where people disagree."):
        assert claim in text
    assert page.select("table") and len(page.select("img.first")) == 6
    assert "This notebook failed." in text and "KernelError: <no> kernel *here*" in text
    assert not page.select("a[href*='07_missing']")


def test_tables_of_runs_are_sortable_and_hold_every_recorded_run(site):
    _, pages = site
    table, = pages["runs.html"].select("table.sortable")
    recorded = {path.parent.name for path in (NOTEBOOKS.parent / "data" / "results").rglob("metrics.json")}
    assert len(table.select("tbody tr")) == len(recorded) > 20


def test_the_package_is_documented_from_its_docstrings_and_not_what_it_imports(site):
    _, pages = site
    page = pages["api/experiments.sweeps.html"]
    sweep = page.find(id="fer_helpers.experiments.sweeps.sweep")
    assert sweep and "Data frame" in sweep.parent.get_text()
    assert not page.find(id="fer_helpers.experiments.sweeps.tqdm") \
        and not page.find(id="fer_helpers.experiments.sweeps.load_faces")


def test_a_folder_that_cannot_be_written_is_named(locked_folder):
    with pytest.raises(FerError, match="site"):
        report.build_site([], locked_folder / "site", modules=["files"])


def write_notebook(path: Path, title: str, parameters: str, answer: str) -> None:
    cells = [nbformat.v4.new_markdown_cell(title),
             nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell(answer, metadata={"tags": ["answer"]})]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_a_report_links_its_notebooks_and_a_failing_one_does_not_stop_it(whole, folder, tmp_path, short_workhorse,
                                                                         monkeypatch):
    """Whole: in a process of its own, with the real workhorse and all modules of the package, which take most of the
    time."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    if whole:
        shutil.copy(short_workhorse, notebooks)
    else:
        write_notebook(notebooks / "02_training.ipynb", "# 02 · Training", 'data = ""\narch = "compact"\nepochs = 3',
                       "from IPython.display import Markdown\nMarkdown(f'Here {arch} learned for {epochs} epoch.')")
    write_notebook(notebooks / "03_broken.ipynb", "# 03 · Broken", "x = 1", "raise ValueError('on purpose')")
    words = ["report", "arch=simple_cnn", "epochs=1", "train_limit=128", "--data", folder, "--notebooks", notebooks,
             "--out", tmp_path / "report", "--store", tmp_path / "runs"]
    if whole:
        done = fer(*words, cwd=tmp_path)
        code = done.returncode
    else:
        monkeypatch.setattr(report, "build_site", functools.partial(report.build_site, modules=["metrics.intervals"]))
        done = fer_here(*words, cwd=tmp_path)
        code = done.exit_code
    assert code == 1 and "ValueError: on purpose" in done.stdout and "Traceback" not in done.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    for name in ("02_training", "03_broken"):
        assert f"{name}.html" in page and (tmp_path / "report" / f"{name}.html").stat().st_size > 10_000
    assert page.count("This notebook failed") == 1 and "03 · Broken" in page
    answer = "The simple CNN network is right on" if whole else "Here simple_cnn learned for 1 epoch."
    assert answer in page and "ValueError: on purpose" in page
    assert str(tmp_path / "report" / "index.html") in done.stdout
    assert load_runs(tmp_path / "runs").get("epochs", pd.Series()).tolist() == [1] * whole


def test_the_profiles_name_parameters_that_notebooks_have():
    for profile in report.PROFILES.values():
        for name, parameters in profile.items():
            assert set(parameters) <= set(execution.notebook_defaults(NOTEBOOKS / f"{name}.ipynb"))


def test_an_unknown_profile_is_refused(tmp_path):
    with pytest.raises(FerError, match="choose one of quick, full"):
        report.report(tmp_path, profile="slow")
    assert not list(tmp_path.iterdir())
