"""Run notebooks and store their outputs: `python tools/execute.py nbs/view/1_widgets.ipynb ...`; all without arguments.
Cells marked `#| slow` are passed over and keep the outputs they have; `--slow` runs them too. So are tests, which
pytest runs, and cells marked `#| gpu` where there is no GPU.

Widgets are not stored: their state is megabytes, and a page without a kernel shows nothing of it. Each leaves a still
picture in its place (`Explorer.still`).
"""
import os, re, subprocess, sys
from pathlib import Path

import nbformat, torch
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
# without it JupyterLab asks for a kernel before it runs a cell
KERNEL = dict(kernelspec=dict(display_name="python3", language="python", name="python3"))
VIEW = "application/vnd.jupyter.widget-view+json"


def execute(path, slow):
    nb = nbformat.read(path, 4)
    flags = dict(test=False, slow=slow, gpu=torch.cuda.is_available())   # flag -> whether such cells run
    passed_over = "|".join(flag for flag, runs in flags.items() if not runs)
    for cell in nb.cells:
        if cell.cell_type == "code" and re.search(rf"^#\| *({passed_over})\b", cell.source, re.M):
            cell.metadata["tags"] = ["passed_over"]   # nbdev_clean takes it away again
    NotebookClient(nb, timeout=1200, store_widget_state=False, skip_cells_with_tag="passed_over",
                   resources=dict(metadata=dict(path=path.parent))).execute()
    for cell in nb.cells:
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if VIEW not in o.get("data", {})]
    nb.metadata = KERNEL
    nbformat.write(nb, path)


def main():
    os.environ["GRAD_KIT_STILLS"] = "1"   # widgets leave a still picture
    slow = "--slow" in sys.argv
    for path in [Path(p).resolve() for p in sys.argv[1:] if p != "--slow"] or sorted(ROOT.glob("nbs/**/*.ipynb")):
        print(path.relative_to(ROOT), flush=True)
        execute(path, slow)
    subprocess.run([Path(sys.executable).parent/"nbdev_clean"], cwd=ROOT, check=True)


if __name__ == "__main__": main()
