"""Pure: a statement as rows for the terminal, as plain values for JSON, and as one printable HTML page.

The page is self-contained (no script, no font, no address outside) and speaks Chinese and English side by side,
because payer and holder need not read the same language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from ledger.statements import ChargeLine, Cycle, Statement, date_of, month_text
from meterd.views.money import kwh, yuan

Row = tuple[str, str, str, str]
COLUMNS: Final = ("cycle", "line", "kWh", "yuan")
LABEL: Final[dict[str, tuple[str, str]]] = {
    "opening": ("期初余额", "Opening balance"),
    "energy": ("电费", "Energy"),
    "tier_adder": ("阶梯加价", "Tier surcharge"),
    "rounding": ("尾差", "Rounding"),
    "credit": ("充值", "Credit"),
    "reversal": ("冲正", "Reversal"),
    "adjustment": ("调整", "Adjustment"),
    "closing": ("期末余额", "Closing balance"),
    "standing": ("基本费", "Standing charge"),
    "levy": ("附加费", "Levy"),
    "allowance": ("基本用量优惠", "Allowance"),
    "percent": ("税费与优惠", "Tax or rebate"),
    "minimum": ("最低收费", "Minimum charge"),
    "tiers": ("阶梯结算", "Tiers of the whole bill"),
    "contained": ("其中包含", "Contained in it"),
    "export": ("上网电量", "Fed in"),
}


@dataclass(frozen=True, slots=True)
class Head:
    """Whose statement, and the figures of its moment."""

    account: str
    holder: str
    name: str
    metering_point: str
    tariff: str
    as_of: str
    live_fen: int
    accrued: str  # not posted yet, every digit
    accrued_fen: int  # posted less live: what `balances` shows, so that the page's figures add up
    charges: Mapping[tuple[int, int, int], str] = field(default_factory=dict)  # name by ladder, version and place

    def charge_name(self, line: ChargeLine) -> str:
        """What the tariff's document calls it."""
        if line.component == "tiers":
            return line.component
        return self.charges.get((line.ladder, line.version, line.place), line.component)


def rows(head: Head, shown: Statement) -> list[Row]:
    """One line each: opening, usage by component, charges, rounding, money, closing, for every cycle."""
    out: list[Row] = [] if shown.cycles else [("", "opening", "", yuan(shown.opening_fen))]
    for cycle in shown.cycles:
        month = month_text(cycle.month)
        out.append((month, "opening", "", yuan(cycle.opening_fen)))
        out += [(month, x.component, kwh(x.quantity_wh), yuan(x.amount_fen)) for x in cycle.usage]
        if cycle.estimated_wh:
            out.append((month, "of it estimated", kwh(cycle.estimated_wh), ""))
        for charge in cycle.charges:
            if charge.component == "contained":
                out.append((month, f"{head.charge_name(charge)} {yuan(charge.contained_fen)} contained", "", yuan(0)))
            else:
                out.append((month, head.charge_name(charge), "", yuan(charge.amount_fen)))
        if cycle.rounding_fen:
            out.append((month, "rounding", "", yuan(cycle.rounding_fen)))
        for money in cycle.money:
            told = f"{money.component} {date_of(money.day)} {money.reference}"
            out.append((month, told, "", yuan(money.amount_fen)))
        out.append((month, "closing" if cycle.bill else "so far", "", yuan(cycle.closing_fen)))
    return out


def plain(head: Head, shown: Statement) -> dict[str, Any]:
    """Values for JSON; money as yuan text."""
    return {
        "account": head.account,
        "holder": head.holder,
        "name": head.name,
        "metering_point": head.metering_point,
        "tariff": head.tariff,
        "as_of": head.as_of,
        "opening": yuan(shown.opening_fen),
        "cycles": [_plain_cycle(head, cycle) for cycle in shown.cycles],
        "lines_sum": yuan(shown.lines_fen),
        "posted": yuan(shown.posted_fen),
        "accrued": head.accrued,
        "live": yuan(head.live_fen),
        "agrees": shown.agrees,
    }


def _plain_cycle(head: Head, cycle: Cycle) -> dict[str, Any]:
    return {
        "cycle": month_text(cycle.month),
        "opening": yuan(cycle.opening_fen),
        "usage": [
            {"component": x.component, "kwh": kwh(x.quantity_wh), "amount": yuan(x.amount_fen)} for x in cycle.usage
        ],
        "estimated_kwh": kwh(cycle.estimated_wh),
        "charges": [
            {"component": x.component, "name": head.charge_name(x), "amount": yuan(x.amount_fen)}
            for x in cycle.charges
            if x.component != "contained"
        ],
        "contained": [
            {"name": head.charge_name(x), "amount": yuan(x.contained_fen)}
            for x in cycle.charges
            if x.component == "contained"
        ],
        "rounding": yuan(cycle.rounding_fen),
        "money": [
            {
                "date": str(date_of(x.day)),
                "kind": x.component,
                "reference": x.reference,
                "amount": yuan(x.amount_fen),
            }
            for x in cycle.money
        ],
        "days": [
            {"date": str(date_of(x.day)), "kwh": kwh(x.quantity_wh), "amount": yuan(x.amount_fen)} for x in cycle.days
        ],
        "closing": yuan(cycle.closing_fen),
        "state": "open" if cycle.bill is None else "complete" if cycle.bill.complete else "closed by window",
    }


