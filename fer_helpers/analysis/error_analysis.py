"""Where a network fails: its answers with what is known of each image, hidden regions, subgroups, types of failure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact
from torch import nn

from ..data.emotions import REGIONS
from ..data.faceset import FaceSet
from ..data.regions import hide, region_masks
from ..files import FerError
from ..metrics.evaluation import compare
from ..metrics.intervals import Estimate, difference, holm, wilson
from ..training.prediction import predict_logits
from .baselines import unit_rater
from .dataset_statistics import asymmetry, human_agreement, image_statistics

#: Types of failure in the order in which `failure_types` asks for them, each with what would mend it.
TYPES = {
    "a copy in train has another label": "clean the labels of copies: no network can satisfy both",
    "disputed label": "train on and score against the spread of judgements, not one label",
    "poor picture": "augment with such pictures, or decline them before the network is asked",
    "right class a close second": "more training, data or networks to average: the evidence was nearly enough",
    "confidently wrong": "look at each: a wrong label, or a cue that should not count; calibrate, or abstain",
    "unsure and off": "let it abstain below a threshold of confidence; more varied training faces of that class",
}
SUPPORT, TAIL, CLOSE, SURE = 0.5, 0.05, 0.5, 0.8  # the thresholds of `failure_types`


def describe_pictures(faces: FaceSet) -> pd.DataFrame:
    """What is known of every test image without any network.

    ``faces`` is a class view, train images included.

    Returns
    -------
    Data frame indexed by image id, in the order of ``faces.only("test")``: ``support`` (`label_support`), ``strength``
    (sum of the drawn action units, NaN for photographs); ``copies`` (near copies in train and val) and ``conflicts``
    (those with another label); brightness, contrast, sharpness and asymmetry of the picture.
    """
    test, known = faces.only("test"), faces.split != "test"
    group, count = faces.near_groups, faces.near_groups.max() + 1
    alike = np.bincount(group[known] * len(faces.classes) + faces.labels.numpy()[known],
                        minlength=count * len(faces.classes)).reshape(count, -1)[group[~known]]
    table = pd.DataFrame({
        "support": label_support(faces),
        "strength": np.nan if test.action_units is None else test.action_units.sum(1).numpy(),
        "copies": alike.sum(1), "conflicts": alike.sum(1) - alike[np.arange(len(test)), test.labels.numpy()]},
        index=pd.Index(test.ids, name="id"))
    pictures = image_statistics(test).set_index("id")[["brightness", "contrast", "sharpness"]]
    return table.join(pictures.astype(float)).assign(asymmetry=asymmetry(test.images).numpy())


def describe_answers(predictions: pd.DataFrame, pictures: pd.DataFrame) -> pd.DataFrame:
    """Every test answer of a run with what is known of its image.

    Parameters
    ----------
    predictions : `runs.Run.predictions`.
    pictures : `describe_pictures` of the class view that the run was trained on.

    Returns
    -------
    ``pictures``, its columns behind these: true, predicted, confidence, correct; ``ratio`` (probability of the true
    class over that of the answer, 0..1) and ``rank`` of the true class; ``second`` (probability of the second answer
    over that of the first).
    """
    rows = predictions[predictions["split"] == "test"].set_index("id").reindex(pictures.index)
    if rows["true"].isna().any():
        raise FerError(f"{int(rows['true'].isna().sum())} test images have no prediction; give the faces and class "
                       "setting that the run was trained on")
    probs = rows.filter(like="prob_")
    own = probs.to_numpy()[np.arange(len(rows)), probs.columns.get_indexer("prob_" + rows["true"])]
    *_, second, first = np.sort(probs, axis=1).T
    return rows[["true", "predicted", "confidence"]].assign(
        correct=rows["true"] == rows["predicted"], ratio=own / first, rank=1 + (probs.to_numpy() > own[:, None]).sum(1),
        second=second / first).join(pictures)


def label_support(faces: FaceSet) -> np.ndarray:
    """float64 (N,): how far each *test* image's label is what its face shows, 0..1; NaN where that is not known.

    Photographs: the share of FER+ votes for the label. Drawn faces: the probability that the label gets from an
    observer who is told the drawn action units, not the picture (`baselines.unit_rater`).
    """
    test = faces.only("test")
    if test.action_units is None:
        return human_agreement(test) if test.votes is not None else np.full(len(test), np.nan)
    return np.asarray(unit_rater(faces)[np.arange(len(test)), test.labels.numpy()])


# --- Types of failure ------------------------------------------------------------------------------------------------


def failure_types(answers: pd.DataFrame) -> pd.Series:
    """The type of each wrong answer of `describe_answers`, one of `TYPES`, by image id.

    The first rule that holds decides, so every error has exactly one type:

    1. a copy in train has another label: a near copy of the image stands in train or val under another label.
    2. disputed label: the label has less than half of the support (`label_support`).
    3. poor picture: contrast or sharpness among the lowest 5% of the test images, or brightness among the lowest or
       the highest 5%.
    4. right class a close second: the true class comes second, with at least half the answer's probability.
    5. confidently wrong: confidence of 80% or more.
    6. unsure and off: the rest.
    """
    wrong = answers[~answers["correct"]]
    second = (wrong["rank"] == 2) & (wrong["ratio"] >= CLOSE)
    rules = [*(excuse[~answers["correct"]] for excuse in _excuses(answers).values()), second,
             wrong["confidence"] >= SURE]
    *names, rest = TYPES
    return pd.Series(np.select(rules, names, rest), index=wrong.index, name="type", dtype=object)


def failure_summary(answers: pd.DataFrame) -> pd.DataFrame:
    """The errors by type: how many, their share with a Wilson 95% interval, what would mend it.

    Returns
    -------
    Data frame indexed by type, in the order of `TYPES`: errors, value, low, high, "what would fix it".
    """
    types, rows = failure_types(answers), {}
    for name, fix in TYPES.items():
        errors = int((types == name).sum())
        share = wilson(errors, len(types))
        rows[name] = (errors, share.value, share.low, share.high, fix)
    return pd.DataFrame.from_dict(rows, orient="index", columns=[
        "errors", "value", "low", "high", "what would fix it"]).rename_axis("type")


def base_rates(answers: pd.DataFrame) -> pd.DataFrame:
    """How often what may excuse an error holds of wrong answers, and how often of right ones: what holds of both alike
    explains nothing.

    Returns
    -------
    Data frame indexed by what holds: wrong, right (shares 0..1, each with _low and _high, Wilson 95%) and p_holm
    (Fisher's exact test, corrected for the number of rows). Support is left out where it is not known.
    """
    correct, rows, p_values = answers["correct"].to_numpy(bool), {}, []
    rules = _excuses(answers) | {"another class a close second": answers["second"] >= CLOSE,
                                 f"confidence of {SURE:.0%} or more": answers["confidence"] >= SURE}
    if answers["support"].isna().all():
        del rules["disputed label"]
    for name, holds in rules.items():
        rows[name] = _shares({what: (int(holds[own].sum()), int(own.sum()))
                              for what, own in (("wrong", ~correct), ("right", correct))})
        p_values.append(fisher_exact(pd.crosstab(holds, correct).reindex(index=[False, True], columns=[False, True],
                                                                         fill_value=0)).pvalue)
    return pd.DataFrame.from_dict(rows, orient="index").assign(p_holm=holm(np.array(p_values)))


def accuracy_where_backed(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy where at least half of the votes are for the label, and where fewer are; of "all" and of each class.

    Returns
    -------
    Data frame indexed by class: backed, disputed (0..1, each with _low and _high, Wilson 95%). Images of unknown
    support are left out.
    """
    known = answers[answers["support"].notna()]
    groups = {"all": known} | dict(iter(known.groupby("true")))
    return pd.DataFrame.from_dict({name: _shares({
        what: (int(own.loc[part, "correct"].sum()), int(part.sum()))
        for what, part in (("backed", own["support"] >= SUPPORT), ("disputed", own["support"] < SUPPORT))})
        for name, own in groups.items()}, orient="index")


def _shares(parts: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    """Of (hits, images) by name: ``name``, the share, and ``name_low``, ``name_high`` (Wilson 95%)."""
    found = {name: wilson(*counts) for name, counts in parts.items()}
    return {f"{name}{end}": value for name, one in found.items()
            for end, value in (("", one.value), ("_low", one.low), ("_high", one.high))}


def _excuses(answers: pd.DataFrame) -> dict[str, pd.Series]:
    """The rules that need only the image, so that they can be asked of right answers too: bool (N,) by type."""
    low = answers[["brightness", "contrast", "sharpness"]].quantile(TAIL)
    poor = ((answers["contrast"] < low["contrast"]) | (answers["sharpness"] < low["sharpness"])
            | (answers["brightness"] < low["brightness"])
            | (answers["brightness"] > answers["brightness"].quantile(1 - TAIL)))
    rules = (answers["conflicts"] > 0, answers["support"] < SUPPORT, poor)
    return dict(zip(TYPES, rules, strict=False))


# --- Subgroups -------------------------------------------------------------------------------------------------------


def error_sources(answers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`accuracy_by` for every property known of the images of `describe_answers`, by its name."""
    names = {"brightness": "brightness", "contrast": "contrast", "sharpness": "sharpness",
             "asymmetry": "left–right asymmetry", "strength": "strength of the expression"}
    names["support"] = "human agreement" if answers["strength"].isna().all() else "support of the label"
    return {name: accuracy_by(answers["correct"], answers[column], name=name) for column, name in names.items()
            if answers[column].nunique() > 1}


def accuracy_by(correct: np.ndarray, values: np.ndarray, bins: int = 4, name: str = "value") -> pd.DataFrame:
    """Accuracy within quantile bins of ``values``, each with a Wilson 95% interval (Wilson 1927).

    Parameters
    ----------
    correct : bool (N,).
    values : float (N,); NaN rows are left out.

    Returns
    -------
    Data frame indexed by the bins' ranges as text: value, low, high, images.
    """
    correct, values = np.asarray(correct, bool), np.asarray(values, float)
    known = ~np.isnan(values)
    binned = pd.qcut(values[known], bins, duplicates="drop")
    rows = {}
    for bin_ in binned.categories:  # the first begins just below the lowest value
        own = correct[known][binned == bin_]
        share = wilson(int(own.sum()), len(own))
        left = max(bin_.left, values[known].min())
        rows[f"{left:.3g} to {bin_.right:.3g}"] = (share.value, share.low, share.high, len(own))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "images"]).rename_axis(name)


def lowest_against_highest(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The lowest against the highest quarter of each property, from several `accuracy_by` tables.

    Returns
    -------
    Data frame indexed by property, the clearest first: lowest, highest (accuracies), value (highest − lowest) with
    low, high (`intervals.difference`), images (in both), p_value (Fisher's exact test) and p_holm, corrected for
    the number of properties.
    """
    rows = {}
    for name, table in tables.items():
        if len(table) < 2:
            continue
        first, last = table.iloc[0], table.iloc[-1]
        gap = difference(*(Estimate(*part[["value", "low", "high"]]) for part in (first, last)))
        counts = [[round(part["value"] * part["images"]), round((1 - part["value"]) * part["images"])]
                  for part in (first, last)]
        rows[name] = (first["value"], last["value"], gap.value, gap.low, gap.high,
                      int(first["images"] + last["images"]), fisher_exact(counts).pvalue)
    columns = ["lowest", "highest", "value", "low", "high", "images", "p_value"]
    result = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("property")
    return result.assign(p_holm=holm(result["p_value"].to_numpy())).sort_values("p_value")


# --- Hidden regions --------------------------------------------------------------------------------------------------


def answers_without(model: nn.Module, faces: FaceSet) -> dict[str, np.ndarray]:
    """int (N,), the class answered for each image: with "nothing" and with each of `regions.region_masks` hidden."""
    views = {"nothing": faces.images} | {region: hide(faces.images, mask)
                                         for region, mask in region_masks(faces).items()}
    return {region: predict_logits(model, images).argmax(1).numpy() for region, images in views.items()}


def region_importance(faces: FaceSet, answered: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """How much accuracy falls when a region is hidden, with a paired 95% interval.

    ``answered`` is what `answers_without` says of ``faces``.

    Returns
    -------
    Data frame with a row per region and class ("all" for all of them): region, class, value, low, high, the loss of
    accuracy in −1..1, images, and p_value (McNemar's test of no loss or gain).
    """
    labels, rows = faces.labels.numpy(), []
    for region in REGIONS:
        for number, name in enumerate(("all", *faces.classes), start=-1):
            own = labels == number if number >= 0 else np.ones(len(labels), dtype=bool)
            if not own.any():
                continue
            result = compare(*(answered[what][own] == labels[own] for what in ("nothing", region)))
            loss = result.difference
            rows.append((region, name, loss.value, loss.low, loss.high, int(own.sum()), result.p_value))
    return pd.DataFrame(rows, columns=["region", "class", "value", "low", "high", "images", "p_value"])


def grown_confusions(faces: FaceSet, answered: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """How much more often each wrong answer is given when a region is hidden, with a paired 95% interval.

    Returns
    -------
    Data frame with a row per region, true class and wrong answer, the largest growth first: region, true, predicted,
    before, after (shares of the true class), value (after − before) with low and high, images, and p_holm (McNemar's
    test, corrected for the number of rows).
    """
    labels, rows = faces.labels.numpy(), []
    for region in REGIONS:
        for true in np.unique(labels):
            before, after = (answered[what][labels == true] for what in ("nothing", region))
            for wrong in set(range(len(faces.classes))) - {int(true)}:
                change = compare(after == wrong, before == wrong)
                gap = change.difference
                rows.append((region, faces.classes[true], faces.classes[wrong], (before == wrong).mean(),
                             (after == wrong).mean(), gap.value, gap.low, gap.high, len(before), change.p_value))
    table = pd.DataFrame(rows, columns=["region", "true", "predicted", "before", "after", "value", "low", "high",
                                        "images", "p_holm"])
    return table.assign(p_holm=holm(table["p_holm"].to_numpy())).sort_values("value", ascending=False,
                                                                             ignore_index=True)


def before_and_after(grown: pd.DataFrame, top: int = 8) -> pd.DataFrame:
    """The ``top`` largest changes of `grown_confusions`, indexed by what is hidden and which answer takes over: before,
    after, each with _low and _high (Wilson 95%)."""
    return pd.DataFrame.from_dict({f"{row['region']} hidden: {row['true']} → {row['predicted']}": _shares({
        name: (round(row[name] * row["images"]), row["images"]) for name in ("before", "after")})
        for _, row in grown.head(top).iterrows()}, orient="index")
