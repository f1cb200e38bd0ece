"""Defects in and between five channels of drawn surfaces, for the page model/12_channels.

    python nbs/experiments/channels.py        two minutes on one core: results/channels.json
"""
import json, sys, warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from grad_kit.evaluate.metrics import image_auroc
from grad_kit.model.channels import MultiGRAD

sys.path.insert(0, str(Path(__file__).parents[2]/"tests"))
from test_model_channels import CONFIG, DEFECTS, NAMED, surface

SEEDS, NORMAL, FRESH = range(5), 24, 20

def nearest_image(normal, images):
    "(B,) distances to the nearest normal image at half the side, channels in units of their standard deviation"
    unit = normal.std((0, 1, 2))
    normal, images = (F.avg_pool2d(torch.from_numpy(x / unit).permute(0, 3, 1, 2), 2).flatten(1)
                      for x in (normal, images))
    return torch.cdist(images, normal).amin(1)

def rx(normal, images):
    "(B,) Mahalanobis distances of the pixels' values, averaged over 5 x 5 pixels, the mean of the highest 1 %"
    pixels = normal.reshape(-1, normal.shape[-1])
    away = images - pixels.mean(0)
    m = torch.from_numpy((away @ np.linalg.inv(np.cov(pixels.T)) * away).sum(-1))
    return F.avg_pool2d(m[:, None], 5, 1).flatten(1).topk(40, 1).values.mean(1)

MODELS = {"groups red-green-blue, depth-ir": None, "groups rgb, depth, ir-red": NAMED, "colour alone": [[0, 1, 2]]}
SIMPLE = {"nearest image": nearest_image, "RX": rx}

def main():
    warnings.simplefilter("ignore")
    found = {name: {d: [] for d in DEFECTS} for name in (*MODELS, *SIMPLE)}
    for name in MODELS: found[name]["alarms"] = []
    for seed in SEEDS:
        def drawn(start, n, defect=None): return np.stack([surface(1000 * seed + start + i, defect) for i in range(n)])
        normal, fresh = drawn(0, NORMAL), drawn(100, FRESH)
        defects = {d: drawn(200 + 100 * k, FRESH, d) for k, d in enumerate(DEFECTS)}
        for name, row in found.items():
            def scores(x): return SIMPLE[name](normal, x)
            if name in MODELS:
                model = MultiGRAD(CONFIG, MODELS[name], seed, "cpu").fit(normal, progress=False)
                def scores(x): return model.score(x).image_score
            of_fresh = scores(fresh)
            if name in MODELS: row["alarms"].append(int((of_fresh > model.threshold_).sum()))
            for d in DEFECTS:
                row[d].append(image_auroc([0] * FRESH + [1] * FRESH, torch.cat([of_fresh, scores(defects[d])])))
            print(seed, name, {k: round(v[-1], 3) for k, v in row.items()}, flush=True)
    stored = dict(methods=found, seeds=[*SEEDS], normal=NORMAL, fresh=FRESH * len(SEEDS), torch=torch.__version__,
                  threads=torch.get_num_threads(), command="python nbs/experiments/channels.py")
    (Path(__file__).parent/"results"/"channels.json").write_text(json.dumps(stored, indent=1) + "\n")

if __name__ == "__main__": main()
