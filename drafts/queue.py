"""Real-data runs of 03 and 04, in order of worth; resumable: a finished run is skipped."""
import sys, time, traceback
from fer_helpers.config import TrainConfig
from fer_helpers.readers import load_faces
from fer_helpers.runs import train_run
from fer_helpers.study import skewed_as_studied, step_configs
import fer_helpers; print(fer_helpers.__file__, flush=True)
faces = load_faces("", progress=False)
plan = []
skewed = skewed_as_studied(faces, 6, 0)
def steps(arch):
    return [(n, c, skewed if s else faces) for n, c, s in step_configs(arch, 6, 10, 8822)]
def proto(arch):
    return ("protocol " + arch, *steps(arch)[0][1:])
def cell(arch, classes, seed):
    return (f"03 {arch} {classes} {seed}", TrainConfig(arch=arch, optimizer="adam", schedule="onecycle", classes=classes,
            epochs=2, augmentation="flip", batch_size=32, seed=seed, train_limit=5000), faces)
ARCHS = ("simple_cnn", "compact", "resnet50", "vgg16", "vgg19")
def best(classes):
    return (f"05 compact {classes}", TrainConfig(arch="compact", optimizer="muon", schedule="onecycle", classes=classes,
            augmentation="standard", epochs=8, batch_size=128, seed=0, progressive=True, label_smoothing=0.1, tta="flip"), faces)
plan += [("waterfall " + n, c, d) for n, c, d in steps("simple_cnn")]
plan += [best(6), best(3), proto("resnet50"), proto("vgg19")]
plan += [cell(a, c, s) for s in range(3) for c in (6, 3) for a in ARCHS]
for name, config, data in plan:
    t = time.time()
    try:
        run = train_run(config, data, progress=False)
        print(time.strftime("%H:%M:%S"), name, round(time.time() - t), run.name, run.metrics["test"].accuracy, flush=True)
    except Exception:
        traceback.print_exc(); sys.stderr.flush()
