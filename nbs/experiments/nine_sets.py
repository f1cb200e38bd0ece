"""Measures the preset `instant` and rules of fusion on real sets, for the page experiments/scorers. It looks at labels;
the kit does not.

    python nbs/experiments/nine_sets.py sets ../shared/data       40 minutes on one core: results/nine_sets.json
    python nbs/experiments/nine_sets.py few ../shared/data        20 minutes: results/few_normals.json
    python nbs/experiments/nine_sets.py rates                     50 minutes: results/rates.json
    python nbs/experiments/nine_sets.py local ../shared/data [SET ...] [SEED ...] [SETTING=VALUE]
                                                                  4 hours for each seed: results/local.json
"""
import json, math, sys, time, warnings
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from grad_kit import GRAD, Config, read_dataset
from grad_kit.base.compute import device_name
from grad_kit.data.dataset import Dataset, evaluation_items
from grad_kit.data.trays import tray_dataset
from grad_kit.evaluate.metrics import BASELINES, PixelCurve, image_auroc, pixel_auroc
from grad_kit.model.calibration import highest, normals_of, threshold_for, unit_of
from grad_kit.model.frozen import FrozenModel, blur_matrix
from grad_kit.model.local_scorer import SHARE, LocalScorer, outside
from grad_kit.model.scorers import in_batches, top_mean

RESULTS = Path(__file__).parent/"results"
SETS = ("mvtec_bottle mvtec_transistor mvtec_pill mvtec_loco/juice_bottle magnetic_tile mvtec_toothbrush_resplit "
        "mvtec3d_tire aitex_02 kolektor_sdd").split()

def write(name, rows, words):  # of the command
    about = dict(command=f"python nbs/experiments/{words}", torch=torch.__version__,
                 device=device_name(torch.device("cpu")), threads=torch.get_num_threads())
    (RESULTS/f"{name}.json").write_text(json.dumps(dict(about, rows=rows), indent=1) + "\n")

def store(name, row, keys, words):
    "Write a row beside those of other runs, in place of the one with the same values of these keys"
    file = RESULTS/f"{name}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    write(name, [r for r in rows if any(r[k] != row[k] for k in keys)] + [row], words)
    print(row, flush=True)

def decisions(model, scores, bad):
    "(share of false alarms, share of defects found)"
    alarm = scores.numpy() > model.threshold_
    return float(alarm[~bad].mean()), float(alarm[bad].mean())

def rules(model, normal, each, bad, masks):
    """Image AUROC of each rule for image scores and pixel AUROC of each rule for maps: how the units are taken, what is
    fused by what, and the weight of `filters`"""
    names, found = list(each), dict(image={}, pixel={})
    outside = {k: model.scorers_[k].out_of_fold(normal, model.folds, model) for k in names}
    def mean_and_std(x): return float(x.float().mean()), float(x.float().std())
    def units_of(maps, scores):
        "{kind of unit: (zero of image scores, zero of maps, unit)}"
        pixels, std = mean_and_std(maps), mean_and_std(scores)
        return dict(IQR=unit_of(scores, maps.flatten(1).float().median(1).values), std=(std[0], *std),
                    pixels=(pixels[0], *pixels))
    units = {k: units_of(m, s) for k, (m, s) in outside.items()}
    fuse = dict(maximum=lambda z: z.amax(0), mean=lambda z: z.mean(0),
                root_squares=lambda z: z.clamp(min=0).square().sum(0).sqrt())
    subsets = [["filters", "window"], ["filters", "components"], ["filters", "window", "components"]]
    for some, w in product(subsets, (1, 2, 4)):
        def z(which, unit):
            zero = 0 if which else 1
            return torch.stack([(each[k][which] - units[k][unit][zero]) / units[k][unit][2]
                                * (w if k == "filters" else 1) for k in some])
        label = f"{' + '.join(some)}, {w} x filters"
        for unit, how in product(("IQR", "std"), fuse):
            found["image"][f"{label}, {how}, {unit}"] = image_auroc(bad, fuse[how](z(1, unit)))
        for unit, how in product(("IQR", "pixels"), ("maximum", "mean")):
            found["pixel"][f"{label}, {how}, {unit}"] = pixel_auroc(masks, fuse[how](z(0, unit)).numpy())
    return found

