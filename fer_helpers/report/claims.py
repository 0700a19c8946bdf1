"""What is claimed: sentences that a person wrote, the numbers that the records supply, and a condition that decides
whether they bear them out; by notebook, each with what it is computed from. Those of 04 are in `study_claims`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ..analysis.confusions import confusion_correlation, pair_verdicts, test_answers
from ..analysis.dataset_statistics import people
from ..analysis.run_comparison import over_seeds, same_errors
from ..data.emotions import adjective
from ..metrics.evaluation import Evaluation
from ..metrics.intervals import Estimate, wilson
from ..models.base import network_name
from ..models.factory import list_models, weight_count
from ..training.methods import method_label
from ..training.runs import Run, recorded_runs
from . import results
from . import text as narrative
from .study_claims import about_the_study
from .text import Claim

NOTEBOOKS = ("01", "02", "03", "04", "05", "06")
#: By how much a network must beat the majority class before anything is said about faces from its errors.
LEARNED = 0.2


def answer(claims: Sequence[Claim], recorded: Sequence[Claim] = ()) -> str:
    """Markdown that a notebook opens with: what holds on the data at hand; and, where that is the reader's own, folded,
    what is recorded of FER2013."""
    lines = [f"> - {claim}" for claim in claims]
    if recorded:
        lines += ["", "<details><summary>What is recorded of FER2013</summary>", "",
                  *(f"- {claim}" for claim in recorded), "", "</details>"]
    return "\n".join(lines)


def fold(title: str, items: Iterable[str], text: str = "") -> str:
    """Markdown: ``items`` as a list, and ``text``, folded under a ``title``; for what a reader asks for second."""
    return "\n".join([f"<details><summary>{title}</summary>", "", *(f"- {item}" for item in items), "", text, "",
                      "</details>"])


def recorded(notebook: str) -> list[Claim]:
    """What a notebook, by its two digits, claims of FER2013, from what is recorded."""
    if notebook == "01":
        data = results.recall("01_data_exploration")
        return about_data(data["agreement"], data["floors"], results.recall("01_data_exploration", "copies")["copies"])
    if notebook == "02":
        return about_a_run(recorded_runs()["run"].iloc[0])
    if notebook == "03":
        answers = results.method_answers()
        return about_architectures(answers, same_errors(answers, results.votes()), results.recorded_start())
    if notebook == "04":
        return about_the_study()
    if notebook == "05":
        runs = results.recall("05_class_ambiguity").runs
        scores = settings(runs["run"])
        run = max(runs["run"], key=lambda run: len(run.metrics["test"].classes))
        ids, labels, answered = test_answers(run.predictions)
        shares = people(results.votes(), ids, scores[max(scores)].classes)
        return about_pairs(scores, confusion_correlation(answered, shares, labels), "people", results.method_outcomes())
    data = results.recall("06_failure_analysis")
    run = data.runs["run"].iloc[0]
    ids, labels, answered = test_answers(run.predictions)
    backed = people(results.votes(), ids, run.metrics["test"].classes)[np.arange(len(labels)), labels]
    return about_single_faces(run.metrics["test"], answered.argmax(1) == labels, backed, data["grown"],
                              data["selected"])


def about_data(agreement: pd.DataFrame | None, floors: pd.DataFrame, copies: pd.DataFrame | None) -> list[Claim]:
    """01: of the votes, where there are any, of methods without a network, and of copies, where they were sought."""
    return [*([] if agreement is None else [labels_are_backed(agreement)]),
            *([] if copies is None else [copies_in_test(copies)]), floor(floors)]


def about_a_run(run: Run) -> list[Claim]:
    """02: what one run has learned, of which class how much, and how sure it is."""
    scores, rows = run.metrics["test"], run.predictions
    confidence = rows.loc[rows["split"] == "test", "confidence"].mean()
    has = learned(scores.accuracy, scores.majority.value, f"The {network_name(run.config.arch)} network")
    return [has, *([uneven(scores)] if has.holds else []), honest(scores, confidence)]


def about_architectures(answers: Mapping[str, Sequence[pd.DataFrame]], kappas: pd.DataFrame,
                        early: pd.DataFrame) -> list[Claim]:
    """03: of answers as `run_comparison.over_seeds` takes them, of `same_errors` of them, and of first steps."""
    true = next(iter(answers.values()))[0]["true"]
    reached = over_seeds(answers).sort_values("value").iloc[0]
    has = learned(Estimate(*reached[["value", "low", "high"]]), true.value_counts(normalize=True).max(),
                  f"The {str(reached.name).partition(',')[0]} network")
    if not has.holds:
        return [has, starts(early)]
    return [*([capacity(answers)] if len(answers) > 1 and {"fear", "happiness"} <= set(true) else []),
            *([same_faces(kappas)] if len(answers) > 1 else []), starts(early)]


def about_pairs(scores: Mapping[int, Evaluation], close: Estimate, who: str, outcomes: pd.DataFrame) -> list[Claim]:
    """05: of the pairs that the study called ambiguous, of ``who`` else answered, and of the remedies."""
    has = learned(scores[max(scores)].accuracy, scores[max(scores)].majority.value, "The network")
    if not has.holds:
        return [has, remedies(outcomes)]
    return [*not_taken_for_happiness(pair_verdicts(scores)), confused_like_people(close, who, max(scores)),
            remedies(outcomes)]


def about_single_faces(scores: Evaluation, correct: np.ndarray, support: np.ndarray, grown: pd.DataFrame,
                       selected: pd.DataFrame) -> list[Claim]:
    """06: where it errs, what it looks at and what it knows of that; ``support`` is NaN where nobody voted."""
    has = learned(scores.accuracy, scores.majority.value, "The network")
    if not has.holds:
        return [has]
    known = ~np.isnan(np.asarray(support, float))
    return [*([disputed(np.asarray(correct)[known], np.asarray(support)[known])] if known.any() else []),
            relies_on_the_mouth(grown), may_be_silent(selected)]


# --- what is recorded, as the functions above take it


def settings(runs: Iterable[Run]) -> dict[int, Evaluation]:
    """The test scores of runs, by the number of classes."""
    scores = [run.metrics["test"] for run in runs]
    return {len(one.classes): one for one in sorted(scores, key=lambda one: len(one.classes))}


# --- 01: the data


def labels_are_backed(agreement: pd.DataFrame) -> Claim:
    """Of a `dataset_statistics.agreement_by_class`: how many of people's votes are for the label."""
    rows = agreement[agreement["measure"] == "votes for the label"].set_index("class")
    least = rows["value"].idxmin()
    return Claim(f"**People back a face's label with {rows['value']['all']:.0%} of their votes, {least} with "
                 f"{rows['value'][least]:.0%}.** What a network is scored by is often a minority's view.",
                 rows["high"][least] < rows["value"]["all"] / 2)


