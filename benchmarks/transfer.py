"""What representations are worth for what they were not trained for, on FER2013's six classes.

Linear evaluation at 1, 10 and 100% of the labels, of a network that never saw a label (SimCLR), of one trained with all
of them, and of one that was not trained; trained by text without one class, how well the sentences about that class
find its images; and whether text or contrast pulls the classes apart. Everything on the compact network at the settings
that `methods.py` chose. Half an hour on two cores; every table is kept at once, and the command goes on from there.

    python benchmarks/transfer.py --data FOLDER [--folder FOLDER]
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from methods import kept, study_options
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_helpers.analysis import looks_and_meaning
from fer_helpers.data import FaceSet, load_faces
from fer_helpers.data.emotions import class_set
from fer_helpers.files import FerError, read_json
from fer_helpers.metrics.intervals import Estimate, percentiles, wilson
from fer_helpers.models import Network, create_model
from fer_helpers.models.text_embeddings import prototypes
from fer_helpers.report import results
from fer_helpers.training import TrainConfig, embed, fit, predict_logits, prepare_faces, train_run
from fer_helpers.training.methods import tuned


def linear_evaluation(model: Network, faces: FaceSet, shares: tuple[float, ...] = (0.01, 0.1, 1.0),
                      seed: int = 0) -> pd.DataFrame:
    """Logistic regression on the frozen features of ``model``, with the labels of a share of the train images.

    The usual judge of representations learned without labels (Chen et al. 2020, arXiv:2002.05709).

    Parameters
    ----------
    faces : a class view with train and test images, as `trainer.prepare_faces` gives.
    shares : of the train images, each in 0..1; class shares are kept.

    Returns
    -------
    Data frame indexed by share: value, low, high (test accuracy with a Wilson 95% interval), labels (train images
    used), images (tested).

    Raises
    ------
    FerError
        If a share leaves fewer labels than there are classes.
    """
    test, rows = faces.only("test"), {}
    train = faces.only("train")
    tested, known = embed(model, test.images), dict(zip(train.ids, embed(model, train.images), strict=True))
    for share in shares:
        part = faces.limit_train(round(share * len(train)), seed).only("train")
        judge = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
        judge.fit(np.stack([known[name] for name in part.ids]), part.labels.numpy())
        right = judge.predict(tested) == test.labels.numpy()
        accuracy = wilson(int(right.sum()), len(right))
        rows[share] = (accuracy.value, accuracy.low, accuracy.high, len(part), len(test))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "labels", "images"]
                                  ).rename_axis("share")


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """What a network that never saw a class makes of it.

    Attributes
    ----------
    unseen : the class left out of training.
    auc : area under the ROC curve of the similarity to the unseen class's sentences, unseen against all other test
        images: 0.5 is chance. Interval: bootstrap over images.
    named : share of the unseen class's test images that are called by its name where all names compete.
    claimed : share of the other test images that are, too.
    confusion : int (C, C), rows true, columns answered, in the order of ``classes``.
    """

    unseen: str
    classes: tuple[str, ...]
    auc: Estimate
    named: Estimate
    claimed: Estimate
    confusion: np.ndarray


def without_class(faces: FaceSet, name: str) -> FaceSet:
    """The train and validation images of all classes but ``name``, with their labels renumbered."""
    names = tuple(other for other in faces.classes if other != name)
    if len(names) == len(faces.classes):
        raise FerError(f"unseen={name!r} is no class of {', '.join(faces.classes)}")
    part = faces.take((faces.labels.numpy() != faces.classes.index(name)) & (faces.split != "test"))
    number = torch.tensor([names.index(other) if other != name else -1 for other in faces.classes])
    return dataclasses.replace(part, labels=number[part.labels], classes=names)


def zero_shot(config: TrainConfig, faces: FaceSet, unseen: str, bootstraps: int = 1000, progress: bool = True
              ) -> ZeroShot:
    """Train on all classes but one, then let the sentences about the unseen class find its images.

    Parameters
    ----------
    config : must have ``head="text"``: only there a class is what is said of it.
    faces : the whole data set, as for `runs.train_run`.

    Raises
    ------
    FerError
        If the head is another one or ``unseen`` is no class of the setting; and as `trainer.fit`.
    """
    if config.head != "text":
        raise FerError(f"head={config.head!r} knows classes by number only; zero-shot needs head='text'")
    view = prepare_faces(config, faces)
    model = fit(config, without_class(view, unseen), progress=progress).model
    test, number = view.only("test"), view.classes.index(unseen)
    texts = prototypes(view.classes)
    seen = torch.arange(len(texts)) != number
    # Measured from the middle of the classes it was trained on, so that their texts stay what they were.
    model.classifier.texts = F.normalize(texts - texts[seen].mean(0), dim=1)
    logits = predict_logits(model, test.images, tta=config.tta)
    is_unseen, answered = (test.labels == number).numpy(), logits.argmax(1).numpy()
    likeness, random = logits[:, number].numpy(), np.random.default_rng(0)
    drawn = []
    for _ in range(bootstraps):  # within each side: a resample without the unseen class has no such curve
        rows = np.concatenate([random.choice(side, len(side)) for side in map(np.flatnonzero, (is_unseen, ~is_unseen))])
        drawn.append(roc_auc_score(is_unseen[rows], likeness[rows]))
    count = len(view.classes)
    confusion = np.bincount(test.labels.numpy() * count + answered, minlength=count**2).reshape(count, count)
    named, claimed = (wilson(int((answered[own] == number).sum()), int(own.sum())) for own in (is_unseen, ~is_unseen))
    return ZeroShot(unseen, view.classes, percentiles(roc_auc_score(is_unseen, likeness), np.array(drawn)), named,
                    claimed, confusion)


def linear(model: Network, config: TrainConfig, faces: FaceSet) -> pd.DataFrame:
    # Not the network's own view: the limit on its images is not one on those whose labels are known.
    return linear_evaluation(model, prepare_faces(dataclasses.replace(config, train_limit=None), faces)).reset_index()


def distances(config: TrainConfig, faces: FaceSet, store: str | None) -> pd.DataFrame:
    test = prepare_faces(config, faces).only("test")
    embedded = embed(train_run(config, faces, store).model(), test.images)
    return looks_and_meaning(embedded, test.labels.numpy(), test.classes).drop(columns="meaning")


def unseen(config: TrainConfig, name: str, faces: FaceSet) -> pd.DataFrame:
    found = zero_shot(config, faces, name)
    row = {"images": int(found.confusion[found.classes.index(name)].sum())}
    for part in ("auc", "named", "claimed"):
        one = getattr(found, part)
        row |= {part: one.value, f"{part}_low": one.low, f"{part}_high": one.high}
    # Whose name its images are given instead.
    return pd.DataFrame([row | dict(zip((f"called_{other}" for other in found.classes),
                                        found.confusion[found.classes.index(name)], strict=True))])


def main() -> None:
    parser = study_options(__doc__)
    options = parser.parse_args()
    trials = options.folder / "tuning.csv"
    if not trials.exists():
        parser.error(f"{trials} is not there; run methods.py first")
    recipe = TrainConfig.from_dict(read_json(options.folder / "protocol.json", "run methods.py")["recipes"]["compact"])
    tuning, faces = pd.read_csv(trials, dtype={"value": str}), load_faces(options.data)

    def chosen(method: str) -> TrainConfig:
        return tuned(recipe, tuning[tuning["method"] == method])

    plain, unlabelled = chosen("plain"), dataclasses.replace(chosen("simclr_first"), pretrain_epochs=recipe.epochs)
    networks = {"untrained": lambda: create_model(plain.arch, plain.classes, seed=plain.seed),
                "SimCLR": lambda: train_run(unlabelled, faces, options.store).model(),
                "plain": lambda: train_run(plain, faces, options.store).model()}
    tables = {
        ("linear", "way"): {way: lambda make=make: linear(make(), plain, faces) for way, make in networks.items()},
        ("unseen", "unseen"): {name: lambda name=name: unseen(chosen("text"), name, faces) for name in class_set(6)},
        ("distances", "way"): {name: lambda name=name: distances(chosen(name), faces, options.store)
                               for name in ("plain", "supcon", "text")}}
    found = {what: pd.concat({name: kept(options.folder / f"{what}-{name}.csv", measure)
                              for name, measure in measures.items()}, names=[key]).droplevel(1)
             for (what, key), measures in tables.items()}
    print(*(table.to_string() for table in found.values()), sep="\n")
    results.keep("05_class_ambiguity", faces, {}, found, part="transfer",
                 command=f"python benchmarks/transfer.py --data path/to/{Path(faces.source).name}")


if __name__ == "__main__":
    main()
