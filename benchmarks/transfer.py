"""What representations are worth for what they were not trained for, on FER2013's six classes.

Linear evaluation at 1, 10 and 100% of the labels, of a network that never saw a label (SimCLR), of one trained with all
of them, and of one that was not trained; and, trained by text without one class, how well the sentences about that
class find its images. An hour or two on two cores; every row is kept at once, and the command goes on from there.

    python benchmarks/transfer.py --data FOLDER [--folder FOLDER] [--epochs 4] [--train-limit 12000]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from methods import RECIPES, study_options

from fer_helpers import findings
from fer_helpers.config import TrainConfig
from fer_helpers.data import FaceSet
from fer_helpers.emotions import class_set
from fer_helpers.files import write_atomic
from fer_helpers.methods import with_method
from fer_helpers.models import create_model
from fer_helpers.readers import load_faces
from fer_helpers.runs import train_run
from fer_helpers.training import prepare_faces
from fer_helpers.transfer import linear_evaluation, zero_shot


def kept(path: Path, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of ``path``, measured first if it is not there."""
    if not path.exists():
        table = measure()
        write_atomic(path, lambda temporary: table.to_csv(temporary, index=False))
    return pd.read_csv(path)


def linear(plain: TrainConfig, way: str, faces: FaceSet, store: str | None) -> pd.DataFrame:
    if way == "untrained":
        model = create_model(plain.arch, plain.classes, seed=plain.seed)
    else:
        unlabelled = dataclasses.replace(plain, pretrain="simclr", pretrain_epochs=plain.epochs)
        model = train_run(unlabelled if way == "SimCLR" else plain, faces, store).model()
    # Not `plain`'s own view: the limit on its images is not one on those whose labels are known.
    view = prepare_faces(dataclasses.replace(plain, train_limit=None), faces)
    return linear_evaluation(model, view).reset_index().assign(way=way)


def unseen(config: TrainConfig, name: str, faces: FaceSet) -> pd.DataFrame:
    found = zero_shot(config, faces, name)
    row = {"unseen": name, "images": int(found.confusion[found.classes.index(name)].sum())}
    for part in ("auc", "named", "claimed"):
        one = getattr(found, part)
        row |= {part: one.value, f"{part}_low": one.low, f"{part}_high": one.high}
    # Whose name its images are given instead.
    return pd.DataFrame([row | dict(zip((f"called_{other}" for other in found.classes),
                                        found.confusion[found.classes.index(name)], strict=True))])


def main() -> None:
    options = study_options(__doc__).parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    faces = load_faces(options.data)
    recipe = dict(arch="compact", schedule="onecycle", augmentation="standard", epochs=options.epochs,
                  train_limit=options.train_limit, **RECIPES["compact"])
    plain, budget = TrainConfig(**recipe), f"{options.epochs}x{options.train_limit}"
    lines = pd.concat([kept(options.folder / f"linear-{way}-{budget}.csv",
                            lambda way=way: linear(plain, way, faces, options.store))
                       for way in ("untrained", "SimCLR", "plain")])
    print(lines.to_string())
    texts = pd.concat([kept(options.folder / f"unseen-{name}-{budget}.csv",
                            lambda name=name: unseen(with_method(plain, "text"), name, faces))
                       for name in class_set(6)])
    print(texts.to_string())
    findings.keep("05_class_ambiguity", faces, recipe, {"linear": lines.set_index("way"), "unseen": texts.set_index(
        "unseen")}, part="transfer", command=f"python benchmarks/transfer.py --data path/to/{Path(faces.source).name} "
                                             f"--epochs {options.epochs} --train-limit {options.train_limit}")


if __name__ == "__main__":
    main()