def copies_in_test(copies: pd.DataFrame) -> Claim:
    """Of the table of ``benchmarks/leaks.py``: a bool per test image for each kind of copy."""
    changed, same = (wilson(int(copies[name].sum()), len(copies)) for name in ("changed", "identical"))
    return Claim(f"**The test set is not apart from the train set.** {changed.percent} of the test images show a "
                 f"photograph of train cut, shifted, turned or mirrored; another {same.value:.1%} are copies to the "
                 "pixel.", changed.low > 0.05)


def floor(floors: pd.DataFrame) -> Claim:
    """Of a table of methods without a network: the best of them, which a network has to beat."""
    rows = floors.set_index("floor")
    best = rows.loc[name := rows["test_accuracy"].idxmax()]
    return Claim(f"**A network has to beat {best['test_accuracy']:.1%}.** So many of the test images a method without "
                 f"one gets right ({name}); always answering the most frequent class, {best['majority']:.1%}.",
                 best["test_low"] > best["majority"])


# --- 02: one run


def learned(accuracy: Estimate, majority: float, who: str) -> Claim:
    """That a network beats the majority class by so much that its errors say something about faces."""
    return Claim(f"**It has learned.** {who} is right on {accuracy.percent} of the test images; always answering the "
                 f"most frequent class, on {majority:.1%}.", accuracy.low > majority + LEARNED)


def uneven(scores: Evaluation) -> Claim:
    """That some classes are recognised far better than others."""
    recall = {name: scores.rate(name, name) for name in scores.classes}
    best, worst = (pick(recall, key=lambda name: recall[name].value) for pick in (max, min))
    return Claim(f"**Not every emotion alike.** It finds {recall[best].percent} of the {adjective(best)} faces and "
                 f"{recall[worst].percent} of the {adjective(worst)} ones.", recall[best].low > recall[worst].high)


def honest(scores: Evaluation, confidence: float) -> Claim:
    """That the mean confidence, 0..1, is near the accuracy."""
    return Claim(f"**It knows how sure it may be.** Its mean confidence is {confidence:.1%}; the expected calibration "
                 f"error is {scores.ece.percent}.", scores.ece.high < 0.1)


# --- 03: architectures


