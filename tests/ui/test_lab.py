"""The explorers in a real JupyterLab: one server, one notebook, every widget moved as a person would move it."""

import base64
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from fer_helpers.data.synthetic import make_faces
from fer_helpers.inference.pretrained import load_pretrained, probabilities
from fer_helpers.training.runs import load_runs
from fer_helpers.widgets.comparer import paired_difference
from fer_helpers.widgets.face_editor import face_studio

CELLS = """
import dataclasses
from fer_helpers.widgets import browser, comparer, monitor, face_editor as studio
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import train_run
from fer_helpers.data.synthetic import make_faces
faces = make_faces(140, test=70, seed=3)
config = TrainConfig(arch="simple_cnn", classes=6, epochs=1, batch_size=32, train_limit=60)
run = train_run(config, faces, progress=False)
other = train_run(dataclasses.replace(config, lr=3e-3, epochs=2), faces, progress=False)
---
browser.face_browser(faces, run)
---
browser.confusion_browser(run, faces)
---
studio.face_studio()
---
watching = monitor.training_monitor(dataclasses.replace(config, epochs=20, seed=5), faces)
watching
---
comparer.run_comparer()
---
print("finished" if watching.progress.finished else "still training")
""".strip().split("\n---\n")
_, FACES, CONFUSION, STUDIO, MONITOR, COMPARER, QUESTION = range(len(CELLS))
WIDGETS = {"faces": FACES, "confusion": CONFUSION, "studio": STUDIO, "monitor": MONITOR, "comparer": COMPARER}

#: JupyterLab shows only the cells in sight, and would ask for news: neither helps a test.
LAB = {"notebook-extension/tracker": {"windowingMode": "none"},
       "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}}

#: The words below an element that are too pale or too dark for what lies behind them (WCAG 2, 1.4.3: 4.5 to 1), each
#: with its contrast. Buttons that cannot be pressed are excused, as they are there.
PALE = """area => {
  const parts = color => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, ground) => top.slice(0, 3).map((c, i) => c * top[3] + ground[i] * (1 - top[3]));
  const ground = element => {
    if (!element) return [255, 255, 255];
    const own = parts(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
  };
  const light = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [], walk = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, style = getComputedStyle(element);
    if (!walk.currentNode.data.trim() || !element.checkVisibility() || element.closest(":disabled, option")) continue;
    const behind = ground(element), text = parts(element.closest("svg") ? style.fill : style.color);
    const [low, high] = [light(behind), light(over(text, behind))].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) found.push(`${walk.currentNode.data.trim()}: ${contrast.toFixed(1)}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A JupyterLab of its own: its ``address``, and the ``root`` folder of its settings, runs and notebook."""
    root = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(text) for text in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {
        "name": "python3", "display_name": "Python 3", "language": "python"}}), root / "explore.ipynb")
    for name, setting in LAB.items():
        path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"FER_RUNS": str(root / "runs"), "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
                                "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
                                "JUPYTER_CONFIG_DIR": str(root / "config"), "JUPYTER_RUNTIME_DIR": str(root / "run")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={root}"]
    address = f"http://127.0.0.1:{port}"
    with open(root / "log.txt", "w") as log, subprocess.Popen(command, env=environment, cwd=root, stdout=log,
                                                              stderr=subprocess.STDOUT) as process:
        try:
            end = time.monotonic() + 90
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/api", timeout=5).close()
                    break
                assert time.monotonic() < end and process.poll() is None, (root / "log.txt").read_text()
                time.sleep(0.2)
            yield SimpleNamespace(address=address, root=root)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def page(browser, server):
    """The notebook with all cells run. The last test looks at what the page complained of and asked of whom."""
    page = browser.new_page(viewport={"width": 1500, "height": 1100})
    page.complaints, page.addresses = [], set()
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.complaints.append(
        f"{message.text} {message.location['url']}"))
    page.on("websocket", lambda socket: page.addresses.add(socket.url))
    page.context.on("request", lambda request: page.addresses.add(request.url))
    expect.set_options(timeout=30_000)
    page.goto(f"{server.address}/lab/tree/explore.ipynb")
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(CELLS))
    # A menu shows the state of the moment it was opened: before the kernel is there, it has nothing to run.
    expect(page.locator(".jp-NotebookPanel-toolbar [data-status='idle']")).to_be_visible()
    for _ in range(30):  # a kernel that has only just come may lose what it is asked
        page.click(".lm-MenuBar-item >> text=Run")
        page.click("li[data-command='runmenu:run-all']")
        page.wait_for_timeout(1000)
        if cell(page, 0).locator(".jp-InputPrompt").inner_text() != "[ ]:":
            break
    expect(cell(page, QUESTION).locator(".jp-OutputArea-output")).to_have_text("still training", timeout=90_000)
    yield page
    page.close()
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def faces():
    """What the notebook calls faces, in the classes that its runs know."""
    return make_faces(140, test=70, seed=3).with_classes(6)


