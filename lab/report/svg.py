"""A chart's SVG for where it is to stand: within a page, in the page's colours, or in a file of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from lab.report.shapes import THEME

_COLOUR = re.compile("|".join(THEME.values()))
_NAME = {colour: name for name, colour in THEME.items()}


def on_paper(svg: bytes) -> bytes:
    """Return an SVG with white paper behind it, for a file that stands alone on any page."""
    start = svg.index(b">", svg.index(b"<svg")) + 1
    return svg[:start] + b'\n <rect width="100%" height="100%" fill="#ffffff"/>' + svg[start:]


def for_page(svg: bytes, *, key: str, alt: str) -> str:
    """Return an SVG to be put into a page: themed by its variables, ids made unique, named by ``alt``."""
    text = svg[svg.index(b"<svg") :].decode()
    text = _COLOUR.sub(lambda match: f"var(--c-{_NAME[match[0]]})", text)
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{key}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", _opening(alt), text, count=1, flags=re.DOTALL)


def _opening(alt: str) -> Callable[[re.Match[str]], str]:
    name = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return lambda match: (
        f'<svg {match[1]} role="img" aria-label="{name}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
