"""Everything to measure on a GPU, in steps that continue where they stopped, the most valuable first.

    make gpu-pack DATA=../shared/data     here: wheels and data for a machine without network, into .gpu
    make gpu                              there: run it again until it says that all is done
                                          (without make: python3 tools/gpu.py run)
    make gpu DEVICE=cpu QUICK=1           anywhere: every step in miniature

Each call takes at most nine minutes and all of them 28. Figures go to runs/gpu/results.json as they come; where the
variable OUT names a folder, as on a lent machine, they are copied there. Needs PyTorch, numpy, pillow, scikit-learn,
matplotlib and pytest; what else grad_kit imports comes from .gpu/wheels.
"""
import argparse, importlib.util, json, os, shutil, signal, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACK, MOST_MIB = ROOT/".gpu", 64
WHEELS, SETS = ("kornia", "kornia-rs", "fastcore"), ("mvtec_bottle", "mvtec_transistor", "mvtec_loco")
sys.path.insert(0, str(ROOT))


# --- what is carried ---

def size_mib(files): return sum(f.stat().st_size for f in files if f.is_file()) / 2**20


def pack(data, python):
    "Wheels of what that machine lacks and the sets that fit, in .gpu; says what was left out"
    shutil.rmtree(PACK, ignore_errors=True)
    platforms = [f"--platform=manylinux{p}_x86_64" for p in ("_2_28", "_2_27", "_2_17", "2014", "1")]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    which = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    subprocess.run([*pip, *which, "-d", PACK/"wheels", *WHEELS], check=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    used = size_mib(ROOT/f for f in listed.decode().split("\0") if f) + size_mib(PACK.rglob("*"))
    for name in SETS:
        files = list((data/name).rglob("*"))
        if not files: print(f"{data/name} is not there: left out"); continue
        if used + size_mib(files) > MOST_MIB - 1:
            print(f"{name} ({size_mib(files):.0f} MiB) does not fit into {MOST_MIB} MiB: left out")
            continue
        shutil.copytree(data/name, PACK/"data"/name)
        used += size_mib(files)
    print(f"{PACK} and the working tree: {used:.1f} of {MOST_MIB} MiB. Carry .gpu, and say there: make gpu")


def ready():
    "Environment of the steps: the project, and the carried wheels where grad_kit's imports are missing"
    site = PACK/"site"
    wanted = "kornia", "fastcore", "safetensors", "filelock", "tqdm"
    missing = [m for m in wanted if importlib.util.find_spec(m) is None]
    if missing and not site.is_dir():
        wheels = sorted((PACK/"wheels").glob("*.whl"))
        if not wheels:
            sys.exit(f"{missing[0]} cannot be imported and there are no wheels in {PACK/'wheels'}; "
                     "say make gpu-pack where there is a network, or make env here")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run([*pip, "--target", site, *wheels], check=True)
    paths = [str(ROOT), *([str(site)] if missing else []), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p), "PYTHONUNBUFFERED": "1"}


# --- the record ---

class Record:
    "results.json: {machine, used_s, steps: {name: {done or failed, seconds, figures}}}"
    def __init__(self, folder): self.file = Path(folder)/"results.json"
    def read(self): return json.loads(self.file.read_text()) if self.file.exists() else dict(used_s=0., steps={})
    def put(self, name=None, **figures):
        from grad_kit.base.files import write_json
        d = self.read()
        (d["steps"].setdefault(name, {}) if name else d).update(figures)
        write_json(self.file, d)
        self.bring_back()
    def bring_back(self):
        if not os.environ.get("OUT"): return
        for f in self.file.parent.glob("*.*"):
            if f.suffix in (".json", ".txt", ".log") and f.stat().st_size < 15 * 2**20:
                shutil.copy(f, os.environ["OUT"])


# in miniature
SMALL = dict(image_size=64, blur=4., detector_levels=(34,), contrastive_levels=((5,),), filters_size=64, window_size=32)
TINY = dict(generator_width=8, generator_batch=2, detector_width=.125, patches=4, bank_size=16, negative_bank_size=16)

# --- the steps: each takes (put, device, quick, folder) and stores its figures with `put` as they come ---

def works(put, device, quick, folder):
    "The tests that need a GPU"
    marked = [f for f in sorted((ROOT/"tests").glob("test_*.py")) if "@pytest.mark.gpu" in f.read_text()]
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    r = subprocess.run([*pytest, *marked], cwd=ROOT, capture_output=True, text=True)
    (folder/"pytest.log").write_text(r.stdout + r.stderr)
    last = (r.stdout.strip().splitlines() or [r.stderr[-300:]])[-1]
    put(tests=[f.name for f in marked], exit_status=r.returncode, summary=last)


