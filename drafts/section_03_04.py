exec(open("drafts/edit.py").read())
n="03_architectures"; nb=load(n); param(nb)
sub(nb,("from fer_helpers import dynamics, figures, narrative, plots","from fer_helpers import dynamics, figures, findings, narrative, plots"))
insert(nb,[
M("""## On photographs

The same comparison on FER2013, with three seeds a network, takes hours on two cores, so it was recorded: settings, history and a prediction for every test image, no pixels. Everything below is computed from these files, in the setting of six classes and in that of three (anger, fear, happiness)."""),
C("""if record:
    findings.keep("03_architectures", faces, {
        "archs": archs, "seeds": seeds, "classes": classes, "optimizer": optimizer, "schedule": schedule,
        "augmentation": augmentation, "batch_size": batch_size, "epochs": epochs, "train_limit": train_limit},
        {}, runs["run"], f"{classes}_classes")
photographs = {f"{part} classes": findings.recall("03_architectures", f"{part}_classes") for part in (6, 3)}
Markdown("\\n\\n".join(found.origin() for found in photographs.values()))"""),
C("""recorded = {name: found.runs.assign(size=found.runs["arch"].map(sizes["parameters"])).sort_values(["size", "seed"])
            for name, found in photographs.items()}
figures.bar_panels({name: dynamics.over_seeds(rows) for name, rows in recorded.items()},
                   "test accuracy, 95% interval over seeds and images");"""),
M("""Is ResNet50 ahead of the VGGs? Paired by seed and by image, as above; the interval covers both sources of chance."""),
C("""gaps = {(name, arch): dynamics.seed_differences(rows, "resnet50", arch)
        for name, rows in recorded.items() for arch in ("vgg16", "vgg19")}
pooled = {name: pd.DataFrame({f"resnet50 − {arch}": gaps[name, arch].iloc[-1] for arch in ("vgg16", "vgg19")}).T
          for name in recorded}
figures.bar_panels(pooled, "difference of test accuracy, 95% interval");"""),
C("""# NBVAL_CHECK_OUTPUT
text = []
for name, rows in recorded.items():
    images = rows["run"].iloc[0].metrics["test"].count
    said = [narrative.seed_difference("ResNet50", arch, gaps[name, arch], images) for arch in ("vgg16", "vgg19")]
    shares = dynamics.over_seeds(rows)
    said.append(narrative.rank_relation("the number of parameters", "mean accuracy",
                                        sizes["parameters"][shares.index], shares["value"]))
    text += [f"- With {name}: " + "; ".join(said) + "."]
Markdown("\\n".join(text))"""),
M("""And the study's example, fear called happiness, by network, over all seeds:"""),
C("""fear = {name: dynamics.over_seeds(rows, "fear", "happiness") for name, rows in recorded.items()}
figures.bar_panels(fear, "fear called happiness, 95% interval over seeds and images");"""),
C("""# NBVAL_CHECK_OUTPUT
Markdown("\\n".join(
    f"- With {name}, of {shares['images'].iloc[0]} fearful faces: "
    + narrative.listing(f"{arch} calls {narrative.estimate(row)} happy" for arch, row in shares.iterrows()) + "."
    for name, shares in fear.items()))"""),
])
save(nb,n)
n="04_optimization"; nb=load(n); param(nb)
sub(nb,("from fer_helpers import dynamics, figures, narrative, plots, rates","from fer_helpers import dynamics, figures, findings, narrative, plots, rates"),
 ("from fer_helpers.study import (nearest_constant, run_protocol, run_study, step_gains, unpaired_accuracy,\n                               with_reported)","from fer_helpers.study import (nearest_constant, recorded_study, run_protocol, run_study, step_gains,\n                               unpaired_accuracy, with_reported)"),
 ("protocol = {arch: run.metrics[\"test\"] for arch, run in\n            run_protocol(faces, collapse_archs, classes, epochs, train_limit, seed).items()}","protocol_runs = run_protocol(faces, collapse_archs, classes, epochs, train_limit, seed)\nprotocol = {arch: run.metrics[\"test\"] for arch, run in protocol_runs.items()}"),
 ("""Markdown(f"If their order were lost, the trained network's answers would score {unpaired_accuracy(end):.1%} in place "
         f"of {end.accuracy.percent}, and the protocol's {unpaired_accuracy(start):.1%} in place of "
         f"{start.accuracy.percent} ({end.count:,} images).")""",
  """Markdown(f"If their order were lost, the trained network's answers would score {unpaired_accuracy(end).value:.1%} in "
         f"place of {end.accuracy.percent}, and the protocol's {unpaired_accuracy(start).value:.1%} in place of "
         f"{start.accuracy.percent} ({end.count:,} images).")"""))