def cell(page, number):
    return page.locator(".jp-Notebook .jp-Cell").nth(number)


def pixels(picture):
    """What an img shows, as an array."""
    expect(picture).to_be_visible()
    kind, _, data = picture.get_attribute("src").partition(";base64,")
    assert kind == "data:image/png" and picture.evaluate("picture => picture.naturalWidth") == 48
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def rows_of(bars):
    """The numbers of `base.bars` in percent, by name."""
    expect(bars).to_be_visible()
    texts = bars.locator("span:not(:has(span)):not(span span)").all_inner_texts()
    return {name: int(share.rstrip("%")) for name, share in zip(texts[::2], texts[1::2], strict=True)}


def bars_in(here):
    return here.locator("div[style*='grid-template-columns']:visible:has(span)")


def expect_count(here, count, page=1):
    """A gallery shows this page of so many faces, and the line below it says so."""
    pages = -(-count // 24)
    line = f"page {page} of {pages} · {count} {'face' if count == 1 else 'faces'}"
    expect(here.get_by_text(line, exact=True)).to_be_visible()
    expect(here.locator("button.fer-pick:visible")).to_have_count(24 if page < pages else count - 24 * (pages - 1))


def captions(here):
    return [text.split("\n") for text in here.locator("button.fer-pick:visible").all_inner_texts()]


# --- the face browser


def test_filters_and_pages_change_the_grid(page, server, faces):
    here, pictures = cell(page, FACES), cell(page, FACES).locator(".fer-tile img:visible")
    expect_count(here, len(faces))
    assert np.array_equal(pixels(pictures.nth(5)), faces.images[5].numpy())
    here.get_by_role("button", name="Next ▶").click()
    expect_count(here, len(faces), page=2)
    assert np.array_equal(pixels(pictures.nth(5)), faces.images[29].numpy())
    here.get_by_role("button", name="◀ Previous").click()
    expect_count(here, len(faces))

    fearful = np.flatnonzero((faces.split == "test") & (faces.labels.numpy() == faces.classes.index("fear")))
    here.get_by_label("split", exact=True).select_option("test")
    here.get_by_label("label", exact=True).select_option("fear")
    expect_count(here, len(fearful))
    assert {true for true, _ in captions(here)} == {"fear"}
    assert np.array_equal(pixels(pictures.nth(2)), faces.images[fearful[2]].numpy())
    here.get_by_label("label", exact=True).select_option("any")

    run = load_runs(server.root / "runs").query("epochs == 1")["run"].item()  # whose answers these are
    tested = run.predictions.query("split == 'test'")
    right = int((tested["predicted"] == tested["true"]).sum())
    here.get_by_label("which is", exact=True).select_option("wrong")
    expect_count(here, len(tested) - right)
    assert all(f"→ {true} " not in answer for true, answer in captions(here))
    here.get_by_label("which is", exact=True).select_option("right")
    expect_count(here, right)
    assert all(f"→ {true} " in answer for true, answer in captions(here))
    here.get_by_label("which is", exact=True).select_option("any")

    name = here.get_by_label("name has")
    for text in (faces.ids[fearful[0]], "nobody", ""):
        name.fill(text)
        name.press("Enter")
        if text == "nobody":
            expect(here.get_by_text("No face fits; widen a filter.")).to_be_visible()
        else:
            expect_count(here, 1 if text else len(tested))
    here.get_by_label("split", exact=True).select_option("any")
    expect_count(here, len(faces))
    here.locator(".widget-slider", has_text="confidence").locator(".noUi-handle-lower").press("ArrowRight")
    expect_count(here, len(run.predictions))  # 1% and more: not those that were never asked
    here.get_by_role("button", name="Ask the network about every image").click()
    expect(here.get_by_text("206 images answered")).to_be_visible()
    expect_count(here, len(faces))
    old = pictures.first.get_attribute("src")
    here.get_by_label("order").select_option("surest first")
    expect(pictures.first).not_to_have_attribute("src", old)
    end = time.monotonic() + 20  # the tiles change one after the other
    while (shares := [int(answer.removeprefix("→ ").split()[1].rstrip("%")) for _, answer in captions(here)]) != sorted(
            shares, reverse=True) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert shares == sorted(shares, reverse=True)


def test_a_click_on_a_face_tells_all_that_is_known(page, faces):
    here = cell(page, FACES)
    tile = here.locator(".fer-tile:visible").nth(3)
    small = pixels(tile.locator("img"))
    true, answer = tile.inner_text().split("\n")
    tile.locator("button").click()
    large = here.get_by_alt_text(f"face labelled {true}, enlarged")
    assert np.array_equal(pixels(large), small) and large.bounding_box()["width"] == 192
    expect(here.locator(".fer-chosen")).to_have_count(1)
    probs = rows_of(bars_in(here).first)
    assert set(probs) == set(faces.classes) and sum(probs.values()) == pytest.approx(100, abs=3)
    name, share = answer.removeprefix("→ ").split()
    assert probs[name] == max(probs.values()) == int(share.rstrip("%"))
    expect(here.get_by_text("action units drawn")).to_be_visible()

    methods = here.get_by_label("attribution")
    maps = []
    for number in (1, 2):
        methods.select_option(index=number)
        method = methods.evaluate("menu => menu.value")
        overlay = here.get_by_alt_text(f"{method}: red speaks for {name}, blue against")
        maps.append(pixels(overlay).astype(float))
    assert maps[0].shape == (48, 48, 3) and np.ptp(maps[0], axis=2).max() > 50  # coloured
    assert np.abs(maps[0] - maps[1]).mean() > 1  # each method its own

    here.get_by_role("button", name="Find the nearest faces").click()
    expect(here.get_by_text("nearest of 206 images, with their distance")).to_be_visible()
    near = here.locator(".fer-tile:visible", has_text="·")
    expect(near).to_have_count(8)
    distance = [float(text.split("· ")[1]) for text in near.all_inner_texts()]
    assert distance == sorted(distance) and distance[0] > 0
    expect(here.get_by_alt_text("red speaks for")).to_be_visible()  # and the attribution stays
    other = pixels(near.first.locator("img"))
    near.first.locator("button").click()  # a neighbour can be clicked in turn
    expect(near).to_have_count(0)
    assert np.array_equal(pixels(here.get_by_alt_text("enlarged")), other)
    expect(here.get_by_alt_text("red speaks for")).to_be_visible()
    here.get_by_role("button", name="Find the nearest faces").click()
    expect(near).to_have_count(8)


# --- the confusion matrix


def test_a_cell_of_the_confusion_matrix_opens_its_images(page):
    here = cell(page, CONFUSION)
    tiles = here.locator("button.fer-pick:visible")
    expect(tiles).to_have_count(0)
    cells = here.locator("button[title*=' called ']")
    expect(cells).to_have_count(36)
    counts = {tuple(cell.get_attribute("title").split(":")[0].split(" called ")): int(cell.inner_text().split("· ")[1])
              for cell in cells.all()}
    (true, answer), count = max(((pair, count) for pair, count in counts.items() if pair[0] != pair[1]),
                                key=lambda found: found[1])
    assert 0 < count <= 24
    here.locator(f"button[title^='{true} called {answer}']").click()
    expect(tiles).to_have_count(count)
    expect(here.get_by_text("surest first")).to_be_visible()
    assert all(first == true and second.startswith(f"→ {answer} ") for first, second in captions(here))
    shares = [int(second.split()[-1].rstrip("%")) for _, second in captions(here)]
    assert shares == sorted(shares, reverse=True)
    tiles.last.click()
    probs = rows_of(bars_in(here).first)
    assert probs[answer] == max(probs.values()) == shares[-1]

    nobody = next(pair for pair, count in counts.items() if not count)
    here.locator(f"button[title^='{nobody[0]} called {nobody[1]}']").click()
    expect(here.get_by_text("No image was answered so.")).to_be_visible()
    here.locator(f"button[title^='{true} called {answer}']").click()
    expect(tiles).to_have_count(count)


# --- the studio


def test_a_slider_of_the_studio_changes_the_picture_and_the_probabilities(page):
    here, network = cell(page, STUDIO), load_pretrained()
    picture = here.get_by_alt_text("drawn face; the network's answer is")

    def after(act):
        """What is shown once ``act`` has changed it; the network must say of this picture what the bars say."""
        old = picture.get_attribute("src")
        act()
        expect(picture).not_to_have_attribute("src", old)
        page.wait_for_timeout(300)  # a drag ends with the last of many faces
        image, shown = pixels(picture), rows_of(bars_in(here))
        said = probabilities(network, torch.from_numpy(image.copy())[None])[0]
        assert [*shown.values()] == pytest.approx([100 * share for share in said], abs=1)
        assert picture.get_attribute("alt").endswith(f" {max(shown, key=shown.get)}")
        return image, shown

    page.wait_for_timeout(1000)  # JupyterLab must not move a slider on its own
    rest = pixels(picture)
    assert np.array_equal(rest, face_studio().image.numpy())
    smile, happy = after(here.get_by_role("button", name="happiness").click)
    assert happy["happiness"] > 50

    handle = here.locator(".widget-slider", has_text="AU12").locator(".noUi-handle")
    handle.focus()
    step, _ = after(lambda: page.keyboard.press("ArrowLeft"))
    assert not np.array_equal(step, smile)
    place = handle.bounding_box()
    middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2

    def drag():
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] - 150, middle[1], steps=5)
        page.mouse.up()

    gone, less = after(drag)
    assert np.abs(gone.astype(float) - step).max() > 30 and less["happiness"] < happy["happiness"]

    here.get_by_role("tab", name="light").click()
    bright = here.locator(".widget-slider", has_text="brightness").locator(".noUi-handle")
    bright.focus()
    brighter, _ = after(lambda: page.keyboard.press("PageUp"))
    assert brighter.mean() > gone.mean()
    here.get_by_role("tab", name="occlusion").click()
    hidden, _ = after(lambda: here.get_by_label("hidden by").select_option("a dark bar"))
    assert (hidden != brighter).mean() > 0.03
    after(here.get_by_role("button", name="another person").click)
    assert np.array_equal(after(here.get_by_role("button", name="start over").click)[0], rest)
    here.get_by_role("tab", name="expression").click()
    after(here.get_by_role("button", name="happiness").click)


