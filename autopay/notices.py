"""Pure: what people are told, in Chinese and English, and what each text may hold.

A text is made only from the fields that `FIELDS` names for its template. None of them is a load, a reading or a
register: the payer of somebody else's meter sees amounts and never how that person lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "low_balance": ("balance_fen",),  # only ever to the holder
    "charged": ("amount_fen",),
    "charge_failed": ("amount_fen", "code"),  # to the payer
    "nothing_came": (),  # to the holder: neither what was asked for nor why the payer's bank said no
    "credited": ("amount_fen",),
    "reversed": ("amount_fen",),
    "person": ("order_id", "amount_fen", "gateway", "why"),  # to the operators
}
TEXTS: Final[dict[str, dict[str, str]]] = {
    "zh": {
        "low_balance": "电表账户余额仅剩{balance}元，请及时缴费（账户{account}）",
        "charged": "电表账户余额不足，已自动缴费{amount}元（账户{account}）",
        "charge_failed": "电表账户余额不足，自动缴费{amount}元未成功：{code}（账户{account}）",
        "nothing_came": "电表账户余额不足，自动缴费未成功，目前没有款项到账。"
        "如不久后仍未收到缴费通知，请自行缴费（账户{account}）",
        "credited": "电表账户缴费{amount}元已到账（账户{account}）",
        "reversed": "电表账户一笔{amount}元的缴费已撤销（账户{account}）",
        "person": "订单{order_id}需要人工处理：{why}（{gateway}，{amount}元，账户{account}）",
    },
    "en": {
        "low_balance": "The meter account is down to {balance} yuan, please top up (account {account})",
        "charged": "The meter account ran low and was topped up automatically with {amount} yuan (account {account})",
        "charge_failed": "The meter account ran low; the automatic top-up of {amount} yuan failed: {code} "
        "(account {account})",
        "nothing_came": "The meter account ran low and the automatic top-up did not go through: "
        "nothing has come in so far. If you are not told of a payment soon, please top up yourself "
        "(account {account})",
        "credited": "A top-up of {amount} yuan has reached the meter account (account {account})",
        "reversed": "A top-up of {amount} yuan of the meter account was reversed (account {account})",
        "person": "Order {order_id} needs a person: {why} ({gateway}, {amount} yuan, account {account})",
    },
}
DECLINE_TEXT: Final[dict[str, dict[str, str]]] = {
    "zh": {
        "insufficient_funds": "余额不足",
        "card_closed": "支付账户已注销",
        "mandate_revoked": "授权已撤销",
        "token_unknown": "支付授权无效",
        "not_found": "未扣款",
        "not_charged": "未扣款",
    },
    "en": {
        "insufficient_funds": "insufficient funds",
        "card_closed": "card closed",
        "mandate_revoked": "revoked",
        "token_unknown": "the payment authorisation is not known",
        "not_found": "nothing was charged",
        "not_charged": "nothing was charged",
    },
}


@dataclass(frozen=True, slots=True)
class Party:
    """Whom a message goes to: an id, a name, "zh" or "en", and an apprise URL of their own, if any."""

    id: str
    name: str
    language: str
    notify: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One text to one party; `key` makes it once."""

    key: str
    template: str
    party: Party
    account: str
    text: str
    created_at_s: int


class NoSuchTemplate(ValueError):
    """A notice that no template exists for: it fails for good."""


def yuan(amount_fen: int) -> str:
    """10000 -> "100", 10050 -> "100.50", -5 -> "-0.05"."""
    whole, fen = divmod(abs(amount_fen), 100)
    sign = "-" if amount_fen < 0 else ""
    return f"{sign}{whole}" if fen == 0 else f"{sign}{whole}.{fen:02d}"


def render(template: str, language: str, account: str, params: Mapping[str, Any]) -> str:
    """The text; fields that the template does not name are not looked at. Raises NoSuchTemplate."""
    if template == "credited" and params.get("kind") == "reversal":
        template = "reversed"
    texts = TEXTS.get(language, TEXTS["zh"])
    if template not in texts:
        raise NoSuchTemplate(f"no template {template!r}")
    seen = {name: params.get(name, "") for name in FIELDS[template]}
    values = {name: str(value) for name, value in seen.items()} | {"account": account}
    for name, short in (("amount_fen", "amount"), ("balance_fen", "balance")):
        if name in seen:
            values[short] = yuan(int(seen[name]))
    if "code" in values:
        known = DECLINE_TEXT.get(language, DECLINE_TEXT["zh"])
        values["code"] = known.get(values["code"], values["code"])
    return texts[template].format(**values)
