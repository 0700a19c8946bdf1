"""The report: all notebooks executed, and a site of them built by Sphinx. It needs no server, no network, and to be
read, printed or folded open no JavaScript. Running notebooks is in `sweeps`; templates and styles are in ``site``."""

from __future__ import annotations

import base64
import dataclasses
import importlib
import os
import pkgutil
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd
from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import docutils_namespace, patch_docutils
from tqdm.auto import tqdm

from ..data.readers import load_faces
from ..experiments.notebooks import WIDGET, Executed, absolute, execute, find_notebooks, notebook_defaults
from ..files import FerError, bar_options, explain_os_errors
from ..training.config import TrainConfig
from ..training.runs import (
    default_store,
    finished_runs,
    load_runs,
    markdown_table,
    recorded_runs,
    results_folder,
    run_table,
)
from ..viz import use_style
from . import summary

PACKAGE = Path(__file__).parents[1]
_SITE = Path(__file__).parent / "site"
_NAME = PACKAGE.name

#: What a profile changes in the parameters of a notebook, by its name. The notebooks' own defaults are the quick
#: profile on the embedded faces; photographs are harder, so that even a quick look at them needs more images.
PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {},
    "full": {
        "02_training": {"arch": "compact", "augmentation": "standard", "train_limit": None, "epochs": 30},
        "03_architectures": {"archs": ["simple_cnn", "compact", "resnet50", "vgg16", "vgg19"], "seeds": 3,
                             "augmentation": "standard", "train_limit": None, "batch_size": 64, "epochs": 30,
                             "early_steps": 60},
        "04_optimization": {"grid_arch": "compact", "drawn_limit": None, "grid_limit": None, "epochs": 10,
                            "schedules": ["constant", "step", "cosine", "onecycle", "plateau"]},
        "05_class_ambiguity": {"arch": "compact", "augmentation": "standard", "train_limit": None, "epochs": 30},
        "06_failure_analysis": {"arch": "compact", "augmentation": "standard", "train_limit": None, "epochs": 30},
    },
}


def jupyter_anchor(title: str) -> str:
    """The fragment under which Jupyter, and so a link within a notebook, finds a heading."""
    return title.replace(" ", "-")


#: Sphinx's settings. Nothing here may make a page ask the network for anything.
SETTINGS: dict[str, Any] = {
    "project": "fer_helpers",
    "html_title": "Facial emotion and CNNs",
    "html_theme": "furo",
    "html_static_path": [str(_SITE / "static")],
    "html_css_files": ["report.css"],
    "html_js_files": [("sort.js", {"defer": "defer"})],
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_use_index": False,
    "html_domain_indices": False,
    # A summary of a page found would have to be fetched, which browsers refuse to pages opened from a folder.
    "html_show_search_summary": False,
    "extensions": ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"],
    "nb_execution_mode": "off",
    # The other format it would take, plain CommonMark, knows no tables.
    "nb_render_markdown_format": "myst",
    "nb_ipywidgets_js": {},
    "myst_heading_anchors": 3,
    "myst_heading_slug_func": "fer_helpers.report.site.jupyter_anchor",
    "autosummary_generate": False,
    "numpydoc_show_class_members": False,
    "autodoc_member_order": "bysource",
    "autodoc_typehints_format": "short",
    "autodoc_preserve_defaults": True,
    "python_use_unqualified_type_names": True,
    "python_maximum_signature_line_length": 100,
    "add_module_names": False,
    # `name` in a docstring links to what it names, as far as it names something of the package.
    "default_role": "py:obj",
}


#: Shows and hides the code of a page, by the style sheet alone.
_SWITCH = '<label class="code-switch"><input type="checkbox" id="show-code"> Show the code</label>'


@dataclass(frozen=True)
class Page:
    """What the front page tells of one notebook.

    Attributes
    ----------
    name : the notebook's file without its ending.
    file : the notebook's file, "" if there is none, since it failed before its first cell.
    title : its first heading.
    error : what went wrong, "" if nothing.
    answers : Markdown of the cells with the tag ``answer``.
    picture : its first figure as PNG, None if it has none; ``picture_alt`` says what it shows.
    """

    name: str
    file: str
    title: str
    error: str
    answers: Sequence[str] = ()
    picture: bytes | None = None
    picture_alt: str = ""