# --- the monitor


def test_the_monitor_shows_each_epoch_while_the_kernel_answers_other_cells(page):
    here, question = cell(page, MONITOR), cell(page, QUESTION)
    expect(here.get_by_text("Not trained yet.")).to_be_visible()
    bar = here.locator(".progress-bar")
    here.evaluate("""here => {
      here.said = [];
      const look = () => { const said = here.innerText.match(/Epoch \\d+ of|Finished after/);
                           const curves = here.querySelectorAll("svg g[id*=': ']:has(use)").length;
                           const wide = here.querySelector(".progress-bar").style.width;
                           if (said) here.said.push([said[0], curves, parseFloat(wide)]); };
      new MutationObserver(look).observe(here, {subtree: true, childList: true, characterData: true, attributes: true});
    }""")
    here.get_by_role("button", name="Train here").click()
    expect(here.get_by_text("Epoch 1 of 20")).to_be_visible()
    expect(here.get_by_role("button", name="Train here")).to_be_disabled()
    before = question.locator(".jp-InputPrompt").inner_text()
    question.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(question.locator(".jp-InputPrompt")).to_have_text(re.compile(rf"^\[(?!{before[1:-2]}\])\d+\]:$"))
    expect(question.locator(".jp-OutputArea-output")).to_have_text("still training")
    expect(here.get_by_text("Finished after 20 epochs. Best: epoch")).to_be_visible(timeout=90_000)
    expect(bar).to_have_attribute("style", re.compile(r"width: 100%"))
    seen = here.evaluate("here => here.said")
    under_way = {said: (curves, wide) for said, curves, wide in seen if not said.startswith("Finished")}
    drawn = [wide for curves, wide in under_way.values() if curves == 4 and 0 < wide < 100]
    assert len(drawn) >= 2 and drawn == sorted(drawn), under_way  # curves and bar grew before the end
    expect(here.locator("svg[role=img]")).to_have_count(2)
    expect(here.locator("svg[aria-label=loss] g[id^='loss: '] use")).to_have_count(40)


