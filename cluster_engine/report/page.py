"""The page: template, style, scripts and content in one file that asks for nothing else.

Texts come from anywhere, so they are data and never markup: the content is JSON in a script element that is not run,
with every character escaped that could end it, and the scripts put texts on the page as text. The page's own policy
(CSP) lets only these very scripts and this style run, by their digests, and lets nothing be fetched.

Owns the assembling. Refuses to know what the content means.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster_engine.report.content import Content

_SCRIPTS = (  # in the order in which they run
    "element",
    "model",
    "selection",
    "tree",
    "detail",
    "dendrogram",
    "plane",
    "chart",
    "timeline",
    "tables",
    "page",
)


def render_page(content: Content) -> str:
    """Return the page as HTML. Equal content gives an equal page.

    Parameters
    ----------
    content : dict
        As `cluster_engine.report.content.report_content` returns it.
    """
    style = _read("page.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_read(f"{name}.js") for name in _SCRIPTS) + "})();\n"
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; base-uri 'none'; "
        "form-action 'none'"
    )
    facts = content["facts"]
    return Template(_read("page.html")).substitute(
        title=escape(f"{facts['store']}, version {facts['version']}"),
        policy=escape(policy),
        style=style,
        content=_embed(content),
        script=script,
    )


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Return a CSP source: what an inline element with this very text may be run by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embed(content: Content) -> str:
    """Return JSON in which no character can end the element, or begin a comment or another element, in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate, which UTF-8 has not
