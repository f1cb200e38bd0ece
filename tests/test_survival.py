"Written by hand: what machines and strangers do to a run. Long: `make test-slow` runs these and prints their figures"
import copy, io, json, os, random, shutil, signal, subprocess, sys, time, warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grad_kit.base.config import Config, GradKitError, PRESETS
from grad_kit.data.guard import kind_of_name
from grad_kit.data.layouts import read_dataset
from grad_kit.data.images import image_size, read_image, read_mask
from grad_kit.model.grad import GRAD
from grad_kit.data.trays import tray_dataset

slow, TESTS = pytest.mark.slow, Path(__file__).parent
# what PIL says of broken files before it refuses them
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore:.*too few.*")
RUN = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from grad_kit import GRAD
from grad_kit.data.trays import tray_dataset
from conftest import tiny
ds = tray_dataset(12, 6, 4, 1)
print("begun", flush=True)
model = GRAD(tiny(generator_steps=30, detector_steps=120), 0, "cpu").fit(ds, stages=sys.argv[1], checkpoint_every=0, progress=False)
model.save(sys.argv[2])
print(model.score(ds.split("test")).image_score.tolist())
"""

def start(folder):
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder/"stages"), str(folder/"model")],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TESTS)

def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])

def whole(folder):
    "Every file that is not hidden and no temporary can be read from end to end"
    from grad_kit.base.files import load_state
    for p in folder.rglob("*"):
        if p.is_file() and not any(x.startswith(".") for x in p.relative_to(folder).parts):
            if p.suffix in (".safetensors", ".checkpoint"): load_state(p)
            else: json.loads(p.read_text())

@slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_runs_killed_at_random_moments_end_as_if_they_had_not(how, tmp_path):
    rng, kills, runs = random.Random(0), 0, 0
    begun = time.time()
    want = finish(start(tmp_path/"whole"))
    longest = time.time() - begun
    while kills < (50 if how == signal.SIGKILL else 8):
        folder = tmp_path/f"run_{runs}"
        while True:
            process = start(folder)
            assert process.stdout.readline() == "begun\n"
            try: process.wait(rng.uniform(.05, .6 * longest))
            except subprocess.TimeoutExpired:
                process.send_signal(how); process.communicate(); kills += 1
                whole(folder)
                continue
            assert finish(process) == want
            break
        runs += 1
        shutil.rmtree(folder)
    print(f"measured: kill by {how.name}: {kills} kills over {runs} runs, "
          "each ended with the scores of an uninterrupted one")

KILLED = """
import os, signal, sys, warnings
from pathlib import Path
from unittest import mock
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import safetensors.torch
from conftest import tiny
from grad_kit.base.run import Run
from grad_kit.data.trays import tray_dataset
from grad_kit.model.grad import GRAD
root = Path(sys.argv[1])

def train(folder, stages=None, seed=0):
    ds, c = tray_dataset(8 + seed, 4, 2, 1, seed=seed), tiny(contrastive_levels=((5,),))
    GRAD(c, device="cpu").fit(ds, stages=stages, checkpoint_every=0, progress=False).save(folder)

def fit(folder, stages=None, seed=0, killed_at=None):
    "`train` in a process of its own, which is killed at the so-many-th call of a function; its exit status"
    pid = os.fork()
    if pid: return os.waitpid(pid, 0)[1]
    try:
        if killed_at:
            owner, name, last = killed_at
            f, calls = getattr(owner, name), []
            def dying(*args, **kw):
                calls.append(1)
                if len(calls) == last: os.kill(os.getpid(), signal.SIGKILL)
                return f(*args, **kw)
            mock.patch.object(owner, name, dying).start()
        train(folder, stages, seed)
        os._exit(0)
    finally: os._exit(3)

def files(folder): return {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}
def scores(folder, seed=0): return GRAD.load(folder, "cpu").holdout_scores_

# within a training, between two rounds, and before a file is written or takes its place
of_a_fit = [(Run, "record", 4), (Run, "look", 2), (safetensors.torch, "save_file", 3), (os, "replace", 2),
            (Run, "record", 10), (GRAD, "save", 1)]
of_saving = [(os, "rename", 1), (os, "rename", 2), (safetensors.torch, "save_file", 1)]
"""

def killed(script, folder):
    "Run `KILLED` and then the script, which uses what that defines"
    done = subprocess.run([sys.executable, "-c", KILLED + script, folder], capture_output=True, text=True,
                          cwd=TESTS, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr

def test_a_fit_killed_by_sigkill_goes_on_and_saves_what_a_fresh_one_saves(tmp_path):
    killed("""
