"""The model card: what a network is, how it was trained, how well it does, and what it must not be used for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.emotions import CLASS_SETS, class_set
from ..metrics.calibration import Calibration
from ..metrics.evaluation import Evaluation, evaluate
from ..metrics.intervals import wilson
from ..training.runs import Run

#: `FaceSet.fingerprint` of FER2013 as Kaggle's msambare/fer2013 has it, with the votes of FER+ and without.
FER2013 = ("e851ab5a5e04a948", "2efbf4c996bcdf1d")


def restrict_classes(run: Run, classes: int | str, split: str = "test") -> Evaluation:
    """A run on the images of some of its classes, its other answers forbidden; the majority class is that of these
    images.

    Not what a network trained on those classes reaches: this one spent its training on all of its own.

    Parameters
    ----------
    classes : a setting, see `emotions.class_set`, of some classes of the run.
    split : "test" or "clean_test".
    """
    if classes == run.config.classes:
        return run.metrics[split]
    names, rows = class_set(classes), run.predictions
    rows = rows[(rows["split"] == "test") & rows["true"].isin(names)]
    if split == "clean_test":
        rows = rows[~rows["in_train"]]
    probs = rows[[f"prob_{name}" for name in names]].to_numpy()
    labels = rows["true"].map(names.index).to_numpy()
    return evaluate(labels, probs / probs.sum(1, keepdims=True).clip(1e-12), names, int(np.bincount(labels).argmax()))


def model_card(run: Run, calibration: Calibration) -> str:
    """Markdown: what the network is, how it was trained, how well it does by class, and what it must not be used for.

    After Mitchell et al. 2019, arXiv:1810.03993.
    """
    test, env = run.metrics["test"], run.environment
    photographs = env["data_fingerprint"] in FER2013
    lines = [
        f"# Model card: {run.config.arch}, {_WORDS[len(test.classes)]} emotions", "",
        "Written by `fer_helpers`; every number is that of the run.", "",
        f"- **Network:** `{run.config.arch}`, {sum(p.numel() for p in run.model().parameters()):,} weights (float16 on "
        "disk), for one 48×48 grayscale face; answers " + ", ".join(test.classes) + ".",
        f"- **Data:** {_FER2013 if photographs else Path(env['data']).name}, {env['images']['train']:,} train images "
        f"and {env['images']['val']:,} for validation." + photographs * " Found by web search, cropped by a detector, "
        "one label each.",
        f"- **Recipe:** `{run.config.command()}`; epoch {env['best_epoch']} kept, "
        f"{env['train_seconds'] / 60:.0f} minutes on {env['threads']} {env['device']} threads ({env['precision']}).",
        "", "## Accuracy", "",
        f"95% bootstrap intervals over test images; logits averaged over views: {run.config.tta}.", "",
        "| classes | test | without copies of train | always the majority |", "| --- | --- | --- | --- |"]
    fewer = [count for count in (8, 7, 6, 3) if set(CLASS_SETS[count]) < set(test.classes)]
    for classes in (run.config.classes, *fewer):
        official, clean = restrict_classes(run, classes), restrict_classes(run, classes, "clean_test")
        note = "" if classes == run.config.classes else " (asked only for these)"
        lines.append(f"| {classes}{note} | {official.accuracy.percent} of {official.count:,} | {clean.accuracy.percent}"
                     f" of {clean.count:,} | {official.majority.percent} |")
    lines += ["", "| class | test images | recall | precision |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {count:,} | {test.recall[name].percent} | {test.precision[name].percent} |"
              for name, count in zip(test.classes, test.confusion.sum(1), strict=True)]
    people, told = run.votes()
    if len(people):
        lead, rows = told.argmax(1), np.arange(len(told))
        gap = 10 * np.abs(people - told)[rows, lead].mean()
        agreed = wilson(int((people.argmax(1) == lead).sum()), len(lead))
        lines += ["", f"It also tells how ten people would vote, as those of FER+ did (Barsoum et al. 2016, "
                  f"arXiv:1608.01041): {agreed.percent} of {len(lead):,} test images have most votes where it says so, "
                  f"and the number of those votes is off by {gap:.1f} on average."]
    lines += ["", "Most frequent confusions: " + ", ".join(
        f"{pair.true} called {pair.predicted} {pair.rate:.0%}" for pair in test.confusions().head(5).itertuples()) +
        f". Expected calibration error {test.ece}.", "", confidence_note(calibration), "",
              *_LIMITS, *(_OF_FER2013 if photographs else ()), "", "## Licence", "",
              "The weights are under the package's MIT licence. " + (_CLEAR if photographs else
              "Whoever shares them has to know whether the images they come from allow that.")]
    return "\n".join(lines) + "\n"


def confidence_note(calibration: Calibration) -> str:
    """What a "sure" answer is worth, in one or two sentences."""
    return (f"`fer predict` divides the logits by {calibration.temperature:.2f} and calls an answer unsure below a "
            f"confidence of {calibration.threshold:.2f}: from there on {calibration.accuracy:.0%} of the answers were "
            f"right on {calibration.images:,} validation images, {calibration.coverage:.0%} of which passed.")


_WORDS = dict(enumerate(("two", "three", "four", "five", "six", "seven", "eight"), start=2))
_FER2013 = "FER2013 (Goodfellow et al. 2013, arXiv:1307.0414)"
_LIMITS = (
    "## Limits", "",
    "- It says what the labels of its data would call an expression, and knows no faces unlike those. It does not "
    "know what anybody feels, and must not be used to judge people: not for hiring, policing, schooling, medicine or "
    "credit.")
_OF_FER2013 = (
    "- Its photographs are posed or picked by search words; skin tones, ages and cultures are unequally present and "
    "not labelled, so its accuracy on any group of people is unknown.",
    "- People guessed these labels with 65 ± 5% accuracy (Goodfellow et al. 2013); a confident answer can be wrong.")
_CLEAR = ("FER2013 was published for research; whoever uses the weights for anything else has to clear that first. No "
          "image of it is part of this package.")