# --- the comparer


def test_the_comparer_compares_what_its_menus_name(page, server):
    here, runs = cell(page, COMPARER), load_runs(server.root / "runs")["run"]
    first, second = here.get_by_label("first"), here.get_by_label("second")
    names = [text.split()[-1] for text in second.locator("option").all_inner_texts()]
    assert len(names) == 2 and set(names) <= set(runs.index)
    for one, other in (names, names[::-1]):
        first.select_option(index=names.index(one))
        second.select_option(index=names.index(other))
        expect(here.get_by_text(paired_difference(runs[one], runs[other]))).to_be_visible()
        row = here.locator("tr", has_text="accuracy").first.locator("td")
        expect(row).to_have_text([runs[name].metrics["test"].accuracy.percent for name in (one, other)])
        expect(here.locator("tr", has_text="epochs").locator("td")).to_have_text(
            [str(runs[name].config.epochs) for name in (one, other)])
        expect(here.locator("tr", has_text="lr").locator("td")).to_have_text(
            [str(runs[name].config.lr) for name in (one, other)])
        expect(here.locator("svg g[id*=': '] use")).to_have_count(3)
    second.select_option(index=names.index(names[1]))
    expect(here.get_by_text("The same settings.")).to_be_visible()
    second.select_option(index=names.index(names[0]))
    expect(here.get_by_text("The same settings.")).to_have_count(0)