# -- the page ------------------------------------------------------------------------------------------------
STYLE: Final = """
:root{--ink:#16202b;--soft:#5b6875;--line:#d9dfe5;--tint:#f3f6f8;--blue:#1f5f8b;--red:#a33a2a;--green:#24704a}
*{box-sizing:border-box}
body{margin:0;background:#e9edf0;color:var(--ink);
 font:14px/1.5 "Noto Sans CJK SC","Noto Sans SC","PingFang SC","Microsoft YaHei","Helvetica Neue",Arial,sans-serif}
main{max-width:820px;margin:24px auto;background:#fff;padding:40px 48px;border-top:5px solid var(--blue);
 box-shadow:0 1px 6px rgba(20,40,60,.12)}
header{display:flex;justify-content:space-between;align-items:flex-end;gap:24px;margin-bottom:20px}
h1{font-size:24px;margin:0}h1 small,h2 small,th small,td small,dt small{color:var(--soft);
 font-weight:400;font-size:.8em}
h2{font-size:17px;margin:34px 0 8px;padding-bottom:5px;border-bottom:2px solid var(--ink);display:flex;
 justify-content:space-between}
.state{font-size:12px;font-weight:400;color:var(--soft)}
dl{display:grid;grid-template-columns:max-content 1fr max-content 1fr;gap:4px 16px;margin:0;padding:14px 16px;
 background:var(--tint)}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.sum{display:grid;grid-template-columns:repeat(3,1fr);gap:12px;margin:18px 0 0}
.sum div{border:1px solid var(--line);padding:10px 14px}.sum b{display:block;font-size:21px}
.sum span{color:var(--soft);font-size:12px}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th{font-weight:600;text-align:left;color:var(--soft);font-size:12px;
 border-bottom:1px solid var(--line);padding:4px 8px}
td{padding:5px 8px;border-bottom:1px solid var(--line);vertical-align:top}
.n{text-align:right;white-space:nowrap}tr.edge td{background:var(--tint);font-weight:600}
.plus{color:var(--green)}.minus{color:var(--ink)}.low{color:var(--red)}
figure{margin:12px 0 0}figcaption{color:var(--soft);font-size:12px}svg{width:100%;height:84px;display:block}
footer{margin-top:34px;padding-top:12px;border-top:1px solid var(--line);color:var(--soft);font-size:12px}
.ok{color:var(--green)}.bad{color:var(--red);font-weight:700}
@media (max-width:640px){main{margin:0;padding:20px 16px}header,h2,.state{display:block}
 dl{grid-template-columns:max-content 1fr}.sum{grid-template-columns:1fr}}
@media print{body{background:#fff}main{margin:0;box-shadow:none;max-width:none;padding:0;border:0}
 section{break-inside:avoid}@page{size:A4;margin:16mm}}
"""


