"""Trains networks of the scorer `local` with its form of Eq. 1 and without, for the page experiments/local. It looks at
labels; the kit does not.

    python nbs/experiments/local_networks.py ../shared/data [SET ...] [SEED ...]
                                                                40 minutes on one core: results/local_networks.json

One network of `STEPS` steps, on changes of all normal images; its figures are those of its evidence alone. Changed
cells that look normal are left out (`local_normal_like` .95, as in the kit), or none are (0).
"""
import sys, time, warnings
from itertools import product
from pathlib import Path

import torch
from nine_sets import figures, store

from grad_kit import Config, read_dataset
from grad_kit.closed_form.patchmatch import sample_patchmatch
from grad_kit.data.dataset import evaluation_items
from grad_kit.model.frozen import blur_matrix
from grad_kit.model.local_scorer import LocalScorer, Pool, fit_local
from grad_kit.model.scorers import in_batches, top_mean

SETS, SEEDS, STEPS = ("kolektor_sdd", "aitex_02", "mvtec_pill"), (0, 1, 2), 300

def rows_of(ds, seed):
    test, normal, c = evaluation_items(ds)[0], ds.split("train").images(256), Config.preset("cpu", local_steps=STEPS)
    bad, x, masks, smooth = test.labels.astype(bool), test.images(256), test.masks(), blur_matrix(256, c.blur)
    scorer = LocalScorer(c)
    scorer.residuals.fit(normal)
    generated = torch.cat([sample_patchmatch(normal, n, c.n_contrastive, c.copy_reach, c.copy_rounds, c.analytic_images,
                                             c.analytic_batch, seed) for n in c.local.levels])
    for like in (c.local.normal_like, 0.):
        start, settings = time.time(), c.replace(local_normal_like=like).local
        pool = Pool(settings, scorer.residuals, normal, generated, seed)
        scorer.nets = torch.nn.ModuleList([fit_local(pool, settings, seed, progress=False)[0]])
        scorer.prepare()
        m, = in_batches(lambda some: [scorer.parts(some.float())[1]], x.device, x, 16)
        changed = (pool.y < 0) | (pool.y > .1)
        yield dict(set=ds.name, seed=seed, normal_like=like, seconds=time.time() - start,
                   left_out=((pool.y < 0).sum() / changed.sum()).item(),
                   figures=figures(bad, masks, top_mean(m, c.score_top), smooth @ m @ smooth.T))

def main(data, *names):
    warnings.simplefilter("ignore")
    if odd := [n for n in names if "=" in n]: sys.exit(f"'{odd[0]}' is unknown; see\n{__doc__}")
    seeds = [int(n) for n in names if n.isdigit()] or SEEDS
    for name, seed in product([n for n in names if not n.isdigit()] or SETS, seeds):
        for row in rows_of(read_dataset(Path(data)/name), seed):
            store("local_networks", row, ("set", "seed", "normal_like"), "local_networks.py DATA")

if __name__ == "__main__": main(*sys.argv[1:])
