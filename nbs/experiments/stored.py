"""What the experiment notebooks share: they read the files in `results/`, made of the cells that `grad_ablate` wrote,
and show them"""
import json
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib_inline.backend_inline import set_matplotlib_formats

from grad_kit.evaluate.report import baselines_table
from grad_kit.lab.ablate import ablation_table, ablation_values, difference_table

set_matplotlib_formats("jpeg", pil_kwargs=dict(quality=75))  # small files
RESULTS = Path(__file__).parent/"results"

def read(name): return json.loads((RESULTS/f"{name}.json").read_text())

def origin(r):
    "Data, protocol, seeds, step and machine of a result's cells, in a line"
    c, seeds = r["cells"][0], sorted({x["seed"] for x in r["cells"]})
    return (f"{c['data']}, protocol '{c['protocol']}', seeds {', '.join(map(str, seeds))}, last step, "
            f"{c['device']}, torch {c['torch']}")

def show(name, against="first"):
    "The command that makes a stored result again, its table, and its differences"
    r = read(name)
    print(f"$ {r['command']}\n{origin(r)}\n")
    print(ablation_table(r["cells"]))
    if len(r["variants"]) > 1: print("\n" + difference_table(r["cells"], against))

def baselines(name, variant=None):
    """A stored variant (None: the last), each of its scorers and the baselines, means over its seeds, with the scorers'
    weights"""
    r = read(name)
    cells = [c for c in r["cells"] if c["variant"] == (variant or r["cells"][-1]["variant"])]
    weights = {k: sum(c["weights"][k] for c in cells) / len(cells) for k in cells[0]["weights"]}
    weights = ", ".join(f"{k} {v:.2f}" for k, v in weights.items())
    print(f"$ {r['command']}\n{origin(dict(cells=cells))}; weights {weights}\n")
    print(baselines_table(cells), "\n")

def noise_floor(x):  # (N,3,H,W)
    "(N,): log of the median absolute Laplacian"
    laplace = 4 * x[..., 1:-1, 1:-1] - x[..., :-2, 1:-1] - x[..., 2:, 1:-1] - x[..., 1:-1, :-2] - x[..., 1:-1, 2:]
    return laplace.abs().flatten(1).median(1).values.add(1e-3).log()

def values(name): return ablation_values(read(name)["cells"])

def means(name, column):
    "{variant: mean over the seeds}"
    return {v: sum(c[column]) / len(c[column]) for v, c in values(name).items()}

def over_normals(name):
    "Image and pixel AUROC over the number of normal images: each generator's mean as a line, its seeds as dots"
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, column in zip(axes, ("image AUROC", "pixel AUROC")):
        for generator, color in zip(("trained", "training-free", "both"), ("tab:blue", "tab:orange", "tab:green")):
            points = {int(v.split(", ")[1].split()[0]): c[column]   # "trained, 20 normal images"
                      for v, c in values(name).items() if v.startswith(generator + ",")}
            for n, y in points.items(): ax.plot([n] * len(y), y, "o", ms=3, color=color, alpha=.5)
            ax.plot(list(points), [sum(y) / len(y) for y in points.values()], "o-", color=color, label=generator)
        ax.set(title=column, xlabel="normal images", xscale="log")
        ax.set_xticks(list(points), list(points))
        ax.minorticks_off()
        ax.grid(alpha=.25)
    axes[1].legend(title="PatchDiff", loc="upper left", bbox_to_anchor=(1.02, 1))
    plt.close(fig)  # else it is drawn twice
    return fig
