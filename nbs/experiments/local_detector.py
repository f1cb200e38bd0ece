"""Trains the paper's detector on whole and on local contrast, with Eq. 1's weights and without, for the page
experiments/local. It looks at labels; the kit does not.

    python nbs/experiments/local_detector.py ../shared/data [SET ...] [SEED ...] [beta=NUMBER ...]
                                                                90 minutes on one core: results/local_detector.json

Training is dense: images of 128 pixels share their convolutions, and each of their 24 x 24 windows is a patch. A step
has four normal images and four contrastive ones: generated images and normal ones in another place (`whole`), images
with local changes (`local`), or two and two (`mixed`). In an image with local changes a window's label is the share of
it that changed, times `1 / FULL`, at most 1, and both classes are balanced by place: over many steps each place has
the same sum of weights. In an image in another place windows with mirrored pixels have no weight. Eq. 1 begins with
the second half of the steps and has the beta_density of the kit's rule, as in `cpu_ad`. The feature loss (Eq. 5), the
gradient penalty (Eq. 6) and the tail weights (Eq. 2) are off, as there.
"""
import sys, time, warnings
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from nine_sets import figures, store

from grad_kit import Config, read_dataset
from grad_kit.base.config import PATCH
from grad_kit.base.compute import resize_images, seeded, subsample, to_float
from grad_kit.base.run import one_cycle
from grad_kit.closed_form.local_changes import LEAST, any_shift, local_changes, moved
from grad_kit.closed_form.patchmatch import sample_patchmatch
from grad_kit.data.dataset import evaluation_items
from grad_kit.model.frozen import blur_matrix
from grad_kit.model.scorers import top_mean
from grad_kit.paper.augment import make_augment
from grad_kit.paper.detector import PatchDetector, align_map, rbce, score_map, with_coords
from grad_kit.paper.reweight import MemoryBank

SETS = "mvtec_pill", "mvtec_transistor", "kolektor_sdd"
KINDS = dict(whole=0, local=4, mixed=2)   # how many of a step's four contrastive images have local changes
LEVELS, GENERATED, CHANGED = (5, 9, 13), 24, 512   # generated images of each level; images with local changes
SIDE, WIDTH, STEPS, LR, FULL = 128, .25, 1000, 1e-3, .1
CELLS = (SIDE - PATCH) // 4 + 1
CONFIG = Config.preset("cpu", rotation=0.)

def of_windows(m):  # (B,1,S,S)
    "(B,h,w): the mean over each 34 x 34 window"
    return F.avg_pool2d(m, PATCH, 4)[:, 0]

def drawn(images, n, *along):
    "[n of the images in [-1,1], the same rows of others]"
    k = torch.randint(len(images), (n,))
    return [to_float(images[k]), *(v[k] for v in along)]

def some_shift(n): return torch.randint(-2, 3, (n, 2)) / SIDE

