"""The paper's detector with local negatives: its contrastive images are normal images with many local changes, so that
most of their patches are normal, which is what Eq. 1 is for. It looks at labels; the kit does not.

    python nbs/experiments/local_negatives.py ../shared/data [SET ...] [SEED ...]   70 minutes on one core
"""
import json, sys, warnings
from itertools import product
from pathlib import Path

import torch

from grad_kit import GRAD, Config, read_dataset
from grad_kit.base.compute import device_name, seeded
from grad_kit.closed_form.local_changes import local_changes
from grad_kit.data.dataset import evaluation_items
from grad_kit.evaluate.metrics import BASELINES
from grad_kit.model.generators import register_generator
from nine_sets import RESULTS, figures

SETS = "mvtec_pill", "mvtec_transistor", "mvtec_bottle"

@register_generator("local")
def generate_local(model, normal, level, n, bar):
    "(n,3,S,S) uint8: normal images with up to nine local changes, of all kinds but generated ones"
    made = []
    with seeded(model.seed, "local negatives", level), torch.no_grad():
        while sum(map(len, made)) < n:
            own, other = torch.randint(len(normal), (2, 32))
            x, others = normal[own].float(), normal[other].float()
            for _ in range(3): x, _ = local_changes(x, others, others, ("piece", "part", "stain"))
            made.append(x.to(torch.uint8))
            bar.update(len(x))
    return torch.cat(made)[:n]

BASE = dict(image_size=128, detector_levels=(34,), contrastive_levels=((9,),), scorers=("detector",), score_top=.01,
            blur=4., n_contrastive=256, detector_steps=1000, detector_width=.5, detector_lr=5e-4, patches=32,
            images_per_set=2, beta_density=-1., reweight_after=.5, tail_reweighting=False, alpha_1=0., alpha_2=0.)
KINDS = {"whole images": dict(generator="patchmatch"), "local, Eq. 1": dict(generator="local"),
         "local, equal weights": dict(generator="local", noisy_reweighting=False)}

def measure(ds, seed):
    test = evaluation_items(ds)[0]
    bad, x, masks, normal = test.labels.astype(bool), test.images(128), test.masks(), ds.split("train").images(128)
    for kind, changes in KINDS.items():
        model = GRAD(Config(**BASE | changes), seed, "cpu").fit(ds, progress=False)
        r = model.score_pixels(x)
        yield dict(set=ds.name, seed=seed, kind=kind, seconds=model.seconds_, beta=model.beta_[34],
                   normal_like=model.scorers_["detector"].normal_like[34][9],
                   figures=figures(bad, masks, r.image_score, r.anomaly_map))
    if not seed:
        for kind, f in BASELINES.items():
            yield dict(set=ds.name, seed=seed, kind=kind, figures=figures(bad, masks, *f(normal, x)[::-1]))

def main(data, *names):
    warnings.simplefilter("ignore")
    rows, about = [], dict(command="python nbs/experiments/local_negatives.py DATA", torch=torch.__version__,
                           device=device_name(torch.device("cpu")), threads=torch.get_num_threads())
    seeds = [int(n) for n in names if n.isdigit()] or [0, 1, 2]
    for seed, name in product(seeds, [n for n in names if not n.isdigit()] or SETS):
        for row in measure(read_dataset(Path(data)/name), seed):
            print(row, flush=True)
            rows.append(row)
        (RESULTS/"local_negatives.json").write_text(json.dumps(dict(about, rows=rows), indent=1) + "\n")

if __name__ == "__main__": main(*sys.argv[1:])