train(root/"fresh", root/"stages of fresh")
for place in of_a_fit:
    assert fit(root/"resumed", root/"stages", killed_at=place) == signal.SIGKILL, place
    assert not (root/"resumed").exists() and list((root/"stages").glob("[!.]*")), place
assert fit(root/"resumed", root/"stages") == 0
assert not list((root/"stages").glob("*.checkpoint"))
assert files(root/"fresh") == files(root/"resumed") and "patchdiff_5_64.safetensors" in files(root/"fresh")
assert scores(root/"fresh") == scores(root/"resumed")
""", tmp_path)

def test_a_refit_killed_by_sigkill_leaves_the_old_model_on_disk(tmp_path):
    killed("""
train(root/"m")
before, want = files(root/"m"), scores(root/"m")
for place in (of_a_fit[0], of_a_fit[4], *of_saving):
    assert fit(root/"m", root/"stages", 3, place) == signal.SIGKILL, place
    assert scores(root/"m") == want and files(root/"m") == before, place   # load puts back what was moved aside
assert fit(root/"m", root/"stages", 3) == 0 and scores(root/"m") != want
""", tmp_path)

def test_an_interrupted_cell_goes_on_when_it_is_run_again(tmp_path):
    from jupyter_client.manager import start_new_kernel
    kernel, client = start_new_kernel(kernel_name="python3", cwd=str(TESTS))
    def run(folder, stop_after=None):
        "(how the cell ended, what it printed); a KeyboardInterrupt is what the stop button of a notebook sends"
        code = RUN.replace("sys.argv[1]", repr(str(folder/"stages"))).replace("sys.argv[2]", repr(str(folder/"model")))
        ident, printed = client.execute(code), ""
        if stop_after is not None:
            while client.get_iopub_msg(timeout=100)["content"].get("text") != "begun\n": pass
            time.sleep(stop_after); kernel.interrupt_kernel()
        while (m := client.get_shell_msg(timeout=200))["parent_header"].get("msg_id") != ident: pass
        reply = m["content"]
        while True:
            m = client.get_iopub_msg(timeout=100)
            if m["parent_header"].get("msg_id") == ident and m["content"].get("execution_state") == "idle": break
            printed += m["content"].get("text", "")
        return reply.get("ename", reply["status"]), printed.splitlines()[-1:]
    try:
        ended, want = run(tmp_path/"whole")
        assert ended == "ok" and len(want) == 1
        ended = [run(tmp_path/"run", pause)[0] for pause in (.1, .2, .4)]   # what is left may end before it is stopped
        assert ended[0] == "KeyboardInterrupt" and set(ended) <= {"KeyboardInterrupt", "ok"}
        assert [p for p in (tmp_path/"run"/"stages").iterdir() if p.name[0] != "."]
        assert run(tmp_path/"run") == ("ok", want)
    finally: client.stop_channels(); kernel.shutdown_kernel(now=True)

@slow
def test_a_second_process_on_the_same_run_is_told(tmp_path):
    first = start(tmp_path)
    assert first.stdout.readline() == "begun\n"
    while not (tmp_path/"stages"/".lock").exists(): time.sleep(.01)
    time.sleep(.1)
    second = start(tmp_path)
    out, err = second.communicate(timeout=100)
    if first.poll() is None: assert second.returncode == 1 and "another process is working in" in err.splitlines()[-1]
    finish(first)

def in_a_namespace(*command):
    "Run in a mount namespace of its own, where root or not we may mount; skips where the machine forbids that"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine forbids mount namespaces (unshare -rm)")
    return subprocess.run(["unshare", "-rm", *map(str, command)], capture_output=True, text=True,
                          cwd=TESTS, timeout=600)

SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from grad_kit import GRAD
from grad_kit.base.config import GradKitError
from grad_kit.model.export import Exported, export_model
from test_survival import finish, start, whole
disk, want = Path(sys.argv[1]), finish(start(Path(sys.argv[2])))
def mount(*how): subprocess.run(["mount", "-t", "tmpfs", *how, "none", disk], check=True)
mount("-o", "size=8k")
full, size = 0, 8
while True:
    process = start(disk/"run")
    out, err = process.communicate(timeout=300)
    whole(disk)
    if process.returncode == 0: break
    last = err.splitlines()[-1]
    assert "GradKitError: cannot write" in last and "No space left on device" in last and "free some space" in last, err
    full, size = full + 1, size * 3 // 2
    assert size < 20_000
    subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)
assert finish(start(disk/"run")) == want
print(f"measured: full disk: {full} disks too small, the run went on each time and ended "
      f"with the scores of an uninterrupted one, on {size} KiB")
model, made = GRAD.load(disk/"run"/"model", "cpu"), []
for size in range(100, 1500, 100):   # exported files too are whole or not there
    mount("-o", f"size={size}k")
    for file in (disk/"m.onnx", disk/"m.xml"):
        try:
            export_model(model, file)
            made.append(Exported(file))
            file.unlink()
            file.with_suffix(".bin").unlink(missing_ok=True)
        except GradKitError as e:
            assert "cannot write" in str(e) and ("full disk" in str(e) or "No space left" in str(e)), e
        assert not list(disk.iterdir())
assert 4 < len(made) < 26
mount("-o", "ro")
process = start(disk/"run")
last = process.communicate(timeout=300)[1].splitlines()[-1]
assert process.returncode == 1 and "GradKitError: cannot write" in last, last
assert "Read-only file system" in last and "choose another place" in last, last
"""

