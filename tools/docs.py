"""Build the documentation site from the stored notebooks into _docs/: `make docs`.

Nothing is executed. A link that leads nowhere, to a page or to a heading, is an error, as is any other warning.
"""
import os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
CONF = """
project, html_title, html_theme = "grad_kit", "grad_kit", "furo"
copyright = "2026 onwards, grad_kit contributors"
extensions, root_doc = ["myst_nb"], "contents"
nb_execution_mode, nb_merge_streams = "off", True
myst_heading_anchors, myst_heading_slug_func = 4, "docs.anchor"
"""
PARTS = {"Tutorials": ["tutorials/*.ipynb"], "Promises and habits": ["promises.ipynb", "habits.ipynb"],
         "Components": ["[0-9]*.ipynb"], "Experiments": ["experiments/*.ipynb"]}


def anchor(heading):
    "What a link to a heading ends in, here as in JupyterLab and on GitHub: `## At work` is `page.ipynb#At-work`"
    return heading.strip().replace(" ", "-")


def page(path):
    "A notebook as a reader wants it: without cells marked `#| hide`, and without nbdev's own lines in the others"
    nb = nbformat.read(path, 4)
    nb.cells = [c for c in nb.cells if not re.match(r"#\| *hide\b", c.source)]
    for c in nb.cells:
        if c.cell_type == "code": c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
    nb.cells = [c for c in nb.cells if c.source.strip()]
    return nb


def main():
    with tempfile.TemporaryDirectory() as tmp:
        src = Path(tmp)/"src"
        shutil.copytree(ROOT/"nbs", src, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "*.ipynb", "results"))
        for nb in (ROOT/"nbs").rglob("*.ipynb"):
            if ".ipynb_checkpoints" not in nb.parts: nbformat.write(page(nb), src/nb.relative_to(ROOT/"nbs"))
        tree = ""
        for name, globs in PARTS.items():
            pages = [p.relative_to(src).with_suffix("") for glob in globs for p in sorted(src.glob(glob))]
            tree += f"\n```{{toctree}}\n:caption: {name}\n\n" + "".join(f"{p}\n" for p in pages) + "```\n"
        (src/"contents.md").write_text(f"# Contents\n\n```{{toctree}}\nindex\n```\n{tree}", encoding="utf-8")
        (src/"conf.py").write_text(CONF, encoding="utf-8")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", Path(tmp)/"trees"]
        paths = [str(ROOT/"tools"), *filter(None, [os.environ.get("PYTHONPATH")])]   # where sphinx finds `anchor`
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        status = subprocess.run([*command, src, Path(tmp)/"site"], env=env).returncode
        if status: return status
        shutil.rmtree(ROOT/"_docs", ignore_errors=True)
        shutil.copytree(Path(tmp)/"site", ROOT/"_docs")


if __name__ == "__main__": sys.exit(main())