def changed_images(normal, generated, n):
    "(images (n,3,S,S) uint8, labels (n,h,w)), moved by up to 2 pixels"
    own, drawn = torch.randperm(len(normal)).repeat(-(-n // len(normal)))[:n], torch.randint(len(generated), (n,))
    images = normal[own].float(), generated[drawn].float()
    x, amount = local_changes(*images, CONFIG.local.changes)
    x, amount = moved(torch.cat([x, amount], 1), some_shift(n)).split([3, 1], 1)
    return x.round().to(torch.uint8), (of_windows((amount > LEAST).float()) / FULL).clamp(max=1)

def in_another_place(x):
    "(the images moved, labels: 1, or -1 (none) where a window has mirrored pixels)"
    shift, at = any_shift(x), torch.arange(SIDE)
    known = [((at - s[:, None]) >= 0) & ((at - s[:, None]) < SIDE) for s in (shift * SIDE).round().T]
    whole = of_windows((known[0][:, None, :, None] & known[1][:, None, None]).float())
    return moved(x, shift), torch.where(whole > .9999, 1., -1.)

class Batches:
    "Draws (images (8,3,S,S) in [-1,1], weights of their windows as normal ones and as contrastive ones (8,h,w))"
    def __init__(self, normal, generated):
        self.normal, self.generated = normal, generated
        parts = [changed_images(normal, generated, 64) for _ in range(CHANGED // 64)]
        self.changed, self.labels = (torch.cat(v) for v in zip(*parts))
        self.jitter = [make_augment(CONFIG.augmentation, made) for made in (False, True)]

    def draw(self, local):  # how many of the four contrastive images have local changes
        (plain, made), rest = self.jitter, (4 - local) // 2
        images, labels = [plain(drawn(self.normal, 4)[0])], torch.zeros(8, CELLS, CELLS)
        if rest:
            wrong, labels[4:4 + rest] = in_another_place(drawn(self.normal, rest)[0])
            images += [plain(wrong), made(drawn(self.generated, rest)[0])]
            labels[4 + rest:4 + 2 * rest] = 1
        images, usual = [moved(torch.cat(images), some_shift(8 - local))], torch.zeros(8, CELLS, CELLS)
        if local:
            x, labels[8 - local:] = drawn(self.changed, local, self.labels)
            images.append(plain(x))
            usual[8 - local:] = self.labels.mean(0)   # label of a place
        x, known = torch.cat(images), labels >= 0
        normal = known * (1 - labels) / (1 - usual).clamp(min=.01) / (4 + local)
        contrastive = known * labels / torch.where(usual > 0, usual, 1.).clamp(min=.01) / 4
        return x + .03 * torch.randn_like(x), normal / CELLS**2, contrastive / CELLS**2

def reweighted(weights, z, bank, beta):
    "The weights by Eq. 1, of the same sum"
    if not beta or not bank.full: return weights
    density = bank.log_density(z, beta)
    new = weights * (density.min() - density).exp()
    return new * (weights.sum() / new.sum().clamp(min=1e-12))

def trained(batches, local, beta, seed):
    "(PatchDetector, effective sample size of Eq. 1's weights over that of the others, mean of the last 100 steps)"
    with seeded(seed, "local detector"):
        net = PatchDetector(WIDTH).to(memory_format=torch.channels_last)
        optimizer, cycle = one_cycle(net.parameters(), LR, 1e-4, STEPS)
        bank, sizes = MemoryBank(512, net.head.in_channels), []
        for step in range(STEPS):
            x, *weights = batches.draw(local)
            z = net.features(with_coords(x))
            u, (w_pos, w_neg) = net.head(z).flatten(), (w.flatten() for w in weights)
            z = z.detach().permute(0, 2, 3, 1).flatten(0, 2)
            new = reweighted(w_neg, z, bank, beta if step >= STEPS // 2 else 0)
            optimizer.zero_grad()
            rbce(u, w_pos, u, new).backward()
            optimizer.step(); cycle.step()
            bank.enqueue(z[torch.randperm(len(z) // 2)[:128]])   # of the four normal images
            if step >= STEPS - 100: sizes.append((w_neg.square().sum() / new.square().sum()).item())
    return net.eval(), sum(sizes) / len(sizes)

def scored(net, normal, x):
    "(image scores, maps of 256 px), as `DetectorScorer` with one level"
    usual, m = score_map(net, subsample(normal, 64)), score_map(net, resize_images(x, SIDE))
    m = align_map((m - usual.mean()) / usual.std(), SIDE, 256)
    inside = align_map(torch.ones(1, CELLS, CELLS), SIDE, 256, outside=0.)
    smooth = blur_matrix(256, CONFIG.blur)
    return top_mean(m, CONFIG.score_top), smooth @ (m * inside) @ smooth.T

def rows_of(ds, seed, betas):
    test, normal = evaluation_items(ds)[0], resize_images(ds.split("train").images(256), SIDE)
    bad, x, masks, c = test.labels.astype(bool), test.images(256), test.masks(), CONFIG
    generated = torch.cat([sample_patchmatch(normal, n, GENERATED, c.copy_reach, c.copy_rounds, c.analytic_images,
                                             c.analytic_batch, seed) for n in LEVELS])
    with seeded(seed, "changed images"): batches = Batches(normal, generated)
    for (kind, local), beta in product(KINDS.items(), betas):
        start = time.time()
        net, size = trained(batches, local, beta, seed)
        yield dict(set=ds.name, seed=seed, kind=kind, beta=beta, seconds=time.time() - start, sample_size=size,
                   figures=figures(bad, masks, *scored(net, normal, x)))

def main(data, *names):
    warnings.simplefilter("ignore")
    seeds = [int(n) for n in names if n.isdigit()] or [0, 1, 2]
    if odd := [n for n in names if "=" in n and not n.startswith("beta=")]:
        sys.exit(f"'{odd[0]}' is unknown; see\n{__doc__}")
    betas = [float(n.removeprefix("beta=")) for n in names if n.startswith("beta=")] or [0., 2.]
    for name, seed in product([n for n in names if not n.isdigit() and "=" not in n] or SETS, seeds):
        for row in rows_of(read_dataset(Path(data)/name), seed, betas):
            store("local_detector", row, ("set", "seed", "kind", "beta"), "local_detector.py DATA")

if __name__ == "__main__": main(*sys.argv[1:])
