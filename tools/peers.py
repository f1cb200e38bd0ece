"""Our speed beside that of anomalib's models, in one run, in an environment that has anomalib (`make bench`).

    python tools/peers.py --out runs/bench [--quick]

anomalib's networks with random weights take and return the same as ours: bytes in, map and score out. What anomalib
would have learned is filled in with random values, so that no part is skipped or smaller than it would be:
EfficientAD's normalisation, PatchCore's memory, PaDiM's Gaussians.
"""
import argparse, shlex, sys, time
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from grad_kit.base.compute import pick_device, pick_dtype, seeded
from grad_kit.base.config import GradKitError
from grad_kit.base.files import write_json
from grad_kit.evaluate.metrics import format_table
from grad_kit.lab.bench import bench, bench_tables, random_images, time_call


def peer_models():
    """{name: function that makes anomalib's network with random weights at 256 x 256}.
    Raises `GradKitError` where anomalib cannot be imported"""
    try:
        from anomalib.models.image.draem.torch_model import DraemModel
        from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, EfficientAdModelSize
        from anomalib.models.image.fastflow.torch_model import FastflowModel
        from anomalib.models.image.padim.torch_model import PadimModel
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel
        from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
        from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
    except (ImportError, RuntimeError) as e:
        raise GradKitError(f"anomalib cannot be imported here ({type(e).__name__}: {str(e).splitlines()[0]}); it needs "
                           "a torchvision that fits this torch: `make bench` builds such an environment") from e
    resnet18, wide = (dict(backbone=name, pre_trained=False) for name in ("resnet18", "wide_resnet50_2"))
    def padim():
        model = PadimModel(layers=["layer1", "layer2", "layer3"], **resnet18)
        model.gaussian.mean, model.gaussian.inv_covariance = torch.randn(100, 4096), torch.randn(4096, 100, 100)
        return model
    def efficient_ad(size):
        model = EfficientAdModel(teacher_out_channels=384, model_size=size, padding=False, pad_maps=True)
        for p in model.mean_std.values(): p.data.fill_(.5)   # zeros would skip its normalisation
        for key, p in model.quantiles.items(): p.data.fill_(.9 if key.startswith("qb") else .1)
        return model
    def patchcore():
        model = PatchcoreModel(layers=["layer2", "layer3"], num_neighbors=9, **wide)
        model.memory_bank = torch.randn(21_400, 1536)   # a tenth of the 1,024 features of each of bottle's 209 images
        return model
    def reverse_distillation():
        return ReverseDistillationModel(input_size=(256, 256), layers=["layer1", "layer2", "layer3"],
                                        anomaly_map_mode=AnomalyMapGenerationMode.ADD, **wide)
    return {
        "PaDiM (ResNet-18)": padim,
        "FastFlow (ResNet-18)": partial(FastflowModel, input_size=(256, 256), flow_steps=8, **resnet18),
        "EfficientAD-S": partial(efficient_ad, EfficientAdModelSize.S),
        "EfficientAD-M": partial(efficient_ad, EfficientAdModelSize.M),
        "Reverse Distillation (WRN-50)": reverse_distillation,
        "PatchCore (WRN-50, 10 %)": patchcore,
        "DRAEM": partial(DraemModel, sspcab=False),
    }


def bench_peers(
    device,
    batches,
    dtypes,     # {precision: dtype}
    budget=3.,  # the same as for ours, with the same warm-up
    say=print,
    models=None,  # None: `peer_models()`
):
    "Yields a row for each peer, precision and batch; what fails is printed and left out"
    mean, std = (torch.tensor(x, device=device)[:, None, None] * 255
                 for x in ([.485, .456, .406], [.229, .224, .225]))   # ImageNet's, which anomalib normalises by
    for name, make in (models or peer_models()).items():
        with seeded(0, "peer", name):
            net = make().eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        def run(images, dtype):
            x = ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32): out = net(x)
            return out.anomaly_map.float(), out.pred_score.float()
        images = random_images(max(batches), 256, device)
        for precision, dtype in dtypes.items():
            for b in batches:
                batch = images[:b].contiguous()
                try: t = time_call(lambda: run(batch, dtype), budget)
                except RuntimeError as e:
                    say(f"{name}, {precision}, batch {b}: left out ({str(e).splitlines()[0]})")
                    continue
                say(f"{name}, {precision}, batch {b}: {t['median_ms']:.2f} ms")
                yield dict(peer=name, precision=precision, batch=b, **t, images_per_s=1e3 * b / t["median_ms"])


def times_as_long(
    peer,  # a row of `bench_peers`
    ours,  # rows of `bench_inference`
):
    "The peer's time over that of the fastest of our engines at its precision and batch, as text, or None"
    times = [x["median_ms"] for x in ours
             if x["batch"] == peer["batch"] and x["engine"].split()[-1] == peer["precision"]]
    return f"{peer['median_ms'] / min(times):.2f}" if times else None


def peers_table(r):
    "The peers of a result, and how many times as long they take as the fastest of our engines, as text"
    ours = {"three detectors": r["inference"]} if r.get("inference") else {}
    for x in r.get("presets", []): ours.setdefault(x["preset"], []).append(x)
    rows = [[x["peer"], x["precision"], x["batch"], f"{x['median_ms']:.4g}",
             *(times_as_long(x, rows) for rows in ours.values())] for x in r["peers"]]
    table = format_table(rows, ["peer", "precision", "batch", "median ms", *ours])
    return f"Peers (anomalib, random weights, 256 x 256), and how many times as long as our fastest engine\n\n{table}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("runs/bench"), help="where results.json goes (default: runs/bench)")
    p.add_argument("--device", default="auto")
    p.add_argument("--quick", action="store_true", help="a third of the time for each measurement, batches up to 8")
    p.add_argument("--budget", type=float, default=3., help="seconds of each measurement (default: 3)")
    a = p.parse_args()
    try: models = peer_models()   # raises where anomalib is missing, before anything is measured
    except GradKitError as e: sys.exit(f"tools/peers.py: {e}")
    start, device, batches = time.time(), pick_device(a.device), (1, 8) if a.quick else (1, 8, 64)
    dtypes = {"float32": torch.float32}
    if pick_dtype("auto", device) is torch.bfloat16: dtypes["bfloat16"] = torch.bfloat16
    r = dict(command=shlex.join(["python", *sys.argv])) | bench(device=a.device, quick=a.quick, budget=a.budget)
    r["peers"] = list(bench_peers(device, batches, dtypes, a.budget / (3 if a.quick else 1), models=models))
    r["seconds"] = round(time.time() - start, 1)
    write_json(a.out/"results.json", r)
    print(f"\n{bench_tables(r)}\n\n{peers_table(r)}\n\n{r['seconds']:.0f} s; everything in {a.out/'results.json'}")


if __name__ == "__main__": main()
