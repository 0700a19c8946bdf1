"""Looks a dataset over before anything is trained on it: counts, copies, leakage, contradictions, blank images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import fisher_exact

from ..metrics.intervals import holm
from .duplicates import MAX_COMPARED, MAX_DEGREES, MAX_SCALE, MAX_SHIFT, augmented_pairs
from .faceset import FaceSet
from .tables import DOUBT

MIN_CONTRAST = 2.0  # standard deviation in grey levels below which no face can be seen
MAX_BLANK_SHARE = 0.01  # above it blank images are an error: not a few bad crops but a broken conversion
MAX_IMBALANCE = 3.0  # largest class over smallest, above which plain accuracy starts to mislead
MAX_SHARE_RATIO = 1.5  # between a class's shares in train and test: above it a network's log odds lean by over 0.4
MAX_CHANCE = 0.001  # of shares as unlike as those seen, did both come from one population: small sets differ by chance
_EXAMPLES = 5
_WORST = 2


@dataclass(frozen=True)
class Finding:
    """One sentence about the data, with up to five image ids as examples. ``level``: "error", "warning" or "info"."""

    level: str
    text: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """What `check_faces` found.

    Attributes
    ----------
    source : as in `FaceSet.source`.
    counts : images per class (rows) and split (columns).
    figures : every number behind the findings, by name; counts are int, shares (0..1) and ratios float.
    findings : worst first.
    """

    source: str
    counts: pd.DataFrame
    figures: dict[str, int | float]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """No finding is an error."""
        return all(finding.level != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, strings and numbers, ready for JSON."""
        return {"source": self.source, "ok": self.ok, "counts": self.counts.to_dict(orient="index"),
                "figures": dict(self.figures), "findings": [dataclasses.asdict(finding) | {"ids": list(finding.ids)}
                                                            for finding in self.findings]}

    def table(self) -> str:
        """The same as text for a terminal."""
        total = self.counts.assign(total=self.counts.sum(axis=1))
        total.loc["total"] = total.sum()
        lines = [self.source, "", total.rename_axis(index=None, columns=None).to_string(), ""]
        for finding in self.findings:
            examples = f" For example {', '.join(finding.ids)}." if finding.ids else ""
            lines.append(f"{finding.level:<8} {finding.text}{examples}")
        return "\n".join(lines)


def check_faces(faces: FaceSet, augmented: bool = False) -> Report:
    """Check every image and label of ``faces``, all splits together. Takes seconds for 30,000 images.

    With ``augmented`` it also looks for test images that are mirrored, shifted, rotated or cropped copies of images
    outside test (`duplicates.augmented_pairs`), a warning; that takes about a minute for the images of FER2013.

    Errors, which make `Report.ok` False: no images at all; a class without train or without test images; blank images
    (standard deviation below `MIN_CONTRAST`) if they are 1% or more, because that is a broken conversion, while the
    few of FER2013 are a property of the data. Warnings: fewer blank images, test images that also stand in train or
    val, exact copies with different labels, classes of very unequal size, or whose shares in train and test are
    unlike (`check_class_shares`), persons (`FaceSet.subjects`) in both train and test. Copies within a split are
    information, and so is that the names tell no persons.
    """
    if len(faces) == 0:
        return Report(faces.source, pd.DataFrame(), {"images": 0}, (Finding("error", "There are no images."),))
    copies, copy_findings = _check_copies(faces)
    classes, class_findings = _check_classes(faces)
    contrast = [part.flatten(1).float().std(1, correction=0) for part in faces.parts()]
    people, people_findings = _check_subjects(faces)
    altered, altered_findings = _check_augmented(faces) if augmented else ({}, [_NOT_ASKED])
    blank = torch.cat(contrast).numpy() < MIN_CONTRAST
    figures = {"images": len(faces), **classes, "blank_images": int(blank.sum()), **copies, **altered, **people}
    findings = [*class_findings, *copy_findings, *altered_findings, *people_findings, *_doubts(faces),
                *(Finding("info", note) for note in faces.notes if not note.startswith(DOUBT))]
    if blank.any():
        findings.append(Finding("error" if blank.mean() >= MAX_BLANK_SHARE else "warning",
                                f"{_images(blank.sum())} ({blank.mean():.1%}) are blank or nearly so: no face can be "
                                "seen.", _examples(faces, blank)))
    order = ("error", "warning", "info")
    return Report(faces.source, faces.counts(), figures, tuple(sorted(findings, key=lambda f: order.index(f.level))))


def check_class_shares(faces: FaceSet) -> tuple[Finding, ...]:
    """Whether train and test hold the same classes, about equally often; empty where they do.

    An error for classes of test that train lacks (one in val only is not learnt), and for classes without test images.
    A warning where the share of a class among the classes of both, val counted with train, differs by more than a
    factor of `MAX_SHARE_RATIO`, beyond chance (Fisher's exact test, `holm` over the classes, p < `MAX_CHANCE`). The
    original study's train folder, probably an upload that stopped early, had both faults. A warning, too, where the
    reader doubts what numbered labels mean (`tables.read_csvs`).
    """
    return tuple(_compare_shares(faces.counts())[1]) + _doubts(faces)


