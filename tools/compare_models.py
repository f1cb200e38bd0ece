"""Do two versions of the kit score alike? Ten small models on the embedded trays, written as JSON, then compared.

    python tools/compare_models.py write FILE    fit the ten models with the grad_kit that is imported here
    python tools/compare_models.py diff OLD NEW  the largest differences; exit status 1 where a model differs
"""
import json, sys, time
from pathlib import Path

LEVEL = dict(detector_levels=(34,), contrastive_levels=((5, 9),))
SHORT = dict(image_size=64, blur=4.0, precision="float32", detector_steps=60, n_contrastive=16, analytic_images=16,
             bank_size=128, negative_bank_size=128, patches=16)
TRAINED = dict(SHORT, generator="trained", generator_steps=40, generator_width=16, timesteps=100, sample_steps=10)
MODELS = {
    "instant": ("instant", dict(image_size=128)),
    "instant, gaussian": ("instant", dict(image_size=128, density="gaussian", fusion="mean")),
    "instant, window level 5 and 13": ("instant", dict(image_size=64, blur=4.0, window_levels=(5, 13))),
    "quick": ("quick", dict(precision="float32", detector_steps=200)),
    "quick, chosen beta": ("quick", dict(SHORT, beta_density=-1.0, reweight_after=0.0)),
    "quick, patchmatch": ("quick", dict(SHORT, generator="patchmatch")),
    "mvtec_ad, trained": ("mvtec_ad", dict(TRAINED, **LEVEL)),
    "mvtec_loco, two levels": ("mvtec_loco", dict(TRAINED, image_size=128, detector_levels=(68, 128),
                                                  contrastive_levels=((5,), (9,)), sample_steps=100)),
    "cpu_ad, several generators": ("cpu_ad", dict(TRAINED, generator="trained+patchmatch+analytic", generator_crop=16)),
    "demo, features": ("demo", dict(SHORT, scorers=("detector", "features", "filters"), filters_size=64)),
}


def fitted(name):
    "What is compared of a model: scores of the held-out and test images, maps' means, thresholds, the files it writes"
    import tempfile
    import torch
    from grad_kit import GRAD, Config
    try: from grad_kit.data.trays import tray_dataset
    except ImportError: from grad_kit.trays import tray_dataset
    torch.set_num_threads(1)
    preset, changes = MODELS[name]
    config = Config.preset(preset, **changes)
    ds, start = tray_dataset(), time.time()
    model = GRAD(config, 3, "cpu").fit(ds, progress=False)
    r = model.score(ds.split("test"))
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder + "/model")
        files = sorted(p.name for p in Path(folder, "model").iterdir())
        again = GRAD.load(folder + "/model").score(ds.split("test"))
    return dict(score=r.image_score.tolist(), map_mean=r.anomaly_map.mean((1, 2)).tolist(),
                map_peak=r.anomaly_map.amax((1, 2)).tolist(), threshold=r.threshold, pixel_threshold=r.pixel_threshold,
                scorer_score={k: v.tolist() for k, v in r.scorer_score.items()},
                level_score={str(k): v.tolist() for k, v in r.level_score.items()},
                held=model.holdout_scores_, loaded=float((again.image_score - r.image_score).abs().max()),
                files=files, seconds=time.time() - start)


def numbers(v):
    "All numbers of a nest, in order"
    if isinstance(v, dict): return [n for k in sorted(v) for n in numbers(v[k])]
    return [n for x in v for n in numbers(x)] if isinstance(v, list) else [float(v)]


def difference(a, b):
    "Per field: the largest difference, over the field's range"
    out = {}
    for k in a.keys() - {"files", "seconds", "loaded"}:
        x, y = numbers(a[k]), numbers(b[k])
        if len(x) != len(y): out[k] = float("inf"); continue
        scale = max(map(abs, x), default=0) or 1
        out[k] = max((abs(p - q) for p, q in zip(x, y)), default=0) / scale
    return out


def main(what, *files):
    if what == "write":
        found = {}
        for name in MODELS:
            found[name] = fitted(name)
            print(f"{name}: {found[name]['seconds']:.0f} s", flush=True)
        Path(files[0]).write_text(json.dumps(found))
        return 0
    old, new = (json.loads(Path(f).read_text()) for f in files)
    bad = 0
    for name in MODELS:
        d = difference(old[name], new[name])
        worst, same = max(d, key=d.get), old[name]["files"] == new[name]["files"]
        bad += d[worst] > 1e-5 or not same
        print(f"{name}: largest relative difference {d[worst]:.1e} ({worst}); files "
              f"{'alike' if same else 'differ'}; loaded again {new[name]['loaded']:.1e}")
    return int(bool(bad))


if __name__ == "__main__": sys.exit(main(*sys.argv[1:]))
