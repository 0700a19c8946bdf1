"""Insert the sections on methods into 05 and 06."""
import json, secrets
def load(p): return json.load(open(p))
def save(p, nb): open(p, "w").write(json.dumps(nb, indent=1, ensure_ascii=False) + "\n")
def md(s): return {"cell_type": "markdown", "id": secrets.token_hex(4), "metadata": {"tags": []}, "source": s.strip("\n").splitlines(keepends=True)}
def code(s, *tags): return {"cell_type": "code", "execution_count": None, "id": secrets.token_hex(4), "metadata": {"tags": list(tags)}, "outputs": [], "source": s.strip("\n").splitlines(keepends=True)}
import sys
root = sys.argv[1]
p = f"{root}/notebooks/05_class_ambiguity.ipynb"; nb = load(p); C = nb["cells"]
start = lambda text: next(k for k, c in enumerate(C) if "".join(c["source"]).startswith(text))
i = start("## In this notebook")
C[i:i] = [
md("""
## Do the remedies pull them apart?

The original study blamed global feature aggregation for the confusion, and named remedies without testing them: regions of the face, contrast between images, text, guided attention, robust training. Here each is a few settings of the same training (`-p method NAME` in [02](02_training.ipynb)); remedies for the labels stand beside them.
"""),
code("methods.overview()"),
md("""
On FER2013's six classes, every method was tuned by eight trials on validation images. Then it was trained with several seeds, for as many steps as plain cross-entropy and with the same augmentation unless that is the subject, and compared with it pair by pair: same seed, same test image. Intervals resample seeds and images; all tests of a network share one Holm correction.
"""),
code("""
study = findings.recall("05_class_ambiguity", part="methods")
outcomes = study["outcomes"].reset_index()
Markdown(study.origin())
"""),
code("""
shown = ["accuracy", "macro F1", "fear recall", "fear → happiness", "anger → happiness"]
for network, own in outcomes.groupby("network", sort=False):
    better = own[(own["outcome"] == "accuracy") & (own["p_holm"] < 0.05) & (own["difference"] > 0)]
    plots.headline(figures.method_outcomes(own, shown), f"{network}, photographs: {len(better)} of "
                   f"{own['method'].nunique() - 1} methods are more accurate than plain cross-entropy")
"""),
code("""
# NBVAL_CHECK_OUTPUT
Markdown("\\n\\n".join(f"**{network}**\\n\\n" + "\\n".join(
    f"- {narrative.sentence(narrative.method_findings(own, outcome))}"
    for outcome in ("accuracy", "fear → happiness", "anger → happiness"))
    for network, own in outcomes.groupby("network", sort=False)))
""", "photographs"),
code("""
Markdown("\\n\\n".join(f"**{network}**, differences in points\\n\\n{narrative.method_table(own, shown)}"
                     for network, own in outcomes.groupby("network", sort=False)))
"""),
md("""
What the trials chose, by accuracy on validation images (a method without a strength of its own was tried with and without label smoothing; factor: of the plain recipe's rate), and what a method costs relative to plain cross-entropy. A teacher's own training is not counted.
"""),
code("""
chosen = study["tuning"].groupby(level=0, sort=False).first()
costs = study["costs"].reset_index().pivot(index="method", columns="network", values=["seconds_ratio", "weights_ratio"])
chosen.loc[list(dict.fromkeys(outcomes["method"]))].join(costs.set_axis(
    [f"{network}: {what.split('_')[0]}" for what, network in costs.columns], axis=1)).round(2)
"""),
md("""
## Features without labels, a class without images

Remedies promise more than accuracy. Contrast needs no labels: is what SimCLR learns from unlabelled faces of use to a linear classifier with few labels? Text describes classes that training never saw: do the sentences about an emotion find its faces, and what are these called instead? And does either pull the classes apart in the embedding, whatever it answers?
"""),
code("""
transfer = findings.recall("05_class_ambiguity", part="transfer")
Markdown(transfer.origin())
"""),
code("""
lines, unseen, looks = (transfer[name].reset_index() for name in ("linear", "unseen", "distances"))
few = lines[lines["share"] == 0.01].set_index("way")["value"]
plots.headline(figures.label_efficiency(lines), f"photographs: with 1% of the labels, {few.idxmax()} leads");
"""),
code("""
# NBVAL_CHECK_OUTPUT
Markdown("\\n".join(f"- {narrative.sentence(text)}" for text in [
    narrative.label_efficiency(lines),
    *(narrative.unseen_class(row, list(unseen["unseen"])) for _, row in unseen.iterrows()),
    *(narrative.pulled_apart(looks, *pair) for pair in (("fear", "happiness"), ("anger", "happiness"),
                                                        ("anger", "fear"), ("fear", "surprise")))]))
"""),
]
k = next(k for k, c in enumerate(C) if "import ambiguity" in "".join(c["source"]))
C[k]["source"] = [l.replace("import ambiguity, exploration, figures, findings, geometry, narrative,", "import ambiguity, exploration, figures, findings, geometry, methods, narrative,") for l in C[k]["source"]]
save(p, nb)

p = f"{root}/notebooks/06_failure_analysis.ipynb"; nb = load(p); C = nb["cells"]
i = start("## In this notebook")
C[i:i] = [
md("""
## Does another way of learning fail more gracefully?

[05](05_class_ambiguity.ipynb) compared ways of learning by what they get right. The same runs, by how they fail: ECE, how far confidence is from accuracy; mCE, the mean error on eleven corruptions at five severities relative to the plain ResNet50's; partial faces, the share of wrong answers with a part of the face hidden; favourite region, how much accuracy falls without the region that the network needs most. The last three on the same sample of the test images for all. Label smoothing, which the trials gave to some methods ([05](05_class_ambiguity.ipynb)), moves ECE by itself.
"""),
code("""
study = findings.recall("05_class_ambiguity", part="methods")
outcomes = study["outcomes"].reset_index()
shown = ["ECE", "mCE", "partial faces", "favourite region"]
for network, own in outcomes.groupby("network", sort=False):
    clear = own[own["outcome"].isin(shown) & (own["p_holm"] < 0.05) & (own["difference"] < 0)]["method"].nunique()
    plots.headline(figures.method_outcomes(own, shown), f"{network}, photographs: {clear} of "
                   f"{own['method'].nunique() - 1} methods fail more gracefully in some way")
"""),
code("""
# NBVAL_CHECK_OUTPUT
Markdown("\\n\\n".join(f"**{network}**\\n\\n" + "\\n".join(
    f"- {narrative.sentence(narrative.method_findings(own, outcome))}" for outcome in shown
    if outcome in set(own["outcome"])) for network, own in outcomes.groupby("network", sort=False)))
""", "photographs"),
code("""
Markdown("\\n\\n".join(f"**{network}**, differences in points (mCE: a ratio)\\n\\n{narrative.method_table(own, shown)}"
                     for network, own in outcomes.groupby("network", sort=False)))
"""),
]
save(p, nb)
