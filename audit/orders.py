"""Pure: orders against the credits that were applied, their own steps, the caps, and the gateway's own book."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from audit.compare import Difference

_PAID: Final = frozenset({"succeeded", "succeeded_late", "credited"})
_ENDED: Final = frozenset({"declined", "cancelled", "credited"})
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
    waiting: frozenset[int] = frozenset(),
    refused: Collection[int] = (),
) -> list[Difference]:
    """The gateway's book against orders and credits: nobody charged twice, nobody charged and not credited.

    `waiting`: orders whose credit is in the inbox and not applied yet; rating applies it next. `refused`: orders that
    the gateway declined in so many words: when it charges them after all, that is its own second charge for one low
    balance (`charged_after_refusal` in the counts). It is credited, and a person was told; nobody here can undo it.
    """
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
        if int(order["id"]) not in refused:
            arms[account, int(order["arm"])].append(key)
        if len(taken) > 1:
            out.append(Difference(account, "", "gateway", amount, sum(taken), f"{key} charged {len(taken)} times"))
        elif taken != [amount]:
            out.append(Difference(account, "", "gateway", amount, taken[0], f"{key} charged another amount"))
        if order["state"] not in _PAID:
            out.append(
                Difference(account, "", "gateway", 0, taken[0], f"{key} charged, its order is {order['state']}")
            )
        elif not credited[int(order["id"])] and int(order["id"]) not in waiting:
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


def refused_by_gateway(moves: Iterable[Mapping[str, Any]]) -> set[int]:
    """Orders that the gateway itself declined, by the evidence that is kept with the step."""
    return {
        int(move["order_id"])
        for move in moves
        if move["to_state"] == "declined" and json.loads(move["evidence"]).get("kind") == "declined"
    }


def took_money(charge: Mapping[str, Any]) -> bool:
    """Whether a row of a gateway's book is a charge that succeeded."""
    for column in ("state", "status", "outcome"):
        if column in charge:
            return str(charge[column]).lower() in _CHARGED
    return True


def steps(rows: Iterable[Mapping[str, Any]], moves: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """Every order's steps begin with "", lead from one to the next, and end where the order is."""
    told: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for move in moves:
        told[int(move["order_id"])].append((str(move["from_state"]), str(move["to_state"])))
    out = []
    for order in rows:
        path = told[int(order["id"])]
        before = [to for _, to in path]
        broken = sum(start != end for (start, _), end in zip(path, ["", *before], strict=False))
        if broken or not path or before[-1] != order["state"]:
            note = f"order {order['key']} is {order['state']}, its steps: {', '.join(before)}"
            out.append(Difference(str(order["account"]), "", "order", 0, 1, note))
    return out


def in_flight(rows: Iterable[Mapping[str, Any]], moves: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """At most one order of an account is under way: the next begins when the one before is credited or declined.

    `moves` in the order in which they were written, which no clock decides; the first of each order comes from "".
    A late success is not under way again: it comes beside a newer attempt, and is credited whatever that does. Nor is
    an order that a gateway's book brought back after a restore, which begins as cancelled.
    """
    known = {int(row["id"]): (str(row["account"]), str(row["key"])) for row in rows}
    under_way: dict[str, int] = {}
    out = []
    for move in moves:
        number = int(move["order_id"])
        if number not in known:
            continue
        account, key = known[number]
        if not move["from_state"] and move["to_state"] not in _ENDED:
            before = under_way.get(account)
            if before is not None:
                note = f"order {key} began while {known[before][1]} was under way"
                out.append(Difference(account, "", "order", 1, 2, note))
            under_way[account] = number
        if move["to_state"] in _ENDED and under_way.get(account) == number:
            del under_way[account]
    return out


def caps(
    rows: Iterable[Mapping[str, Any]],
    moves: Iterable[Mapping[str, Any]],
    used: Mapping[str, tuple[int, int]],
    mandates: Mapping[str, Mapping[str, Any]],
    since_s: int,
    zone: ZoneInfo,
) -> list[Difference]:
    """What orders hold of each cap is what the counters say, and within the mandates.

    An order holds its amount from its creation on, unless it was declined or cancelled, on the local day and in the
    month of `caps_at_s`, when it was last submitted (of its creation before that). A mandate's caps may have been
    others before `since_s`, when the registry version that rules now came; a late success is beyond them.
    """
    held: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    bound: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])  # fen and count within the caps, newest order
    late = {int(move["order_id"]) for move in moves if move["to_state"] == "succeeded_late"}
    out = []
    for order in rows:
        if order["state"] in ("declined", "cancelled"):
            continue
        amount, began_s = int(order["amount_fen"]), int(order["created_at_s"])
        at = datetime.fromtimestamp(int(order.get("caps_at_s") or began_s), UTC).astimezone(zone)
        for who in (f"payer:{order['payer']}", f"mandate:{order['mandate']}"):
            for period in (f"day:{at:%Y-%m-%d}", f"month:{at:%Y-%m}"):
                scope = f"{who}:{period}"
                held[scope][0] += amount
                held[scope][1] += 1
                if int(order["id"]) not in late:
                    bound[scope] = [bound[scope][0] + amount, bound[scope][1] + 1, max(bound[scope][2], began_s)]
        cap = int(mandates.get(str(order["mandate"]), {}).get("cap_charge_fen", 0))
        if 0 < cap < amount and began_s > since_s and int(order["id"]) not in late:
            note = f"order {order['key']}: more than a charge of {order['mandate']} may be"
            out.append(Difference(str(order["account"]), "", "cap", cap, amount, note))
    for scope in sorted(held.keys() | used.keys()):
        wanted, found = held.get(scope, [0, 0]), used.get(scope, (0, 0))
        if wanted[0] != found[0] or wanted[1] != found[1]:
            note = f"{scope}: {wanted[1]} orders hold it, {found[1]} are counted"
            out.append(Difference("", "", "cap_use", wanted[0], found[0], note))
    for scope, (amount, count, newest_s) in sorted(bound.items()):
        who, name, period, _ = (*scope.split(":", 1)[:1], *scope.split(":", 1)[1].rsplit(":", 2))
        if who != "mandate" or newest_s <= since_s or name not in mandates:
            continue
        cap, times = int(mandates[name][f"cap_{period}_fen"]), int(mandates[name]["cap_day_count"])
        if 0 < cap < amount:
            out.append(Difference("", "", "cap", cap, amount, scope))
        if period == "day" and 0 < times < count:
            out.append(Difference("", "", "cap_count", times, count, scope))
    return out


def alerts(untold: Iterable[str], events: int, notices: int) -> list[Difference]:
    """Each alert is told once: under its own key, and nothing else is told. Keys are unique in the ledger."""
    out = [Difference("", "", "notice", 1, 0, key) for key in sorted(untold)]
    if notices != events - len(out):
        out.append(Difference("", "", "notice", events - len(out), notices, "notices of alerts that there were"))
    return out
