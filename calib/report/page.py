"""One self-contained HTML file: vendored scripts, own style and data inside, and a policy that lets nothing else run.

The Content-Security-Policy names the sha256 of every inline script and style, so no script that a name might smuggle in
could run, nothing is fetched, and no ``unsafe-eval`` is needed: Vega interprets its expressions (``ast: true``).
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calib.report.escape import json_for_script
from calib.report.theme import theme
from calib.values.pictures import PictureFacts

# In the order in which they need each other.
_VENDORED = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.js")
_OWN = ("table.js", "charts.js", "network.js", "page.js")

# The interpreter is published as an ES module, which an inline script can't import; these two lines are its only ties.
_INTERPRETER_IMPORT = "import { ascending, isString, DisallowedObjectProperties } from 'vega-util';"
_INTERPRETER_EXPORT = "export { expression as expressionInterpreter };"


def render_page(
    template: str,
    *,
    tables: Mapping[str, Any],
    charts: Mapping[str, Any] = MappingProxyType({}),
    histograms: Sequence[Any] = (),
    network: Any = None,
    scripted: bool = True,
    **context: Any,
) -> str:
    """Return a page from a template of ``page/``.

    Args:
        template: File name in ``report/page``.
        tables: Mapping from the name of a place to ``Table.data``.
        charts: Mapping from the name of a place to a Vega-Lite specification.
        histograms: Histogram data of each tensor.
        network: Graph of the layers, of ``network_data``; its place is on the page of the table ``layers``.
        scripted: Whether the page needs the scripts of tables and charts.
        context: Variables of the template, each of which is escaped where it is used.
    """
    themes = {"light": theme(dark=False), "dark": theme(dark=True)}
    # Apart from each other: the browser reads each block when it shows what is in it.
    blocks: dict[str, Any] = {f"table-{name}": table for name, table in tables.items()}
    if charts:
        blocks |= {"themes": themes, **{f"chart-{name}": chart for name, chart in charts.items()}}
    if network:
        blocks["network"] = network
    if histograms:
        blocks["tensors"] = [*histograms]
    later = _vendored() if scripted and charts else ()  # page.js runs them before it draws the first chart
    scripts = tuple(_text("page", name) for name in _OWN) if scripted else ()
    style = _text("page", "page.css")
    allowed = " ".join(map(_source, (*later, *scripts))) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_source(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup(style),
            later=[Markup(script) for script in later],
            scripts=[Markup(script) for script in scripts],
            blocks={name: Markup(json_for_script(block)) for name, block in blocks.items()},
            **context,
        )
    )


@functools.cache
def _vendored() -> tuple[str, ...]:
    return tuple(_as_classic_script(_text("vendor", name)) for name in _VENDORED)


def _as_classic_script(text: str) -> str:
    """Return vendored code without its source map comment (a browser would look for it), the module as a function."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("//# sourceMappingURL="))
    if _INTERPRETER_IMPORT not in text:
        return text
    names = _INTERPRETER_IMPORT.split("{")[1].split("}")[0]
    body = text.replace(_INTERPRETER_IMPORT, f"const {{{names}}} = vega;")
    body = body.replace(_INTERPRETER_EXPORT, "vega.expressionInterpreter = expression;")
    return f"(() => {{\n{body}\n}})();"


def _source(text: str) -> str:
    """Return the hash by which a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(folder: str, name: str) -> str:
    # A browser reads \r\n as \n before it hashes; the text must already be in that form.
    text = (resources.files("calib.report") / folder / name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("calib.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def addressed(pictures: Sequence[PictureFacts], folder: Path | None) -> list[tuple[PictureFacts, str]]:
    """Return pictures with their data: addresses, of those that are there.

    Args:
        pictures: Pictures of a report.
        folder: Folder of the report; None to leave them out.
    """
    if not pictures or folder is None:
        return []
    from calib.report.pictures import embedded  # here: it loads numpy

    return [pair for pair in zip(pictures, embedded(pictures, folder), strict=True) if pair[1]]
