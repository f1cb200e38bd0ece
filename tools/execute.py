"""Run notebooks and store their outputs: `python tools/execute.py nbs/11_widgets.ipynb ...`; all but the slow ones without arguments.

Widgets are not stored: their state is megabytes, and a page without a kernel shows nothing of it. Each leaves a still picture in their place (`Explorer.still`).
"""
import os, subprocess, sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
KERNEL = dict(kernelspec=dict(display_name="python3", language="python", name="python3"))  # without it JupyterLab asks for a kernel before it runs a cell
VIEW = "application/vnd.jupyter.widget-view+json"


def execute(path):
    nb = nbformat.read(path, 4)
    NotebookClient(nb, timeout=1200, store_widget_state=False, resources=dict(metadata=dict(path=path.parent))).execute()
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if VIEW not in o.get("data", {})]
    nb.metadata = KERNEL
    nbformat.write(nb, path)


def main():
    os.environ["GRAD_KIT_STILLS"] = "1"   # widgets leave a still picture
    for path in [Path(p).resolve() for p in sys.argv[1:]] or sorted(ROOT.glob("nbs/**/*.ipynb")):
        print(path.relative_to(ROOT), flush=True)
        execute(path)
    subprocess.run([Path(sys.executable).parent/"nbdev_clean"], cwd=ROOT, check=True)


if __name__ == "__main__": main()