def report(out: Path | str = "report", data: str = "", profile: str = "quick", notebooks: Path | str | None = None,
           store: Path | str | None = None, overrides: Mapping[str, Any] | None = None,
           progress: bool = True) -> list[Executed]:
    """Execute all notebooks, two at a time, and write the site of them; `build_site` says what it holds.

    A notebook that fails is reported in its place and the others go on.

    Parameters
    ----------
    out : folder to write; executed notebooks go to its ``notebooks`` folder.
    data : as for `readers.load_faces`.
    profile : "quick" or "full".
    overrides : parameters that win over the profile's, where a notebook has them.

    Raises
    ------
    FerError
        If the profile is unknown, the data cannot be read or the folder cannot be written.
    """
    if profile not in PROFILES:
        raise FerError(f"profile={profile!r} is unknown; choose one of {', '.join(PROFILES)}")
    out, data = Path(out), absolute(data)
    # Reading here reports bad data once, clearly, before any kernel starts, and fills the cache.
    faces = load_faces(data, progress=progress)
    stopped = threading.Event()

    def run(notebook: Path) -> Executed:
        defaults = notebook_defaults(notebook)
        wanted = {"data": data} | PROFILES[profile].get(notebook.stem, {}) | dict(overrides or {})
        parameters = {name: value for name, value in wanted.items() if name in defaults and value != defaults[name]}
        return execute(notebook, out / "notebooks" / notebook.name, parameters, store=store, cancelled=stopped.is_set)

    # Two at a time: a notebook starts, reads and draws on one processor.
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(run, notebook) for notebook in find_notebooks(notebooks)]
        try:
            for _ in tqdm(as_completed(tasks), "report", len(tasks), unit="notebook", **bar_options(progress)):
                pass
            results = [task.result() for task in tasks]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    build_site(results, out, f"Data: {faces.source}, {len(faces):,} images. Profile: {profile}.", store)
    return results


def build_site(results: Iterable[Executed], out: Path | str, about: str = "", store: Path | str | None = None,
               modules: Sequence[str] | None = None) -> None:
    """Build the site of executed notebooks: front page, notebooks, runs, model and data card, the package.

    Parameters
    ----------
    results : the notebooks in reading order.
    out : folder; its ``index.html`` is the front page. What else lies there is left alone.
    about : what the notebooks were executed on, for the front page.
    store : runs to list beside the recorded ones; None as for `runs.load_runs`.
    modules : modules of the package to document, None for all.

    Raises
    ------
    FerError
        If Sphinx cannot build it, or the folder cannot be written; ``out`` is as it was then.
    """
    out = Path(out)
    if modules is None:
        found = pkgutil.walk_packages([str(PACKAGE)], f"{_NAME}.")
        modules = sorted(module.name.removeprefix(f"{_NAME}.") for module in found)
    with explain_os_errors(out, "writing the report"):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".site.") as folder:
            source, built, trees = (Path(folder) / name for name in ("source", "built", "doctrees"))
            _write_sources(source, list(results), about, Path(store or default_store()), modules)
            try:
                with patch_docutils(), docutils_namespace():
                    site = Sphinx(source, None, built, trees, "html", SETTINGS, status=None, warning=sys.stderr,
                                  freshenv=True, parallel=os.cpu_count() or 1)
                    site.connect("autodoc-process-docstring", _describe_returned, priority=400)  # numpydoc has 500
                    site.connect("missing-reference", _find_in_package)
                    site.build()
            except SphinxError as error:
                raise FerError(f"{out}: the site could not be built ({error}); mend that page's source") from error
            # The front page last: it must not link to what is not there yet.
            for path in sorted(built.iterdir(), key=lambda path: path.name == "index.html"):
                if path.is_dir() and (out / path.name).exists():
                    shutil.rmtree(out / path.name)
                path.replace(out / path.name)


# --- sources of the pages


