"""Does everything run on the device, and how fast? Each piece in a process of its own, several at a time."""
import sys, time, traceback, itertools, dataclasses, multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor, as_completed
import common, torch
from fer_helpers.config import TrainConfig
from fer_helpers.methods import METHODS, with_method, stress
from fer_helpers.models import create_model
from fer_helpers.runs import train_run
from fer_helpers.training import Trainer, choose_precision, prepare_faces, _quick, _batches
from fer_helpers.parallel import team
from fer_helpers.augment import draw, policy
device = sys.argv[1]; STEPS = 60 if device == "cuda" else 5
R = {"compact": dict(optimizer="muon", lr=0.16, progressive=True), "resnet50": dict(optimizer="adam"), "vgg16": dict(optimizer="adam")}
def config(arch, method="plain"):
    return with_method(TrainConfig(arch=arch, classes=6, schedule="onecycle", augmentation="standard", epochs=4, train_limit=12000 if device == "cuda" else 600, **R[arch]), method)
def sync():
    if device == "cuda": torch.cuda.synchronize()
def steps_of(c, view, recorded, seed=1, count=STEPS):
    teacher = create_model(c.teacher, 6, seed=0).eval() if c.teacher else None
    with torch.random.fork_rng(devices=[0] if device == "cuda" else []), _quick(device):
        trainer = Trainer(c, view.only("train"), view.only("val"), device, choose_precision("auto", device), team(), teacher)
        trainer.history = [{}] * (c.epochs - 1 if not c.pretrain_epochs else 0)  # full size
        if not recorded: trainer._work = lambda: trainer._update
        trainer.model.train(); random = torch.Generator().manual_seed(1); torch.manual_seed(1)
        order = _batches(len(trainer.hard_labels), c.batch_size, random); losses = []; begin = time.perf_counter()
        for number, index in enumerate(itertools.islice(itertools.cycle(order), count)):
            if number == 10: sync(); begin = time.perf_counter()
            losses.append(trainer.step(number, c.rate * 0.1, index, draw(len(index), random, policy(c.augmentation)))[0])
        sync(); took = (time.perf_counter() - begin) / max(count - 10, 1)
    return torch.stack(losses).cpu(), took
def piece(arch, method, both):
    t = time.perf_counter()
    torch.set_num_threads(1)
    if device == "cuda": torch.cuda.set_per_process_memory_fraction(0.12)
    try:
        faces = common.load(); c = config(arch, method); view = prepare_faces(c, faces)
        out = []
        for recorded in ((True, False) if both else (True,)):
            try:
                losses, took = steps_of(c, view, recorded)
                out.append(f"{'graph' if recorded else 'eager'} {took * 1e3:.2f} ms, loss {losses[0]:.4f} {losses[4]:.4f} {losses[9 % len(losses)]:.4f} {losses[-1]:.4f}")
            except Exception as e:
                out.append(f"{'graph' if recorded else 'eager'} FAILED {type(e).__name__} {str(e)[:200]} {traceback.extract_tb(e.__traceback__)[-1]}")
        return f"{arch} {method}: " + " | ".join(out) + f" [{time.perf_counter() - t:.1f} s]"
    except Exception as e:
        return f"{arch} {method}: FAILED {type(e).__name__} {str(e)[:300]}"
def whole(arch, method):
    import tempfile
    torch.set_num_threads(1); faces = common.load(); c = config(arch, method)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as store:
        a = time.perf_counter(); r = train_run(c, faces, store, device, False); b = time.perf_counter(); stress(r, faces, 500, device); d = time.perf_counter(); stress(r, faces, 499, device)
        return f"WHOLE {arch} {method}: run {b - a:.1f} s, train {r.environment['train_seconds']:.1f} s, epochs {[round(s, 2) for s in r.history['seconds']]}, {r.metrics['test'].accuracy}, stress {d - b:.1f} again {time.perf_counter() - d:.1f}, {r.environment['precision']}"
if __name__ == "__main__":
    start = time.perf_counter(); torch.set_num_threads(1); common.load(); print("loaded", round(time.perf_counter() - start, 1), torch.__version__, flush=True)
    workers = int(sys.argv[2])
    faces = common.load()
    for arch in ("compact", "resnet50"):  # alone
        view = prepare_faces(config(arch), faces)
        for recorded in (True, False):
            try: losses, took = steps_of(config(arch), view, recorded); print(f"ALONE {arch} {'graph' if recorded else 'eager'} {took * 1e3:.2f} ms, loss {losses[0]:.4f} {losses[-1]:.4f}", round(time.perf_counter() - start, 1), flush=True)
            except Exception as e: print("ALONE", arch, recorded, "FAILED", type(e).__name__, str(e)[:300], flush=True)
    tasks = [("compact", m, True) for m in METHODS] + [("resnet50", m, m in ("plain", "regions", "guided")) for m in METHODS if m != "distilled"]
    with ProcessPoolExecutor(workers, mp.get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = [pool.submit(whole, "compact", "plain"), pool.submit(whole, "resnet50", "plain")] + [pool.submit(piece, *t) for t in tasks]
        for f in as_completed(futures):
            try: print(f.result(), round(time.perf_counter() - start, 1), flush=True)
            except Exception as e: print("BROKEN", type(e).__name__, str(e)[:300], flush=True)
    print("total", round(time.perf_counter() - start, 1))
