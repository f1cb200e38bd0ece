"Write README.md from nbs/index.ipynb: its text and code, with picture paths seen from the root"
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main():
    cells = json.loads((ROOT/"nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]
    text = ["".join(c["source"]) if c["cell_type"] == "markdown" else f"```python\n{''.join(c['source'])}\n```" for c in cells]
    body = "\n\n".join(text).replace("](images/", "](nbs/images/")
    (ROOT/"README.md").write_text(f"{body}\n\n<!-- written by tools/readme.py from nbs/index.ipynb: edit that -->\n", encoding="utf-8")


if __name__ == "__main__": main()
