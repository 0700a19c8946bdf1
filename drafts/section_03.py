"""Apply the section 'On photographs' of 03; only once its runs are recorded does the notebook pass."""
exec(open("photos.py").read())
n="03_architectures"; nb=load(n); param(nb)
sub(nb,("from fer_helpers import dynamics, figures, narrative, plots","from fer_helpers import dynamics, figures, findings, narrative, plots"))
insert(nb,[
M("""## On photographs

The same comparison on FER2013, with three seeds a network, takes hours on two cores, so it was recorded: settings, history and a prediction for every test image, no pixels. Everything below is computed from these files, in the setting of six classes and in that of three (anger, fear, happiness)."""),
C("""if record:
    findings.keep("03_architectures", faces, {
        "archs": archs, "optimizer": optimizer, "schedule": schedule, "classes": classes,
        "augmentation": augmentation, "batch_size": batch_size, "epochs": epochs, "train_limit": train_limit,
        "seeds": seeds, "early_steps": early_steps},
        {"early": pd.DataFrame({name: training.steps["loss"] for name, training in early.items()})},
        runs["run"], f"{classes}_classes")
photographs = {part: findings.recall("03_architectures", f"{part}_classes") for part in (6, 3)}
Markdown("\\n\\n".join(found.origin() for found in photographs.values()))"""),
C("""costs = model_table(photographs[6].runs["arch"].unique()).sort_values("parameters")
recorded = {part: found.runs.set_index("arch").loc[costs.index].reset_index() for part, found in photographs.items()}
reached = {part: dynamics.over_seeds(rows) for part, rows in recorded.items()}
plots.headline(figures.bar_panels({f"{part} classes": rows for part, rows in reached.items()},
                                  "test accuracy, 95% interval over seeds and images"),
               f"photographs: {reached[6]['value'].idxmax()} is ahead at this budget, from few weights to many");"""),
M("""Is ResNet50 ahead of the VGGs? Paired by seed and by image, as above; the interval covers both sources of chance."""),
C("""gaps = {(part, arch): dynamics.seed_differences(rows, "resnet50", arch)
        for part, rows in recorded.items() for arch in ("vgg16", "vgg19")}
pooled = {f"{part} classes": pd.DataFrame({f"resnet50 − {arch}": gaps[part, arch].iloc[-1]
                                           for arch in ("vgg16", "vgg19")}).T for part in recorded}
figures.bar_panels(pooled, "difference of test accuracy, 95% interval");"""),
C("""# NBVAL_CHECK_OUTPUT
text = []
for part, rows in recorded.items():
    count = rows["run"].iloc[0].metrics["test"].count
    learned = reached[part]["low"] > rows["majority"].iloc[0]
    said = [narrative.seed_difference("resnet50", arch, gaps[part, arch], count, learned["resnet50"] or learned[arch])
            for arch in ("vgg16", "vgg19")]
    said += [narrative.rank_relation(name, "mean accuracy", costs[name], reached[part]["value"])
             for name in ("parameters", "mflops")]
    text += [f"- With {part} classes, " + "; ".join(said) + "."]
Markdown("\\n".join(text))"""),
M("""And the study's example, fear called happiness, by network, over all seeds. Low alone is no merit: a network that answers a third class has a low rate too."""),
C("""fear = {part: dynamics.over_seeds(rows, "fear", "happiness") for part, rows in recorded.items()}
figures.bar_panels({f"{part} classes": rows for part, rows in fear.items()},
                   "fear called happiness, 95% interval over seeds and images");"""),
C("""# NBVAL_CHECK_OUTPUT
Markdown("\\n".join(
    f"- With {part} classes, of {shares['images'].iloc[0]:.0f} fearful faces "
    + narrative.listing(f"{arch} calls {narrative.estimate(row)} happy" for arch, row in shares.iterrows()) + "; "
    + narrative.rank_relation("mean accuracy", "the share called happy", reached[part]["value"], shares["value"])
    + "." for part, shares in fear.items()))"""),
M("""Sixteen photographs by heart: does each network start?"""),
C("""# NBVAL_CHECK_OUTPUT
early_losses = photographs[6]["early"]
Markdown("\\n".join(f"- {narrative.sentence(narrative.memorised(name, early_losses[name], math.log(6)))}"
                   for name in early_losses))"""),
])
for c in nb.cells:
    if c.source.startswith("# NBVAL_CHECK_OUTPUT\ntext = []") or c.source.startswith("# NBVAL_CHECK_OUTPUT\nMarkdown(\"\\n\".join(\n    f\"- With {part}"):
        c.metadata["tags"]=["photographs"]
line="\n\nWhat this notebook found on photographs, recorded for those who have none, stands [near its end](#On-photographs)."
if "#On-photographs" not in nb.cells[0].source: nb.cells[0].source+=line
save(nb,n)
for c in nb.cells:
    if c.cell_type=="code":
        if len(c.source.split("\n"))>15: print("LONG",n,c.id,len(c.source.split("\n")))
        for l in c.source.split("\n"):
            if len(l)>120: print("WIDE",n,c.id,len(l),l)
print([c.metadata.get("tags") for c in nb.cells if c.metadata.get("tags")])
