"""Issue 5's runs on FER2013, resumable: tuning on compact, then all methods with 5 seeds on compact and 3 on ResNet50."""
import time, traceback
from fer_helpers.config import TrainConfig
from fer_helpers.methods import METHODS, study_methods
from fer_helpers.readers import load_faces
faces = load_faces("", progress=False)
common = dict(classes=6, schedule="onecycle", epochs=4, batch_size=64, train_limit=4000, augmentation="standard",
              progressive=True, label_smoothing=0.1, keep="last", val_fraction=0.02)
recipes = {"compact": TrainConfig(arch="compact", optimizer="muon", lr=0.02, **common),
           "resnet50": TrainConfig(arch="resnet50", optimizer="adam", lr=1e-3, **common)}
trial = {"train_limit": 2000, "epochs": 3, "val_fraction": 0.08}
names = [name for name in METHODS if name not in ("plain", "trivial")]
study = study_methods(recipes, faces, names, {"compact": 5, "resnet50": 3}, trial, images=150)
study.outcomes.to_csv("five_outcomes.csv"); study.tuning.to_csv("five_tuning.csv"); study.costs.to_csv("five_costs.csv")
print("done", time.strftime("%H:%M:%S"), flush=True)
