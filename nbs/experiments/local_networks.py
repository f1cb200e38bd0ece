"""Trains networks of the scorer `local` on other local changes, for the page experiments/local. It looks at labels; the
kit does not.

    python nbs/experiments/local_networks.py ../shared/data [SET ...] [SEED ...] [WAY ...]
                                                                90 minutes on one core: results/local_networks.json

One network for each way, of `STEPS` steps, on changes of all normal images; its figures are those of its evidence
alone. Two ways show what Eq. 1 does: as the kit has it, changes that came out normal are left out (`kit`), or none are
(`all`). Two show what it does to hold the surroundings. In these, up to `REGIONS` of the normal images have one fixed
region, cut out of a whole generated image (`cut`) or generated with the rest of the image held (`held`), at the same
places and from normal images of other folds; there are fewer of these regions than the kit has generated ones.
"""
import sys, time, warnings
from itertools import product
from pathlib import Path

import torch
from nine_sets import figures, store

from grad_kit import Config, read_dataset
from grad_kit.base.compute import derive_seed, seeded, subsample
from grad_kit.closed_form.local_changes import draw_regions, local_changes, mean_around
from grad_kit.closed_form.patchmatch import inpaint_patchmatch, sample_patchmatch
from grad_kit.data.dataset import evaluation_items
from grad_kit.model.frozen import blur_matrix
from grad_kit.model.local_scorer import LocalScorer, Pool, Residuals, fit_local
from grad_kit.model.scorers import in_batches, top_mean

SETS, SEEDS = ("mvtec_pill", "mvtec_transistor", "kolektor_sdd"), (0, 1, 2)
WAYS, STEPS, REGIONS = ("kit", "all", "cut", "held"), 300, 96
CONFIG = Config.preset("cpu_fast", local_steps=STEPS)
LEVELS = CONFIG.local.levels

def generated(normal, n, seed):
    "uint8 (n,3,256,256): whole images, half of them of each level"
    c = CONFIG
    return torch.cat([sample_patchmatch(normal, level, n // 2, c.copy_reach, c.copy_rounds, c.analytic_images,
                                        c.analytic_batch, seed) for level in LEVELS])

def regions(normal, fold, seed):
    "(which images, {way: these images with a region generated, uint8})"
    rows, c = subsample(torch.arange(len(normal)), REGIONS), CONFIG
    with seeded(seed, "regions"): masks = draw_regions(normal[rows].float(), .08, .7)[:, 0] > .5
    found = dict(cut=normal[rows].clone(), held=normal[rows].clone())
    for k, (i, level) in product(fold.unique(), enumerate(LEVELS)):
        at, others = (fold[rows] == k).nonzero()[i::len(LEVELS), 0], normal[fold != k]
        x, inside, one = normal[rows[at]], masks[at], derive_seed(seed, "regions", int(k))
        whole = sample_patchmatch(others, level, len(at), c.copy_reach, c.copy_rounds, c.analytic_images,
                                  c.analytic_batch, one)
        found["cut"][at] = torch.where(inside[:, None], whole, x)
        found["held"][at] = inpaint_patchmatch(x, inside, others, level, c.copy_reach, c.copy_rounds, one)
    return rows, found

class Regions(Pool):
    "A `Pool` in which some of the images have one fixed region generated in 1.75 of 4 cases"
    def begin_with(self, rows, images):
        self.begin = self.normal.clone()
        self.begin[rows] = images
        return self

    def changed(self, own):
        x = self.normal[own].float()
        begin = torch.where((torch.rand(len(own)) < 1.75 / 4)[:, None, None, None], self.begin[own].float(), x)
        out = local_changes(begin, begin, ("piece", "part", "stain"), 2)[0]   # 1.25 changes of an image
        return out, mean_around((out - x).abs().amax(1, keepdim=True), 2)

def rows_of(ds, seed, ways):
    test, normal = evaluation_items(ds)[0], ds.split("train").images(256)
    bad, x, masks = test.labels.astype(bool), test.images(256), test.masks()
    residuals, smooth = Residuals(CONFIG).fit(normal), blur_matrix(256, CONFIG.blur)
    whole, fixed = generated(normal, 32, seed), {}
    if {*ways} - {"kit", "all"}: rows, fixed = regions(normal, residuals.fold, seed)
    scorer = LocalScorer(CONFIG)
    scorer.residuals = residuals
    def evidence(some): return [scorer.parts(some.float())[1]]
    for way in ways:
        start, c = time.time(), CONFIG.replace(local_normal_like=0.).local if way == "all" else CONFIG.local
        if way in fixed: pool = Regions(c, residuals, normal, whole, seed).begin_with(rows, fixed[way])
        else: pool = Pool(c, residuals, normal, whole, seed)
        net, losses = fit_local(pool, c, seed, progress=False)
        scorer.nets = torch.nn.ModuleList([net])
        scorer.prepare()
        m, = in_batches(evidence, x.device, x, 16)
        yield dict(set=ds.name, seed=seed, way=way, seconds=time.time() - start, loss=sum(losses[-50:]) / 50,
                   left_out=((pool.y < 0).sum() / ((pool.y < 0) | (pool.y > .1)).sum()).item(),
                   figures=figures(bad, masks, top_mean(m, CONFIG.score_top), smooth @ m @ smooth.T))

def main(data, *names):
    warnings.simplefilter("ignore")
    if odd := [n for n in names if "=" in n]: sys.exit(f"'{odd[0]}' is unknown; see\n{__doc__}")
    seeds, ways = [int(n) for n in names if n.isdigit()] or SEEDS, [n for n in names if n in WAYS] or WAYS
    for name, seed in product([n for n in names if not n.isdigit() and n not in WAYS] or SETS, seeds):
        for row in rows_of(read_dataset(Path(data)/name), seed, ways):
            store("local_networks", row, ("set", "seed", "way"), "local_networks.py DATA")

if __name__ == "__main__": main(*sys.argv[1:])
