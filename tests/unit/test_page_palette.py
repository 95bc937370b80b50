"""palette.js: colours that are seen on their ground, and are those of the pictures of ``timeconv stream``."""

import re
from importlib.resources import files

import pytest

from service.streaming.palette import colour_of
from tests.client.fake_server import LABELS

SCRIPT = files("service").joinpath("web", "palette.js").read_text()
LEAST_CONTRAST = 3.0
"""Of lines and shapes with what is around them: WCAG 2.2, 1.4.11."""


def table(name: str) -> dict[str, str]:
    """Colours by label, of an object in the script."""
    (body,) = re.findall(rf"const {name} = \{{(.*?)\}};", SCRIPT, re.DOTALL)
    return dict(re.findall(r'(\w+): "(#[0-9a-f]{6})"', body))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def panels() -> tuple[str, str]:
    """The grounds of the page's style, light and dark, on which the timeline lies."""
    style = files("service").joinpath("web", "style.css").read_text()
    light, dark = re.findall(r"--panel: (#\w+);", style)[:2]
    return light.replace("#fff", "#ffffff") if len(light) == 4 else light, dark


@pytest.mark.parametrize("label", LABELS)
def test_python_has_the_same_colours(label: str) -> None:
    """A label has one colour, on the page as in the pictures of files."""
    red, green, blue = colour_of(label)
    assert table("COLOURS")[label] == f"#{red:02x}{green:02x}{blue:02x}"


@pytest.mark.parametrize("label", LABELS)
def test_lines_are_seen_on_their_ground(label: str) -> None:
    """At least 3:1 on the light panel and on the dark one."""
    light, dark = panels()
    plain = table("COLOURS")[label]
    assert contrast(table("ON_LIGHT").get(label, plain), light) >= LEAST_CONTRAST
    assert contrast(plain, dark) >= LEAST_CONTRAST


def test_only_colours_that_need_it_are_changed() -> None:
    """A shade for light ground stands where the plain colour is too pale on white and near white."""
    plain = table("COLOURS")
    assert {label for label in LABELS if contrast(plain[label], "#f6f7f8") < LEAST_CONTRAST} == {*table("ON_LIGHT")}
