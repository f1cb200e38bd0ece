"""Finds a spot of 16 pixels in drawn boards of 4,000 x 3,000 pixels, for the page model/11_tiles.

    python nbs/experiments/large_images.py        half an hour on one core: results/large_images.json
"""
import json, resource, sys, tempfile, time, warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from grad_kit.model.tiles import TiledGRAD

sys.path.insert(0, str(Path(__file__).parents[2]/"tests"))
from test_model_tiles import board, spot

SIZE, NORMAL = (3000, 4000), 24

def memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def written(folder, images):
    for i, image in enumerate(images): Image.fromarray(image).save(folder/f"{i:02}.png", compress_level=1)
    return folder

def main():
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(5)
    at = [(int(rng.integers(20, 2980)), int(rng.integers(20, 3980))) for _ in range(8)]
    with tempfile.TemporaryDirectory() as tmp:
        good, fresh, bad = (Path(tmp)/name for name in ("good", "fresh", "bad"))
        for folder in (good, fresh, bad): folder.mkdir()
        start = time.time()
        model = TiledGRAD(tile=512, device="cpu").fit(
            str(written(good, (board(i, SIZE) for i in range(NORMAL)))), groups=range(NORMAL), progress=False)
        row = dict(normal=NORMAL, tiles=len(model.places_), fit_seconds=time.time() - start, fit_mib=memory(),
                   threshold=model.threshold_, held_out=sorted(model.holdout_scores_))
        written(fresh, (board(1000 + i, SIZE) for i in range(12)))
        written(bad, (spot(board(1100 + i, SIZE), *p) for i, p in enumerate(at)))
        start = time.time()
        of_fresh, of_bad = model.score(str(fresh)), model.score(str(bad))
        row |= dict(score_seconds=(time.time() - start) / 20, score_mib=memory(), fresh=of_fresh.image_score.tolist(),
                    bad=of_bad.image_score.tolist(), off=[])
        for (y, x), m in zip(at, of_bad.anomaly_map):
            v, u = divmod(int(m.argmax()), 1000)
            row["off"].append(float(np.hypot((v + .5) * 3 - y, (u + .5) * 4 - x)))
    row |= dict(torch=torch.__version__, threads=torch.get_num_threads(),
                command="python nbs/experiments/large_images.py")
    print(row)
    (Path(__file__).parent/"results"/"large_images.json").write_text(json.dumps(row, indent=1) + "\n")

if __name__ == "__main__": main()