insert(nb,[
M("""## On photographs

The same on FER2013, recorded run by run: the protocol with the study's three networks, its ingredients exchanged one at a time for the smallest of them, and the grid of optimizers and schedules."""),
C("""if record:
    findings.keep("04_optimization", faces, {
        "grid_arch": grid_arch, "study_arch": study_arch, "collapse_archs": collapse_archs, "epochs": epochs,
        "train_limit": train_limit, "tune_limit": tune_limit, "tune_epochs": tune_epochs, "range_steps": range_steps,
        "optimizers": optimizers, "schedules": schedules},
        {"grid": runs[["optimizer", "schedule", "lr", "test_accuracy", "test_low", "test_high"]],
         "constant": constant}, [*study["run"], *protocol_runs.values()])
photographs = findings.recall("04_optimization")
Markdown(photographs.origin())"""),
M("""### Does the protocol explain the reported figures?

Left, the answers that each network gives under the protocol; right, what it recognises of every class."""),
C("""kept = {run.config.arch: run.metrics["test"] for run in photographs.runs["run"]
        if run.config.loss == "binary_cross_entropy"}
figures.collapse({f"{arch}, protocol": scores for arch, scores in kept.items()});"""),
C("""# NBVAL_CHECK_OUTPUT
text = [narrative.against_report(arch, scores, REPORTED[arch], unpaired_accuracy(scores))
        for arch, scores in kept.items()]
Markdown("\\n".join(f"- {narrative.sentence(line)}" for line in text))"""),
M("""Two simple accidents give a low figure whatever a network has learned. A *constant answer* scores the share of its class. *Lost order* (predictions from a shuffled generator held against labels in their original order, an error that is easy to make with image folders) pairs answers with other images' labels: what remains is the chance that two draws agree. Neither can be proved from three accuracies; both can be compared with them."""),
C("""small = next(arch for arch in kept if len(photographs.runs.query("arch == @arch")) > 1)
steps = recorded_study(photographs.runs, small)
plots.waterfall(with_reported(steps, small), title=f"{small} on photographs: from what was reported to what it can");"""),
C("""# NBVAL_CHECK_OUTPUT
Markdown(f"Of {small}'s steps on photographs, {narrative.worth(step_gains(steps))} "
         f"({steps['run'].iloc[0].metrics['test'].count:,} test images, paired).")"""),
C("""ends = [steps["run"].iloc[place].metrics["test"].rate("fear", "happiness") for place in (0, -1)]
Markdown(f"Fear called happiness by {small}: {ends[0].percent} under the protocol, {ends[1].percent} after all "
         "changes.")"""),
C("""table = photographs["grid"].pivot(index="optimizer", columns="schedule", values="test_accuracy")
rate = photographs["grid"].groupby("optimizer")["lr"].first()
plots.heatmap(table.rename(index=lambda name: f"{name} ({rate[name]:g})"), "test accuracy on photographs");"""),
])
sub(nb,("import pandas as pd\nfrom IPython.display import Markdown","import pandas as pd\nfrom IPython.display import Markdown"),)
c=[c for c in nb.cells if "from fer_helpers.study import (nearest" in c.source][0]
if "REPORTED" not in c.source: c.source=c.source.replace("from fer_helpers.study import (nearest_constant, recorded_study,","from fer_helpers.study import (REPORTED, nearest_constant, recorded_study,").replace("run_protocol, run_study, step_gains,\n                               unpaired_accuracy, with_reported)","run_protocol, run_study,\n                               step_gains, unpaired_accuracy, with_reported)")
print(c.source)
save(nb,n)
for n in ("03_architectures","04_optimization"):
    for c in load(n).cells:
        if c.cell_type=="code":
            if len(c.source.split("\n"))>15: print("LONG",n,c.id,len(c.source.split("\n")))
            for l in c.source.split("\n"):
                if len(l)>120: print("WIDE",n,c.id,len(l),l)
