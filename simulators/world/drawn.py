"""I/O (a generator that is passed in): tariffs drawn from the language, on top of one that is shipped.

Charges, other tiers, other roundings: some of the cities bill under them, so that every rule of the world, kills and
replays among them, holds for bills that are not linear in energy. The figures are small, so that prepaid homes live
on. (No `quantity_step`: the truth books compare what was used with what was billed to the Wh, and there the rest of a
unit stays in the register.)
"""

from __future__ import annotations

from random import Random
from typing import Final

_KINDS: Final = ("standing", "levy", "credit", "percent", "minimum")
_MODES: Final = ("half_up", "half_even", "down", "up", "floor", "ceiling")


def drawn(text: str, draw: Random) -> str:
    """A tariff file with other words of a close, and charges of its own in each version."""
    head, *versions = text.split("[[version]]")
    if draw.random() < 0.4:
        word = draw.choice(("slab", "proportional", "per_period"))
        old = "block" if word == "slab" else "chronological"
        head = head.replace(f'"{old}"', f'"{word}"').replace('"carry_over"', '"start_anew"')
    if draw.random() < 0.4:
        head = head.replace('level = "bill"', 'level = "line"')
    return head + "".join(f"[[version]]{version.rstrip()}\n{_charges(draw)}\n" for version in versions)


def _charges(draw: Random) -> str:
    names, text = ["energy"], ""
    for place in range(draw.randrange(1, 5)):
        kind = draw.choice(_KINDS)
        name = f"{kind}-{place}"
        contained = kind == "percent" and draw.random() < 0.3
        text += f'\n[[version.charge]]\nname = "{name}"\nkind = "{kind}"\n{_figures(kind, contained, draw, names)}'
        if not contained:
            names.append(name)
    return text


def _figures(kind: str, contained: bool, draw: Random, names: list[str]) -> str:
    step = f'step = "{draw.choice(("0.01", "0.05", "0.001"))}"\nmode = "{draw.choice(_MODES)}"\n'
    base = sorted(draw.sample(names, draw.randrange(1, len(names) + 1)))
    on = "base = [" + ", ".join(f'"{name}"' for name in base) + "]\n"
    match kind:
        case "levy":
            return f'price = "{_decimal(draw.randrange(-300, 900))}"\n'
        case "credit":
            months = ", ".join(map(str, range(1, 7))), ", ".join(map(str, range(7, 13)))
            allowance = ", ".join(f'{{ months = [{those}], upto = "{draw.randrange(0, 9)}" }}' for those in months)
            return (
                f'price = "{_decimal(draw.randrange(0, 900))}"\n'
                f'parts = "{draw.choice(("pooled", "each"))}"\nallowance = [{allowance}]\n'
            )
        case "percent":
            rate = draw.randrange(1, 20) if contained else draw.randrange(-25, 20)
            return f'rate = "{rate}"\nincluded = {str(contained).lower()}\n{on}{step}'
    per = draw.choice(("day", "month"))
    amount = _decimal(draw.randrange(0, 6_000) if per == "day" else draw.randrange(0, 180_000))
    return (
        f'amount = "{amount}"\nper = "{per}"\n' + (on if kind == "minimum" else "") + (step if per == "month" else "")
    )


def _decimal(ten_thousandths: int) -> str:
    sign = "-" if ten_thousandths < 0 else ""
    whole, rest = divmod(abs(ten_thousandths), 10_000)
    return f"{sign}{whole}.{rest:04}"
