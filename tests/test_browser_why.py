"""`explore_why`, the inspector and the mailed report in a real browser (`make test-browser`).

Screenshots and times go to runs/browser/. Written by hand, as test_browser.py.
"""
import json, os, platform, re, statistics, time, warnings

import numpy as np
import pytest
import torch

from test_browser import OUT, ROOT, browser, lab, open_and_run, pytestmark  # noqa: F401 fixtures and marks

PLANTED = 150, 76      # x, y in pixels of a 256-pixel image
SIDE = 24


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    "(a mailed report on 6 trays, the first with a planted defect; the model; the images)"
    from grad_kit.base.config import Config
    from grad_kit.model.grad import GRAD
    from grad_kit.data.trays import tray_dataset
    from grad_kit.view.why import write_why
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GRAD(Config.preset("instant"), device="cpu").fit(tray_dataset(300, 40, 0, 0), progress=False)
    images = tray_dataset(1, 0, 6, 0, seed=3).split("test").images(64).permute(0, 2, 3, 1).numpy().copy()
    x, y = (v // 4 for v in PLANTED)
    images[0, y - SIDE // 8:y + SIDE // 8, x - SIDE // 8:x + SIDE // 8] = 250, 20, 200
    return write_why(model, images, tmp_path_factory.mktemp("report")/"why.html"), model, images


@pytest.fixture
def page(browser):
    "A page without network that notes every request and every error"
    browser.set_offline(True)
    page = browser.new_page()
    page.problems, page.asked = [], []
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.on("request", lambda r: page.asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
    yield page
    page.close()
    browser.set_offline(False)


def keep(name, what, times):
    "Write what was measured into runs/browser/"
    machine = dict(machine=platform.processor() or platform.machine(), cores=os.cpu_count())
    record = dict(what=what, **machine, median=round(statistics.median(times), 1), worst=round(max(times), 1))
    (OUT/f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(record)

def click(page, look, x, y, size=256):
    "Click at pixel (x, y) of the model's image"
    box = look.bounding_box()
    page.mouse.click(box["x"] + x / size * box["width"], box["y"] + y / size * box["height"])

def nearest_by_hand(model, image, place):
    "The normal images nearest to the most unusual window centred in a place of the grid, by plain loops in float64"
    scorer, n = model.scorers_["window"], max(model.config.window_levels)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = ((scorer.resize @ pixels @ scorer.resize.T).round() / 127.5 - 1)[0].double().numpy()
    normal = (scorer.normal.float() / 127.5 - 1).double().numpy()
    r, h = max(level.shift for level in scorer.levels), n // 2
    row, column = place[0] * 4, place[1] * 4
    far = np.full(len(normal), np.inf)
    edge = np.pad(small, ((0, 0), (r, r), (r, r)), "edge")
    for dy in range(2 * r + 1):
        for dx in range(2 * r + 1):
            moved = edge[:, dy:dy + 64, dx:dx + 64]
            a, b, c, d = max(row - h, 0), min(row + h + 1, 64), max(column - h, 0), min(column + h + 1, 64)
            far = np.minimum(far, ((moved[None, :, a:b, c:d] - normal[:, :, a:b, c:d])**2).sum((1, 2, 3)))
    return np.argsort(far)[:3].tolist()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_mailed_report_answers_clicks_and_keys_without_a_network(report, page, scheme):
    file, model, images = report
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(dict(width=1200, height=1000))
    page.goto(file.as_uri())
    page.wait_for_selector("#why[data-place]")
    why, left = page.locator("#why"), page.locator(".look").first
    assert why.get_attribute("data-image") == "0", "the planted defect ranks first"
    click(page, left, 10, 10)
    page.wait_for_selector("#why[data-place='0,0']")
    click(page, left, *PLANTED)
    wanted = PLANTED[1] // 16, PLANTED[0] // 16
    page.wait_for_selector(f"#why[data-place='{wanted[0]},{wanted[1]}']")
    text = page.locator(".answer").inner_text()
    assert re.search(r"None of 120 normal images has anything like this here", text), text
    listed = text.split("window")[-1].split("nearest:")[1].split("\n")[0]
    said = [int(k) - 1 for k in re.findall(r"normal image (\d+)", listed)]
    assert said == nearest_by_hand(model, np.asarray(_framed(model, images[0])), wanted)
    assert re.match(r"map: -?[\d.]+ to [\d.]+", page.locator("figcaption").nth(1).inner_text())
    times = page.evaluate("""async () => {
        const root = document.querySelector('#why'), look = document.querySelector('.look');
        const r = look.getBoundingClientRect(), out = [];
        for (let i = 0; i < 20; i++) {
            const x = r.left + (i * 53 % 290) + 3, y = r.top + (i * 97 % 290) + 3;
            const heard = new Promise(done => new MutationObserver((_, o) => { o.disconnect(); done(); })
                .observe(root, {attributeFilter: ['data-place']}));
            const start = performance.now();
            look.dispatchEvent(new MouseEvent('click', {clientX: x, clientY: y, bubbles: true}));
            await heard; await new Promise(requestAnimationFrame);
            out.push(performance.now() - start);
        }
        return out;
    }""")
    keep(f"why_{scheme}", "ms from a click to the answer on the page, 20 clicks, 300 normal images", times)
    assert _serious(page) == []
    page.screenshot(path=OUT/f"why_report_{scheme}.png")
    # the keyboard alone
    page.mouse.move(0, 0)
    page.evaluate("() => document.activeElement.blur()")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        name = page.evaluate("""() => {
            const e = document.activeElement;
            return (e.getAttribute('aria-label') || e.textContent || '').slice(0, 20);
        }""")
        if name in reached: continue
        reached.add(name)
        if name.startswith("images, highest"):
            page.keyboard.press("ArrowRight")
            page.wait_for_selector("#why:not([data-image='0'])")
            page.keyboard.press("Home")
            page.wait_for_selector("#why[data-image='0']")
        if name.startswith("threshold"):
            before = page.locator(".counts").inner_text()
            page.keyboard.press("End")
            assert page.locator(".counts").inner_text() == "0 of 6 raise an alarm" != before
        if name.startswith("image;"):
            page.wait_for_timeout(300)
            before = why.get_attribute("data-place")
            page.keyboard.press("ArrowUp")
            page.wait_for_function("before => document.querySelector('#why').dataset.place !== before", arg=before)
            seen = "() => document.querySelector('.zoomed').getBoundingClientRect().width"
            page.keyboard.press("+")
            assert page.evaluate(seen) == 450, "one and a half times as large"
            page.keyboard.press("0")
            assert page.evaluate(seen) == 300
    assert {"images, highest scor", "threshold, in units "} <= reached, reached
    assert {"image", "anomaly map"} <= {n.split(";")[0] for n in reached}, reached
    assert page.problems == [] and page.asked == [file.as_uri()], (page.problems, page.asked)


def _framed(model, image):
    "uint8 (S,S,3) as the model sees the image"
    from grad_kit.data.layouts import as_dataset
    ds = as_dataset(image[None], "score").read_as(model.config)
    return ds.images(model.config.image_size)[0].permute(1, 2, 0).numpy()

def _serious(page):
    "What axe-core finds serious or critical"
    Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
    found = Axe().run(page).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]


SHEET = """<!doctype html><html lang="en"><title>sheet</title><body><div id="why"></div><script type="module">%s
const n = 5000, one = document.createElement("canvas"); one.width = one.height = 80;
const names = Array.from({length: n}, (_, i) => `parts/${i}.png`), scores = names.map((_, i) => (i * 7919 %% n) / n);
const order = names.map((_, i) => i).sort((a, b) => scores[b] - scores[a]);
const meta = {size: 256, grid: 16, names, scores, order, threshold: .9, normals: ["n"], pictures: false,
  own: {window: Array(256).fill([1])},
  marking: true, marks: {}, id: "s"};
let answered = 0;
const wait = v => new Promise(done => setTimeout(done, 20, v)), of = (which, f) => Object.fromEntries(which.map(f));
const thumb = i => {
  const g = one.getContext("2d");
  g.fillStyle = `hsl(${i %% 360} 50%% 50%%)`; g.fillRect(0, 0, 80, 80); answered++;
  return [i, one.toDataURL("image/webp")];
};
const evidence = {scorer: "window", units: 0, times: 1, share: 0, nearest: [0], box: [0, 0, 16], details: []};
const places = Array(256).fill(["said", [evidence]]);
const answers = {thumbs: m => of(m.which, thumb),
  mark: m => ({marks: of(m.which, i => [i, m.as]), note: "", changed: false}),
  pack: () => ({picture: one.toDataURL(), heat: one.toDataURL(), low: 0, high: 1, top: [0, 0], places})};
view(document.getElementById("why"), (what, message) => wait(answers[what](message)), meta);
window.answered = () => answered;
</script></body></html>"""


def test_five_thousand_images_scroll_without_a_stall(page, tmp_path):
    (tmp_path/"sheet.html").write_text(SHEET % (ROOT/"grad_kit/view/static/why.js").read_text().replace("</script", "<\\/script"))
    page.set_viewport_size(dict(width=1200, height=1000))
    page.goto((tmp_path/"sheet.html").as_uri())
    page.wait_for_selector("#why[data-place]")
    page.wait_for_timeout(500)
    gaps = page.evaluate("""async () => {
        const sheet = document.querySelector('.sheet'), gaps = []; let last = performance.now();
        for (let i = 0; i < 240; i++) {
            sheet.scrollTop += i < 120 ? 150 : 2000;
            await new Promise(requestAnimationFrame);
            const now = performance.now(); gaps.push(now - last); last = now;
        }
        return gaps;
    }""")
    keep("why_sheet", "ms between frames while 5,000 images scroll by", gaps)
    page.locator(".thumb").nth(30).click()
    page.locator(".sheet").press("End")
    page.wait_for_function("() => document.querySelector('.sheet').scrollTop > 40000")
    page.wait_for_function("() => document.querySelector('.thumb:last-child img').src")
    assert page.evaluate("() => window.answered()") < 1000, "what merely flies by must not be asked for"
    page.locator(".sheet").press(" ")
    page.get_by_role("button", name="defect").click()
    page.get_by_text("1 marked").wait_for()
    assert page.problems == []
    page.screenshot(path=OUT/"why_sheet.png")


def test_why_and_inspector_answer_in_jupyterlab(lab, browser):
    page = open_and_run(browser, lab("nbs/tutorials/8_why.ipynb"))
    try:
        views = page.locator(".gk[data-place]")
        page.wait_for_function("() => document.querySelectorAll('.gk[data-place]').length === 2")
        first, inspector = views.nth(0), views.nth(1)
        first.scroll_into_view_if_needed()
        left, times = first.locator(".look").first, []
        click(page, left, 40, 100)
        page.wait_for_selector(".gk[data-place='6,2']")
        left.focus()
        for _ in range(6):                                     # another image: the kernel packs it
            before, start = first.get_attribute("data-image"), time.perf_counter()
            page.keyboard.press("PageDown")
            page.wait_for_function("([e, before]) => e.dataset.image !== before", arg=[first.element_handle(), before])
            times.append(time.perf_counter() - start)
        keep("why_lab", "ms to another image, packed by the kernel, 100 normal images", [1000 * t for t in times])
        page.wait_for_timeout(500)
        said = first.locator(".say").inner_text()
        assert "normal images has anything like this here" in said, "an image opens where its map is highest"
        first.screenshot(path=OUT/"why_lab.png")
        inspector.scroll_into_view_if_needed()
        inspector.get_by_role("button", name="good after all").click()
        inspector.get_by_text("1 marked").wait_for()
        inspector.get_by_role("button", name="learn from marks").click()
        page.locator(".gk", has_text="learning changed the alarms").wait_for()
        page.locator(".gk", has=page.get_by_role("button", name="no mark")).screenshot(path=OUT/"why_inspector.png")
        other = open_and_run(browser, lab("nbs/tutorials/3_levels.ipynb").replace("&reset", ""))  # beside it
        other.close()
        page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
        page.wait_for_timeout(1000)
        first.scroll_into_view_if_needed()
        assert first.locator(".thumb").count() > 10
        first.screenshot(path=OUT/"why_lab_dark.png")
        click(page, left, 90, 30)
        page.wait_for_selector(".gk[data-place='1,5']")
    finally: page.close()


def test_an_explorer_moves_on_a_page_without_a_kernel(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT/"tools")
    from docs import moving
    from grad_kit.view.widgets import explore_levels
    explorer = explore_levels(size=32, n=2, normals=8, steps=4)
    text = moving(explorer, "levels", "level")
    assert len(text) < 1.5 * 2**20
    head = "<!doctype html><html lang='en'><title>levels</title><body>"
    (tmp_path/"moving.html").write_text(f"{head}{text}</body></html>")
    page.goto((tmp_path/"moving.html").as_uri())
    slider, shown, pictures = page.locator("input"), page.locator("output"), set()
    slider.focus()
    page.keyboard.press("Home")
    for level in range(1, 34, 4):
        assert shown.inner_text() == str(level) and f"level {level}, " in page.locator("p").inner_text()
        pictures.add(page.locator("img").get_attribute("src"))
        page.keyboard.press("ArrowRight")
    assert len(pictures) == 9 and page.evaluate("() => document.querySelector('img').naturalWidth") > 300
    assert page.problems == [] and len(page.asked) == 1 and _serious(page) == []
