"""A PDF whose end was lost, with a new one: pdfium finds everything but the catalogue by itself."""

import re

_CATALOGUE = re.compile(rb"/Type\s{0,20}/Catalog\b")
_OBJECT = re.compile(rb"\b(\d{1,10})\s{1,20}(\d{1,5})\s{1,20}obj\b")
# The key to an encrypted file was in what is lost: its pages would come out empty.
_ENCRYPTED = re.compile(rb"/Filter\s{0,20}/Standard\b")


def with_trailer(content: bytes) -> bytes | None:
    """Return a PDF with a trailer that names its last catalogue, None where none can be found.

    That is so where objects are compressed, since the list of them was in what is lost as well.
    """
    places = [found.start() for found in _CATALOGUE.finditer(content)]
    if not places or _ENCRYPTED.search(content):
        return None
    begin = max(0, content.rfind(b"endobj", 0, places[-1]))
    named = list(_OBJECT.finditer(content, begin, places[-1]))
    if not named:
        return None
    number, generation = named[-1].groups()
    trailer = b"\nendobj\ntrailer\n<</Root %s %s R>>\nstartxref\n0\n%%%%EOF\n"
    return content + trailer % (number, generation)
