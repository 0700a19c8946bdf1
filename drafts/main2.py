"""The study of methods by a pool of processes that outlives failures; then what transfer.py measures beside it."""
import common
import argparse, dataclasses, itertools, os, shutil, subprocess, sys, threading, time, traceback
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
sys.path.insert(0, str(common.HERE.parent / "benchmarks"))
import torch
from fer_helpers import method_study
from fer_helpers.config import TrainConfig
from fer_helpers.methods import METHODS, OUTCOMES, with_method
from fer_helpers.runs import teacher_config, train_run
from fer_helpers.training import Trainer

parser = argparse.ArgumentParser()
for name, kind, default in (("device", str, "cuda"), ("seconds", float, 540), ("workers", int, 9), ("images", int, 500), ("epochs", int, 4), ("limit", int, 0),
                            ("trial_epochs", int, 2), ("trial_limit", int, 12000), ("seeds", int, 5), ("rseeds", int, 3), ("only", str, ""), ("base", str, "/dev/shm/fer"), ("transfer", int, 0), ("unlabelled", int, 0)):
    parser.add_argument(f"--{name}", type=kind, default=default)
o = parser.parse_args()
Path(os.environ.get("OUT", "/tmp/out")).mkdir(exist_ok=True, parents=True)
START = time.time()
STORE, FOLDER = Path(o.base) / "store", Path(o.base) / "study"

def say(*words):
    line = " ".join([f"{time.time() - START:6.1f}", *map(str, words)]); print(line, flush=True)
    with open(Path(os.environ.get("OUT", "/tmp/out")) / "log.txt", "a") as file: file.write(line + "\n")

def worker(pipe, whole):
    torch.set_num_threads(1)
    if o.device == "cuda": torch.cuda.set_per_process_memory_fraction(0.9 / (o.workers + 1))
    method_study._ours.update(faces=common.load(), store=str(STORE), device=o.device, whole=whole)
    graphs = Trainer._work
    while True:
        what, config, images, eager = pipe.recv()
        begin = time.time()
        Trainer._work = (lambda self: self._update) if eager else graphs
        try:
            if what == "teacher": train_run(config, method_study._ours["faces"], str(STORE), o.device, False); result = None
            else: result = method_study._work(config, images)
            pipe.send(("done", result, time.time() - begin))
        except BaseException as error:
            where = [f for f in traceback.extract_tb(error.__traceback__)][-1]
            pipe.send(("failed", f"{type(error).__name__}: {str(error)[:160]} {where.filename[-30:]}:{where.lineno}", time.time() - begin)); os._exit(1)

class Crew:
    one = None
    def __new__(cls, *args):
        if cls.one is None:
            cls.one = super().__new__(cls); cls.one.begin(args[3])
        return cls.one
    def begin(self, whole):
        self.context, self.whole, self.members, self.teachers, self.spent = get_context("spawn"), whole, [], [], {}
        for _ in range(o.workers): self.hire()
    def hire(self):
        here, there = self.context.Pipe()
        process = self.context.Process(target=worker, args=(there, self.whole), daemon=True); process.start()
        there.close()
        self.members.append([process, here, None])
    def __enter__(self): return self
    def __exit__(self, *trouble): pass
    def train(self, todo, images, what):
        queue = [("teacher", None, config, False) for config in self.teachers] + [(what, key, config, False) for key, config in todo]
        self.teachers = []; total, done = len(queue), 0
        while True:
            for member in self.members:
                if member[2] is None and queue and time.time() - START < o.seconds:
                    job = queue.pop(0)
                    try: member[1].send((job[0], job[2], images, job[3])); member[2] = job
                    except OSError: queue.insert(0, job); member[2] = None
            busy = [member for member in self.members if member[2]]
            if not busy or time.time() - START > o.seconds + 25: return
            for pipe in wait([member[1] for member in busy], timeout=1):
                member = next(m for m in self.members if m[1] is pipe); job, member[2] = member[2], None
                try: state, result, took = pipe.recv()
                except (EOFError, OSError): state, result, took = "failed", "the process died", 0
                if state == "failed":
                    self.members.remove(member); self.hire()
                    say("FAILED", "eager" if job[3] else "graph", job[0], job[1], job[2].arch, result)
                    if not job[3]: queue.append((*job[:3], True))
                    elif job[0] == "tuning": yield job[1], None
                    continue
                done += 1; self.spent.setdefault((job[0], job[2].arch), []).append(took)
                if done % 20 == 0: say(what, done, "of", total, {k: round(sum(v) / len(v), 1) for k, v in self.spent.items()})
                if job[0] == "teacher": continue
                if result is None: say("DIVERGED", job[1])
                if result is None and job[0] == "methods": continue
                yield job[1], result

