"""The site of the committed notebooks, opened from its folder as a reader would: no server, no network."""

import contextlib
from pathlib import Path

import pytest

from fer_helpers.experiments import notebooks
from fer_helpers.experiments.notebooks import Executed
from fer_helpers.report import site as report

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = [Executed(path, "", 1.0) for path in notebooks.find_notebooks(NOTEBOOKS)]
    report.build_site(done, out, "Data: a test.", out / "no store", ["experiments.sweeps", "data.emotions"])
    return out


@pytest.fixture
def visit(browser, site):
    """Open a page of the site with settings of the browser; everything asked of the network or complained of fails."""
    with contextlib.ExitStack() as stack:
        wrong = []

        def open_page(name, **settings):
            context = stack.enter_context(contextlib.closing(browser.new_context(**settings)))
            page = context.new_page()
            page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: request.url.startswith(("file:", "data:", "blob:"))
                    or wrong.append(request.url))
            page.goto(f"{site.as_uri()}/{name}")
            return page

        yield open_page
        assert not wrong, wrong


def test_every_page_opens_without_complaint_or_network_and_its_pictures_load(visit, site):
    page = visit("index.html")
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
        assert not broken and page.title(), path


def test_one_reads_on_from_page_to_page(visit):
    page = visit("index.html")
    for number in range(1, 7):
        page.click(".next-page")
        assert page.locator("h1").inner_text().startswith(f"0{number} ·")
    page.click(".prev-page")
    assert page.locator("h1").inner_text().startswith("05 ·")
    page.click(".sidebar-tree >> text=All runs")
    assert "All runs" in page.locator("h1").inner_text()


def test_dark_and_light_follow_the_system_and_the_button(visit):
    def ground(page):
        return sum(int(part) for part in page.evaluate("getComputedStyle(document.body).backgroundColor")
                   .removeprefix("rgb(").removesuffix(")").split(","))

    assert ground(visit("index.html", color_scheme="light")) > 700
    page = visit("05_class_ambiguity.html", color_scheme="dark")
    assert ground(page) < 120
    page.click(".theme-toggle-content .theme-toggle, .theme-toggle >> visible=true")
    assert ground(page) > 700
    page.goto(page.url.replace("05_class_ambiguity", "runs"))  # and it stays so
    assert ground(page) > 700


@pytest.mark.parametrize("name", ["index", "03_architectures", "runs", "api/experiments.sweeps", "model_card_best"])
def test_a_phone_needs_no_scrolling_to_the_side(visit, name):
    page = visit(f"{name}.html", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("javascript", [True, False])
def test_a_switch_shows_all_code_and_without_javascript_too(visit, javascript):
    page = visit("05_class_ambiguity.html", java_script_enabled=javascript)
    assert page.locator("text=not taken for happiness").first.is_visible()
    assert page.locator(".cell_output img").first.is_visible()
    code = page.locator(".cell_input").first
    assert not code.is_visible()
    page.locator("#show-code").check()
    assert code.is_visible()
    page.locator("details summary").first.click()
    assert page.locator("details[open]").count() == 1


def test_search_finds_a_page_by_a_word(visit):
    page = visit("search.html?q=Russell")
    page.wait_for_selector("#search-results li a")
    assert any("05" in text for text in page.locator("#search-results li a").all_inner_texts())


def test_runs_sort_by_a_click(visit):
    page = visit("runs.html")
    head = page.locator("table.sortable th", has_text="test").first
    column = [cell.inner_text() for cell in page.locator("table.sortable th").all()].index("test") + 1

    def shown():
        return [float(text) for text in page.locator(f"table.sortable td:nth-child({column})").all_inner_texts()]

    head.locator("button").click()
    assert shown() == sorted(shown()) and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert shown() == sorted(shown(), reverse=True) and len(shown()) > 20


def test_it_prints(visit):
    page = visit("05_class_ambiguity.html")
    assert len(page.pdf(format="A4")) > 50_000
    page.emulate_media(media="print")
    assert not page.locator(".sidebar-drawer").is_visible() and not page.locator(".code-switch").is_visible()
