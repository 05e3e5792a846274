"""Documents that are broken, odd or meant to do harm, each with what should come of it."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from fpdf import FPDF
from PIL import ExifTags, Image, ImageDraw

UNKNOWN = "not a PDF or a known image"
DAMAGED = r"a damaged PDF|the PDF has no pages"
LIMIT = "rendering (took longer|needed more|crashed)"


@dataclass(frozen=True)
class Hostile:
    """A file; `readable` None where reading it may end either way, but must end.

    `reason` is a pattern of why it is not readable.
    """

    name: str
    content: bytes
    readable: bool | None = True
    reason: str = ""


def hostile() -> dict[str, Hostile]:
    """Make them all, by name."""
    made = [*_broken_pdfs(), *_misnamed(), *_odd_pages(), *_bombs(), *_active_pdfs()]
    made += [*_pictures_in_pdfs(), *_images(), *_broken_images(), *_names()]
    found = {one.name: one for one in made}
    assert len(found) == len(made)
    return found


def refused(name: str, content: bytes, reason: str) -> Hostile:
    """Return a file that cannot be read."""
    return Hostile(name, content, readable=False, reason=reason)


def either(name: str, content: bytes, reason: str) -> Hostile:
    """Return a file of which reading may end either way, but must end."""
    return Hostile(name, content, readable=None, reason=reason)


def stream(content: bytes, entries: bytes = b"") -> bytes:
    """Return a PDF stream object."""
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(content), content)


def pdf(*objects: bytes) -> bytes:
    """Return a PDF of these objects, numbered from 1; the first is the catalogue."""
    content, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return bytes(content) + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Root 1 0 R/Size %d>>\n"
        b"startxref\n%d\n%%%%EOF\n" % (size, table, size, len(content))
    )


def page(
    entries: bytes = b"/MediaBox[0 0 300 400]",
    content: bytes = b"BT /F 24 Tf 40 200 Td (Some words) Tj ET",
    *more: bytes,
    resources: bytes = b"",
    catalogue: bytes = b"",
) -> bytes:
    """Return a PDF of one page: objects 1 to 5, then `more` from 6."""
    return pdf(
        b"<</Type/Catalog/Pages 2 0 R%s>>" % catalogue,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F 5 0 R>>%s>>%s>>"
        % (resources, entries),
        stream(content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *more,
    )


def nested(depth: int) -> bytes:
    """Return a PDF whose page draws 2**depth rectangles, by forms that draw the next twice."""
    kind = b"/Type/XObject/Subtype/Form/BBox[0 0 300 400]"
    forms = [
        stream(b"/X Do /X Do", b"%s/Resources<</XObject<</X %d 0 R>>>>" % (kind, 7 + number))
        for number in range(depth)
    ]
    return page(
        b"/MediaBox[0 0 300 400]",
        b"/X Do",
        *forms,
        stream(b"0 0 9 9 re f", kind),
        resources=b"/XObject<</X 6 0 R>>",
    )


def slow() -> bytes:
    """Return a PDF that takes minutes, and little memory: many large, half transparent shapes."""
    shape = b"0 0 m 300 400 l 300 0 l 0 400 l f* " * 20
    return page(
        b"/MediaBox[0 0 300 400]",
        b"",
        stream(repeated(b"/G gs " + shape * 100, 400), b"/Filter/FlateDecode"),
        b"<</CA .5/ca .5/BM/Luminosity>>",
        resources=b"/ExtGState<</G 7 0 R>>",
    ).replace(b"/Contents 4 0 R", b"/Contents 6 0 R")


def file(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image file."""
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def words(mode: str = "L", size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Return an image with something to read on it."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((20, size[1] // 2), "Some words", "navy", font_size=40)
    return image.convert(mode)


def png(width: int, height: int, rows: int, *, colour: int = 0) -> bytes:
    """Return a PNG of one bit a pixel that says it is so large, with `rows` rows of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8 if colour else 1, colour, 0, 0, 0)
    row = bytes(1 + width * (3 if colour else 1) // (1 if colour else 8))
    pixels = repeated(row * 10, rows // 10)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def repeated(block: bytes, times: int) -> bytes:
    """Return a zlib stream of many blocks, made from one; its checksum is wrong."""
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + packed * times + packer.flush()


def locked(user: str) -> bytes:
    """Return an encrypted PDF, open to all when `user` is empty."""
    made = FPDF()
    made.add_page()
    made.set_font("helvetica", size=24)
    made.cell(text="Some words")
    made.set_encryption(owner_password="owner", user_password=user)  # noqa: S106  # of a test
    return bytes(made.output())


def _broken_pdfs() -> Iterator[Hostile]:
    good = page()
    yield refused("user-password.pdf", locked("user"), "the PDF needs a password")
    yield Hostile("owner-password.pdf", locked(""))
    for share in (5, 30, 60, 95):
        cut = good[: len(good) * share // 100]
        yield either(f"cut-at-{share}.pdf", cut, DAMAGED)
    yield refused("header-only.pdf", b"%PDF-1.7 and nothing else", "a damaged PDF")
    yield refused(
        "garbage.pdf",
        b"%PDF-1.4\n" + bytes(range(256)) * 99,
        "a damaged PDF",
    )
    empty = pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>")
    yield refused("no-pages.pdf", empty, "the PDF has no pages")
    yield Hostile("broken-xref.pdf", good.replace(b"0000000", b"9999999"))
    yield Hostile("no-eof.pdf", good.replace(b"%%EOF", b""))
    yield Hostile("startxref-beyond.pdf", good.replace(b"startxref\n", b"startxref\n99999999"))
    yield Hostile("late-header.pdf", b"\n" * 900 + good)
    yield Hostile("rubbish-behind.pdf", good + b"\0" * 5000)
    doubled = good.replace(b"xref\n0", b"5 0 obj\n(another)\nendobj\nxref\n0", 1)
    yield Hostile("duplicate-objects.pdf", doubled)
    yield Hostile("missing-contents.pdf", good.replace(b"/Contents 4 0 R", b"/Contents 99 0 R"))
    yield Hostile("missing-font.pdf", good.replace(b"/F 5 0 R", b"/F 99 0 R"))
    lengths = good.replace(b"/Length 4", b"/Length 99999994")
    yield either("wrong-length.pdf", lengths, ".")
    yield either("kid-is-a-number.pdf", good.replace(b"[3 0 R]", b"[42]"), ".")
    claims = good.replace(b"/Count 1", b"/Count 99999999")
    yield either("claims-pages.pdf", claims, ".")
    negative = good.replace(b"/Count 1", b"/Count -5")
    yield either("negative-count.pdf", negative, ".")
    operators = page(b"/MediaBox[0 0 300 400]", b"q " * 50_000 + b"1 0 0 RG S f B* ET BT " * 99)
    yield either("unbalanced.pdf", operators, LIMIT)
    yield either("deep-array.pdf", page(b"/MediaBox" + b"[" * 50_000), ".")


def _misnamed() -> Iterator[Hostile]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("word/document.xml", "<w:document/>")
    yield Hostile("image.pdf", file(words(), "PNG"))
    yield Hostile("document.png", page())
    yield refused("text.pdf", b"Only text.", UNKNOWN)
    yield refused("page.jpg", b"<!doctype html><title>404</title>", UNKNOWN)
    yield refused("archive.pdf", archive.getvalue(), UNKNOWN)
    yield refused("program.pdf", b"\x7fELF" + bytes(2000), UNKNOWN)
    yield refused(
        "postscript.png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        ".",
    )
    yield refused("vector.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNKNOWN)
    yield refused("empty.pdf", b"", UNKNOWN)
    yield refused("spaces.pdf", b" \n" * 500, UNKNOWN)
    yield either("polyglot.pdf", file(words(), "PNG")[:60] + page(), ".")


def _odd_pages() -> Iterator[Hostile]:
    for name, box in {
        "huge": b"0 0 14400 14400",
        "beyond": b"0 0 1e9 1e9",
        "tiny": b"0 0 1 1",
        "a-line": b"0 0 14400 1",
        "negative": b"-300 -400 0 0",
        "inverted": b"300 400 0 0",
        "no-area": b"0 0 0 0",
        "not-numbers": b"/a (b) null []",
    }.items():
        yield Hostile(f"box-{name}.pdf", page(b"/MediaBox[%s]" % box))
    for angle in (90, 180, 270, 45, -90, 99_990):
        rotated = page(b"/MediaBox[0 0 300 400]/Rotate %d" % angle)
        yield Hostile(f"rotated-{angle}.pdf", rotated)
    yield Hostile("cropped.pdf", page(b"/MediaBox[0 0 300 400]/CropBox[50 150 250 250]"))
    yield refused(
        "cropped-away.pdf",
        page(b"/MediaBox[0 0 300 400]/CropBox[900 900 999 999]"),
        "no area",
    )
    yield Hostile("user-unit.pdf", page(b"/MediaBox[0 0 300 400]/UserUnit 10"))
    yield Hostile("no-box.pdf", page(b""))
    many = [b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>"] * 5000
    kids = b" ".join(b"%d 0 R" % number for number in range(3, 5003))
    tree = b"<</Type/Pages/Count 5000/Kids[%s]>>" % kids
    yield Hostile("5000-pages.pdf", pdf(b"<</Type/Catalog/Pages 2 0 R>>", tree, *many))


def _bombs() -> Iterator[Hostile]:
    catalogue, paper = b"<</Type/Catalog/Pages 2 0 R>>", b"/MediaBox[0 0 300 400]"
    loop = pdf(catalogue, b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2>>")
    yield either("tree-loop.pdf", loop, ".")
    deep = [
        b"<</Type/Pages/Kids[%d 0 R]/Count 1/Parent %d 0 R>>" % (number + 1, number - 1)
        for number in range(2, 20_000)
    ]
    leaf = b"<</Type/Page/Parent 19999 0 R/MediaBox[0 0 99 99]>>"
    yield either("deep-tree.pdf", pdf(catalogue, *deep, leaf), ".")
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 300 400]/Resources<</XObject<</X 6 0 R>>>>"
    drawn = b"/XObject<</X 6 0 R>>"
    yield Hostile("form-loop.pdf", page(paper, b"/X Do", stream(b"/X Do", form), resources=drawn))
    yield either("forms-2-30.pdf", nested(30), LIMIT)
    yield refused("slow.pdf", slow(), LIMIT)
    packed = repeated(bytes(1 << 20), 1500)
    flate = stream(packed, b"/Filter/FlateDecode")
    bomb = page(paper, b"", flate).replace(b"/Contents 4 0 R", b"/Contents 6 0 R")
    yield either("flate-bomb.pdf", bomb, LIMIT)
    twice = stream(zlib.compress(packed, 9), b"/Filter[/FlateDecode/FlateDecode]")
    bomb = page(paper, b"", twice).replace(b"/Contents 4 0 R", b"/Contents 6 0 R")
    yield either("flate-bomb-twice.pdf", bomb, LIMIT)
    picture = b"/Subtype/Image/Width 30000/Height 20000/BitsPerComponent 8/ColorSpace/DeviceRGB"
    huge = stream(packed, picture + b"/Filter/FlateDecode")
    show = b"q 300 0 0 400 0 0 cm /X Do Q"
    yield either("image-bomb.pdf", page(paper, show, huge, resources=drawn), LIMIT)
    tile = b"/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 1 1]/XStep .001/YStep .001"
    tiles = page(
        paper,
        b"/Pattern cs /P scn 0 0 300 400 re f",
        stream(b"0 0 1 1 re f", tile + b"/Resources<<>>"),
        resources=b"/Pattern<</P 6 0 R>>",
    )
    yield either("tiny-tiles.pdf", tiles, LIMIT)
    program = b"<</FunctionType 4/Domain[0 1 0 1]/Range[0 1]/Length 40>>stream\n"
    program += b"{" * 20 + b"}" * 20 + b"\nendstream"
    shade = b"<</ShadingType 1/ColorSpace/DeviceGray/Function 7 0 R/Domain[0 1e9 0 1e9]>>"
    shaded = page(paper, b"/S sh", shade, program, resources=b"/Shading<</S 6 0 R>>")
    yield either("shading.pdf", shaded, LIMIT)
    yield refused("png-bomb.png", png(35_000, 35_000, 10), "35000 x 35000 pixels")
    yield refused("png-large.png", png(17_000, 17_000, 17_000, colour=2), LIMIT)
    wide = file(Image.new("L", (35_000, 1_000), "white"), "JPEG")
    yield Hostile("wide.jpg", wide)


def _active_pdfs() -> Iterator[Hostile]:
    paper = b"/MediaBox[0 0 300 400]"
    for name, action in {
        "javascript": b"<</S/JavaScript/JS(while(true){app.alert(1)})>>",
        "launch": b"<</S/Launch/F(/bin/sh)>>",
        "link": b"<</S/URI/URI(http://192.0.2.1/)>>",
        "submit": b"<</S/SubmitForm/F(http://192.0.2.1/)>>",
    }.items():
        content = page(paper + b"/AA<</O %s>>" % action, catalogue=b"/OpenAction " + action)
        yield Hostile(f"{name}.pdf", content)
    embedded = b"/Names<</EmbeddedFiles<</Names[(a.exe)<</F(a.exe)/EF<</F 6 0 R>>>>]>>>>"
    attached = page(paper, b"", stream(b"MZ" * 999, b"/Type/EmbeddedFile"), catalogue=embedded)
    yield Hostile("attachment.pdf", attached)
    far = page(paper, b"", b"<</F(/etc/passwd)/FFilter/None/Length 0>>stream\n\nendstream")
    yield Hostile("external-stream.pdf", far.replace(b"/Contents 4 0 R", b"/Contents 6 0 R"))
    other = b"/Subtype/Form/BBox[0 0 9 9]/Ref<</F(\\\\\\\\192.0.2.1\\\\a.pdf)/Page 0>>"
    referred = page(paper, b"/X Do", stream(b"", other), resources=b"/XObject<</X 6 0 R>>")
    yield Hostile("external-page.pdf", referred)
    xfa = b"/AcroForm<</Fields[]/XFA 6 0 R>>"
    dynamic = page(paper, b"", stream(b"<xdp:xdp/>"), catalogue=xfa)
    yield Hostile("xfa.pdf", dynamic)


def _pictures_in_pdfs() -> Iterator[Hostile]:
    jpeg2000 = file(words("RGB"), "JPEG2000")
    for name, filter_, content in (
        ("jbig2", b"/JBIG2Decode", struct.pack(">IBBBI", 0, 48, 0, 1, 19) + b"\0" * 19),
        ("jbig2-invalid", b"/JBIG2Decode", b"\xff" * 500),
        ("jpeg2000", b"/JPXDecode", jpeg2000),
        ("jpeg2000-cut", b"/JPXDecode", jpeg2000[:300]),
        ("ccitt-invalid", b"/CCITTFaxDecode", b"\xaa" * 500),
        ("jpeg", b"/DCTDecode", file(words("CMYK"), "JPEG")),
        ("jpeg-cut", b"/DCTDecode", file(words(), "JPEG")[:400]),
        ("runs", b"/RunLengthDecode", b"\x81\xff" * 500),
        ("lzw-invalid", b"/LZWDecode", b"\x12\x34" * 500),
        ("unknown-filter", b"/Crypt", b"?" * 500),
    ):
        entries = b"/Subtype/Image/Width 400/Height 300"
        if not name.startswith("jpeg2000"):  # which says so itself
            entries += b"/BitsPerComponent 8/ColorSpace/DeviceGray"
        image = stream(content, b"%s/Filter%s" % (entries, filter_))
        show = b"q 300 0 0 400 0 0 cm /X Do Q"
        drawn = b"/XObject<</X 6 0 R>>"
        yield Hostile(
            f"{name}-inside.pdf", page(b"/MediaBox[0 0 300 400]", show, image, resources=drawn)
        )


def _images() -> Iterator[Hostile]:
    frames = [words("1", (400, 300 + 40 * number)) for number in range(3)]
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    moving: dict[str, object] = {"save_all": True, "append_images": [frames[0].rotate(180)]}
    yield Hostile("cmyk.jpg", file(words("CMYK"), "JPEG"))
    yield Hostile("progressive.jpg", file(words("RGB"), "JPEG", progressive=True))
    yield Hostile("turned.jpg", file(words("RGB"), "JPEG", exif=turned))
    yield Hostile("fax.tiff", file(frames[0], "TIFF", compression="group4"))
    several = file(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    yield Hostile("several.tiff", several)
    wide = words().convert("I").point(lambda level: level * 257).convert("I;16")
    yield Hostile("sixteen.png", file(wide, "PNG"))
    yield Hostile("floating.tiff", file(words().convert("F"), "TIFF"))
    yield Hostile("alpha.png", file(words("RGBA"), "PNG"))
    yield Hostile("palette.png", file(words("P"), "PNG", transparency=0))
    yield Hostile("one-bit.png", file(frames[0], "PNG"))
    yield Hostile("moving.gif", file(frames[0], "GIF", **moving))
    turning: dict[str, object] = {"save_all": True, "append_images": [words("RGB").rotate(180)]}
    yield Hostile("moving.png", file(words("RGB"), "PNG", **turning))
    yield Hostile("moving.webp", file(words("RGB"), "WEBP", **turning))
    yield Hostile("still.webp", file(words("RGB"), "WEBP"))
    yield Hostile("still.bmp", file(words("RGB"), "BMP"))
    yield Hostile("still.jp2", file(words("RGB"), "JPEG2000"))
    yield Hostile("pixel.png", file(Image.new("1", (1, 1)), "PNG"))


def _broken_images() -> Iterator[Hostile]:
    good = file(words("RGB"), "PNG")
    # What is passed on as it is, the engine refuses.
    yield Hostile("cut.jpg", file(words("RGB"), "JPEG")[:2000])
    yield Hostile("bad-crc.png", good[:-20] + b"\0\0\0\0" + good[-16:])
    cut = file(words("CMYK"), "JPEG")[:2000]
    yield refused("cut-cmyk.jpg", cut, "a damaged image")
    yield refused("header-only.png", good[:30], f"{UNKNOWN}|a damaged image")
    frames = [words("L", (400, 300 + number)) for number in range(3)]
    several = file(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    yield either(
        "broken-frame.tiff",
        several[: len(several) * 2 // 3],
        "a damaged image",
    )
    exif = b"Exif\0\0" + b"\xff" * 60
    yield Hostile("bad-exif.jpg", file(words("RGB"), "JPEG", exif=exif))
    for name, content in (
        ("bad.gif", file(words("P"), "GIF")[:60]),
        ("bad.webp", file(words("RGB"), "WEBP")[:60]),
        ("bad.jp2", file(words("RGB"), "JPEG2000")[:200]),
        ("bad.tiff", b"II*\0" + struct.pack("<IHHHII", 8, 1, 256, 4, 1, 9)),
        ("bad.bmp", file(words("RGB"), "BMP")[:20] + b"\xff" * 60),
    ):
        yield either(name, content, f"{UNKNOWN}|a damaged image|pixels")


def _names() -> Iterator[Hostile]:
    for name in ("\u00e9\u4e2d\U0001f4c4.pdf", "two\nlines.pdf", " .pdf", "~.pdf", "-rf.pdf"):
        yield Hostile(name, page())
    yield Hostile("\udcff\udcfe.pdf", page())  # bytes that are no UTF-8
