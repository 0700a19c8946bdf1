"""What README and report open with, the study's claims and what became of them, and the page of results: sentences,
tables and one figure, all computed from what is recorded (`results`, `study`)."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from ..analysis.published import published_rate
from ..experiments.notebooks import find_notebooks
from ..experiments.reproduction import NAMES, compare_with_published, way_out
from ..experiments.study import Study, read_plan
from ..files import home
from ..metrics.intervals import Estimate
from ..training.runs import Run
from ..viz import class_confusions
from ..viz.plots import set_title
from . import claims
from . import text as narrative
from .results import all_runs, by_accuracy, recall
from .verdicts import verdicts

PAIR = ("fear", "happiness")
#: What ways to learn are judged by here; 05 and 06 have the rest.
JUDGED = ("accuracy", "vote agreement", "macro F1", "fear recall", "fear → happiness", "anger → happiness", "ECE",
          "mCE")


def sentences() -> list[str]:
    """What each notebook claims, in their order; `FerError` where one has recorded nothing."""
    return [str(claim) for number in claims.NOTEBOOKS for claim in claims.recorded(number)]


def comparison() -> pd.DataFrame:
    """Networks with six classes, as published, trained so again, mended, and ours, with percentages as text.

    Columns: ``network``, ``training``, ``accuracy``, and the shares of "happiness called fear", "happiness called
    anger" and "fear called happiness".
    """
    study, rows = Study(read_plan()), []
    pairs = (("happiness", "fear"), ("happiness", "anger"), PAIR)
    found = compare_with_published(study)
    for arch, one in found.items():
        rows.append([NAMES[arch], "published", one.published_accuracy.percent,
                     *(published_rate(arch, *pair).percent for pair in pairs)])
        cells = one.cells().set_index(["true", "predicted"])
        again = [cells.loc[pair, ["reproduced", "low", "high"]] for pair in pairs]
        rows.append([NAMES[arch], f"the same again, {one.seeds} seed{'s' * (one.seeds > 1)}", one.accuracy.percent,
                     *(Estimate(*cell).percent for cell in again)])
    ends = [(NAMES[arch], "mended", way_out(arch, study)) for arch in found]
    rows += [_row(*end[:2], end[2]["run"].iloc[-1], pairs) for end in ends if len(end[2]) > 2]
    trained = recall("05_class_ambiguity").runs
    rows += [_row(run.config.arch, "ours", run, pairs) for run in trained["run"] if run.config.classes == 6]
    return pd.DataFrame(rows, columns=["network", "training", "accuracy",
                                       *(f"{true} called {predicted}" for true, predicted in pairs)])


def _row(name: str, training: str, run: Run, pairs: Iterable[tuple[str, str]]) -> list[str]:
    scores = run.metrics["test"]
    return [name, training, scores.accuracy.percent, *(scores.rate(*pair).percent for pair in pairs)]


def remedies() -> str:
    """The ways to learn of `methods` side by side, on the network they were tuned on: a table in Markdown."""
    outcomes, costs = _methods()
    own = outcomes[outcomes["network"] == outcomes["network"].iloc[0]]
    return (f"Ways to learn, side by side: {own['network'].iloc[0]}, equal steps, {own['seeds'].iloc[0]} seeds each "
            "(longer trainings and another network: notebook 05). Of plain cross-entropy what it reaches, of the "
            "others the difference to it in points, bold where it stands among all of them by Holm's correction. Vote "
            "agreement: the share of an image's FER+ votes that are for the answer. mCE, the mean error on corrupted "
            "images: a multiple of the plain resnet50's; time and weights: of plain's.\n\n"
            f"{narrative.method_table(own, JUDGED, costs)}")


def _methods() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Outcomes, and costs by method, of the architecture that the methods were tuned on, the first."""
    kept = recall("05_class_ambiguity", "methods")
    outcomes, costs = kept["outcomes"].reset_index(), kept["costs"]
    arch = outcomes["arch"].iloc[0]
    return outcomes[outcomes["arch"] == arch], costs.loc[[arch]].set_index("method")


def figure() -> Figure:
    """Accuracy and the share of fearful faces called happy, a point a recorded training of six classes."""
    table = by_accuracy()
    return set_title(class_confusions.confusion_by_accuracy(table, *PAIR),
                     f"Learned better, confused less: {PAIR[0]} called {PAIR[1]} by {len(table)} trainings")


def markdown() -> str:
    """`sentences` as a list, `comparison` as a table, and `remedies`."""
    found = sentences()  # first: it says what to do where nothing is recorded
    majority = next(iter(all_runs(6)["run"])).metrics["test"].majority
    return "\n".join([*(f"- {text}" for text in found), "", narrative.table(comparison()), "",
                      f"Always answering happiness is right on {majority.percent}.", "", remedies()])


def verdict_table(link: str = "{}") -> str:
    """The study's claims and what became of each, as a table in Markdown; ``link`` makes the address of a notebook of
    its file name."""
    files = {path.name[:2]: path.name for path in find_notebooks(home() / "notebooks")}
    return narrative.table(pd.DataFrame([{
        "The study": verdict.said, "Its outputs": verdict.published,
        "Here": f"**{verdict.word.capitalize()}.** {verdict.claim.number}" if verdict.claim.holds else verdict.claim,
        "": f"[{verdict.notebook}]({link.format(files[verdict.notebook])})"} for verdict in verdicts()]))