# --- all of them


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_word_can_be_read_on_a_page(page, theme, tmp_path_factory):
    page.click(".lm-MenuBar-item >> text=Settings")
    page.hover(".lm-Menu-item >> text=Theme")
    page.locator("li[data-command='apputils:change-theme']",
                 has_text=re.compile(rf"^JupyterLab {theme}$", re.IGNORECASE)).click()
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(theme == "light").lower())
    page.wait_for_timeout(500)  # its stylesheet comes after
    folder, pale = tmp_path_factory.mktemp(f"screenshots-{theme}-"), {}
    for name, number in WIDGETS.items():
        cell(page, number).screenshot(path=folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size > 5_000
        area = cell(page, number).locator(".jp-OutputArea-output").first
        pale |= {name: words} if (words := area.evaluate(PALE)) else {}
    assert not pale


@pytest.mark.parametrize("width", [1500, 1100])
def test_nothing_is_wider_than_its_cell(page, width):
    page.set_viewport_size({"width": width, "height": 1100})
    for name, number in WIDGETS.items():
        area = cell(page, number).locator(".jp-OutputArea-output").first
        assert area.evaluate("area => area.scrollWidth - area.clientWidth") <= 1, name


def test_nobody_complained_and_nothing_left_this_machine(page, server):
    assert not page.locator("text=/Error displaying widget|model not found|Traceback/").count()
    assert page.complaints == []
    assert len(page.addresses) > 50
    own = (server.address, server.address.replace("http", "ws"), "data:", f"blob:{server.address}")
    assert [address for address in page.addresses if not address.startswith(own)] == []
