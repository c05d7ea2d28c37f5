"""A person without a mouse: keys are pressed, and the page is asked where the focus is."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page

MOST = 250
"""Stops of the focus that a page may have."""
FOCUSED = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  const seen = (one) => {
    const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(one);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && !/, 0\\)$/.test(outlineColor);
  };
  const drawn = [node, node.nextElementSibling, node.closest("label")].find((one) => one && seen(one));
  const box = (drawn ?? node).getBoundingClientRect();
  const [top, bottom] = [Math.max(box.top, 0), Math.min(box.bottom, innerHeight)];
  const middle = Math.max(box.left, 0) + Math.min(box.width, innerWidth) / 2;
  const onTop = document.elementFromPoint(middle, (top + bottom) / 2);
  const offset = drawn ? parseFloat(getComputedStyle(drawn).outlineOffset) : 0;
  const cut = (frame) => {
    const edge = frame.getBoundingClientRect();
    if (getComputedStyle(frame).overflowX === "visible") return false;
    return box.left - offset < edge.left || box.right + offset > edge.right;
  };
  let frame = (drawn ?? node).parentElement;
  while (frame && !cut(frame)) frame = frame.parentElement;
  return {
    what: node.outerHTML.replace(/\\s+/g, " ").slice(0, 160),
    place: [...document.querySelectorAll("*")].indexOf(node),
    ring: Boolean(drawn) && !frame,
    uncovered: Boolean(onTop && (drawn ?? node).parentElement.contains(onTop)),
    box: [box.left, box.top + scrollY, box.right, box.bottom + scrollY],
    beside: Boolean(node.closest("dialog, .job-file form")),
  };
}"""


def tab_to(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press Tab, or Shift+Tab, until the focus is on ``target``."""
    for _ in range(MOST):
        if has_focus(target):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{target} cannot be reached with {key}")


def has_focus(target: Locator) -> bool:
    return target.count() == 1 and bool(target.evaluate("node => node === document.activeElement"))


def press(page: Page, target: Locator, key: str = "Enter") -> None:
    """Reach ``target`` with Tab and press a key on it."""
    tab_to(page, target)
    page.keyboard.press(key)


def write(page: Page, target: Locator, text: str) -> None:
    """Reach an input with Tab and type in place of what it holds."""
    tab_to(page, target)
    page.keyboard.press("Control+a")
    page.keyboard.type(text)


def stops(page: Page, key: str = "Tab") -> list[dict[str, Any]]:
    """Every stop of the focus, from the first to the one after which it leaves the page or begins again."""
    found: list[dict[str, Any]] = []
    for _ in range(MOST):
        page.keyboard.press(key)
        stop = page.evaluate(FOCUSED)
        if stop is None or (found and stop["place"] == found[0]["place"]):
            return found
        found.append(stop)
    raise AssertionError(f"the focus does not leave the page: {found[-1]['what']}")
