"""The tutorials in a real headless Chromium against a real JupyterLab (`make test-browser`); screenshots and times go
to runs/browser/.

Written by hand: everything else in this folder comes from the notebooks.
"""
import json, os, platform, re, secrets, shutil, socket, statistics, subprocess, sys, time, urllib.error, urllib.request
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT/"runs/browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WHY_NOT = "there is no Chromium on this machine: make test-browser installs Debian's"
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
EXPLORER = ".jp-OutputArea-output .widget-vbox:has(> .widget-image)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "Address of a JupyterLab over a copy of the notebooks, with settings and data folders of its own"
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT/"nbs", home/"nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    settings = home/"settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')   # keep all cells on the page
    news = home/"settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token, log = secrets.token_hex(8), (home/"lab.log").open("w")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "JUPYTERLAB_SETTINGS_DIR": str(home/"settings")}
    for name in ("JUPYTER_CONFIG", "JUPYTER_DATA", "JUPYTER_RUNTIME", "IPYTHON"):
        env[f"{name}_DIR"] = str(home/name.lower())
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home}", "--LabApp.news_url=None",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.expose_app_in_browser=True"]
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
    try:
        for _ in range(120):
            try: urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}"); break
            except (urllib.error.URLError, ConnectionError):
                if server.poll() is not None: break
                time.sleep(.5)
        else: pytest.fail(f"JupyterLab did not answer in a minute:\n{(home/'lab.log').read_text()[-2000:]}")
        assert server.poll() is None, (home/"lab.log").read_text()[-2000:]
        yield lambda path: f"http://127.0.0.1:{port}/lab/tree/{path}?token={token}&reset"
    finally:
        server.terminate(); server.wait(30); log.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_api.sync_playwright() as p:
        context = p.chromium.launch_persistent_context(tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM,
                                                       headless=True, viewport=dict(width=1400, height=1000),
                                                       args=FLAGS)
        yield context
        context.close()


def open_and_run(browser, url):
    "The page of a notebook whose cells have all run without an error"
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status "
                           "=== 'idle'")
    page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    errors = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.inner_text()
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    return page


def picture(explorer): return explorer.locator("> .widget-image").get_attribute("src")

def wait_for_another(page, explorer, before, seconds=120):
    "Seconds until the explorer shows another picture"
    start = time.perf_counter()
    while picture(explorer) == before:
        if time.perf_counter() - start > seconds:
            raise AssertionError(f"no new picture in {seconds} s: {explorer.inner_text()}")
        page.wait_for_timeout(5)
    return time.perf_counter() - start

def settle(page, explorer):
    "Wait until the explorer says what its picture shows"
    page.wait_for_timeout(100)   # what a key or the mouse did reaches the kernel
    page.wait_for_function("e => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle' "
                           "&& e.querySelector(':scope > .widget-image').src.startsWith('blob:') "
                           "&& !/working/.test(e.innerText)", arg=explorer.element_handle())
    page.wait_for_timeout(200)


# tutorial 8 has no slider of ipywidgets: test_browser_why.py
@pytest.mark.parametrize("notebook", [p.stem for p in sorted((ROOT/"nbs/tutorials").glob("[1-79]_*.ipynb"))])
def test_tutorial_runs_and_its_sliders_move_by_keyboard_and_mouse(lab, browser, notebook):
    makes_one = re.search(r"= explore_(?!why)\w+\(", (ROOT/f"nbs/tutorials/{notebook}.ipynb").read_text(encoding="utf-8"))
    page = open_and_run(browser, lab(f"nbs/tutorials/{notebook}.ipynb"))
    try:
        found = page.locator(EXPLORER)
        if makes_one: found.first.wait_for()
        assert bool(found.count()) == bool(makes_one), "a page that makes an explorer must show it"
        for i in range(found.count()):
            explorer = found.nth(i)
            explorer.scroll_into_view_if_needed()
            settle(page, explorer)
            handles = explorer.locator(".noUi-handle:visible")
            assert handles.count(), "a widget without a slider"
            for j in range(handles.count()):
                handle, before = handles.nth(j), picture(explorer)
                at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
                handle.focus()
                for _ in range(3): page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
                wait_for_another(page, explorer, before); settle(page, explorer)
                before, box = picture(explorer), handle.bounding_box()
                bar = explorer.locator(".noUi-target:visible").nth(j).bounding_box()
                page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2); page.mouse.down()
                to = .8 if at_end or box["x"] < bar["x"] + bar["width"] / 2 else .1
                page.mouse.move(bar["x"] + bar["width"] * to, bar["y"] + bar["height"] / 2, steps=5)
                page.mouse.up()
                wait_for_another(page, explorer, before); settle(page, explorer)
            if (canvas := explorer.locator("canvas")).count():   # a region: mouse, keyboard, kernel
                canvas.scroll_into_view_if_needed()
                box = canvas.bounding_box()
                def drag():
                    page.mouse.move(box["x"] + 9, box["y"] + 9); page.mouse.down()
                    page.mouse.move(box["x"] + 200, box["y"] + 99, steps=3); page.mouse.up()
                def keys(): [canvas.press(key) for key in ("Space", "Shift+ArrowDown", "Space")]
                for act in (drag, keys, explorer.get_by_role("button", name="propose").click):
                    before = picture(explorer)
                    act()
                    wait_for_another(page, explorer, before); settle(page, explorer)
            explorer.screenshot(path=OUT/f"{notebook}_{i}.png")
            assert "#d62728" not in explorer.inner_html(), explorer.inner_text()   # the colour of errors
        assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0
        page.screenshot(path=OUT/f"{notebook}.png")
    finally: page.close()


def test_levels_answer_in_time_and_in_the_dark(lab, browser):
    page = open_and_run(browser, lab("nbs/tutorials/3_levels.ipynb"))
    try:
        explorer = page.locator(EXPLORER).first
        explorer.scroll_into_view_if_needed()
        settle(page, explorer)
        handle, times = explorer.locator(".noUi-handle").first, []
        handle.focus()
        # 20 moves: to 1, up to 33, back to 1, to 9; each level is new once
        for key in ["ArrowLeft"] * 2 + ["ArrowRight"] * 8 + ["ArrowLeft"] * 8 + ["ArrowRight"] * 2:
            before = picture(explorer)
            start = time.perf_counter()
            page.keyboard.press(key)
            wait_for_another(page, explorer, before)
            times.append(time.perf_counter() - start)
            settle(page, explorer)
        assert explorer.locator(".widget-readout").first.inner_text() == "9"
        record = dict(what="seconds from a key press on the level slider to another picture in the page, 20 moves, "
                           "7 levels generated for the first time",
                      machine=platform.processor() or platform.machine(), cores=os.cpu_count(),
                      workers=os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"),   # which share the cores
                      median=round(statistics.median(times), 2), worst=round(max(times), 2),
                      times=[round(t, 2) for t in times])
        (OUT/"latency.json").write_text(json.dumps(record, indent=1) + "\n")
        print(record)
        page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
        page.wait_for_timeout(1500)
        page.screenshot(path=OUT/"dark.png")
        page.keyboard.press("End")                    # many moves at once: the last one is shown in the end
        for _ in range(8): page.keyboard.press("ArrowLeft")
        page.wait_for_function("e => /level 1, /.test(e.innerText)", arg=explorer.element_handle())
    finally: page.close()