def _write_sources(folder: Path, results: Sequence[Executed], about: str, store: Path, modules: Sequence[str]) -> None:
    folder.mkdir()
    pages = []
    for result in results:
        notebook = nbformat.read(result.path, 4) if result.path.exists() else nbformat.v4.new_notebook()
        prepare(notebook)
        pages.append(_page(result, notebook))
        if pages[-1].file:
            nbformat.write(notebook, folder / result.path.name)
        if pages[-1].picture:
            (folder / f"{pages[-1].name}.png").write_bytes(pages[-1].picture)
    recorded = run_table(finished_runs(results_folder(), below=True))
    runs = {"In the store of this report": load_runs(store), "Recorded on photographs": recorded}
    cards = {f"model_card_{path.parent.name}": path for path in PACKAGE.glob("inference/weights/*/README.md")}
    cards["data_card"] = results_folder().parent / "README.md"
    for name, path in cards.items():
        if path.exists():
            shutil.copyfile(path, folder / f"{name}.md")
    docs = sorted((results_folder().parent.parent / "docs").glob("*.md"))
    for path in docs:
        (folder / path.name).write_text(_on_the_site(path.read_text(encoding="utf-8")), encoding="utf-8")
    try:
        verdicts = summary.verdict_table()
        use_style()
        summary.figure().savefig(folder / "findings.svg")
    except FerError:  # outside the repository nothing is recorded
        verdicts = ""
    _render("index.md", folder / "index.md", pages=pages, about=about, verdicts=verdicts, tables=_comparisons(),
            docs=[path.stem for path in docs], cards=[name for name, path in cards.items() if path.exists()])
    _render("runs.md", folder / "runs.md",
            tables={title: _sortable(table) for title, table in runs.items() if len(table)})
    (folder / "api").mkdir()
    _render("api.rst", folder / "api" / "index.rst", package=_NAME, modules=modules)
    for name in modules:
        full = f"{_NAME}.{name}"
        _render("module.rst", folder / "api" / f"{name}.rst", name=full, members=_members(full))


def _on_the_site(text: str) -> str:
    """A page of docs or of a notebook with links as the site has them, where all pages lie in one folder."""
    for there, here in (("../notebooks/", ""), ("../docs/", ""), ("../data/README.md", "data_card.md"),
                        ("../data/results/", "")):
        text = text.replace(f"]({there}", f"]({here}")
    return re.sub(r"\]\(\.\./fer_helpers/inference/weights/(\w+)/README\.md", r"](model_card_\1.md", text)


def _members(name: str) -> list[str]:
    """What a module defines. Of what it only imports Sphinx would read the docstrings, and complain, before leaving it
    out."""
    constants = [constant for owner, constant in ModuleAnalyzer.for_module(name).find_attr_docs() if not owner]
    return constants + [member for member, thing in vars(importlib.import_module(name)).items()
                        if not member.startswith("_") and getattr(thing, "__module__", "") == name]


def _render(template: str, target: Path, **values: Any) -> None:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_SITE), undefined=jinja2.StrictUndefined)
    target.write_text(environment.get_template(template).render(**values), encoding="utf-8")


def prepare(notebook: NotebookNode) -> None:
    """Make an executed notebook ready to be read without a kernel: code out of sight until a switch shows it, widgets
    replaced by the picture or table kept beside them, figures with numbers, captions and texts for those who cannot see
    them, its contents in a line where a window is too narrow for the theme's."""
    notebook.metadata.pop("widgets", None)
    heading, number = "", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _on_the_site(cell.source)
            heading = next((line.lstrip("# ") for line in reversed(cell.source.splitlines())
                            if line.startswith("#")), heading)
        for output in cell.get("outputs", []):
            data, figure = output.get("data", {}), output.get("metadata", {}).get("figure")
            data.pop(WIDGET, None)
            if "text/markdown" in data:
                data["text/markdown"] = _on_the_site(data["text/markdown"])
            if "image/png" in data:
                text = data.get("text/plain", "") if figure else f"{heading}."
                cell.metadata["mystnb"] = {"image": {"alt": text, "classes": figure or "faces"}}
            if figure == "caption":
                number += 1
                kind, rest = "", data["text/markdown"]
                if said := re.match(r"\*\*(.*?)\.\*\* ", rest):
                    kind, rest = said[1], rest[said.end():]
                badge = f'<span class="badge">{kind}</span> ' * bool(kind)
                data["text/markdown"] = f'<div class="figure-caption">\n\n**Figure {number}.** {badge}{rest}\n\n</div>'
    if notebook.cells:
        titles = [line.removeprefix("## ") for cell in notebook.cells if cell.cell_type == "markdown"
                  for line in cell.source.splitlines() if line.startswith("## ")]
        contents = " · ".join(f"[{title}](#{jupyter_anchor(title)})" for title in titles)
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(
            f'<div class="page-contents">\n\n{contents}\n\n</div>\n\n{_SWITCH}'))


