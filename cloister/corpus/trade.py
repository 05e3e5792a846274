"""Invoices and till receipts."""

from datetime import timedelta

from cloister.corpus.canvas import Face
from cloister.corpus.content import Content
from cloister.corpus.letters import letterhead
from cloister.corpus.sheet import Rules, Sheet

# What is sold, and about what it costs in cents.
_GOODS = {
    "Steel bracket, galvanised, 40 mm": 345,
    "Copy paper, 80 g, box of 5 reams": 2890,
    "Hydraulic hose with brass couplings": 6420,
    "Installation labour, per hour": 5800,
    "Oak shelf board, oiled, 120 x 30 cm": 4475,
    "Safety gloves, size 10, pair": 790,
    "Replacement filter cartridge": 1650,
    "LED panel light, 600 x 600 mm": 5230,
    "Annual maintenance of the heating system, including travel": 38900,
    "Toner cartridge, black": 7430,
    "Extension lead, 10 m": 2140,
    "Wall paint, matt white, 10 litres": 5695,
    "Door closer, adjustable": 8250,
    "Calibration of pressure gauges, with certificate": 12700,
    "Cable ties, bag of 100": 460,
    "Swivel chair with armrests": 18900,
}
_GROCERIES = {
    "Wholemeal bread": 285,
    "Butter 250 g": 249,
    "Tomatoes 1 kg": 310,
    "Ground coffee": 645,
    "Orange juice": 219,
    "Cheddar 400 g": 420,
    "Apples 6 pack": 265,
    "Washing powder": 799,
    "Olive oil 500 ml": 875,
    "Eggs, medium": 315,
    "Pasta 500 g": 129,
    "Dark chocolate": 185,
}


def invoice(content: Content, _pages: int) -> tuple[Sheet, dict[str, str]]:
    """Set an invoice: who, when, what, and what it comes to."""
    rng = content.rng
    face = Face(rng.choice(("Helvetica", "Times")), 10)
    sheet = Sheet(content.region.paper)
    sold = content.day()
    about = {
        "Invoice number": content.code("INV-%#####"),
        "Invoice date": content.written(sold),
        "Due date": content.written(sold + timedelta(days=rng.choice((14, 30, 60)))),
        "Customer number": content.code("%####"),
    }
    seller, customer = content.company(), content.company()
    letterhead(sheet, content, seller, face)
    sheet.heading("INVOICE", face.variant("B", 2))
    sheet.y += 4
    _particulars(sheet, content, face, [customer, content.person()], about)
    sheet.y += 8
    total = _items(sheet, content, face)
    sheet.y += 8
    account = content.code("## %### ####")
    sheet.paragraph(f"Please pay to account {account}, quoting the invoice number.", face)
    sheet.paragraph("Goods remain our property until they have been paid for in full.", face)
    return sheet, {"seller": seller, "customer": customer, **about, "Total": total}


def _particulars(
    sheet: Sheet, content: Content, face: Face, customer: list[str], about: dict[str, str]
) -> None:
    """Set the customer, and dates and numbers: beside it, or below it as a small table."""

    def bill_to() -> None:
        span = sheet.full.part(0, 0.48)
        sheet.lines(["Bill to"], face.variant(), span)
        sheet.lines([*customer, *content.address()], face, span)

    if content.rng.choice((True, False)):
        span = sheet.full.part(0.54, 1)
        sheet.beside(bill_to, lambda: sheet.pairs(about.items(), face, span))
    else:
        bill_to()
        sheet.y += 6
        sheet.table([list(about), list(about.values())], (1, 1, 1, 1), face, "grid")


def _items(sheet: Sheet, content: Content, face: Face) -> str:
    """Set the goods and their sums; return the total as printed."""
    rng = content.rng
    rows, net = [["Item", "Description", "Quantity", "Unit price", "Amount"]], 0
    for number, name in enumerate(rng.sample(list(_GOODS), rng.randint(4, 14)), start=1):
        quantity, price = rng.randint(1, 24), _GOODS[name] + rng.randint(0, 99)
        net += quantity * price
        amount = content.money(quantity * price)
        rows.append([str(number), name, str(quantity), content.money(price), amount])
    rules: tuple[Rules, ...] = ("grid", "lines", "zebra", "open")
    sheet.table(rows, (1, 6, -1.7, -2, -2.2), face, rng.choice(rules))
    name, rate = content.region.tax
    tax = round(net * rate / 100)
    sheet.y += 3
    span = sheet.full.part(0.58, 1).inset(0, 1.3)
    sums = [("Subtotal", content.money(net)), (f"{name} {rate}%", content.money(tax))]
    sheet.pairs(sums, face, span)
    sheet.canvas.rule(span, sheet.y + 1)
    sheet.y += 2
    total = content.money(net + tax)
    sheet.pairs([("Total due", total)], face.variant("B", 1.1), span)
    return total


def receipt(content: Content, _pages: int) -> tuple[Sheet, dict[str, str]]:
    """Set a till receipt on an 80 mm roll."""
    rng = content.rng
    face = Face("Courier", 9)
    bought = rng.sample(list(_GROCERIES), rng.randint(3, 10))
    sheet = Sheet((80, 78 + len(bought) * face.line_mm), margin=6)
    shop, day = content.company(), content.day()
    sheet.lines([shop], face.variant("B", 1.2), sheet.full, "C")
    sheet.lines([*content.address(), content.phone()], face, sheet.full, "C")
    sheet.y += face.line_mm
    number, time = content.code("%###"), f"{rng.randint(8, 19):02}:{rng.randint(0, 59):02}"
    about = [("Receipt", number), (f"{day:%d/%m/%Y}", time)]
    sheet.pairs(about, face, sheet.full)
    sheet.canvas.rule(sheet.full, sheet.y + 1.5)
    sheet.y += 3
    items = [(name, _GROCERIES[name] + rng.randint(0, 60)) for name in bought]
    total = sum(cents for _, cents in items)
    sheet.pairs([(name, f"{cents / 100:.2f}") for name, cents in items], face, sheet.full)
    sheet.canvas.rule(sheet.full, sheet.y + 1.5)
    sheet.y += 3
    printed = content.money(total)
    sheet.pairs([("TOTAL", printed)], face.variant("B", 1.2), sheet.full)
    sheet.pairs([("Paid by card", printed)], face, sheet.full)
    sheet.y += face.line_mm
    sheet.lines(["Thank you for your visit"], face, sheet.full, "C")
    fields = {"shop": shop, "Receipt": number, "date": f"{day:%d/%m/%Y}", "Total": printed}
    return sheet, fields