@slow
def test_a_full_disk_is_said_and_more_space_lets_the_run_go_on(tmp_path):
    (tmp_path/"disk").mkdir()
    done = in_a_namespace(sys.executable, "-c", SMALL_DISK, tmp_path/"disk", tmp_path/"whole")
    assert done.returncode == 0, done.stderr
    print(done.stdout)

def test_a_folder_without_write_permission_is_said_at_once(tmp_path):
    shut = tmp_path/"shut"
    shut.mkdir(mode=0o555)
    command = [sys.executable, "-c", RUN, shut/"stages", shut/"model"]
    if os.geteuid() == 0:   # root passes every lock unless this power is taken away
        if not shutil.which("setpriv"):
            pytest.skip("root may write everywhere, and setpriv is not there to take that away")
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=TESTS)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "GradKitError: cannot write" in last and "Permission denied" in last, done.stderr
    assert "choose another place" in last, done.stderr
    assert not list(shut.iterdir())


# --- broken and hostile files ---

ODD = [None, True, -1, 0, 1, 2**31, 2**63, 10**30, -0., .5, 1e308, float("nan"), float("inf"), "", "x", "1", "\x00",
       "../../etc/passwd", "\ud800", [], [[]], [1], [[1]], [34, 34], ["5"], {}, {"a": 1}, [[[[5]]]], "9" * 5000]

def bent(text, rng):
    "The text with a few bytes changed, taken out, doubled or cut off"
    b = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        if not b: break
        i, what = rng.randrange(len(b)), rng.randrange(5)
        if what == 0: b[i] = rng.randrange(256)
        elif what == 1: del b[i:i + rng.randint(1, 20)]
        elif what == 2: b[i:i] = b[i:i + rng.randint(1, 30)]
        elif what == 3: b = b[:i]
        else: b[i] ^= 1 << rng.randrange(8)
    return bytes(b)

def odd(d, rng):
    "The nest with one or two values replaced by odd ones, or fields taken out or added"
    d = json.loads(json.dumps(d))
    for _ in range(rng.randint(1, 2)):
        place = d
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys: break
            k = rng.choice(keys)
            if isinstance(place[k], (dict, list)) and place[k] and rng.random() < .7: place = place[k]; continue
            what = rng.randrange(6)
            if what == 0 and isinstance(place, dict): del place[k]
            elif what == 1 and isinstance(place, dict):
                value, name = copy.deepcopy(rng.choice(ODD)), rng.choice(["x", "", "__class__", str(k) + "s"])
                place[name] = value
            else: place[k] = copy.deepcopy(rng.choice(ODD))
            break
    return d

def only_documented(f, *args):
    "True where `f` accepts the input; anything but `GradKitError` is raised on"
    try: f(*args); return True
    except GradKitError as e: assert str(e) and "\n" not in str(e) and len(str(e)) < 1500, str(e); return False

@slow
def test_fuzzed_configs():
    rng, taken, n = random.Random(0), 0, 60_000
    bases = [Config.preset(p).to_dict() for p in PRESETS]
    for _ in range(n):
        d = odd(rng.choice(bases), rng)
        if all(isinstance(name, str) for name in d): taken += only_documented(lambda: Config(**d))
    print(f"measured: configs: {n:,} inputs, {taken:,} taken, the others refused in one sentence")

