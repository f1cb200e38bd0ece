"""Run the pages (all cells of the notebooks but tests) as `nbdev_test` does, and compare what they print with the
outputs that are stored: `python tools/pages.py`, or with notebooks for these alone.

The pages run in a copy, so that the notebooks stay as they are. Numbers differ by machine and time and are not
compared, nor is the name of the processor; words are. `python tools/execute.py NOTEBOOK` stores outputs anew.
"""
import difflib, json, os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


PICTURES = {"image/png", "image/jpeg", "text/html", "application/vnd.jupyter.widget-view+json"}


def words(cell):
    "What a cell prints, without what differs by machine and time: numbers, addresses, temporary folders, spaces"
    found = []
    for o in cell.get("outputs", ()):
        if o["output_type"] == "stream" and o["name"] == "stdout": found.append("".join(o["text"]))
        data = o.get("data", {})
        if data and not data.keys() & PICTURES:
            found.append("".join(data.get("text/markdown") or data.get("text/plain", "")) + "\n")
    found = [t for t in found if not re.match(r"<grad_kit\.view|\w*Explorer\(", t)]   # widgets
    text = re.sub(r"\x1b\[\w+|0x[0-9a-f]+|/tmp/[\w./-]*/", "", "".join(found))
    text = re.sub(r"(?<![A-Za-z_])[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", re.sub("-{3,}", "---", text))
    text = re.sub(r"[^,;:'\n]+, # threads", "a processor, # threads", text)   # `device_name`
    text = re.sub(r"^.*bfloat1#.*\n?", "", re.sub(", bfloat1# # TFLOP/s", "", text), flags=re.M)   # not all have it
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def stored(path):
    "{cell id: words} of the cells of a notebook that `nbdev_test` runs and whose outputs say the same on any machine"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    left_out = r"^#\| *(test|slow|gpu|data|notest|eval: *false|varies)\b"
    return {c["id"]: words(c) for c in cells
            if c["cell_type"] == "code" and not re.search(left_out, "".join(c["source"]), re.M)}


def differences(path, ran):
    "Lines that say which cells of a notebook print something else than is stored"
    now = stored(ran)
    for id, before in stored(path).items():
        if before == now.get(id): continue
        yield f"{path.relative_to(ROOT)}, cell {id}: stored (-) and printed now (+)"
        yield from list(difflib.unified_diff(before, now.get(id, []), lineterm="", n=0))[2:12]


def main(names):
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp)/"a"/"b"   # tables up to two levels above a folder are searched for labels
        copy.mkdir(parents=True)
        for p in ROOT.iterdir():
            if p.name != "nbs" and not p.name.startswith("."): (copy/p.name).symlink_to(p)
        shutil.copytree(ROOT/"nbs", copy/"nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        pages = [Path(n).resolve().relative_to(ROOT) for n in names] or [Path("nbs")]
        place = Path(tmp)/"t"/"a"/"b"   # the pages' own temporary files
        place.mkdir(parents=True)
        command = [Path(sys.executable).parent/"nbdev_test", "--save", "--do-print", "--timing"]
        env = os.environ | {"TMPDIR": str(place)}
        for page in pages:
            if failed := subprocess.run([*command, copy/page], cwd=copy, env=env).returncode: return failed
        found = []
        for page in pages:
            for ran in sorted([copy/page] if page.suffix else (copy/page).rglob("*.ipynb")):
                found += differences(ROOT/ran.relative_to(copy), ran)
    if not found: return print("What the pages print is what is stored.")
    return "\n".join([*found, "Store the outputs anew: python tools/execute.py NOTEBOOK"])


if __name__ == "__main__": sys.exit(main(sys.argv[1:]))