def scoring(put, device, quick, folder):
    "Ceiling, latency and throughput: the paper's three detectors, then what the other presets ship"
    import torch
    from grad_kit.lab.bench import bench_inference, matmul_ceiling, untrained
    from grad_kit.base.compute import pick_dtype
    from grad_kit.base.config import Config
    small = dict(image_size=144, detector_width=.125, blur=4.) if quick else {}
    batches, budget = ((1, 2), .05) if quick else ((1, 8, 64), 1.)
    precisions = {torch.float32: "float32"}
    if pick_dtype("auto", device) == torch.bfloat16: precisions[torch.bfloat16] = "bfloat16"
    ceilings = {name: matmul_ceiling(device, dtype, budget / 3) for dtype, name in precisions.items()}
    put(ceilings=ceilings)
    rows = []
    models = {"three detectors": Config(**small), "instant": Config.preset("instant", **(SMALL if quick else {}))}
    for what, config in models.items():
        model = untrained(config, device, normals=12 if quick else 200 if what == "instant" else 20)
        compiled = not quick and what == "three detectors"
        for row in bench_inference(model, batches, ceilings, budget, compiled, files=False):
            rows.append(dict(model=what) | row)
            put(rows=rows)


def generation(put, device, quick, folder):
    "1,000 images of 256 px at level 17 by all 1,000 steps of Algorithm 2"
    import torch
    from torch.utils.benchmark import timer   # synchronises with a GPU before it reads the clock
    from grad_kit.base.compute import pick_dtype
    from grad_kit.model.generators import sampling_batch
    from grad_kit.paper.patchdiff import PatchDiff, compiled, noise_schedule, sample
    n, size, width, steps = (4, 48, 8, 6) if quick else (1000, 256, 64, 1000)
    dtype, batch = pick_dtype("auto", device), 2 if quick else sampling_batch(size, device)
    model = PatchDiff(17, width).to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    def seconds(net, n, schedule):
        start = timer()
        sample(net, n, (size, size), schedule, batch=batch, device=device, dtype=dtype)
        return timer() - start
    nets = {"eager": model} | ({} if quick else {"compiled": compiled(model)})
    a_step = {}
    for how, net in nets.items():
        seconds(net, batch, noise_schedule(3))   # warm-up, and compilation
        a_step[how] = seconds(net, batch, noise_schedule(4 if quick else 20)) / (4 if quick else 20)
        expected = {k: v * steps * -(-n // batch) for k, v in a_step.items()}   # seconds
        put(batch=batch, precision=str(dtype), ms_a_step={k: 1e3 * v for k, v in a_step.items()},
            minutes_expected={k: v / 60 for k, v in expected.items()})
    best = min(a_step, key=a_step.get)
    if expected[best] < 300:
        took = seconds(nets[best], n, noise_schedule(steps))
        put(generated=n, how=best, minutes=took / 60)


def training(put, device, quick, folder):
    "Milliseconds a step of both loops with the paper's settings, PatchDiff's also compiled"
    from grad_kit.lab.bench import bench_training
    from grad_kit.base.compute import pick_dtype
    from grad_kit.base.config import Config
    c = Config.preset("mvtec_ad", **(dict(TINY, image_size=48, blur=2.) if quick else {}))
    dtype, figures = pick_dtype("auto", device), {}
    for row in bench_training(c, device, {str(dtype): dtype}, (2, 4) if quick else (20, 120), compiled=not quick):
        figures[row["what"]] = row["ms"]
        put(ms=figures, precision=str(dtype), patches=c.patches * (len(c.contrastive_levels[0]) + 2))


def fit_a_set(put, device, quick, folder, name, preset, category):
    "The paper's preset on one set, seed 0, and the preset `instant` and the baselines on the same images"
    from grad_kit.lab.ablate import run_cell
    from grad_kit.base.config import Config
    from grad_kit.data.layouts import read_dataset
    from grad_kit.data.trays import tray_dataset
    tiny = dict(SMALL, **TINY, n_contrastive=4, generator_steps=4, sample_steps=3, detector_steps=4) if quick else {}
    data = tray_dataset(24, 4, 2, 2, size=64) if quick else read_dataset(PACK/"data"/name)
    quickly = run_cell(data, Config.preset("instant", **(SMALL if quick else {})), 0, None, device)
    put(instant={k: quickly[k] for k in ("image_auroc", "pixel_auroc", "seconds", "protocol")})
    cell = run_cell(data, Config.preset(preset, category, **tiny), 0, folder/f"stages-{name}", device,
                    checkpoint_every=20, compile=not quick)
    put(cell=cell, command=f"grad_fit {name} --preset {preset} --compile, seed 0")


def local_contrast(put, device, quick, folder):
    "The preset `cpu`, 8,000 steps instead of 1,200, on each set that is there, seed 0, and its scorers alone"
    from grad_kit.lab.ablate import run_cell
    from grad_kit.base.config import Config
    from grad_kit.data.layouts import read_dataset
    from grad_kit.data.trays import tray_dataset
    changes = dict(SMALL, local_steps=4, local_width=8, n_contrastive=2) if quick else dict(local_steps=8000)
    names = ["trays"] if quick else [n for n in ("mvtec_transistor", "mvtec_bottle", "mvtec_loco/juice_bottle")
                                     if (PACK/"data"/n).is_dir()]
    cells = {}
    for name in names:
        data = tray_dataset(24, 4, 2, 2, size=64) if quick else read_dataset(PACK/"data"/name)
        cells[name] = run_cell(data, Config.preset("cpu", **changes), 0, folder/f"local-{Path(name).name}", device,
                               checkpoint_every=20)
        put(cells=cells, command="grad_fit SET --preset cpu --set local_steps=8000, seed 0")


def bottle(*a): fit_a_set(*a, "mvtec_bottle", "mvtec_ad", "bottle")
def transistor(*a): fit_a_set(*a, "mvtec_transistor", "mvtec_ad", "transistor")
def juice_bottle(*a): fit_a_set(*a, "mvtec_loco/juice_bottle", "mvtec_loco", "juice_bottle")


# each with the seconds below which it is not worth a start
STEPS = {f.__name__: (f, least) for f, least in (
    (works, 60), (scoring, 120), (training, 60), (generation, 120), (local_contrast, 90), (bottle, 60),
    (transistor, 60), (juice_bottle, 60))}


# --- running them ---

def run_step(name, device, quick, folder):
    "In a process of its own"
    from grad_kit.base.compute import pick_device
    record, start = Record(folder), time.time()
    def put(**figures): record.put(name, **figures)
    put(failed=None)
    if quick: import torch; torch.set_num_threads(1)
    try: STEPS[name][0](put, pick_device(device), quick, folder)
    except Exception as e:
        import traceback
        (folder/f"{name}.log").write_text(traceback.format_exc())
        said = str(e).splitlines()[0][:300] if str(e) else ""
        put(failed=f"{type(e).__name__}: {said}", seconds=round(time.time() - start, 1))
        raise
    put(done=True, seconds=round(time.time() - start, 1))


def run(device, quick, folder, seconds, total, only, again):
    "As many steps as fit into this call; returns the exit status: 0 all done, 3 call again, 1 something failed"
    start, env = time.time(), ready()
    sys.path[:0] = [p for p in env["PYTHONPATH"].split(os.pathsep) if p not in sys.path]
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder)
    if not record.file.exists() and (PACK/"results.json").exists():   # started on another machine
        shutil.copy(PACK/"results.json", record.file)
    from grad_kit.evaluate.report import machine
    from grad_kit.base.compute import pick_device
    before = record.read()["used_s"]
    record.put(machine=machine(pick_device(device)), quick=quick)
    def left(): return min(seconds, total - before) - (time.time() - start)
    def is_due(name):
        step = record.read()["steps"].get(name, {})
        return not step.get("done") and (again or not step.get("failed"))
    for name in [n for n in (only or STEPS) if is_due(n)]:
        if left() < STEPS[name][1]: print(f"{name}: not started, {left():.0f} s are left in this call"); continue
        print(f"{name}: starts, {left():.0f} s are left in this call", flush=True)
        command = [sys.executable, __file__, "step", name, "--device", device, "--folder", str(folder)]
        child = subprocess.Popen(command + ["--quick"] * quick, env=env)
        try: child.wait(max(1., left()))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)   # checkpoints of at most 20 seconds ago are kept
            try: child.wait(10)
            except subprocess.TimeoutExpired: child.kill(); child.wait()
            print(f"{name}: stopped for now")
        record.put(used_s=round(before + time.time() - start, 1))
    text = table(record.read())
    (folder/"table.txt").write_text(text + "\n"); record.bring_back()
    print(text)
    steps = record.read()["steps"]
    if any(steps.get(n, {}).get("failed") for n in only or STEPS): return 1
    return 0 if all(steps.get(n, {}).get("done") for n in only or STEPS) else 3