def main():
    faces = common.load(); say("loaded", torch.__version__)
    recipe = dict(schedule="onecycle", augmentation="standard", epochs=o.epochs, train_limit=o.limit or None)
    recipes = {"compact": TrainConfig(arch="compact", optimizer="muon", lr=0.16, progressive=True, **recipe), "resnet50": TrainConfig(arch="resnet50", optimizer="adam", **recipe)}
    trial = {"epochs": o.trial_epochs, "train_limit": o.trial_limit}
    names = o.only.split(",") if o.only else list(METHODS)
    if not FOLDER.exists() and (common.HERE / "study").exists(): shutil.copytree(common.HERE / "study", FOLDER)
    FOLDER.mkdir(parents=True, exist_ok=True)
    out = Path(os.environ.get("OUT", "/tmp/out")); out.mkdir(exist_ok=True, parents=True)
    def pack():
        subprocess.run(f"tar -C {o.base} -czf /tmp/study.part study && mv /tmp/study.part {out}/study.tgz", shell=True)
    def packing():
        while True: time.sleep(40); pack()
    threading.Thread(target=packing, daemon=True).start()
    method_study._Crew = Crew
    crew = Crew(faces, None, o.device, method_study.Protocol(recipes, {}, trial, o.images).whole)
    if "distilled" in names:
        crew.teachers = [teacher_config(dataclasses.replace(with_method(recipes["compact"], "distilled"), seed=seed)) for seed in range(o.seeds) if not (FOLDER / "compact" / f"distilled-{seed}.csv.gz").exists()]
    study = method_study.study_methods(method_study.Protocol(recipes, {"compact": 0, "resnet50": 0}, trial, o.images), faces, names, FOLDER, str(STORE), o.workers)
    say("tuned", study.missing)
    best = study.tuning.groupby("method")["val_accuracy"].max(); print(best.round(4).to_dict())
    names = [name for name in names if best.get(name, 0) > 0]
    other = None
    if o.transfer:
        code = f"import sys; sys.path[:0] = [{str(common.HERE)!r}, {str(common.HERE.parent / 'benchmarks')!r}]; import types; m = types.ModuleType('cleanlab'); f = types.ModuleType('cleanlab.filter'); f.find_label_issues = f.get_label_quality_scores = None; sys.modules.update({{'cleanlab': m, 'cleanlab.filter': f, 'cleanlab.rank': f}}); import common, torch; torch.set_num_threads(5); torch.cuda.is_available() and torch.cuda.set_per_process_memory_fraction({0.9 / (o.workers + 1)}); import transfer; transfer.load_faces = lambda _: common.load(); sys.argv = ['transfer', '--folder', {str(FOLDER)!r}, '--store', {str(STORE)!r}]; transfer.main()"
        other = subprocess.Popen([sys.executable, "-c", code], stdout=open(out / "transfer.log", "w"), stderr=subprocess.STDOUT)
    study = method_study.study_methods(method_study.Protocol(recipes, {"compact": o.seeds, "resnet50": o.rseeds}, trial, o.images), faces, names, FOLDER, str(STORE), o.workers)
    say("missing", study.missing)
    for network in ("compact", "resnet50"):
        say(network, {name: len(list((FOLDER / network).glob(f"{name}-*.csv.gz"))) for name in names} if (FOLDER / network).exists() else 0)
    if other:
        while other.poll() is None and time.time() - START < o.seconds + 15: time.sleep(1)
        say("transfer", other.poll(), sorted(p.name for p in FOLDER.glob("*-*.csv"))); other.poll() is None and other.kill()
    for process, _, _ in crew.members: process.kill()
    pack(); say("packed", (out / "study.tgz").stat().st_size // 1024, "KiB")
    if len(study.outcomes):
        part = study.outcomes[study.outcomes["outcome"].isin(["accuracy", "fear recall", "fear → happiness", "mCE"])]
        print(part.pivot(index=["network", "method"], columns="outcome", values="value").round(4).to_string())

if __name__ == "__main__":
    main(); os._exit(0)
