"""Ways to learn better than by plain cross-entropy: settings of one `TrainConfig`, tuned alike and compared in pairs.

What they compute is in `heads`, `losses` and `augmentation`; how they do is measured here, over seeds and images at
once.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from ..data.emotions import REGIONS
from ..data.faceset import FaceSet
from ..data.regions import hide, region_masks
from ..files import FerError, write_atomic
from ..metrics.evaluation import BINS, confidence_bin
from ..metrics.intervals import holm
from ..transforms.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from ..transforms.occlusions import OCCLUSIONS
from .config import TrainConfig, read_setting
from .prediction import choose_device, predict_logits
from .runs import Run

BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Method:
    """One way to learn.

    Attributes
    ----------
    direction : the remedy it belongs to, of those that the original study named, or "labels".
    settings : what it changes in a `TrainConfig`.
    strengths : values of one of its settings to try, by the setting's name; empty where it has no strength.
    """

    direction: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    strengths: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


METHODS: dict[str, Method] = {
    "plain": Method("none"),
    "regions": Method("regions", {"head": "regions"}),
    "supcon": Method("contrast", {"contrast": 0.3}, {"contrast": (0.1, 0.3, 1.0, 3.0)}),
    "hard_negatives": Method("contrast", {"contrast": 0.3, "hard_negatives": 1.0},
                             {"hard_negatives": (0.5, 1.0, 2.0, 4.0)}),
    "supcon_first": Method("contrast", {"pretrain": "supcon"}, {"temperature": (0.07, 0.1, 0.2, 0.5)}),
    "simclr_first": Method("contrast", {"pretrain": "simclr"}, {"temperature": (0.07, 0.1, 0.2, 0.5)}),
    "text": Method("text", {"head": "text"}),
    "attention": Method("attention", {"head": "attention"}),
    "cbam": Method("attention", {"cbam": True}),
    "guided": Method("attention", {"guide": 0.1}, {"guide": (0.03, 0.1, 0.3, 1.0)}),
    "erasing": Method("robustness", {"augmentation": "+erase"}),
    "region_dropout": Method("robustness", {"augmentation": "+hide"}),
    "augmix": Method("robustness", {"augmentation": "+augmix"}),
    "trivial": Method("robustness", {"augmentation": "+trivial"}),
    "soft_votes": Method("labels", {"loss": "soft_votes"}),
    "focal": Method("labels", {"focal": 1.0}, {"focal": (0.5, 1.0, 2.0, 3.0)}),
    "balanced": Method("labels", {"class_weights": "effective"}, {"class_weights": ("effective", "balanced")}),
    "distilled": Method("labels", {"teacher": "resnet50", "distill": 0.5}, {"distill": (0.25, 0.5, 0.75, 0.9)}),
}

#: What readers call the methods, where that is not their name.
LABELS = {"supcon": "SupCon", "supcon_first": "SupCon first", "simclr_first": "SimCLR first",
          "text": "text head", "attention": "attention head", "cbam": "CBAM", "guided": "guided attention",
          "erasing": "random erasing", "augmix": "AugMix", "trivial": "TrivialAugment", "focal": "focal loss",
          "balanced": "balanced classes", "distilled": "distillation"}

#: What a method is judged by, and whether more of it is better.
OUTCOMES = {"accuracy": True, "clean accuracy": True, "vote agreement": True, "macro F1": True, "fear recall": True,
            "fear → happiness": False, "anger → happiness": False, "ECE": False, "mCE": False, "partial faces": False,
            "favourite region": False}


def method_label(method: str) -> str:
    """What readers call a method: ``method_label("supcon_first") == "SupCon first"``."""
    return LABELS.get(method, method.replace("_", " "))


def with_method(config: TrainConfig, method: str, **strength: Any) -> TrainConfig:
    """``config`` with the settings of a method, and those of ``strength`` in place of its usual ones.

    A method that pre-trains does so for half of the epochs, so that all methods take the same number of steps; one that
    augments adds to what ``config`` does already, so that nothing else differs.

    Raises
    ------
    FerError
        If the method is unknown, or the network cannot have it.
    """
    method = read_setting("method", method)
    if method not in METHODS:
        raise FerError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    settings = {**METHODS[method].settings, **strength}
    if "pretrain" in settings:
        if config.epochs < 2:
            raise FerError(f"method={method!r} pre-trains for half of the epochs; set epochs to 2 or more")
        settings["pretrain_epochs"] = config.epochs // 2
    if "augmentation" in settings:
        settings["augmentation"] = config.augmentation + settings["augmentation"]
    return dataclasses.replace(config, **settings)


def configure(settings: Mapping[str, Any]) -> TrainConfig:
    """`TrainConfig.from_dict` of ``settings`` that may also name a ``method``, whose own settings win."""
    rest = dict(settings)
    method = rest.pop("method", "plain")
    return with_method(TrainConfig.from_dict(rest), method)


def trials(method: str) -> list[tuple[dict[str, Any], float]]:
    """Eight ways to set a method: its strength (or label smoothing) and a factor of the learning rate.

    No factor is above 1: give a plain recipe the highest rate that serves it; a head of its own may bear less.
    """
    strengths = METHODS[method].strengths or {"label_smoothing": (0.0, 0.1)}
    (name, values), = strengths.items()
    factors = (0.125, 0.25, 0.5, 1.0) if len(values) == 2 else (0.5, 1.0)
    return [({name: value}, factor) for value, factor in itertools.product(values, factors)]


def trial_config(config: TrainConfig, method: str, strength: Mapping[str, Any], factor: float) -> TrainConfig:
    """``config`` as one of `trials` of a method sets it."""
    return dataclasses.replace(with_method(config, method, **strength), lr=float(f"{config.rate * factor:.2g}"))


def tuned(config: TrainConfig, table: pd.DataFrame) -> TrainConfig:
    """``config`` with the best of a method's `trials`: the method, its strength, and its factor of the rate.

    ``table`` has a row each, best first: method, value (of the strength, as text) and factor.
    """
    best = table.iloc[0]
    strength = next(strength for strength, factor in trials(best["method"])
                    if factor == best["factor"] and list(map(str, strength.values())) == [best["value"]])
    return trial_config(config, best["method"], strength, best["factor"])


# --- Outcomes, over seeds and images at once -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Answers:
    """What one run answered.

    Attributes
    ----------
    table : data frame indexed by image id: true, predicted, confidence, in_train, as in `runs.Run.predictions`.
    errors : what `stress` returns, or None where that was not measured.
    """

    table: pd.DataFrame
    errors: pd.DataFrame | None = None


def answers(run: Run, errors: pd.DataFrame | None = None) -> Answers:
    """The test answers of a run."""
    rows = run.predictions[run.predictions["split"] == "test"].set_index("id")
    return Answers(rows[["true", "predicted", "confidence", "in_train"]], errors)


def stress(run: Run, faces: FaceSet, images: int = 200, device: str = "auto") -> pd.DataFrame:
    """How a run fares on worse pictures and hidden parts of ``images`` random test images; kept in its folder.

    The same images, and the same chance, for every run on the same data.

    Returns
    -------
    Data frame of int, indexed by image id: ``nothing``, 1 where the image as it is was answered wrongly; for each of
    `corruptions.CORRUPTIONS` and `occlusions.OCCLUSIONS`, at how many of five severities; for each of
    `emotions.REGIONS`, "hidden mouth" and so on, 1 where hiding it (`regions.hide`) led to a wrong answer.
    """
    path = run.folder / f"stress-{images}.csv"
    if path.exists():
        return pd.read_csv(path, index_col="id", dtype={"id": str})
    test = faces.with_classes(run.config.classes).only("test")
    some = test.take(np.random.default_rng(0).permutation(len(test))[:images])
    shown = {"nothing": [some.images],
             **{name: [corrupt(some.images, name, severity) for severity in SEVERITIES]
                for name in (*CORRUPTIONS, *OCCLUSIONS)},
             **{f"hidden {region}": [hide(some.images, mask)] for region, mask in region_masks(some).items()}}
    model, precision = run.model().to(choose_device(device)), run.environment["precision"]
    wrong = {name: np.stack([(predict_logits(model, part, precision).argmax(1) != some.labels).numpy()
                             for part in parts]) for name, parts in shown.items()}
    table = {name: times.sum(0, dtype=np.int32) for name, times in wrong.items()}
    result = pd.DataFrame(table, index=pd.Index(some.ids, name="id"))
    write_atomic(path, lambda temporary: result.to_csv(temporary))
    return result


def compare_methods(runs: Mapping[str, list[Answers]], classes: tuple[str, ...], reference: list[Answers],
                    votes: pd.DataFrame | None = None, baseline: str = "plain", seed: int = 0) -> pd.DataFrame:
    """Every outcome of every method, and its difference to ``baseline``, paired by seed and by image.

    "vote agreement" is the mean share of an image's votes that are for the answer it gets; "partial faces" the share
    of wrong answers over all occlusions and severities; "favourite region" by how much accuracy falls when the region
    that costs most is hidden.

    Seeds and images are resampled independently (Owen 2007, "The pigeonhole bootstrap"), the same for both sides of a
    difference. With a handful of seeds intervals are somewhat too narrow.

    Parameters
    ----------
    runs : a list by method, with equal seeds in equal places; all were tested on the same images.
    classes : the class names.
    reference : the plain ResNet50, whose errors on corrupted images are 1 on the scale of mCE (Hendrycks & Dietterich
        2019, arXiv:1903.12261); may be empty where no errors were measured. A corruption on which it never errs is
        left out.
    votes : by image id, the share of its FER+ votes that each class (column) gets, NaN where nobody voted for one of
        them; None where people did not vote.

    Returns
    -------
    Data frame, a row per method and outcome of `OUTCOMES`: method, outcome, value, low, high; difference,
    difference_low, difference_high, p_value (two-sided, normal with the bootstrap's standard error) and p_holm,
    corrected for all rows; NaN for the baseline itself. seeds; images, those that the outcome is about.

    Raises
    ------
    FerError
        If a method's seeds or images are not those of the baseline.
    """
    first = runs[baseline][0].table
    for name, own in runs.items():
        if len(own) != len(runs[baseline]) or any(set(one.table.index) != set(first.index) for one in own):
            raise FerError(f"{name} and {baseline} differ in seeds or test images; train both with the same ones")
    random = np.random.default_rng(seed)
    seeds, images = len(runs[baseline]), len(first)
    tried = runs[baseline][0].errors
    of = first["true"].value_counts()
    counts = {"clean accuracy": images - int(first["in_train"].sum()), "fear recall": of.get("fear", 0),
              "fear → happiness": of.get("fear", 0), "anger → happiness": of.get("anger", 0),
              **dict.fromkeys(("mCE", "partial faces", "favourite region"), 0 if tried is None else len(tried))}
    # The first row is what was measured: every seed and every image once.
    by_seed = np.vstack([np.ones(seeds), random.multinomial(seeds, np.full(seeds, 1 / seeds), BOOTSTRAPS)])
    by_image = np.vstack([np.ones(images), random.multinomial(images, np.full(images, 1 / images), BOOTSTRAPS)])
    shares = np.full((images, len(classes)), np.nan)
    if votes is not None:
        shares = votes.loc[first.index, list(classes)].to_numpy()
        counts["vote agreement"] = int((~np.isnan(shares).any(1)).sum())
    weigh = _Weights(tuple(first.index), by_image, classes, shares)
    normal = weigh.corrupted(reference)
    drawn = {name: np.einsum("bs,sbo->bo", by_seed / seeds, np.stack([weigh.outcomes(one, normal) for one in own]))
             for name, own in runs.items()}
    rows = []
    for name, samples in drawn.items():
        gaps = samples - drawn[baseline]
        for number, outcome in enumerate(OUTCOMES):
            value, gap = samples[:, number], gaps[:, number]
            if np.isnan(value[0]):
                continue
            worth, apart = ((column[0], *np.nanquantile(column[1:], (0.025, 0.975))) for column in (value, gap))
            # Counting resamples could say no less than 2 / BOOTSTRAPS, far above 5% once corrected for so many rows:
            # hence the normal distribution with the bootstrap's spread.
            spread = np.nanstd(gap[1:])
            p_value = 2 * ndtr(-abs(gap[0]) / spread) if spread else float(gap[0] == 0)
            rows.append((name, outcome, *worth, *(apart if name != baseline else (np.nan,) * 3),
                         p_value if name != baseline else np.nan, seeds, counts.get(outcome, images)))
    table = pd.DataFrame(rows, columns=["method", "outcome", "value", "low", "high", "difference", "difference_low",
                                        "difference_high", "p_value", "seeds", "images"])
    tested = table["p_value"].notna()
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p_value"].to_numpy())
    return table


class _Weights:
    """Outcomes of runs under many weights of the same images: the sums of all resamples as matrix products."""

    def __init__(self, ids: tuple[str, ...], weights: np.ndarray, classes: tuple[str, ...], votes: np.ndarray) -> None:
        self.ids, self.weights, self.classes, self.votes = list(ids), weights, classes, votes
        self.place = pd.Series(range(len(ids)), index=self.ids)

    def outcomes(self, run: Answers, normal: np.ndarray | None) -> np.ndarray:
        """float64 (B, outcomes), in the order of `OUTCOMES`; NaN for what was not measured."""
        table, count = run.table.loc[self.ids], len(self.classes)
        true, answered = (table[column].map(self.classes.index).to_numpy() for column in ("true", "predicted"))
        confusion = self._sums(true * count + answered, np.ones(len(true)), count * count).reshape(-1, count, count)
        hits, of, given = np.einsum("bcc->bc", confusion), confusion.sum(2), confusion.sum(1)
        correct, new = (true == answered).astype(float), (~table["in_train"].to_numpy(bool)).astype(float)
        total = self.weights.sum(1)
        agreed = self.votes[np.arange(len(answered)), answered]
        voted = (~np.isnan(agreed)).astype(float)
        agreement = self.weights @ np.nan_to_num(agreed) / np.maximum(self.weights @ voted, 1)
        if not voted.any():
            agreement = np.full(len(total), np.nan)
        confidence = table["confidence"].to_numpy()
        bins = confidence_bin(confidence)
        fear, anger, happiness = (self.classes.index(name) for name in ("fear", "anger", "happiness"))
        mean_ce = partial = favourite = np.full(len(total), np.nan)
        if run.errors is not None:
            partial = self._means(run.errors[list(OCCLUSIONS)]).mean(1) / len(SEVERITIES)
            hidden = self._means(run.errors[["nothing", *(f"hidden {region}" for region in REGIONS)]])
            favourite = hidden[:, 1:].max(1) - hidden[:, 0]
        if run.errors is not None and normal is not None:
            # Where the reference never errs there is nothing to measure by.
            known, ratio = normal > 0, self._means(run.errors[list(CORRUPTIONS)]) / np.where(normal > 0, normal, np.inf)
            mean_ce = np.where(known.any(1), ratio.sum(1) / np.maximum(known.sum(1), 1), np.nan)
        return np.stack([
            hits.sum(1) / total, self.weights @ (correct * new) / (self.weights @ new), agreement,
            (2 * hits / np.maximum(of + given, 1)).mean(1), hits[:, fear] / np.maximum(of[:, fear], 1),
            confusion[:, fear, happiness] / np.maximum(of[:, fear], 1),
            confusion[:, anger, happiness] / np.maximum(of[:, anger], 1),
            np.abs(self._sums(bins, correct - confidence, BINS)).sum(1) / total, mean_ce, partial, favourite], 1)

    def corrupted(self, runs: list[Answers]) -> np.ndarray | None:
        """float64 (B, corruptions): mean wrong answers of several runs, or None."""
        known = [self._means(run.errors[list(CORRUPTIONS)]) for run in runs if run.errors is not None]
        return np.mean(known, 0) if known else None

    def _means(self, errors: pd.DataFrame) -> np.ndarray:
        """float64 (B, columns): weighted means of what was counted for some of the images."""
        weights = self.weights[:, self.place.loc[errors.index]]
        return np.asarray(weights @ errors.to_numpy(float) / np.maximum(weights.sum(1, keepdims=True), 1))

    def _sums(self, group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
        """float64 (B, groups): weighted sums of ``values`` (N,) by ``group`` (N,)."""
        spread = np.zeros((len(group), groups))
        spread[np.arange(len(group)), group] = values
        return self.weights @ spread
