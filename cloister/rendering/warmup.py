"""Load what drawing needs: a confined process can import nothing any more."""

import codecs
import gc
import io
import os
import tempfile

from PIL import Image

from cloister.rendering.drawing import Drawing
from cloister.rendering.source import Source

# A page with a font that is neither in it nor on any machine: pdfium looks for all there are.
_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R
/Resources<</Font<</F 5 0 R>>>>>>endobj
4 0 obj<</Length 79>>stream
BT /F 9 Tf 9 99 Td (A page with enough words on it, so that its text is good.) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/TrueType/BaseFont/NotInstalledAnywhere>>endobj
trailer<</Root 1 0 R>>
"""
_ENCODINGS = ("ascii", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


def load_everything() -> None:
    """Draw a page and an image, so that every library is loaded and knows the fonts."""
    for name in _ENCODINGS:
        codecs.lookup(name)
    Image.init()  # all of its formats
    image = io.BytesIO()
    Image.effect_noise((120, 120), 90).save(image, "PNG")
    source = Source()
    for content in (_PDF, image.getvalue()):
        pages = source.open(_as_file(content))
        pages.draw(1, Drawing(text_layer=True, scale=0.9))
        pages.blank(1, (0, 1))
    source.close()
    # Pages of memory that a child does not write to are not copied.
    gc.collect()
    gc.freeze()


def _as_file(content: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.dup(file.fileno())