def table(d):
    "The figures as text"
    from grad_kit.evaluate.metrics import format_table
    s, m = d["steps"], d["machine"]
    out = [f"{m['device']}, torch {m['torch']}, Python {m['python']}{', in miniature' if d.get('quick') else ''}; "
           f"{d['used_s']:.0f} s used"]
    def how(name):
        if name not in s: return "not started"
        return "done" if s[name].get("done") else s[name].get("failed") or "not finished"
    steps = [[n, how(n), s.get(n, {}).get("seconds")] for n in STEPS]
    out.append(format_table(steps, ["step", "how it went", "seconds"]))
    if "summary" in s.get("works", {}): out.append(f"GPU tests: {s['works']['summary']}")
    if "rows" in s.get("scoring", {}):
        ceilings = s["scoring"]["ceilings"]
        out.append("ceiling: " + ", ".join(f"{k} {v / 1e12:.3g} TFLOP/s" for k, v in ceilings.items()))
        times = [[r["model"], r["engine"], r["batch"], f"{r['median_ms']:.3f}", f"{r['images_per_s']:.0f}",
                  f"{r['difference']:.0e}"] for r in s["scoring"]["rows"]]
        out.append(format_table(times, ["model", "engine", "batch", "ms", "images/s", "difference"]))
    if "ms" in s.get("training", {}):
        out.append(format_table([[k, f"{v:.2f}"] for k, v in s["training"]["ms"].items()],
                                [f"a step of ({s['training']['patches']} patches)", "ms"]))
    if "ms_a_step" in s.get("generation", {}):
        p = s["generation"]
        a_step = ", ".join(f"{k} {v:.2f}" for k, v in p["ms_a_step"].items())
        whole = f"{p['generated']} images in {p['minutes']:.2f} min" if "minutes" in p else "not run whole"
        out.append(f"generation, level 17: {a_step} ms a step of {p['batch']} images; {whole}")
    cells = {n: s[n]["cell"] for n in ("bottle", "transistor", "juice_bottle") if "cell" in s.get(n, {})}
    rows = []
    def row(name, method, x, seconds):
        return [name, method, _headline(x["image_auroc"]), x["pixel_auroc"], x[seconds]]
    for n, c in cells.items():
        rows += [row(n, "GRAD (paper), seed 0", c, "seconds"), row(n, "instant", s[n]["instant"], "seconds")]
        rows += [row(n, k, x, "fit_seconds") for k, x in c["baselines"].items() if k != "detector"]
    for n, c in s.get("local_contrast", {}).get("cells", {}).items():
        rows.append([Path(n).name, "cpu, more steps", _headline(c["image_auroc"]), c["pixel_auroc"], c["seconds"]])
    if rows: out.append(format_table(rows, ["set", "method", "image AUROC", "pixel AUROC", "fit, s"]))
    return "\n\n".join(out)