@slow
def test_fuzzed_model_folders(tmp_path):
    from conftest import tiny
    rng, taken, n = random.Random(1), 0, 12_000
    good, bad = tmp_path/"good", tmp_path/"bad"
    GRAD(tiny(contrastive_levels=((5,),)), device="cpu").fit(tray_dataset(6, 3, 1, 1), progress=False).save(good)
    files = {p.name: p.read_bytes() for p in good.iterdir()}
    manifest = json.loads(files["manifest.json"])
    shutil.copytree(good, bad)
    def load(): GRAD.load(bad, "cpu")
    for i in range(n):
        name = "manifest.json" if i % 3 else rng.choice(sorted(files))
        if i % 3 == 1: broken = json.dumps(odd(manifest, rng)).encode("utf-8", "surrogatepass")
        elif name == "manifest.json": broken = bent(files[name], rng)
        else:                                                     # mostly the head, which says what is in the file
            head = 8 + int.from_bytes(files[name][:8], "little")
            broken = bent(files[name][:head], rng) + files[name][head:]
        (bad/name).write_bytes(broken)
        taken += only_documented(load)
        (bad/name).write_bytes(files[name])
    print(f"measured: model folders: {n:,} inputs, {taken:,} taken, the others refused in one sentence")

@slow
def test_fuzzed_images(tmp_path):
    rng, taken, n = random.Random(2), 0, 30_000
    a = np.random.default_rng(0).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    bases = []
    for kind, mode in (("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("JPEG", "RGB"), ("JPEG", "CMYK"),
                       ("BMP", "RGB"), ("TIFF", "RGB"), ("TIFF", "L"), ("WEBP", "RGB")):
        b = io.BytesIO(); Image.fromarray(a).convert(mode).save(b, kind); bases.append((kind.lower(), b.getvalue()))
    for i in range(n):
        kind, data = rng.choice(bases)
        path = tmp_path/f"x.{kind}"
        path.write_bytes(bent(data[:200], rng) + data[200:] if i % 2 else bent(data, rng))
        taken += only_documented(read_image, path)
    print(f"measured: images: {n:,} inputs, {taken:,} taken, the others refused in one sentence")

@slow
def test_fuzzed_masks(tmp_path):
    rng, taken, n = random.Random(3), 0, 20_000
    a = np.zeros((40, 44), np.uint8); a[10:20, 8:30] = 255
    bases = []
    for kind, mode, kw in (("PNG", "L", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "1", {}),
                           ("JPEG", "L", dict(quality=60)), ("WEBP", "RGB", dict(quality=50)),
                           ("TIFF", "L", dict(compression="jpeg")), ("TIFF", "L", {}), ("BMP", "L", {})):
        b = io.BytesIO()
        Image.fromarray(a).convert(mode).save(b, kind, **kw)
        bases.append((kind.lower(), b.getvalue()))
    for i in range(n):
        kind, data = rng.choice(bases)
        path = tmp_path/f"x.{kind}"
        path.write_bytes(bent(data[:200], rng) + data[200:] if i % 2 else bent(data, rng))
        taken += only_documented(lambda: (image_size(path), read_mask(path)))
    print(f"measured: masks: {n:,} inputs, {taken:,} taken, the others refused in one sentence")

@slow
def test_fuzzed_folders(tmp_path):
    """Trees of folders and files called at random by words that matter: read or refused in one sentence,
    and what is called defective never trains"""
    rng, taken, n = random.Random(4), 0, 6_000
    words = ("train test good ok NG Bad defects masks ground_truth label normal abnormal validation Data Images "
             "Anomaly monday x part_3 no_defect test_public scratch logical_anomalies").split()
    files = ("000.png 001.png 002.jpg 000_mask.png 001_label.png 000.txt ng_1.png latest.png defects_config.json "
             "label.csv 003.PNG Part0.jpg Part0_label.bmp").split()
    def is_mask(path): return any(kind_of_name(x) == "mask" for x in (path.stem, *path.parts))
    a = np.full((36, 36, 3), 120, np.uint8); black = np.zeros((36, 36), np.uint8)
    pictures = {}
    for end in ("png", "jpg", "bmp"):
        for mask in (False, True):
            b = io.BytesIO()
            Image.fromarray(black if mask else a).save(b, {"png": "PNG", "jpg": "JPEG", "bmp": "BMP"}[end])
            pictures[end, mask] = b.getvalue()
    for i in range(n):
        root = tmp_path/"parts"
        for _ in range(rng.randint(1, 12)):
            path = root.joinpath(*rng.choices(words, k=rng.randint(0, 3)))/rng.choice(files)
            if any(p.is_file() for p in path.parents): continue
            path.parent.mkdir(parents=True, exist_ok=True)
            end = path.suffix.lower()[1:]
            if (end, True) in pictures: path.write_bytes(pictures[end, is_mask(path)])
            else: path.write_bytes(rng.choice([b"", b"0 0.5 0.5 0.1 0.1", b"[]", b"file,label", b"{"]))
        for purpose in ("fit", "evaluate", "score", "either"):
            def read():
                ds = read_dataset(root, purpose)
                for it in ds.split("train").items:
                    inside = it.image.relative_to(root).parts
                    said = [k for x in inside[:-1] if (k := kind_of_name(x)) in ("normal", "bad", "mask")] or [None]
                    assert said[-1] not in ("bad", "mask"), (ds, inside)
                    in_train = "train" in [x.lower() for x in inside]
                    assert in_train or kind_of_name(it.image.stem) not in ("bad", "mask"), (ds, inside)
            with warnings.catch_warnings(): warnings.simplefilter("ignore"); taken += only_documented(read)
        shutil.rmtree(root)
    print(f"measured: folders: {4 * n:,} readings, {taken:,} taken, the others refused in one sentence")

def test_hostile_images_are_refused_by_name(tmp_path):
    frames = [Image.fromarray(np.full((40, 40, 3), v, np.uint8)) for v in (0, 255)]
    for kind in ("png", "tiff", "webp"):
        frames[0].save(tmp_path/f"film.{kind}", save_all=True, append_images=frames[1:])
        with pytest.raises(GradKitError, match=f"film.{kind}.*2 frames"): read_image(tmp_path/f"film.{kind}")
    import struct, zlib
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    # 10 GiB of zeros in a few bytes; no pixel at all
    for name, (w, h) in dict(bomb=(60_000, 60_000), empty=(0, 5)).items():
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        (tmp_path/f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
        with pytest.raises(GradKitError, match=f"{name}.png"): read_image(tmp_path/f"{name}.png")

def test_a_model_folder_cannot_name_files_outside_nor_ask_for_memory(tmp_path):
    from conftest import tiny
    model = tmp_path/"model"
    GRAD(tiny(contrastive_levels=((5,),)), device="cpu").fit(tray_dataset(6, 3, 1, 1), progress=False).save(model)
    d = json.loads((model/"manifest.json").read_text())
    def load(**changes):
        (model/"manifest.json").write_text(json.dumps(d | changes))
        return GRAD.load(model, "cpu")
    before = torch.get_num_threads()
    for config in (dict(bank_size=10**12), dict(negative_bank_size=10**12), dict(generator_width=10**9),
                   dict(generator_width=10**6, coord_frequencies=10**6), dict(detector_width=4.)):
        with pytest.raises(GradKitError): load(config=d["config"] | config)
    for patchdiffs in ([["../../x", 64]], [[10**9 + 1, 64]], [[5, "/etc/passwd"]], [[5]], 7, [[5, 64, 3]]):
        with pytest.raises(GradKitError): load(patchdiffs=patchdiffs)
    with pytest.raises(GradKitError):
        load(files={"../../../etc/passwd": 3}, config=d["config"] | dict(detector_levels=[40]))
    load()


# --- much data ---

LARGE = """
import resource, sys, time
import numpy as np
from scipy.ndimage import gaussian_filter
from grad_kit.evaluate.metrics import PixelCurve
rng, n, (h, w) = np.random.default_rng(0), 300, (2000, 2500)
maps = np.stack([gaussian_filter(rng.normal(size=(256, 256)), 3) for _ in range(n)]).astype(np.float32)
masks = []
for i in range(n):
    masks.append(np.zeros((h, w), bool) if i % 2 else np.broadcast_to(False, (h, w)))
    if i % 2:   # two defects, 5 % of the image, in places of its own
        y, x = rng.integers(0, 1000, 2)
        masks[i][y:y + 500, x:x + 500] = True; masks[i][y + 900:y + 1000, x + 1400:x + 1500] = True
start = time.time()
c = PixelCurve(masks, maps)
values = dict(AUROC=c.auroc(), AP=c.average_precision(), AUPRO=c.area(.3), F1=c.oracle_f1())
assert all(0 <= float(np.ravel(v)[0]) <= 1 for v in values.values()), values
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"measured: exact AUROC, AP, AUPRO and oracle F1 over {n} maps of {h * w / 1e6:.0f} megapixels: "
      f"{time.time() - start:.0f} s, peak memory {peak:.2f} GiB")
sys.exit(peak > 4)
"""

@slow
def test_300_maps_of_five_megapixels_fit_in_four_gib():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
