"""Where registration (`Config.register`) helps, for the page closed_form/placement. Labels judge, and decide nothing.

    python nbs/experiments/registration.py sets ../shared/data [SET ...]     half an hour: with and without
    python nbs/experiments/registration.py tire ../shared/data [SEED ...]    ten minutes: tire, divided anew by seed
All add to results/registration.json
"""
import json, sys, warnings
from pathlib import Path

import numpy as np

from grad_kit import GRAD, Config, read_dataset
from grad_kit.data.dataset import evaluation_items
from grad_kit.evaluate.metrics import PixelCurve, image_auroc

FILE = Path(__file__).parent/"results"/"registration.json"
SETS = ("mvtec3d_tire mvtec_bottle mvtec_transistor mvtec_pill mvtec_loco/juice_bottle magnetic_tile "
        "mvtec_toothbrush_resplit aitex_02 kolektor_sdd").split()

def add(row, *keys):
    "The stored rows with this one, in place of one that has the same values of the keys"
    rows = json.loads(FILE.read_text()) if FILE.exists() else []
    rows = [r for r in rows if any(r.get(k) != row[k] for k in keys)] + [row]
    FILE.write_text(json.dumps(rows, indent=1) + "\n")
    print(row, flush=True)

def measure(name, seed, x, y, bad, masks):
    "Rows with and without registration; x are the normal images, y the test images"
    for register in ("yes", "no"):
        model = GRAD(Config.preset("instant", register=register), device="cpu").fit(x, progress=False)
        r = model.score(y)
        curve = PixelCurve(masks, r.anomaly_map.numpy())
        add(dict(set=name, seed=seed, register=register, image=image_auroc(bad, r.image_score), pixel=curve.auroc(),
                 ap=curve.average_precision(), false=float(r.label.numpy()[~bad].mean()),
                 found=float(r.label.numpy()[bad].mean())), "set", "seed", "register")

def sets(data, *names):
    "Sets in their published splits"
    for name in names or SETS:
        ds = read_dataset(data/name)
        test = evaluation_items(ds)[0]
        measure(name, -1, ds, test, test.labels.astype(bool), test.masks())

def tire(data, *seeds):
    "Tire, its normal images divided anew by each seed"
    ds = read_dataset(data/"mvtec3d_tire")
    test, train = evaluation_items(ds)[0], ds.split("train")
    bad, masks = test.labels.astype(bool), test.masks()
    normal, tested = (np.stack([it.pixels() for it in part.items]) for part in (train, test))
    pool, good, n = np.concatenate([normal, tested[~bad]]), [m for m, b in zip(masks, bad) if not b], int((~bad).sum())
    for seed in map(int, seeds or (0, 1, 2)):
        order = np.random.default_rng(seed).permutation(len(pool))
        x, y = pool[order[n:]], np.concatenate([pool[order[:n]], tested[bad]])
        measure("mvtec3d_tire", seed, x, y, np.arange(len(y)) >= n, good + [m for m, b in zip(masks, bad) if b])

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    dict(sets=sets, tire=tire)[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
