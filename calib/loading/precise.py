"""Mark operations to run in f32 where the machine's default precision for floating point is bf16 or f16.

A file can't carry the precision of a whole model (the CPU plug-in keeps ``runtime_options/INFERENCE_PRECISION_HINT`` of
a file and does not honour it), but that of single operations: ``precise`` in the runtime information of a layer. Only
the reader of IR files makes the attribute, since Python's runtime information takes nothing but text and numbers; so
the model is written, the XML edited and read again. Saved after that it is called ``DisablePrecisionConversion``, which
is read back as the same (OpenVINO 2026.4).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from xml.sax.saxutils import unescape

from calib.loading.ir_file import save_model
from calib.runtime.session import ov, read_model
from calib.runtime.temporary import temporary_folder

# Without a version OpenVINO ignores it.
_ATTRIBUTE = '<attribute name="precise" version="0" />'
_LAYER = re.compile(r'\s*<layer id="[^"]*" name="([^"]*)" type="[^"]*"[^>]*>\s*')
_QUOTED = {"&quot;": '"', "&apos;": "'"}


def kept_in_f32(model: ov.Model, names: Collection[str], folder: Path | None = None) -> ov.Model:
    """Return a copy of a model that runs some operations in f32 whatever the default precision is.

    Args:
        model: Model, which is not edited.
        names: Friendly names of operations outside of bodies.
        folder: Folder to write the model to; None for the system's temporary one.
    """
    with temporary_folder(folder) as place:
        path = place / "model.xml"
        save_model(model, path)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(_marked(lines, frozenset(names))), encoding="utf-8")
        return read_model(path)


def _marked(lines: list[str], names: frozenset[str]) -> Iterator[str]:
    """Yield the lines of an IR as OpenVINO writes them, one element each, with the attribute in the layers named."""
    pending = False  # between the first line of a layer to mark and its runtime information
    depth = 0
    for line in lines:
        tag = line.strip()
        if pending and tag.startswith("<data "):
            yield line
            continue
        if pending and tag == "<rt_info>":
            yield line
            line = f"{_ATTRIBUTE}\n"
        elif pending:
            yield f"<rt_info>\n{_ATTRIBUTE}\n</rt_info>\n"
        yield line
        depth += (tag == "<layers>") - (tag == "</layers>")
        found = _LAYER.fullmatch(line) if depth == 1 else None
        pending = found is not None and unescape(found[1], _QUOTED) in names and not tag.endswith("/>")
