"""Install a wheel into an empty environment, without the repository, and run there what a newcomer would: `make dist`

    python tools/dist.py dist/grad_kit-0.1.0-py3-none-any.whl
"""
import json, os, subprocess, sys, tempfile, time, venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.load(open(sys.argv[1])):
    result = shell.run_cell(source)
    result.raise_error()
"""
PARTS = """
import sys
from pathlib import Path
from PIL import Image
from grad_kit.data.trays import tray_dataset
for split, n, folder in (("train", 40, "good"), ("test", None, "new")):
    Path(folder).mkdir()
    some = tray_dataset(40, 0, 4, 1, size=96).split(split)
    for i, a in enumerate(some.images(96).permute(0, 2, 3, 1).numpy()[:n]):
        Image.fromarray(a).save(f"{folder}/{i:02d}.png")
"""
LIGHT = """
import json, sys, time
start = time.time()
from grad_kit.inference import Inferencer
print(json.dumps(dict(import_s=time.time() - start, torch="torch" in sys.modules)))
"""


def main(wheel):
    with tempfile.TemporaryDirectory() as tmp:
        tmp, env = Path(tmp), {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        venv.create(tmp/"env", with_pip=True)
        python, place = tmp/"env/bin/python", tmp/"empty"
        place.mkdir()
        def run(what, *command):
            start = time.time()
            done = subprocess.run([*map(str, command)], cwd=place, env=env, capture_output=True, text=True)
            print(f"{what}: {time.time() - start:.1f} s", flush=True)
            if done.returncode: sys.exit(f"{what} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
            return done.stdout
        def command(name): return tmp/"env/bin"/name
        run("install the base", python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c",
            ROOT/"constraints.txt", Path(wheel).resolve())
        size = sum(f.stat().st_size for f in (tmp/"env").rglob("*") if f.is_file() and not f.is_symlink())
        print(f"the environment takes {size / 2**20:.0f} MiB")
        run("pip check", python, "-m", "pip", "check")
        foreign = [f.name for f in (tmp/"env/bin").iterdir() if f.name.startswith(("nbdev", "jupyter-lab"))]
        if foreign: sys.exit(f"the base brings commands that are not its own: {foreign}")
        run("parts to look at", python, "-c", PARTS)
        run("grad_demo --preset quick", command("grad_demo"), "--preset", "quick", "--out", "demo")
        run("grad_fit", command("grad_fit"), "good", "--out", "model")
        run("grad_score --explain", command("grad_score"), "model", "new", "--out", "scores", "--explain")
        if not any((place/"scores").glob("*.html")): sys.exit("grad_score --explain wrote no page")
        cells = json.loads((ROOT/"nbs/start.ipynb").read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        (place/"start.json").write_text(json.dumps(sources))
        run("the cells of the start page", python, "-c", START, "start.json")
        light = json.loads(run("a process that imports grad_kit.inference", python, "-c", LIGHT))
        if light["torch"]: sys.exit("grad_kit.inference imports torch")
        print(f"of which the import: {light['import_s']:.2f} s, without torch")


if __name__ == "__main__": main(*sys.argv[1:])