def _doubts(faces: FaceSet) -> tuple[Finding, ...]:
    return tuple(Finding("warning", note.removeprefix(DOUBT)) for note in faces.notes if note.startswith(DOUBT))


def _compare_shares(counts: pd.DataFrame) -> tuple[dict[str, int | float], list[Finding]]:
    train, test = counts["train"], counts["test"]
    unknown, untested, both = (train == 0) & (test > 0), test == 0, (train > 0) & (test > 0)
    lost = int(test[unknown].sum())
    figures: dict[str, int | float] = {
        "classes_missing_in_train": int(unknown.sum()), "classes_missing_in_test": int(untested.sum()),
        "unanswerable_test_images": lost, "unanswerable_test_share": float(lost / max(test.sum(), 1))}
    findings = []
    if lost:
        findings.append(Finding(
            "error", f"Train holds no image of {_names(unknown)}, {figures['unanswerable_test_share']:.1%} of test "
            f"({_images(lost)}): a network trained on it gets none of these right; add such images to train, or leave "
            "them out of test."))
    if untested.any():
        findings.append(Finding("error", f"Test holds no image of {_names(untested)}: no score tells how a network "
                                "answers such faces; add such images to test, or leave them out of train."))
    # A missing class raises the shares of all others: only classes of both can be compared.
    pairs = np.stack([(train + counts["val"])[both], test[both]])
    rest = pairs.sum(1, keepdims=True) - pairs
    chance = holm(np.array([fisher_exact([own, other]).pvalue for own, other in zip(pairs.T, rest.T, strict=True)]))
    shares = pairs / (pairs + rest)
    ratio = shares.max(0) / shares.min(0)
    unlike = (ratio > MAX_SHARE_RATIO) & (chance < MAX_CHANCE)
    figures |= {"share_ratio": float(ratio.max(initial=1)), "classes_of_unlike_share": int(unlike.sum())}
    if unlike.any():
        names = counts.index[both]
        worst = ", ".join(f"{names[label]} is {shares[0, label]:.1%} of train but {shares[1, label]:.1%} of test"
                          for label in np.argsort(-ratio * unlike)[:min(unlike.sum(), _WORST)])
        findings.append(Finding(
            "warning", (worst.capitalize() if both.all() else f"Of the classes in both, {worst}") + ": a network leans "
            "to what it saw most; add the images that train lacks, or train with class_weights=balanced."))
    return figures, findings


def _check_classes(faces: FaceSet) -> tuple[dict[str, int | float], list[Finding]]:
    counts = faces.counts()
    shares, findings = _compare_shares(counts)
    train, test = counts["train"], counts["test"]
    held = train[train > 0] if train.any() else train  # a missing class is an error of its own, not an imbalance
    major = train.idxmax()
    figures = {**shares, "classes": len(counts), "imbalance": float(train.max() / max(held.min(), 1)),
               "majority_share_train": float(train.max() / max(train.sum(), 1)),
               "majority_share_test": float(test[major] / max(test.sum(), 1))}
    findings.append(Finding(
        "warning" if figures["imbalance"] > MAX_IMBALANCE else "info",
        f"The largest class of train, {major}, has {figures['imbalance']:.1f} times the images of the smallest, "
        f"{held.idxmin()}; always answering {major} is right on {figures['majority_share_test']:.1%} of test."))
    return figures, findings


