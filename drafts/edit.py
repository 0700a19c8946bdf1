import nbformat, re, sys
from nbformat.v4 import new_code_cell as C, new_markdown_cell as M
ROOT="notebooks/"
def load(n): return nbformat.read(f"{ROOT}{n}.ipynb",4)
def save(nb,n):
    k=n[:2]
    for i,c in enumerate(nb.cells): c.id=f"{k}-{i:02d}"
    nbformat.write(nb,f"{ROOT}{n}.ipynb")
def insert(nb, cells):
    at=next(i for i,c in enumerate(nb.cells) if c.cell_type=="markdown" and c.source.startswith("## In this notebook"))
    while at>0 and any("## On photographs" in c.source for c in nb.cells[:at]):   # replace an earlier version
        start=next(i for i,c in enumerate(nb.cells) if c.source.startswith("## On photographs"))
        del nb.cells[start:at]; at=start
    nb.cells[at:at]=cells
def param(nb):
    c=next(c for c in nb.cells if c.metadata.get("tags")==["parameters"])
    if "record =" not in c.source:
        c.source=c.source.replace("\ndata = ",'\nrecord = False            # keep what photographs show in data/results, for readers without them\ndata = ')
def sub(nb, *pairs):
    for a,b in pairs:
        hit=[c for c in nb.cells if a in c.source]
        if b and any(b in c.source for c in nb.cells): continue
        assert hit,a
        hit[0].source=hit[0].source.replace(a,b,1)