def _headline(auroc):
    from grad_kit.evaluate.metrics import headline
    return headline(auroc) if isinstance(auroc, dict) else auroc


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("do", choices=["pack", "run", "step", "table"])
    p.add_argument("name", nargs="?", choices=list(STEPS), help="of the step")
    p.add_argument("--device", default="cuda")
    p.add_argument("--quick", action="store_true", help="every step in miniature")
    p.add_argument("--folder", type=Path, default=ROOT/"runs"/"gpu", help="where the figures go (default: runs/gpu)")
    p.add_argument("--seconds", type=float, default=540., help="of this call (default: 540)")
    p.add_argument("--total", type=float, default=28 * 60., help="of all calls together (default: 1680)")
    p.add_argument("--only", nargs="+", choices=list(STEPS))
    p.add_argument("--again", action="store_true", help="also what failed before")
    p.add_argument("--data", type=Path, default=ROOT.parent/"shared"/"data", help="pack: where the sets lie")
    p.add_argument("--python", default="3.12", help="pack: the other machine's Python")
    a = p.parse_args()
    if a.do == "pack": pack(a.data, a.python)
    elif a.do == "step": run_step(a.name, a.device, a.quick, a.folder)
    elif a.do == "table": print(table(Record(a.folder).read()))
    else: sys.exit(run(a.device, a.quick, a.folder, a.seconds, a.total, a.only, a.again))