def page(head: Head, shown: Statement) -> str:
    """The whole HTML page."""
    title = f"电费账单 {escape(head.account)}"
    parts = [
        f'<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body><main>",
        "<header><h1>电费账单 <small>Electricity statement</small></h1>",
        f'<span class="state">{escape(head.as_of)}</span></header>',
        _facts(head),
        _figures(head, shown),
        *(_section(head, cycle) for cycle in shown.cycles),
        ""
        if shown.cycles
        else f"<table><tbody>{_line('opening', '', '', shown.opening_fen, edge=True)}</tbody></table>",
        _foot(head, shown),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _facts(head: Head) -> str:
    pairs = (
        ("户号", "Account", head.account),
        ("户主", "Holder", f"{head.name} ({head.holder})"),
        ("用电点", "Metering point", head.metering_point),
        ("电价", "Tariff", head.tariff),
    )
    cells = (f"<dt>{zh} <small>{en}</small></dt><dd>{escape(value)}</dd>" for zh, en, value in pairs)
    return "<dl>" + "".join(cells) + "</dl>"


def _figures(head: Head, shown: Statement) -> str:
    low = ' class="low"' if head.live_fen < 0 else ""
    boxes = (
        ("账面余额", "Posted balance", f"<b>¥ {yuan(shown.posted_fen)}</b>"),
        ("未入账用电", "Used, not posted yet", f"<b>¥ {yuan(head.accrued_fen)}</b>"),
        ("实时余额", "Live balance", f"<b{low}>¥ {yuan(head.live_fen)}</b>"),
    )
    return '<div class="sum">' + "".join(f"<div><span>{zh} {en}</span>{b}</div>" for zh, en, b in boxes) + "</div>"


def _section(head: Head, cycle: Cycle) -> str:
    state = ("未结", "open") if cycle.bill is None else ("已结", "closed")
    if cycle.bill is not None and not cycle.bill.complete:
        state = ("已结（缺边界读数）", "closed without the boundary register")
    lines = [
        f"<section><h2><span>{month_text(cycle.month)}</span>",
        f'<span class="state">{state[0]} {state[1]} · {kwh(cycle.quantity_wh)} kWh</span></h2>',
        '<table><thead><tr><th>项目 <small>Line</small></th><th class="n">电量 <small>kWh</small></th>',
        '<th class="n">金额 <small>CNY</small></th></tr></thead><tbody>',
        _line("opening", "", "", cycle.opening_fen, edge=True),
        *(_line(x.component, "", kwh(x.quantity_wh) if x.quantity_wh else "", x.amount_fen) for x in cycle.usage),
        *([_estimated(cycle)] if cycle.estimated_wh else []),
        *(_charged(head.charge_name(x), x) for x in cycle.charges),
        *([_line("rounding", "", "", cycle.rounding_fen)] if cycle.rounding_fen else []),
        *(_line(x.component, f"{date_of(x.day)} {x.reference}", "", x.amount_fen) for x in cycle.money),
        _line("closing", "", "", cycle.closing_fen, edge=True),
        "</tbody></table>",
        _bars(cycle),
        "</section>",
    ]
    return "\n".join(lines)


def _opening(shown: Statement) -> str:
    """What there is before the first cycle: without it the foot would sum lines that nobody sees."""
    return f"<table><tbody>{_line('opening', '', '', shown.opening_fen, edge=True)}</tbody></table>"


def _estimated(cycle: Cycle) -> str:
    why = "缺边界读数，下次实际读数后自动更正 · made good by the next actual register"
    return (
        f"<tr><td>其中估计 <small>of it estimated</small><br><small>{why}</small></td>"
        f'<td class="n">{kwh(cycle.estimated_wh)}</td><td class="n"></td></tr>'
    )


def _charged(name: str, line: ChargeLine) -> str:
    """A charge under the name that the tariff's document gives it."""
    zh, en = LABEL[line.component]
    amount, sign = (line.contained_fen, "") if line.component == "contained" else (line.amount_fen, "minus")
    if line.component != "contained" and line.amount_fen > 0:
        sign = "plus"
    return (
        f"<tr><td>{zh} <small>{en}</small><br><small>{escape(name)}</small></td>"
        f'<td class="n"></td><td class="n {sign}">{yuan(amount)}</td></tr>'
    )


def _line(name: str, more: str, quantity: str, amount_fen: int, *, edge: bool = False) -> str:
    zh, en = LABEL[name]
    note = f"<br><small>{escape(more)}</small>" if more else ""
    sign = "plus" if amount_fen > 0 and not edge else "low" if edge and amount_fen < 0 else "minus"
    return (
        f"<tr{' class=edge' if edge else ''}><td>{zh} <small>{en}</small>{note}</td>"
        f'<td class="n">{quantity}</td><td class="n {sign}">{yuan(amount_fen)}</td></tr>'
    )


def _bars(cycle: Cycle) -> str:
    """Daily energy as bars; integers only, in thousandths of the tallest."""
    if not cycle.days:
        return ""
    first, top = cycle.days[0].day, max(1, *(x.quantity_wh for x in cycle.days))
    width = cycle.days[-1].day - first + 1
    bars = "".join(
        f'<rect x="{(x.day - first) * 10 + 1}" y="{80 - height}" width="8" height="{height}" fill="#1f5f8b">'
        f"<title>{date_of(x.day)}: {kwh(x.quantity_wh)} kWh, {yuan(x.amount_fen)} CNY</title></rect>"
        for x in cycle.days
        for height in [max(1, max(0, x.quantity_wh) * 78 // top)]
    )
    return (
        f'<figure><svg viewBox="0 0 {width * 10} 82" preserveAspectRatio="none" role="img">{bars}'
        f'<line x1="0" y1="80.5" x2="{width * 10}" y2="80.5" stroke="#16202b"/></svg>'
        f"<figcaption>每日用电 Daily use · {date_of(first)} – {date_of(cycle.days[-1].day)} · "
        f"最高 max {kwh(top)} kWh</figcaption></figure>"
    )


def _foot(head: Head, shown: Statement) -> str:
    check = (
        '<span class="ok">✓ 各项之和等于账面余额 · the lines sum to the posted balance</span>'
        if shown.agrees
        else '<span class="bad">✗ 各项之和不等于账面余额 · the lines do not sum to the posted balance</span>'
    )
    return (
        f"<footer>{check}: {yuan(shown.lines_fen)} = {yuan(shown.posted_fen)} CNY.<br>"
        f"逐日逐笔可由 meterd explain {escape(head.account)} DAY 复核。"
        "Every day can be explained to the last fen.</footer>"
    )