def capacity(answers: Mapping[str, Sequence[pd.DataFrame]]) -> Claim:
    """That more weights alone do not keep fear from being called happiness: of the first of the smallest and of the
    largest networks, whose answers are as `run_comparison.over_seeds` takes them."""
    archs = {name: arch for arch in list_models() for name in answers if network_name(arch) == name.partition(",")[0]}
    weights = {name: weight_count(arch) for name, arch in archs.items()}
    small, large = (pick(answers, key=lambda name: weights.get(name, 0)) for pick in (min, max))
    rows = over_seeds({name: answers[name] for name in (small, large)}, "fear", "happiness")
    one, other = (Estimate(*row[["value", "low", "high"]]) for _, row in rows.iterrows())
    return Claim(f"**More weights do not settle it.** {_network(large)} calls {other.percent} of the fearful faces "
                 f"happy; {_network(small)}, with {weights[small] / weights[large]:.0%} of its weights and trained as "
                 f"long, {one.percent}.", other.value >= one.low)


def _network(name: str) -> str:
    """A name of `results.method_answers` or of `base.network_name` within a sentence."""
    name = name.partition(",")[0]
    return name if name[-1].isdigit() else f"the {name} network"


def starts(early: pd.DataFrame) -> Claim:
    """Of the losses of the first steps on sixteen faces: ResNet50 learns them by heart, VGG19 does not."""
    last = early.iloc[-3:].mean()
    return Claim(f"**Depth needs help to start.** In {len(early)} steps on sixteen faces the loss of ResNet50 falls to "
                 f"{last['resnet50']:.2f}, that of VGG19 with batch normalisation to {last['vgg19, batch norm']:.2f}; "
                 "without, it stays at a guess.", last["resnet50"] < last["vgg19, batch norm"] / 2
                 and last["vgg19, plain"] > 0.9 * early["vgg19, plain"].iloc[0])


def same_faces(kappas: pd.DataFrame) -> Claim:
    """Of `run_comparison.same_errors`: two architectures err on the same faces, as far as people do."""
    apart = kappas[(kappas["first"] != kappas["second"]) & (kappas["second"] != "people")]
    row, people = apart.iloc[0], kappas[kappas["first"] == "people"]
    ceiling = f"; two people, by {people['value'].iloc[0]:.2f}" if len(people) else ""
    return Claim(f"**Different networks err on the same faces.** In being right, {_network(row['first'])} and "
                 f"{_network(row['second'])} agree beyond chance by \u03ba = {row['value']:.2f} "
                 f"[{row['low']:.2f}, {row['high']:.2f}]{ceiling}.",
                 row["low"] > 0.3)


# --- 05: pairs of classes


def not_taken_for(pairs: pd.DataFrame, true: str, predicted: str) -> Claim:
    """Of `confusions.pair_verdicts`, in its largest class setting."""
    row = pairs[(pairs["true"] == true) & (pairs["predicted"] == predicted)].sort_values("classes").iloc[-1]
    rate = Estimate(row["rate"], row["low"], row["high"])
    return Claim(f"**{true.capitalize()} is not taken for {predicted}.** A trained network calls {rate.percent} of the "
                 f"{adjective(true)} faces {adjective(predicted)}; errors spread evenly would give {row['even']:.1%}.",
                 row["finding"] == "avoided")


def not_taken_for_happiness(pairs: pd.DataFrame) -> list[Claim]:
    """Of `confusions.pair_verdicts`, in its largest class setting: fear and anger at once; none without happiness."""
    rows = pairs[(pairs["classes"] == pairs["classes"].max()) & (pairs["predicted"] == "happiness")]
    if rows.empty:
        return []
    rates = [f"{Estimate(row['rate'], row['low'], row['high']).percent} of the {adjective(row['true'])}"
             for _, row in rows.iterrows()]
    names, verb = narrative.listing(rows["true"]), "is" if len(rows) == 1 else "are"
    return [Claim(f"**{names.capitalize()} {verb} not taken for happiness.** A trained network calls "
                  f"{narrative.listing(rates)} faces happy, fewer than errors spread evenly would.",
                  (rows["finding"] == "avoided").all())]


def confused_like_people(close: Estimate, who: str, classes: int) -> Claim:
    """Of `confusions.confusion_correlation` between a network and ``who`` else answered."""
    return Claim(f"**It confuses the same classes as {who}.** By how often either takes one class for another, the "
                 f"{classes * (classes - 1)} ways to do so rank alike: correlation {close.value:+z.2f} "
                 f"[{close.low:+z.2f}, {close.high:+z.2f}].", close.low > 0)


