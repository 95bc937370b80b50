"""The page for people with a keyboard, a screen reader, large letters, other colours or less motion."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from loadtest.clips import FRAMES_PER_S, encoded, there_and_back
from loadtest.people import Person, scene, two_people
from service.settings import Settings
from tests.chromium import Browser, Page, chromium, needs_chromium
from tests.conftest import LiveServer, serving

AXE = Path(__file__).parents[2] / "build" / "javascript" / "node_modules" / "axe-core" / "axe.min.js"

pytestmark = needs_chromium
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="no axe-core: make javascript")

# In the middle of a fade any text is too pale, so nothing fades where axe looks.
WIDE: dict[str, Any] = {"reduced_motion": True}
DARK_PHONE: dict[str, Any] = {**WIDE, "width": 360, "height": 740, "scale": 2, "touch": True, "colour_scheme": "dark"}

# What Tab should reach, in order: what is seen and takes focus; of radio buttons the one that is on.
TABBABLE = """[...document.querySelectorAll("a[href], button, input, select, summary, video[controls], [tabindex='0']")]
    .filter((element) => !element.disabled && element.checkVisibility({visibilityProperty: true}))
    .filter((element) => element.type !== "radio" || element.checked)
    .map((element) => (%s)(element))"""
NAME = "(element) => element.id || element.getAttribute('name') || element.textContent.trim()"
# Whether it is seen where the focus is: an outline around the element, or around what stands for it.
OUTLINED = """(element) => [element, element.nextElementSibling].some((each) => {
    if (!each || !element.matches(":focus-visible")) return false;
    const {outlineStyle, outlineWidth} = getComputedStyle(each);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium whose camera shows two people."""
    one, other = two_people()
    people = [Person(one, lambda time_s: (180 + 20 * time_s, 240, 130)), Person(other, lambda _: (460, 240, 120))]
    frames = encoded(scene(people, index / FRAMES_PER_S) for index in range(FRAMES_PER_S))
    with chromium(tmp_path_factory.mktemp("chromium"), there_and_back(frames)) as running:
        yield running


@contextmanager
def opened(browser: Browser, url: str, **screen: Any) -> Iterator[Page]:
    """The page on such a screen."""
    with browser.page(url + "/") as page:
        page.emulate(**screen)
        yield page


def faults(page: Page) -> list[str]:
    """What axe finds wrong: the rule and the elements."""
    if not page.run("'axe' in window"):
        page.run(AXE.read_text())
    found = page.run("axe.run({resultTypes: ['violations']}).then(({violations}) => violations)")
    return [f"{fault['id']}: {', '.join(str(node['target']) for node in fault['nodes'])}" for fault in found]


def faults_in_both(page: Page) -> list[str]:
    """Those on the screen that it has, and those on a dark phone."""
    here = faults(page)
    page.emulate(**DARK_PHONE)
    return [*here, *(f"dark phone: {fault}" for fault in faults(page))]


def read_a_face(page: Page) -> None:
    page.press("toggle")
    page.when("s.outcomes.prediction >= 5")


def open_all(page: Page) -> None:
    read_a_face(page)
    page.run(
        """(() => {
            const faces = document.getElementById("faces-most");
            faces.value = "3";
            faces.dispatchEvent(new Event("change", {bubbles: true}));
        })()"""
    )
    page.run(
        """new Promise((shown) => {
            const look = () => document.getElementById("faces").hidden ? requestAnimationFrame(look) : shown();
            look();
        })"""
    )
    page.run("void document.querySelectorAll('details').forEach((details) => (details.open = true))")


def ask_for_one_word(page: Page) -> None:
    read_a_face(page)
    page.press("word-open")


def refuse_the_camera(page: Page) -> None:
    page.run(
        "void (navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); })"
    )
    page.press("toggle")
    page.says("status", "The camera is not allowed.")


STATES = {
    "start": lambda _page: None,
    "all open": open_all,
    "one word": ask_for_one_word,
    "problem": refuse_the_camera,
}


@needs_axe
class TestByAxe:
    @pytest.mark.parametrize("state", STATES)
    def test_no_rule_is_broken(self, browser: Browser, live_server: LiveServer, state: str) -> None:
        """In every state axe finds nothing, neither on a light, wide screen nor on a dark phone."""
        with opened(browser, live_server.url, **WIDE) as page:
            STATES[state](page)
            assert faults_in_both(page) == []

    def test_no_rule_is_broken_where_a_key_is_asked(self, browser: Browser) -> None:
        """So it is with the field for a key."""
        keys = SecretStr(f"page sha256:{sha256(b'tc_other').hexdigest()}")
        with serving(Settings(port=0, keys=keys, drain_ms=0)) as server, opened(browser, server.url, **WIDE) as page:
            page.press("toggle")
            page.says("status", "The server asks for an API key.")
            assert faults_in_both(page) == []

    def test_no_rule_is_broken_in_the_colours_of_the_system(self, browser: Browser, live_server: LiveServer) -> None:
        """So it is where people force their own colours on pages."""
        with opened(browser, live_server.url, **WIDE, forced_colours=True) as page:
            assert faults(page) == []

    def test_axe_finds_what_is_wrong(self, browser: Browser, live_server: LiveServer) -> None:
        """A picture without a name, and text that is hardly seen, are found."""
        with opened(browser, live_server.url, **WIDE) as page:
            page.run("document.getElementById('timeline').removeAttribute('aria-label')")
            page.run("void (document.getElementById('status').style.color = '#ddd')")
            page.run("void (document.getElementById('status').textContent = 'pale')")
            assert [fault.split(":")[0] for fault in faults(page)] == ["color-contrast", "role-img-alt"]


class TestByKeyboard:
    def test_tab_reaches_everything_in_order(self, browser: Browser, live_server: LiveServer) -> None:
        """Each control once, in the order of the page, seen where it is; then the focus leaves the page."""
        with opened(browser, live_server.url) as page:
            open_all(page)
            expected = page.run(TABBABLE % NAME)
            walked, seen = [], []
            for _ in expected:
                page.type_key("Tab")
                walked.append(page.run(f"({NAME})(document.activeElement)"))
                seen.append(page.run(f"({OUTLINED})(document.activeElement)"))
            assert walked == expected
            assert [name for name, outlined in zip(walked, seen, strict=True) if not outlined] == []
            page.type_key("Tab")
            assert page.run("document.activeElement === document.body || document.activeElement.id") in (
                *(True, expected[0]),
            )

    def test_one_word_keeps_the_focus_until_it_is_left(self, browser: Browser, live_server: LiveServer) -> None:
        """Tab reaches nothing of the page behind it; Escape leaves it from anywhere, and the focus is where it was."""
        with opened(browser, live_server.url) as page:
            page.run("document.getElementById('word-open').focus()")
            page.type_key("Enter")
            walked = [page.run("document.activeElement.id")]
            for _ in range(5):
                page.type_key("Tab")
                walked.append(page.run("document.activeElement.id"))
            # Behind the last button come the browser's own, where the page has the focus nowhere.
            assert walked == ["word-leave", "", "word-picture-toggle", "word-full", "word-leave", ""]
            page.type_key("Escape")
            assert page.run("document.activeElement.id") == "word-open"

    def test_start_by_keyboard(self, browser: Browser, live_server: LiveServer) -> None:
        """The camera is started and stopped without a mouse."""
        with opened(browser, live_server.url) as page:
            page.run("document.getElementById('toggle').focus()")
            page.type_key("Enter")
            page.when("s.outcomes.prediction >= 1")
            page.type_key("Enter")
            page.when("s.link === 'closed'")


@pytest.mark.parametrize("state", ["all open", "one word"])
def test_nothing_stands_out_at_the_side(browser: Browser, live_server: LiveServer, state: str) -> None:
    """No scrolling sideways at 320 pixels (a small phone, or 400 % on a screen of 1280) nor at 200 %."""
    with opened(browser, live_server.url, width=320, height=640) as page:
        STATES[state](page)
        overhang = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        narrow = page.run(overhang)
        page.emulate(width=640, height=400, scale=2)
        assert (narrow, page.run(overhang)) == (0, 0)
