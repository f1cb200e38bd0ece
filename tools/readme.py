"Write README.md from nbs/index.ipynb: its text and code, with the paths of pictures and notebooks seen from the root"
import json, re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main():
    cells = json.loads((ROOT/"nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]
    text = ["".join(c["source"]) if c["cell_type"] == "markdown" else f"```python\n{''.join(c['source'])}\n```" for c in cells]
    body = re.sub(r"\]\((?!\w+:|#)", "](nbs/", "\n\n".join(text))
    (ROOT/"README.md").write_text(f"{body}\n\n<!-- written by tools/readme.py from nbs/index.ipynb: edit that -->\n", encoding="utf-8")


if __name__ == "__main__": main()
