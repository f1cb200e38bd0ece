"""Trains networks of the scorer `local` on other changes than the kit does, for the page experiments/local. It looks at
labels; the kit does not.

    python nbs/experiments/local_networks.py ../shared/data WAYS [SET ...] [SEED ...]     results/local_networks.json

One network of `STEPS` steps for each way, on changes of all normal images; its figures are those of its evidence alone.
WAYS: `eq1` (with the kit's form of Eq. 1 and without; 40 minutes on one core), `kinds` (without each kind of change,
and with whole generated images; 110 minutes), `quantile` (of what Eq. 1 leaves out; 55 minutes) or `regions` (12).
"""
import sys, time, warnings
from itertools import product
from pathlib import Path

import torch
from nine_sets import SETS, figures, store

from grad_kit import Config, read_dataset
from grad_kit.base.compute import seeded
from grad_kit.closed_form.local_changes import draw_regions, local_changes, mean_around
from grad_kit.closed_form.patchmatch import inpaint_patchmatch, sample_patchmatch
from grad_kit.data.dataset import evaluation_items
from grad_kit.model.frozen import blur_matrix
from grad_kit.model.local_scorer import LocalScorer, Pool, fit_local
from grad_kit.model.scorers import in_batches, top_mean

STEPS, KINDS, WHOLE, SOME = 300, ("piece", "part", "stain", "generated"), 1 / 8, 128

class WithWhole(Pool):
    "An eighth of the images are generated ones, changed everywhere; Eq. 1 leaves out what looks normal"
    def changed(self, own):
        x, amount = super().changed(own)
        whole = torch.rand(len(own)) < WHOLE
        x[whole] = self.generated[torch.randint(len(self.generated), (int(whole.sum()),))].float()
        amount[whole] = 255.
        return x, amount

class WithRegions(Pool):
    "`generated` holds each of the used images with one generated region, as often as the kit makes one"
    def changed(self, own):
        x, at = self.normal[own].float(), torch.searchsorted(self.used, own)
        some = torch.rand(len(own), 1, 1, 1) < 7 / 16
        start = torch.where(some, self.generated[at].float(), x)
        out, _ = local_changes(start, start, KINDS[:3])
        return out, mean_around((out - x).abs().amax(1, keepdim=True), 2)

WAYS = dict(eq1={"kit": {}, "without Eq. 1": dict(local_normal_like=0.)},
            kinds={"all kinds": {}, **{f"without {k}": dict(local_changes=[o for o in KINDS if o != k]) for k in KINDS},
                   "and whole images": {}},
            quantile={"all kinds": {}, **{f"quantile {q}": dict(local_normal_like=q) for q in (.99, .999)}},
            regions={"new regions": {}, "regions cut out": {}, "regions held": {}})
DATA = dict(eq1=(("kolektor_sdd", "aitex_02", "mvtec_pill"), (0, 1, 2)), kinds=(SETS, (0,)),
            quantile=(SETS, (0,)), regions=(("mvtec_pill", "mvtec_transistor"), (0,)))

def generated_regions(normal, generated, c, seed):
    "The normal images, each with one region of a generated image, and each with that region generated in its place"
    n, half = len(normal), len(normal) // 2
    with seeded(seed, "regions"):
        region, drawn = draw_regions(normal.float(), .08, .7), torch.randint(len(generated), (n,))
    def put(new): return (normal + region * (new.float() - normal)).round().byte()
    held = [inpaint_patchmatch(x, m, normal, level, c.copy_reach, c.copy_rounds, seed + k)
            for level, some in zip(c.local.levels, (slice(half), slice(half, n)))
            for k, (x, m) in enumerate(zip(normal[some].split(8), region[some, 0].gt(0).split(8)))]
    return dict(zip(("regions cut out", "regions held"), (put(generated[drawn]), put(torch.cat(held)))))

def rows_of(ds, seed, which):
    test, normal, c = evaluation_items(ds)[0], ds.split("train").images(256), Config.preset("cpu", local_steps=STEPS)
    bad, x, masks, smooth = test.labels.astype(bool), test.images(256), test.masks(), blur_matrix(256, c.blur)
    scorer, used = LocalScorer(c), torch.ones(len(normal), dtype=torch.bool)
    scorer.residuals.fit(normal)
    made = torch.cat([sample_patchmatch(normal, n, c.n_contrastive, c.copy_reach, c.copy_rounds, c.analytic_images,
                                        c.analytic_batch, seed) for n in c.local.levels])
    generated = {way: made for way in WAYS[which]}
    if which == "regions":
        used = torch.arange(len(normal)) < SOME
        generated |= generated_regions(normal[used], made, c, seed)
    for way, changes in WAYS[which].items():
        start, settings = time.time(), c.replace(**changes).local
        pool = dict.fromkeys(generated, Pool) | {"and whole images": WithWhole, "regions cut out": WithRegions,
                                                 "regions held": WithRegions}
        pool = pool[way](settings, scorer.residuals, normal, generated[way], seed, used)
        scorer.nets = torch.nn.ModuleList([fit_local(pool, settings, seed, progress=False)[0]])
        scorer.prepare()
        m, = in_batches(lambda some: [scorer.parts(some.float())[1]], x.device, x, 16)
        changed = (pool.y < 0) | (pool.y > .1)
        yield dict(set=ds.name, seed=seed, way=way, seconds=time.time() - start,
                   left_out=((pool.y < 0).sum() / changed.sum()).item(),
                   figures=figures(bad, masks, top_mean(m, c.score_top), smooth @ m @ smooth.T))

def main(data, which, *names):
    warnings.simplefilter("ignore")
    if which not in WAYS or any("=" in n for n in names): sys.exit(__doc__)
    sets, seeds = DATA[which]
    seeds = [int(n) for n in names if n.isdigit()] or seeds
    for name, seed in product([n for n in names if not n.isdigit()] or sets, seeds):
        for row in rows_of(read_dataset(Path(data)/name), seed, which):
            store("local_networks", row, ("set", "seed", "way"), f"local_networks.py DATA {which}")

if __name__ == "__main__": main(*sys.argv[1:])