def figures(bad, masks, scores, maps):
    "Image AUROC, pixel AUROC, pixel AP"
    curve = PixelCurve(masks, maps.numpy())
    return image_auroc(bad, scores), curve.auroc(), curve.average_precision()

def blurs(model, x, masks):
    "{blur in pixels: [pixel AUROC, pixel AP]} of the fused map"
    frozen, found = FrozenModel(model), {}
    with torch.no_grad():
        fused = torch.cat([frozen.fuse(frozen.maps(some.float())[0], frozen.usual, model.config.map_fusion)
                           for some in x.split(16)])
    for blur in (0, 2, 4, 6, 8, 12, 16):
        m = blur_matrix(x.shape[-1], float(blur))
        curve = PixelCurve(masks, (m @ fused @ m.T).numpy())
        found[blur] = curve.auroc(), curve.average_precision()
    return found

def measure(ds):
    "Rows of a set: ten folds, and other numbers of folds, which change the thresholds alone"
    test, rows = evaluation_items(ds)[0], []
    bad, x, masks = test.labels.astype(bool), test.images(256), test.masks()
    for folds in (10, 8, 12):
        model = GRAD(Config.preset("instant", folds=folds), device="cpu").fit(ds, progress=False)
        start = time.time()
        r = model.score_pixels(x)
        false, found = decisions(model, r.image_score, bad)
        rows.append(dict(set=ds.name, folds=folds, normal=model.n_normal_, good=sum(~bad).item(), bad=sum(bad).item(),
                         false=false, found=found, fit_seconds=model.seconds_, ms=(time.time() - start) / len(x) * 1e3))
        if folds != 10: continue
        each, normal = model.score_each(x), ds.split("train").images(256)
        rows[0] |= dict(figures=figures(bad, masks, r.image_score, r.anomaly_map),
                        alone={k: figures(bad, masks, scores, maps) for k, (maps, scores, _) in each.items()},
                        baselines={k: figures(bad, masks, *f(normal, x)[::-1]) for k, f in BASELINES.items()},
                        blurs=blurs(model, x, masks),
                        rules=rules(model, normals_of(ds, model.config)[1], each, bad, masks))
    return rows

def few(ds, draws=2):
    "False alarms and defects found with few normal images, drawn at random"
    test = evaluation_items(ds)[0]
    bad, x, items, rows = test.labels.astype(bool), test.images(256), ds.split("train").items, []
    for n in (10, 20, 50, 100):
        if n > len(items): continue
        for draw in range(draws):
            some = np.random.default_rng([n, draw]).permutation(len(items))[:n]
            part = Dataset(ds.name, ds.layout, tuple(items[i] for i in some))
            model = GRAD(Config.preset("instant"), device="cpu").fit(part, progress=False)
            rows.append(dict(set=ds.name, n=n, draw=draw, asked=max(.05, 1 / (n + 1)), **dict(zip(
                ("false", "found"), decisions(model, model.score_pixels(x).image_score, bad)))))
            print(rows[-1], flush=True)
    return rows

def trays(n, seed, defects=0):
    items = tray_dataset(0 if defects else n, 0, 0, n if defects else 0, size=64, seed=seed).items
    return np.stack([it.image for it in items])

def noise(n, seed, defects=0):
    "A fixed texture under changing light and noise of a heavy-tailed strength; a defect is a brighter square"
    r, base = np.random.default_rng(seed), np.random.default_rng(7).normal(0, 25, (64, 64, 3))
    strength = np.exp(r.normal(1.5, .5, (n, 1, 1, 1)))
    x = 120 + base + r.normal(0, 12, (n, 1, 1, 1)) + r.normal(0, 1, (n, 64, 64, 3)) * strength
    for i in range(n if defects else 0):
        a, b = r.integers(4, 52, 2)
        x[i, a:a + 8, b:b + 8] += 45
    return x.clip(0, 255).astype(np.uint8)

FAST = dict(local_steps=400)              # the preset `cpu_fast`, whose errors are shown
SHARES = 0, .06, .12, .25, .5, 1, 2, 4   # of the unit of the distances, which the evidence gets; 0: `instant`

