"""The JavaScript of the package, which is written by hand: no syntax errors, nothing unused, a linter where it is there.

Written by hand, as test_browser.py.
"""
import re, shutil, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT/"grad_kit/view/static").glob("*.js"))
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
OXLINT = shutil.which("oxlint", path=str(Path(sys.executable).parent)) or shutil.which("oxlint")
NODE = shutil.which("node")


def test_the_module_is_installed_with_the_package():
    from grad_kit.view import draw, why
    assert [Path(m.SCRIPT).resolve() for m in (draw, why)] == SCRIPTS
    assert "recursive-include grad_kit/view/static *.js" in (ROOT/"MANIFEST.in").read_text()


@each_script
def test_every_function_is_used_and_no_line_is_long(script):
    text = script.read_text(encoding="utf-8")
    code = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    names = re.findall(r"^\s*(?:async )?(?:function|const) (\w+)", code, re.M)
    assert len(names) > 15 and [n for n in names if len(re.findall(rf"\b{n}\b", code)) < 2] == []
    assert [line for line in text.splitlines() if len(line) > 120] == []


@pytest.mark.skipif(not NODE, reason="node is not installed")
@each_script
def test_node_finds_no_syntax_error(script):
    found = subprocess.run([NODE, "--check", "--input-type=module"], input=script.read_bytes(), capture_output=True)
    assert found.returncode == 0, found.stderr.decode()


@pytest.mark.skipif(not OXLINT, reason="oxlint is not installed: pip install oxlint")
@each_script
def test_the_linter_finds_nothing(script):
    command = [OXLINT, "--deny-warnings", "-D", "correctness", "-D", "suspicious", script]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


DRAWING = """
import {deepStrictEqual as same} from "node:assert";
const [h, w] = [7, 9], drawing = new Drawing(new Uint8Array(h * w), [h, w]);
same(new Drawing(Uint8Array.of(1, 1), [1, 2]).value, 0);   // all counts: a shape takes away
const rows = mask => Array.from({length: h}, (_, y) => mask.slice(y * w, (y + 1) * w).join("").replaceAll("0", "."));
const keys = (...names) => names.map(name => drawing.key(name, 1));
const picture = (...wanted) => same(rows(drawing.mask), wanted);
// a rectangle by mouse, its corners included; what is outside the image is cut off
drawing.move([2, 1]); drawing.press(); drawing.move([40, 3]);
same(rows(drawing.shown)[1], "..1111111"); same(rows(drawing.mask)[1], ".........");
drawing.finish();
picture(".........", "..1111111", "..1111111", "..1111111", ".........", ".........", ".........");
// taken away by keyboard, from the corner where the cursor is; a key without a meaning is left to the page
drawing.choose({value: 0});
same(keys(" ", "ArrowLeft", "ArrowUp", "Tab", " "), [true, true, true, false, true]);
picture(".........", "..1111111", "..11111..", "..11111..", ".........", ".........", ".........");
drawing.key("ArrowLeft", 10); same(drawing.cursor, [0, 2]);
keys(" ", "ArrowDown", "Escape"); same(drawing.shown, drawing.mask); same(drawing.points, []);
drawing.undo(); drawing.undo();
picture(...Array(h).fill("........."));
drawing.undo();   // nothing is left to undo
// a polygon: a triangle with its outline, closed by enter
drawing.choose({tool: "polygon", value: 1});
for (const point of [[0, 0], [6, 0]]) { drawing.move(point); drawing.press(); }
drawing.move([0, 6]); keys("Enter");
picture("1111111..", "111111...", "11111....", "1111.....", "111......", "11.......", "1........");
// the brush, which stays down from one space to the next
drawing.set(new Uint8Array(h * w)); drawing.choose({tool: "brush", reach: 1});
drawing.move([4, 3]);
keys(" ", "ArrowRight", "ArrowRight", " ", "ArrowDown");
picture(".........", ".........", "....111..", "...11111.", "....111..", ".........", ".........");
// a jump of the mouse is a line; undo takes back what is not finished, and nothing else
drawing.choose({value: 0, reach: 0}); drawing.move([6, 0]); drawing.press(); drawing.move([6, 60]);
same(drawing.cursor, [6, 6]); same(rows(drawing.shown)[3], "...111.1.");
drawing.undo();
picture(".........", ".........", "....111..", "...11111.", "....111..", ".........", ".........");
// a star that crosses itself is even-odd inside; what Python gets is what is drawn
const star = new Uint8Array(81);
cover(star, [9, 9], [[4, 0], [7, 8], [0, 3], [8, 3], [1, 8]], 0, true, 1);
same([3, 4, 6].map(y => star.slice(9 * y, 9 * y + 9).join("")), ["111111111", "001000100", "001101100"]);
same(unpacked(packed(star), 81), star);
same(packed(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 1)).getUint16(0), 0x8080);
"""


@pytest.mark.skipif(not NODE, reason="node is not installed")
def test_shapes_are_drawn_by_mouse_and_keys_and_undone():
    source = (ROOT/"grad_kit/view/static/draw.js").read_text(encoding="utf-8") + DRAWING
    found = subprocess.run([NODE, "--input-type=module"], input=source, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
