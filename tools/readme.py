"Write README.md from nbs/index.ipynb: its text and code, with the paths of pictures and notebooks seen from the root"
import json, re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main():
    cells = json.loads((ROOT/"nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]
    def text(cell):
        source = "".join(cell["source"])
        return source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
    body = re.sub(r"\]\((?!\w+:|#)", "](nbs/", "\n\n".join(map(text, cells)))
    mark = "<!-- written by tools/readme.py from nbs/index.ipynb: edit that -->"
    (ROOT/"README.md").write_text(f"{body}\n\n{mark}\n", encoding="utf-8")


if __name__ == "__main__": main()