def errors(scores, maps, masks, bad, most=3):
    "(maps (6,64,64) uint8, masks): of the good images with the highest scores and of the defects with the lowest"
    order = scores.argsort().numpy()
    worst = [*[i for i in order[::-1] if not bad[i]][:most], *[i for i in order if bad[i]][:most]]
    low, high = (float(maps.flatten().float()[::97].quantile(q)) for q in (.5, .999))
    shown = ((maps[worst].float() - low) / (high - low)).clamp(0, 1)
    masks = torch.stack([torch.as_tensor(masks[i], dtype=torch.float) for i in worst])
    def small(m): return F.adaptive_avg_pool2d(m[:, None], 64)[:, 0]
    return (255 * small(shown)).byte().numpy(), (small(masks) > .25).numpy()

def fitted_with_parts(ds, config, seed):
    """A fitted `GRAD`, the (distances, evidence) of its scorer `local` for normal images out of fold, and the image
    scores of all scorers for them"""
    found, parts_of, fused_of = {}, LocalScorer.out_of_fold, GRAD.of_folds
    def keep_parts(self, normal, folds, model):
        found["parts"] = outside(self.parts, normal, folds, model.device)
        return parts_of(self, normal, folds, model)
    def keep_scores(self, maps, scores):
        found["scores"] = scores
        return fused_of(self, maps, scores)
    with mock.patch.object(LocalScorer, "out_of_fold", keep_parts), mock.patch.object(GRAD, "of_folds", keep_scores):
        model = GRAD(config, seed, "cpu").fit(ds, progress=False)
    return model, found["parts"], found["scores"]

def by_networks(scorer, x):
    "{how the two networks are put together: map of evidence}; the kit takes the mean of the logits"
    seen, place = scorer.residuals(x)[0], scorer.residuals.filters.place_8
    logits = torch.stack([place @ net(seen) @ place.T for net in scorer.nets])
    each = F.softplus(logits)
    return dict(zip(WAYS, (F.softplus(logits.mean(0)), each.mean(0), each.amax(0), *each)))

WAYS = "mean of logits", "mean", "maximum", "first", "second"

def local(ds, seed=0, **settings):
    "The preset `cpu`: its scorer `local`, its networks alone, and all fused, with several shares of the networks"
    test, config = evaluation_items(ds)[0], Config.preset("cpu", **settings)
    bad, x, masks, normal = test.labels.astype(bool), test.images(256), test.masks(), ds.split("train").images(256)
    smooth = blur_matrix(256, config.blur)
    model, (held_far, held_evidence), held = fitted_with_parts(ds, config, seed)
    scorer, frozen = model.scorers_["local"], FrozenModel(model)
    def parts(x):
        x = x.float()
        return [scorer.parts(x)[0], *frozen.maps(x)[0][1:], *by_networks(scorer, x).values()]
    far, *others = in_batches(parts, x.device, x, 16)
    others, evidence = others[:-len(WAYS)], dict(zip(WAYS, others[-len(WAYS):]))
    def score(m): return top_mean(m, config.score_top)
    def shown(scores, maps): return figures(bad, masks, scores, smooth @ maps @ smooth.T)
    units = [model.units_[k] for k in config.scorers[1:]]
    z = [((score(m) - zero) / unit * w, (m - usual) / unit * w) for m, (zero, usual, unit, w) in zip(others, units)]
    held_z = [(s - zero) / unit * w for s, (zero, _, unit, w) in zip(held[1:], units)]
    far_unit, unit = (float(score(m).quantile(torch.tensor([.25, .75])).diff()) for m in (held_far, held_evidence))
    usual_way = evidence[WAYS[0]]
    row = dict(set=ds.name, seed=seed, settings=settings, steps=config.local.steps, seconds=model.seconds_,
               normal=model.n_normal_, local_seconds=model.scorer_seconds_["local"], units=[far_unit, unit],
               share=float(scorer.share), check=scorer.found.tolist(), network=shown(score(usual_way), usual_way),
               alone={}, fused={}, decided={}, ways={})
    def fused(share, evidence):
        "(map of `local`, fused image scores, fused map, (false alarms, defects found))"
        weight = share * far_unit / max(unit, .01)
        m, of_held = far + weight * evidence, held_far + weight * held_evidence
        zero, usual, one = unit_of(score(of_held), of_held.flatten(1).median(1).values)
        scores, maps = zip(((score(m) - zero) / one, (m - usual) / one), *z)
        of_held = highest(torch.stack([(score(of_held) - zero) / one, *held_z]).amax(0), model.held_groups)
        threshold = threshold_for(of_held.tolist(), config.false_alarm_rate, True) + model.tolerance()
        scores = torch.stack(scores).amax(0)
        alarm = scores.numpy() > threshold
        return m, scores, sum(maps) / 2, (float(alarm[~bad].mean()), float(alarm[bad].mean()))   # weights 1, 1/2, 1/2
    for share in SHARES:
        m, scores, maps, row["decided"][share] = fused(share, usual_way)
        row["alone"][share], row["fused"][share] = shown(score(m), m), shown(scores, maps)
        if share == SHARE: wrong = errors(scores, smooth @ maps @ smooth.T, masks, bad)
    for way, m in evidence.items():
        _, scores, _, decided = fused(SHARE, m)
        row["ways"][way] = image_auroc(bad, scores), *decided
    row["of_the_model"] = decisions(model, model.score_pixels(x).image_score, bad)
    row["baselines"] = {k: figures(bad, masks, *f(normal, x)[::-1]) for k, f in BASELINES.items()}
    return row, wrong

