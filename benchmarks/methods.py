"""All methods on FER2013's six classes under one protocol: tuned, then trained with several seeds on two networks.

Hours on two cores, minutes on a GPU; whatever is finished is kept at once among the recorded results, and the command
goes on from there. Once a seed of every method is finished, so are the tables, as findings.

    python benchmarks/methods.py --data FOLDER [--folder FOLDER] [--processes 2] [--seconds 3600] [--seeds 5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fer_helpers import findings, narrative
from fer_helpers.config import TrainConfig
from fer_helpers.method_study import Protocol, study_methods
from fer_helpers.methods import METHODS, OUTCOMES
from fer_helpers.readers import load_faces
from fer_helpers.runs import results_folder

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


def main() -> None:
    parser = study_options(__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--train-limit", type=int, default=None, help="train images; all by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after these")
    parser.add_argument("--seeds", type=int, default=5, help="of the compact network")
    parser.add_argument("--resnet-seeds", type=int, default=3, help="0 leaves it out")
    parser.add_argument("--images", type=int, default=500, help="test images that are corrupted and hidden")
    options = parser.parse_args()
    faces = load_faces(options.data)
    recipe = dict(schedule="onecycle", augmentation="standard", epochs=options.epochs, train_limit=options.train_limit)
    seeds = {"compact": options.seeds, "resnet50": options.resnet_seeds}
    recipes = {arch: TrainConfig(arch=arch, **recipe, **RECIPES[arch]) for arch, count in seeds.items() if count}
    protocol = Protocol(recipes, seeds, {"epochs": 2, "train_limit": 12000}, options.images)
    study = study_methods(protocol, faces, METHODS, options.folder, options.store, options.processes, options.seconds)
    print(f"{study.missing} trainings still to be done")
    if study.outcomes.empty:
        return
    for network, own in study.outcomes.groupby("network", sort=False):
        print(network, narrative.method_table(own, list(OUTCOMES)), sep="\n")
    print(study.costs.to_string())
    if set(study.outcomes.query("network == 'compact'")["method"]) != set(METHODS):
        return
    tables = {"tuning": study.tuning, "outcomes": study.outcomes, "costs": study.costs}
    findings.keep("05_class_ambiguity", faces, recipe, {
        name: table.set_index(table.columns[0]) for name, table in tables.items()}, part="methods",
        command=f"python benchmarks/methods.py --data path/to/{Path(faces.source).name} --epochs {options.epochs} "
                f"--train-limit {options.train_limit} --images {options.images}")


if __name__ == "__main__":
    main()