def _check_copies(faces: FaceSet) -> tuple[dict[str, int | float], list[Finding]]:
    test, labels = faces.split == "test", faces.labels.numpy()
    exact, near = faces.groups, faces.near_groups
    copied = np.bincount(exact)[exact] > 1
    conflict = _distinct(exact, labels)[exact] > 1
    leaked = test & _holds(exact, ~test)
    # A near copy is news only where the group joins images that are not identical.
    joined = _distinct(near, exact)[near] > 1
    nearly_leaked = test & _holds(near, ~test) & ~leaked
    figures = {
        "exact_groups": _groups(exact, copied), "exact_images": int(copied.sum()),
        "exact_groups_in_train": _groups(exact, ~test & (np.bincount(exact, ~test)[exact] > 1)),
        "exact_groups_in_test": _groups(exact, test & (np.bincount(exact, test)[exact] > 1)),
        "exact_groups_across": _groups(exact, leaked),
        "leaked_test_images": int(leaked.sum()), "leaked_test_share": float(leaked.sum() / max(test.sum(), 1)),
        "near_groups": _groups(near, joined), "near_images": int(joined.sum()),
        "nearly_leaked_test_images": int(nearly_leaked.sum()),
        "conflict_groups": _groups(exact, conflict), "conflict_images": int(conflict.sum()),
    }
    findings = []
    if leaked.any():
        findings.append(Finding(
            "warning", f"{_images(leaked.sum())} of test ({figures['leaked_test_share']:.1%}) also stand in train or "
            "val, pixel for pixel; report scores without them too (FaceSet.clean_test).", _examples(faces, leaked)))
    if nearly_leaked.any():
        findings.append(Finding("warning", f"{_images(nearly_leaked.sum())} of test have a near copy in train or val "
                                "beyond those.", _examples(faces, nearly_leaked)))
    if conflict.any():
        findings.append(Finding(
            "warning", f"{_images(conflict.sum())} in {figures['conflict_groups']:,} groups of identical images carry "
            "different labels: at least one label of each group is wrong.", _examples(faces, conflict)))
    if copied.any():
        findings.append(Finding(
            "info", f"{figures['exact_groups']:,} groups of identical images hold {_images(copied.sum())}; "
            f"{figures['exact_groups_in_train']:,} repeat within train and val, {figures['exact_groups_in_test']:,} "
            f"within test, {figures['exact_groups_across']:,} across.", _examples(faces, copied)))
    if exact.max() >= MAX_COMPARED:
        findings.append(Finding("info", f"More than {MAX_COMPARED:,} different images are too many to compare each "
                                "with each: near copies were not looked for, exact ones were."))
    if joined.any():
        findings.append(Finding("info", f"{figures['near_groups']:,} groups join {_images(joined.sum())} that are "
                                "near copies, not identical.", _examples(faces, joined)))
    return figures, findings


_NOT_ASKED = Finding("info", "Mirrored, shifted, rotated and cropped copies were not looked for: fer data check "
                             "--augmented does.")


def _check_augmented(faces: FaceSet) -> tuple[dict[str, int | float], list[Finding]]:
    rest = faces.split != "test"
    if rest.sum() > MAX_COMPARED:
        return {}, [Finding("info", f"More than {MAX_COMPARED:,} images in train are too many to look for mirrored, "
                                    "shifted, rotated and cropped copies of them.")]
    others, test = faces.take(rest), faces.take(~rest & ~_holds(faces.near_groups, rest))
    pairs = augmented_pairs(test.images, others.images)
    copied = np.isin(faces.ids, test.ids[pairs["first"].unique()])
    mirrored = pairs.loc[pairs["mirrored"], "first"].nunique()
    figures: dict[str, int | float] = {"augmented_test_images": int(copied.sum()),
                                       "mirrored_test_images": int(mirrored)}
    limits = Finding(
        "info", f"Copies of train in test were looked for that are mirrored, rotated by up to {MAX_DEGREES:.0f}°, "
        f"scaled by up to {MAX_SCALE:g} or shifted by up to {MAX_SHIFT:.0f} pixels; not those upside down, stretched, "
        "sheared, largely covered or negative, and a corner cut out and enlarged is often missed.")
    if not copied.any():
        return figures, [limits]
    return figures, [limits, Finding(
        "warning", f"{_images(copied.sum())} of test ({copied.sum() / (~rest).sum():.1%}) are copies of images in "
        f"train or val, shifted, rotated or cropped, {mirrored:,} of them mirrored; divide the data before it is "
        "augmented, or leave them out.", _examples(faces, copied))]


def _check_subjects(faces: FaceSet) -> tuple[dict[str, int | float], list[Finding]]:
    if faces.subjects is None:
        return {}, [Finding("info", "The file names tell no subjects, and no table or folders do: whether one "
                                    "person stands in both train and test cannot be known.")]
    test, person = faces.split == "test", np.unique(faces.subjects, return_inverse=True)[1]
    shared = test & _holds(person, ~test)
    figures: dict[str, int | float] = {"subjects": _groups(person, test | ~test),
                                       "subjects_across": _groups(person, shared)}
    if shared.any():
        return figures, [Finding(
            "warning", f"{_images(shared.sum())} of test ({shared.sum() / test.sum():.1%}) show persons, "
            f"{figures['subjects_across']} of {figures['subjects']}, who also stand in train or val: scores tell about "
            "known persons, not about new ones; divide the data by persons.", _examples(faces, shared))]
    return figures, [Finding("info", f"The data tells {figures['subjects']} subjects; none stands in both train "
                                     "and test, so scores are subject-independent.")]


def _distinct(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """int64 (G,): different ``values`` within each group."""
    pairs = np.unique(np.stack([group, values]), axis=1)
    return np.bincount(pairs[0], minlength=group.max() + 1)


def _holds(group: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """bool (N,): the image's group has a marked image."""
    return np.asarray(np.bincount(group, marked)[group] > 0)


def _groups(group: np.ndarray, marked: np.ndarray) -> int:
    return len(np.unique(group[marked]))


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _names(marked: pd.Series) -> str:
    return ", ".join(marked.index[marked])


def _examples(faces: FaceSet, marked: np.ndarray) -> tuple[str, ...]:
    return tuple(faces.ids[np.flatnonzero(marked)[:_EXAMPLES]].tolist())