DRAWS = {3: 40, 5: 40, 10: 40, 20: 24, 50: 12, 100: 6, 300: 4}   # normal images -> fits

def rates(kind):
    """False alarms and defects found, by normal images, for folds and for held-out ones; 4,000 fresh normal images are
    shared among the fits of a row"""
    make, config, rows = globals()[kind], Config.preset("instant", image_size=64, filters_size=64, blur=4.), []
    bad = make(10 if kind == "trays" else 60, 91000, True)
    for (n, times), folds in product(DRAWS.items(), (-1, 0)):
        if n < 10 and not folds: continue   # too few to hold any out
        found = []
        for draw in range(times):
            model = GRAD(config.replace(folds=folds), draw, "cpu").fit(make(n, 1000 + draw), progress=False)
            fresh = make(4000 // times, 90000 + draw)
            found.append([model.predict(x).float().mean().item() for x in (fresh, bad)])
        k = len(model.holdout_scores_)
        asked = (k + 1 - min(k, math.ceil((k + 1) * .95 - 1e-9))) / (k + 1)
        mean, std = np.mean(found, 0), np.std(found, 0)
        rows.append(dict(kind=kind, n=n, folds=folds, draws=times, asked=asked, false=mean[0], false_std=std[0],
                         found=mean[1], found_std=std[1]))
        print(rows[-1], flush=True)
    return rows

def store_local(data, names, seeds, settings):
    "Rows of `local`, added to what other runs stored"
    file = RESULTS/"local_errors.npz"
    for name, seed in product(names, seeds):
        start, ds = time.time(), read_dataset(Path(data)/name)
        row, (maps, masks) = local(ds, seed, **settings)
        store("local", row, ("set", "seed", "settings"), "nine_sets.py local DATA")
        kept = dict(np.load(file)) if file.exists() else {}
        if (seed, settings) == (0, FAST):
            np.savez_compressed(file, **kept | {f"{ds.name} maps": maps, f"{ds.name} masks": masks})
        print(name, seed, f"{time.time() - start:.0f} s", flush=True)

def main(what, data=None, *names):
    if what not in ("sets", "few", "rates", "local"): sys.exit(__doc__)
    if what != "local" and (odd := [n for n in names if n.isdigit() or "=" in n]):
        sys.exit(f"'{odd[0]}' is a seed or a setting, which '{what}' does not take; see\n{__doc__}")
    warnings.simplefilter("ignore")
    if what == "rates":
        return write("rates", [row for kind in ("trays", "noise") for row in rates(kind)], "nine_sets.py rates")
    seeds = [int(n) for n in names if n.isdigit()] or [0]
    settings = {k: json.loads(v) for k, _, v in (n.partition("=") for n in names if "=" in n)}
    rows, names = [], [n for n in names if not n.isdigit() and "=" not in n] or SETS
    if what == "local": return store_local(data, names, seeds, settings)
    for name in names:
        start, ds = time.time(), read_dataset(Path(data)/name)
        rows += dict(sets=measure, few=few)[what](ds)
        print(name, f"{time.time() - start:.0f} s", flush=True)
        write(dict(sets="nine_sets", few="few_normals")[what], rows, f"nine_sets.py {what} DATA")

if __name__ == "__main__": main(*sys.argv[1:])
