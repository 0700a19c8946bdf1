"""What representations are worth for what they were not trained for, on FER2013's six classes.

Linear evaluation at 1, 10 and 100% of the labels, of a network that never saw a label (SimCLR), of one trained with all
of them, and of one that was not trained; trained by text without one class, how well the sentences about that class
find its images; and whether text or contrast pulls the classes apart. Everything on the compact network at the settings
that `methods.py` chose. Half an hour on two cores; every table is kept at once, and the command goes on from there.

    python benchmarks/transfer.py --data FOLDER [--folder FOLDER]
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
from methods import kept, study_options

from fer_helpers.analysis import looks_and_meaning
from fer_helpers.data import FaceSet, load_faces
from fer_helpers.data.emotions import class_set
from fer_helpers.experiments import linear_evaluation, zero_shot
from fer_helpers.files import read_json
from fer_helpers.models import Network, create_model
from fer_helpers.report import results
from fer_helpers.training import TrainConfig, embed, prepare_faces, train_run
from fer_helpers.training.methods import tuned


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