def _page(result: Executed, notebook: NotebookNode) -> Page:
    """What a prepared notebook tells the front page."""
    # papermill puts a notice above the title of a notebook that failed.
    title = next((cell.source for cell in notebook.cells if cell.source.startswith("# ")), result.path.stem)
    drawn = [(output.data["image/png"], cell.metadata.mystnb["image"]["alt"]) for cell in notebook.cells
             for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    picture, alt = drawn[0] if drawn else (None, "")
    return Page(result.path.stem, result.path.name if notebook.cells else "", title.splitlines()[0].lstrip("# "),
                result.error, _told(notebook, "answer"), base64.b64decode(picture) if picture else None, alt)


def _told(notebook: NotebookNode, tag: str) -> list[str]:
    """The Markdown shown by the code cells with this tag."""
    return [output.data["text/markdown"] for cell in notebook.cells if tag in cell.metadata.get("tags", [])
            for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})]


# --- docstrings


def _describe_returned(site: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Under "Returns" our docstrings have sentences, and numpydoc would read each line as a type: put the annotated
    type above them."""
    function = getattr(thing, "fget", None) or getattr(thing, "func", None) or thing  # of a (cached) property
    for start in (number for number, line in enumerate(lines) if line in ("Returns", "Yields")):
        end = lines.index("", start)
        lines[start + 2:end] = [function.__annotations__["return"], *(f"    {line}" for line in lines[start + 2:end])]


def _find_in_package(site: Sphinx, env: BuildEnvironment, node: nodes.Element, text: nodes.Element) -> Any:
    """Our docstrings name things of other modules without the package's name, and without the wing's."""
    if node["refdomain"] == "py":
        wings = [f"{_NAME}.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)]) if module.ispkg]
        for home in (_NAME, *wings):
            if found := env.domains.python_domain.resolve_xref(env, node["refdoc"], site.builder, "obj",
                                                               f"{home}.{node['reftarget']}", node, text):
                return found
    return None


# --- tables


def _comparisons() -> dict[str, str]:
    """Tables of recorded runs, each with the sentence above it; empty outside the repository."""
    tables = {}
    if len(best := recorded_runs()):
        tables["The networks that ship with the package (model cards of the [accurate](model_card_best.md) and of the "
               "[fast](model_card_small.md) one), and those that taught them."] = markdown_table(best)
    return tables


def _sortable(runs: pd.DataFrame) -> str:
    """A `run_table` as an HTML table: results first, then the settings that differ."""
    runs = runs.sort_values("test_accuracy", ascending=False)
    percent = {"test_accuracy": "test", "test_low": "low", "test_high": "high", "clean_test_accuracy": "clean",
               "test_macro_f1": "macro F1", "majority": "majority"}
    table = runs[["arch", "classes", "seed", "data"]].rename(columns={"arch": "network"})
    table = table.join((100 * runs[list(percent)].rename(columns=percent)).map("{:.1f}".format))
    table["minutes"] = (runs["train_seconds"] / 60).map("{:.1f}".format)
    settings = runs[[field.name for field in dataclasses.fields(TrainConfig)]].drop(columns=["arch", "classes", "seed"])
    return str(table.join(settings.loc[:, settings.astype(str).nunique() > 1]).to_html(
        border=0, classes="docutils sortable", index=False, na_rep=""))
