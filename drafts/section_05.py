"""Draft: 05's section on methods; needs findings.keep(..., part="methods") to have been run on photographs."""
import json
p="notebooks/05_class_ambiguity.ipynb"; nb=json.load(open(p)); C=nb["cells"]
def md(s): return {"cell_type":"markdown","id":"x","metadata":{"tags":[]},"source":s.splitlines(keepends=True)}
def code(s,*tags): return {"cell_type":"code","execution_count":None,"id":"x","metadata":{"tags":list(tags)},"outputs":[],"source":s.splitlines(keepends=True)}
i=next(k for k,c in enumerate(C) if "".join(c["source"]).startswith("## On photographs"))
C[i:i]=[md("""## Does another way of learning pull the confused classes apart?

The original study ends by blaming global feature aggregation, and names remedies: regions, contrast, text, attention, robustness. Each is a few settings of the same training. Every one gets eight trials on validation images, then as many steps as plain cross-entropy with several seeds, and is compared with it, paired by seed and image; intervals cover both, and all tests of a network share one Holm correction. `compare` names those to train: none by default, for it takes hours. What was measured on photographs stands near the end."""),
code("""methods.overview()"""),
code("""study = None
if compare:
    recipes = {name: TrainConfig(classes=6, **compare_recipe | own) for name, own in compare_networks.items()}
    study = methods.study_methods(recipes, faces, compare, compare_seeds, compare_trial)
    for name, own in study.outcomes.groupby("network", sort=False):
        plots.headline(figures.method_outcomes(own, SHOWN), f"{name}: methods against plain cross-entropy")
Markdown("No method is trained here." if study is None else narrative.method_table(study.outcomes, SHOWN))""")]
open(p,"w").write(json.dumps(nb,indent=1,ensure_ascii=False)+"\n")
