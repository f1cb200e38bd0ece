"""The paper's patch detector with local changes as negatives, with and without Eq. 1's weights, for the page
experiments/local. It looks at labels; the kit does not.

    python nbs/experiments/local_detector.py ../shared/data [SET ...] [SEED ...]   results/local_detector.json
"""
import json, sys, time, warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F

from grad_kit import Config, read_dataset
from grad_kit.base.compute import device_name, resize_images, seeded
from grad_kit.base.config import PATCH
from grad_kit.closed_form.local_changes import LEAST, local_changes
from grad_kit.closed_form.patchmatch import sample_patchmatch
from grad_kit.data.dataset import evaluation_items
from grad_kit.model.frozen import blur_matrix
from grad_kit.model.scorers import top_mean
from grad_kit.paper.detector import DetectorState, align_map, rbce, score_map, with_coords
from grad_kit.paper.reweight import patch_weights
from nine_sets import figures

RESULTS, SIDE, CHANGED = Path(__file__).parent/"results", 128, 512   # pixels; images with local changes
SETS = "mvtec_pill mvtec_transistor kolektor_sdd".split()
# negative windows: all of generated images, beside normal ones; what changed in images with local changes; both
KINDS = "whole", "local", "mixed"

def changed_images(normal, generated):
    "(images with local changes (M,3,S,S) uint8, share of each of their 34 x 34 windows that changed (M,h,w))"
    own, other = torch.randint(len(normal), (2, CHANGED))
    images = normal[own], normal[other], generated[torch.randint(len(generated), (CHANGED,))]
    x, amount = local_changes(*(some.float() for some in images), ("piece", "part", "stain", "generated"))
    label = torch.sigmoid((amount - LEAST) / 3) * (amount > 3)
    return x.to(torch.uint8), F.avg_pool2d(label, PATCH, 4)[:, 0]

def batches(normal, generated, kind, batch):
    "(images (B,3,S,S) uint8, share of each window that changed (B,h,w)), without end"
    changed, share = changed_images(normal, generated)
    def whole(n, images, y): return images[torch.randint(len(images), (n,))], torch.full((n, *share.shape[1:]), y)
    while True:
        k = torch.randint(CHANGED, (batch,))
        local = changed[k], share[k]
        each = whole(batch // 2, normal, 0.), whole(batch // 2, generated, 1.)
        if kind == "mixed": each = [[v[:batch // 4] for v in some] for some in each] + [[v[::2] for v in local]]
        yield [torch.cat(v) for v in zip(*each)] if kind != "local" else local

def step(s, images, share):
    "One step of Eq. 3 on all windows of the images; a negative one counts as it changed"
    x = with_coords(images)
    x[:, :3] += s.settings.patch_noise * torch.randn_like(x[:, :3])
    z = s.detector.features(x)
    logit, z, y = s.detector.head(z).flatten(), z.permute(0, 2, 3, 1).flatten(0, 2).detach(), share.flatten()
    normal, changed = y < .02, y > .1
    if not normal.any() or not changed.any(): return
    after = s.cycle.last_epoch >= s.reweighting.after * s.settings.steps
    noisy = [s.bank_pos] * (s.reweighting.noisy and after)
    w = y[changed] * patch_weights(z[changed], *noisy, beta_density=s.reweighting.beta_density)
    loss = rbce(logit[normal], torch.full_like(logit[normal], 1 / int(normal.sum())), logit[changed], w / w.sum())
    s.optimizer.zero_grad()
    loss.backward()
    s.optimizer.step(); s.cycle.step()
    s.bank_pos.enqueue(z[normal][torch.randperm(int(normal.sum()))[:64]])

def train(normal, generated, kind, noisy, seed, config, batch=4):
    "A PatchDetector"
    reweighting = replace(config.reweighting, noisy=noisy, beta_density=2.)
    with seeded(seed, "local detector"):
        s = DetectorState(config.detector, reweighting, torch.device("cpu"))
        for _, some in zip(range(config.detector.steps), batches(normal, generated, kind, batch)): step(s, *some)
    return s.detector.eval().requires_grad_(False)

def measure(ds, seed, steps=600):
    "Rows of a set and a seed"
    config, m = Config.preset("cpu_loco", detector_steps=steps), blur_matrix(256, 4.)
    test, normal = evaluation_items(ds)[0], resize_images(ds.split("train").images(256), SIDE)
    bad, masks, x = test.labels.astype(bool), test.masks(), test.images(256)
    generated = torch.cat([sample_patchmatch(normal, n, 32, seed=seed) for n in (9, 17)])
    for kind, noisy in product(KINDS, (False, True)):
        start = time.process_time()
        net = train(normal, generated, kind, noisy, seed, config)
        seconds = time.process_time() - start
        maps = torch.cat([align_map(score_map(net, resize_images(some, SIDE)), SIDE, 256) for some in x.split(16)])
        found = figures(bad, masks, top_mean(maps, .01), m @ maps @ m.T)
        yield dict(set=ds.name, seed=seed, kind=kind, noisy=noisy, seconds=seconds, figures=found)

def main(data, *names):
    warnings.simplefilter("ignore")
    seeds, sets = [int(n) for n in names if n.isdigit()] or [0, 1, 2], [n for n in names if not n.isdigit()] or SETS
    stored = RESULTS/"local_detector.json"
    for seed, name in product(seeds, sets):
        for row in measure(read_dataset(Path(data)/name), seed):
            print(row, flush=True)
            rows = json.loads(stored.read_text())["rows"] if stored.exists() else []
            rows = [r for r in rows if any(r[k] != row[k] for k in ("set", "kind", "noisy", "seed"))] + [row]
            about = dict(command="python nbs/experiments/local_detector.py DATA", torch=torch.__version__,
                         device=device_name(torch.device("cpu")), threads=torch.get_num_threads())
            stored.write_text(json.dumps(dict(about, rows=rows), indent=1) + "\n")

if __name__ == "__main__": main(*sys.argv[1:])