def remedies(outcomes: pd.DataFrame, outcome: str = "fear \u2192 happiness") -> Claim:
    """Of `methods.compare_methods`: that no way to learn changes how many fearful faces are called happy."""
    own = outcomes[(outcomes["network"] == outcomes["network"].iloc[0]) & (outcomes["outcome"] == outcome)
                   & (outcomes["method"] != "plain")]
    best, changed = own.loc[own["difference"].idxmin()], int((own["p_holm"] < 0.05).sum())
    return Claim(f"**No remedy changes it.** Of {len(own)} ways to learn none is shown to change how many fearful "
                 f"faces are called happy; the largest fall is {_points(best)} ({method_label(best['method'])}).",
                 changed == 0)


def regions_help(outcomes: pd.DataFrame) -> Claim:
    """Of `methods.compare_methods`: that features kept apart by region make a network less accurate."""
    row = outcomes[(outcomes["network"] == outcomes["network"].iloc[0]) & (outcomes["outcome"] == "accuracy")
                   & (outcomes["method"] == "regions")].iloc[0]
    loss = [-100 * row[name] for name in ("difference", "difference_high", "difference_low")]
    return Claim("A network that pools region by region is {:.1f} [{:.1f}, {:.1f}] points less accurate than one that "
                 "pools globally.".format(*loss), row["difference"] < 0 and row["p_holm"] < 0.05)


def widest(width: pd.DataFrame) -> Claim:
    """Of `embeddings.separation`: fear spreads wider, for its distance to the others, than any other class."""
    rows = width.drop(index="all").sort_values("ratio")
    first, last = (Estimate(*row[["ratio", "ratio_low", "ratio_high"]]) for _, row in rows.iloc[[-1, 0]].iterrows())
    return Claim(f"{adjective(rows.index[-1]).capitalize()} faces spread {first.value:.2f} [{first.low:.2f}, "
                 f"{first.high:.2f}] times as far as they lie from other classes, those of {rows.index[0]} "
                 f"{last.value:.2f} times.", rows.index[-1] == "fear" and first.low > last.high and first.low > 1)


def looks_are_not_meaning(pairwise: pd.DataFrame) -> Claim:
    """Of `embeddings.looks_and_meaning`: of two words close in meaning the faces may lie far apart. Told of the pair of
    which that is most true."""
    row = pairwise.loc[(pairwise["look_rank"] - pairwise["meaning_rank"]).idxmax()]
    return Claim(f"Of {len(pairwise)} pairs of words {row['first']} and {row['second']} are number "
                 f"{row['meaning_rank']:.0f} in closeness; their faces are number {row['look_rank']:.0f}.",
                 row["meaning_rank"] <= len(pairwise) / 4 and row["look_rank_low"] > len(pairwise) / 2)


# --- 06: single faces


def disputed(correct: np.ndarray, support: np.ndarray) -> Claim:
    """Accuracy where at least half of the votes are for the label, and where fewer are; NaN where nobody voted."""
    backed, doubted = (wilson(int(correct[part].sum()), int(part.sum())) for part in (support >= 0.5, support < 0.5))
    return Claim(f"**It errs where people disagree.** It is right on {backed.percent} of the faces whose label most "
                 f"people back, and on {doubted.percent} of the others.", backed.low > doubted.high + 0.2)


def relies_on_the_mouth(grown: pd.DataFrame) -> Claim:
    """Of `error_analysis.grown_confusions`: no change is larger than what hiding the mouth brings about."""
    row = grown.loc[grown["value"].idxmax()]
    return Claim(f"**It reads the mouth.** With the mouth hidden {row['after']:.0%} of the {adjective(row['true'])} "
                 f"faces are called {row['predicted']}, with it {row['before']:.0%}; no other part changes so much.",
                 row["region"] == "mouth" and row["p_holm"] < 0.05)


def may_be_silent(selected: pd.DataFrame) -> Claim:
    """Of `calibration.selective_accuracy`: on the half that it is surer of, a network is right far more often."""
    half, whole = selected.iloc[0], selected.iloc[-1]
    return Claim(f"**It may stay silent.** Answering only the surer half, it is right on {narrative.estimate(half)}, "
                 f"instead of {whole['value']:.1%}.", half["low"] > whole["high"])


def _points(row: pd.Series) -> str:
    values = [100 * row[name] for name in ("difference", "difference_low", "difference_high")]
    return "{:+z.1f} [{:+z.1f}, {:+z.1f}] points".format(*values).replace("-", "\u2212")
