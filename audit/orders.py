"""Pure: orders against the credits that were applied, and the gateway's own book against both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from audit.compare import Difference

_PAID: Final = frozenset({"succeeded", "succeeded_late", "credited"})
# What a gateway's book may call a charge that took money; a book without such a column holds only those.
_CHARGED: Final = frozenset({"succeeded", "success", "charged", "paid", "captured"})


def orders(rows: Iterable[Mapping[str, Any]], applied_credits: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """A credited order has one applied credit of its amount, a credit of an order belongs to a paid one."""
    known = {int(row["id"]): row for row in rows}
    applied: dict[int, list[int]] = defaultdict(list)
    for body in applied_credits:
        applied[int(body["order_id"])].append(int(body["amount_fen"]))
    out: list[Difference] = []
    for number, order in sorted(known.items()):
        got = applied.get(number, [])
        wanted = [int(order["amount_fen"])] if order["state"] == "credited" else []
        if got != wanted and not (order["state"] in _PAID and got == [int(order["amount_fen"])]):
            note = f"order {order['key']} is {order['state']}, {len(got)} credits"
            out.append(Difference(str(order["account"]), "", "credit", sum(wanted), sum(got), note))
    return out + [
        Difference("", "", "credit", 0, sum(applied[number]), f"credit of order {number}, which is not there")
        for number in sorted(applied.keys() - known.keys())
    ]


def gateway(
    charges: Iterable[Mapping[str, Any]],
    rows: Iterable[Mapping[str, Any]],
    applied_credits: Iterable[Mapping[str, Any]],
) -> list[Difference]:
    """The gateway's book against orders and credits: nobody charged twice, nobody charged and not credited."""
    by_key = {str(row["key"]): row for row in rows}
    credited = Counter(int(body["order_id"]) for body in applied_credits)
    charged: dict[str, list[int]] = defaultdict(list)
    arms: dict[tuple[str, int], list[str]] = defaultdict(list)
    for charge in charges:
        if took_money(charge):
            charged[str(charge["key"])].append(int(charge["amount_fen"]))
    out: list[Difference] = []
    for key, taken in sorted(charged.items()):
        order = by_key.get(key)
        if order is None:
            out.append(Difference("", "", "gateway", 0, sum(taken), f"charge {key} has no order"))
            continue
        account, amount = str(order["account"]), int(order["amount_fen"])
        arms[account, int(order["arm"])].append(key)
        if len(taken) > 1:
            out.append(Difference(account, "", "gateway", amount, sum(taken), f"{key} charged {len(taken)} times"))
        elif taken != [amount]:
            out.append(Difference(account, "", "gateway", amount, taken[0], f"{key} charged another amount"))
        if order["state"] not in _PAID:
            out.append(
                Difference(account, "", "gateway", 0, taken[0], f"{key} charged, its order is {order['state']}")
            )
        elif not credited[int(order["id"])]:
            out.append(Difference(account, "", "credit", amount, 0, f"{key} charged, no credit was applied"))
    for (account, arm), keys in sorted(arms.items()):
        if len(keys) > 1:
            taken_fen = sum(sum(charged[key]) for key in keys)
            first = sum(charged[keys[0]])
            note = f"charged twice for low balance {arm}: {', '.join(keys)}"
            out.append(Difference(account, "", "gateway", first, taken_fen, note))
    for key, order in sorted(by_key.items()):
        if order["state"] in _PAID and key not in charged:
            note = f"order {key} is {order['state']}, the gateway never charged it"
            out.append(Difference(str(order["account"]), "", "gateway", int(order["amount_fen"]), 0, note))
    return out


def took_money(charge: Mapping[str, Any]) -> bool:
    """Whether a row of a gateway's book is a charge that succeeded."""
    for column in ("state", "status", "outcome"):
        if column in charge:
            return str(charge[column]).lower() in _CHARGED
    return True
