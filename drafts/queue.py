"""Real-data runs of 03 and 04, in order of worth; resumable: a finished run is skipped."""
import sys, time, traceback
from fer_helpers.config import TrainConfig
from fer_helpers.readers import load_faces
from fer_helpers.runs import train_run
from fer_helpers.study import steps
import fer_helpers; print(fer_helpers.__file__, flush=True)
faces = load_faces("", progress=False)
plan = []
def proto(arch):
    return ("protocol " + arch, *next(iter(steps(arch, faces, 6, 10, 8822)))[1:])
def cell(arch, classes, seed):
    return (f"03 {arch} {classes} {seed}", TrainConfig(arch=arch, optimizer="adam", schedule="onecycle", classes=classes,
            epochs=2, augmentation="flip", batch_size=64, seed=seed, train_limit=12000), faces)
ARCHS = ("simple_cnn", "compact", "resnet50", "vgg16", "vgg19")
plan += [("waterfall " + n, c, d) for n, c, d in steps("simple_cnn", faces, 6, 10, 8822)]
def best(classes):
    return (f"05 compact {classes}", TrainConfig(arch="compact", optimizer="muon", schedule="onecycle", classes=classes,
            augmentation="standard", epochs=8, batch_size=128, seed=0, progressive=True, label_smoothing=0.1, tta="flip"), faces)
plan += [best(6), best(3)]
plan += [proto("resnet50")]
plan += [cell(a, 6, 0) for a in ARCHS]
plan += [proto("vgg19")]
plan += [cell(a, 3, 0) for a in ARCHS]
for s in (1, 2):
    plan += [cell(a, c, s) for c in (6, 3) for a in ARCHS]
for name, config, data in plan:
    t = time.time()
    try:
        run = train_run(config, data, progress=False)
        print(time.strftime("%H:%M:%S"), name, round(time.time() - t), run.name, run.metrics["test"].accuracy, flush=True)
    except Exception:
        traceback.print_exc(); sys.stderr.flush()
