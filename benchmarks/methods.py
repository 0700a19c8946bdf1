"""All methods on FER2013's six classes under one protocol: tuned, then trained with several seeds on two networks.

Few epochs judge early what pays off late; so the compact network is trained longer as well, with fewer seeds.

Minutes on a GPU, many hours on two cores (`README.md` has figures); whatever is finished is kept at once among the
recorded results, and the command goes on from there. Once a seed of every method is finished, so are the tables, as
findings; what a method costs is measured then, in turns with all others in this one process, which wants the machine
for itself.

    python benchmarks/methods.py --data FOLDER [--folder FOLDER] [--processes 2] [--seconds 3600] [--seeds 5]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from method_study import Protocol, chosen, study_methods
from tqdm.auto import tqdm

from fer_helpers.data import FaceSet, load_faces
from fer_helpers.files import write_atomic
from fer_helpers.models import create_model
from fer_helpers.report import results
from fer_helpers.report import text as narrative
from fer_helpers.training import METHODS, OUTCOMES, TrainConfig, fit, prepare_faces, results_folder

#: What suits the plain networks best in so short a training, by validation.
RECIPES = {"compact": dict(optimizer="muon", lr=0.16, progressive=True), "resnet50": dict(optimizer="adam")}


def study_options(about: str) -> argparse.ArgumentParser:
    """What this script and `transfer.py` are told alike."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--data", default="", help="folder, CSV or zip; empty takes FER_DATA")
    parser.add_argument("--folder", type=Path, default=results_folder() / "05_class_ambiguity" / "study",
                        help="where what is finished is kept")
    parser.add_argument("--store", default=None, help="folder of the runs themselves")
    return parser


def kept(path: Path, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of ``path``, measured first if it is not there."""
    if not path.exists():
        table = measure()
        write_atomic(path, lambda temporary: table.to_csv(temporary, index=False))
    return pd.read_csv(path)


def costs(configs: dict[tuple[str, str], TrainConfig], faces: FaceSet, rounds: int = 2) -> pd.DataFrame:
    """Of each architecture by each method: weights, and both their count and the time of a short training relative to
    plain's.

    The faster of two rounds in which all take turns. All epochs, so that stages of a training count as they do in
    full; few images, of which the networks learn nothing.
    """
    rows = {}
    for _ in range(rounds):
        for key, config in tqdm(configs.items(), desc="costs"):
            view = prepare_faces(dataclasses.replace(config, train_limit=4 * config.batch_size), faces)
            few = np.flatnonzero(view.split == "val")[:config.batch_size]
            view = view.take(np.concatenate([np.flatnonzero(view.split == "train"), few]))
            teacher = create_model(config.teacher, config.classes) if config.teacher else None
            begin = time.perf_counter()
            model = fit(config, view, progress=False, teacher=teacher).model
            took = min(time.perf_counter() - begin, rows[key][0] if key in rows else float("inf"))
            rows[key] = took, sum(p.numel() for p in model.parameters())
    table = pd.DataFrame([(*key, *row) for key, row in rows.items()], columns=["arch", "method", "time", "weights"])
    plain = table[table["method"] == "plain"].set_index("arch")
    for name in ("time", "weights"):
        table[f"{name}_ratio"] = table[name] / table["arch"].map(plain[name])
    return table.drop(columns="time")


def main() -> None:
    parser = study_options(__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--train-limit", type=int, default=None, help="train images; all by default")
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after these")
    parser.add_argument("--seeds", type=int, default=5, help="of the compact network")
    parser.add_argument("--resnet-seeds", type=int, default=5, help="0 leaves it out")
    parser.add_argument("--long-epochs", type=int, default=12, help="of the compact network once more")
    parser.add_argument("--long-seeds", type=int, default=3, help="of that one; 0 leaves it out")
    parser.add_argument("--images", type=int, default=500, help="test images that are corrupted and hidden")
    options = parser.parse_args()
    faces = load_faces(options.data)
    recipe = dict(schedule="onecycle", augmentation="standard", epochs=options.epochs, train_limit=options.train_limit)
    recipes = {arch: TrainConfig(arch=arch, **recipe, **RECIPES[arch]) for arch in RECIPES}
    long = f"compact-{options.long_epochs}-epochs"
    recipes[long] = dataclasses.replace(recipes["compact"], epochs=options.long_epochs)
    seeds = {"compact": options.seeds, long: options.long_seeds, "resnet50": options.resnet_seeds}
    protocol = Protocol({name: recipes[name] for name, count in seeds.items() if count}, seeds,
                        {"epochs": 2, "train_limit": 12000}, options.images)
    study = study_methods(protocol, options.data, METHODS, options.folder, options.store, options.processes,
                          options.seconds)
    print(f"{study.missing} trainings still to be done")
    if study.outcomes.empty:
        return
    for network, own in study.outcomes.groupby("network", sort=False):
        print(network, narrative.method_table(own, list(OUTCOMES)), sep="\n")
    if set(study.outcomes.query("network == 'compact'")["method"]) != set(METHODS):
        return
    known = study.outcomes[study.outcomes["network"] == study.outcomes["arch"]][["network", "method"]].drop_duplicates()
    configs = {key: chosen(protocol, study.tuning, *key) for key in known.itertuples(index=False, name=None)}
    took = kept(options.folder / "costs.csv", lambda: costs(configs, faces))
    print(took.to_string())
    lengths = {name: f"{recipe.arch}, {recipe.epochs} epochs" for name, recipe in protocol.recipes.items()}
    named = study.outcomes.replace({"network": lengths})
    tables = {"tuning": study.tuning, "outcomes": named, "costs": took}
    limit = f" --train-limit {options.train_limit}" * bool(options.train_limit)
    results.keep("05_class_ambiguity", faces, recipe, {
        name: table.set_index(table.columns[0]) for name, table in tables.items()}, part="methods",
        command=f"python benchmarks/methods.py --data path/to/{Path(faces.source).name} --epochs {options.epochs} "
                f"--long-epochs {options.long_epochs} --images {options.images}{limit}")


if __name__ == "__main__":
    main()
