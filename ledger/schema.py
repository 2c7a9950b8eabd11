"""Pure: the ledger's tables (SQLAlchemy 2 Core), the same on SQLite and PostgreSQL.

Sign convention: a posting is positive when it is in the customer's favour on a customer account, and the
postings of an entry sum to zero. A top-up of 100.00 is `customer` +10000 and `clearing:<gateway>` -10000; a
day's use of 3.21 is `customer` -321 and `revenue:energy` +321. `customer` is a control account: who exactly
stands behind it is in the subsidiary ledger (`subledger`), packed per 1,024 account slots.
Times are UTC seconds, money integers of the minor unit, unless a name says otherwise.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite counts rowids only for INTEGER; PostgreSQL wants BIGINT.
Id: Final = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *parts: SchemaItem) -> Table:
    return Table(name, metadata, *parts)


def _where(name: str, condition: str, *columns: str, unique: bool = False) -> Index:
    """An index of the rows that meet the condition only; a query must say it in these words."""
    return Index(name, *columns, unique=unique, sqlite_where=text(condition), postgresql_where=text(condition))


# -- what the store is ---------------------------------------------------------------------------------------
meta = _table("meta", Column("name", String(40), primary_key=True), Column("value", Text, nullable=False))

owner = _table(  # who may write for a role or partition: a commit under an old epoch writes nothing
    "owner",
    Column("role", String(40), primary_key=True),  # "partition:3", "autopay"
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String(80), nullable=False),
)
switch = _table(  # HOLD and the like, by hand or by restore
    "switch",
    Column("name", String(40), primary_key=True),  # "autopay.hold", LEDGER_RESTORED
    Column("value", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_s", BigInteger, nullable=False),
)

# A switch that stays: this ledger forgot what autopay did after its backup.
LEDGER_RESTORED: Final = "autopay.restored"

# -- state and checkpoints -----------------------------------------------------------------------------------
checkpoint = _table(  # appended, never overwritten: the newest row of a partition is its cursor; old ones are thinned
    "checkpoint",
    Column("id", Id, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("log_id", String(40), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("as_of_s", BigInteger, nullable=False),  # of the last tick or record applied
    Column("engine_version", Integer, nullable=False),
    Column("registry_digest", String(64), nullable=False),
    Column("timeline_digest", String(64), nullable=False),
    Column("counters", Text, nullable=False),  # JSON object of cumulative counters, by name
    Column("slots", Text, nullable=False),  # JSON object: length of every state array, so that none can shrink
    Column("crc", BigInteger, nullable=False),
    Index("ix_checkpoint_partition_id", "partition", "id"),
)
thinned_page = _table(  # of checkpoint rows that went: partition, id and offset of each, in one page a step
    "thinned_page",
    Column("last_id", Id, primary_key=True),  # the highest of them
    Column("count", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # ledger.thinning.Marks
    Column("crc", BigInteger, nullable=False),
)
state_page = _table(  # whole pages of PAGE_SLOTS rows; refreshed lazily
    "state_page",
    Column("partition", Integer, nullable=False),
    Column("array", String(20), nullable=False),
    Column("page", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),  # checkpoint id it is as of
    Column("format", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("crc", BigInteger, nullable=False),
    PrimaryKeyConstraint("partition", "array", "page"),
)
state_delta = _table(  # rows that changed in one checkpoint: int32 slots, then the rows
    "state_delta",
    Column("id", Id, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("array", String(20), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("format", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("crc", BigInteger, nullable=False),
    Index("ix_state_delta_partition_version", "partition", "version"),
)

# -- inbox: whatever else changes state ----------------------------------------------------------------------
inbox = _table(
    "inbox",
    Column("id", Id, primary_key=True),
    Column("partition", Integer),  # NULL: every partition applies it
    Column("kind", String(30), nullable=False),  # credit, reversal, registry, tariff, release, discard, rebaseline
    Column("key", String(120), nullable=False, unique=True),  # idempotency
    Column("body", Text, nullable=False),  # JSON
    Column("created_at_s", BigInteger, nullable=False),
    Column("settled", Integer, nullable=False, server_default=text("0")),  # 1: every partition has applied it
    _where("ix_inbox_open", "settled = 0", "partition", "id"),
)
inbox_applied = _table(
    "inbox_applied",
    Column("inbox_id", Id, ForeignKey("inbox.id"), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),  # applied after this record of the log
    Column("checkpoint_id", BigInteger, nullable=False),  # in this checkpoint: two may stand at one record
    Column("outcome", Text, nullable=False),  # "" or why it changed nothing
    PrimaryKeyConstraint("inbox_id", "partition"),
    Index("ix_inbox_applied_checkpoint_id", "checkpoint_id"),  # which checkpoint rows stay
)

# -- money ---------------------------------------------------------------------------------------------------
entry = _table(
    "entry",
    Column("id", Id, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("kind", String(20), nullable=False),  # opening, usage, estimate, bill, credit, reversal, adjustment
    Column("offset", BigInteger, nullable=False),
    Column("booked_at_s", BigInteger, nullable=False),
    Column("reference", String(120), unique=True),  # the inbox key for credits and the like; NULL for usage
    Column("count", Integer, nullable=False),  # subledger rows
    Index("ix_entry_partition_id", "partition", "id"),
)
posting = _table(
    "posting",
    Column("entry_id", Id, ForeignKey("entry.id"), nullable=False),
    Column("line", Integer, nullable=False),
    Column("account_name", String(60), nullable=False),  # customer, revenue:energy, clearing:<gateway>, rounding ...
    Column("amount_fen", BigInteger, nullable=False),
    PrimaryKeyConstraint("entry_id", "line"),
)
subledger = _table(  # the customers behind an entry's `customer` posting, in pages by account slot
    "subledger",
    Column("partition", Integer, nullable=False),
    Column("page", Integer, nullable=False),
    Column("entry_id", Id, ForeignKey("entry.id"), nullable=False),
    Column("body", LargeBinary, nullable=False),  # ledger.effects.SUBLEDGER rows
    Column("crc", BigInteger, nullable=False),
    PrimaryKeyConstraint("partition", "page", "entry_id"),
)
bill_page = _table(  # one packed row per bill cycle that closed
    "bill_page",
    Column("partition", Integer, nullable=False),
    Column("page", Integer, nullable=False),
    Column("entry_id", Id, ForeignKey("entry.id"), nullable=False),
    Column("body", LargeBinary, nullable=False),  # ledger.effects.BILL rows
    Column("crc", BigInteger, nullable=False),
    PrimaryKeyConstraint("partition", "page", "entry_id"),
)

# -- what rating tells others --------------------------------------------------------------------------------
event = _table(
    "event",
    Column("id", Id, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("kind", String(20), nullable=False),  # low_balance, recovered, alert
    Column("account", String(80), nullable=False),
    Column("arm", BigInteger, nullable=False),
    Column("as_of_s", BigInteger, nullable=False),
    Column("balance_fen", BigInteger, nullable=False),  # live, floored
    Column("decided", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("account", "kind", "arm", "as_of_s"),
    _where("ix_event_open", "decided = 0", "id"),
)
exception = _table(
    "exception",
    Column("id", Id, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),  # digest of what makes the event distinct
    Column("reason", String(30), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("received_at_s", BigInteger, nullable=False),
    Column("source", String(120), nullable=False),
    Column("stream", String(120), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("meter", String(40)),  # decimal text of the address, for readings
    Column("register", String(12)),
    Column("read_at_s", BigInteger),
    Column("value", BigInteger),
    Column("quality", String(1)),
    Column("bytes", LargeBinary, nullable=False),  # the message, or the one reading packed
    Column("note", Text, nullable=False),
    Column("state", String(12), nullable=False, server_default=text("'open'")),  # open, released, discarded
    Column("resolved_at_s", BigInteger),
    Column("resolved_why", Text),
    Column("repeats", Integer, nullable=False, server_default=text("0")),  # the same event, seen again
    Index("ix_exception_reason", "reason", "state"),
)
late_page = _table(  # late readings by channel and day, for the re-rating from the archive
    "late_page",
    Column("id", Id, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # ledger.effects.LATE rows
    Column("crc", BigInteger, nullable=False),
)
archive_file = _table(
    "archive_file",
    Column("partition", Integer, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("path", Text, nullable=False),  # relative to <data>/archive
    Column("digest", String(64), nullable=False),
    Column("day_first", Integer, nullable=False),  # UTC day numbers of the readings inside
    Column("day_last", Integer, nullable=False),
    PrimaryKeyConstraint("partition", "first_offset"),
)
registry_version = _table(
    "registry_version",
    Column("digest", String(64), primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("staged_at_s", BigInteger, nullable=False),
    Column("activated_at_s", BigInteger),
    Column("counts", Text, nullable=False),  # JSON
)

# -- autopay -------------------------------------------------------------------------------------------------
mandate = _table(
    "mandate",
    Column("id", String(80), primary_key=True),
    Column("payer", String(80), nullable=False),  # a party; need not be the holder
    Column("account", String(80), nullable=False),
    Column("gateway", String(40), nullable=False),
    Column("token", String(120), nullable=False),  # what the gateway charges; no card data is ever here
    Column("priority", Integer, nullable=False),
    Column("trigger_fen", BigInteger, nullable=False),
    Column("amount_fen", BigInteger, nullable=False),  # fixed amount; 0 when target_fen rules
    Column("target_fen", BigInteger, nullable=False),  # up to a balance; 0 when amount_fen rules
    Column("cap_charge_fen", BigInteger, nullable=False),
    Column("cap_day_fen", BigInteger, nullable=False),
    Column("cap_month_fen", BigInteger, nullable=False),
    Column("cap_day_count", Integer, nullable=False),
    Column("cooldown_s", Integer, nullable=False),
    Column("window_from", String(5), nullable=False),  # local "07:00"; equal to window_to: always
    Column("window_to", String(5), nullable=False),
    Column("valid_from_s", BigInteger, nullable=False),
    Column("valid_until_s", BigInteger, nullable=False),
    Column("cancelled_at_s", BigInteger),
    Column("changed_at_s", BigInteger, nullable=False, server_default=text("0")),  # declines before it do not count
    Index("ix_mandate_account", "account", "priority"),
)
decision = _table(  # stored, never re-derived: also why not
    "decision",
    Column("id", Id, primary_key=True),
    Column("event_id", Id, ForeignKey("event.id"), nullable=False),
    Column("account", String(80), nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("outcome", String(20), nullable=False),  # order, wait, refuse
    Column("reason", String(60), nullable=False),
    Column("mandate", String(80)),
    Column("order_id", Id),
    Column("retry_at_s", BigInteger),  # for wait
    Column("detail", Text, nullable=False),  # JSON: the figures it was made on
    Index("ix_decision_account", "account", "id"),
    Index("ix_decision_event", "event_id", "id"),
)
wait = _table(  # the work list: low balances without an order or an end, and when each is looked at next
    "autopay_wait",
    Column("event_id", Id, ForeignKey("event.id"), primary_key=True),
    Column("account", String(80), nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("reason", String(60), nullable=False),  # of the newest decision
    Index("ix_autopay_wait_at", "at_s"),
    Index("ix_autopay_wait_account", "account"),
)
IN_FLIGHT: Final = ("created", "submitted", "unknown", "succeeded", "succeeded_late")
# A late success is written beside a newer attempt that may be out already, so the index leaves it to the policy.
_IN_FLIGHT_SQL: Final = "state IN (" + ", ".join(f"'{s}'" for s in IN_FLIGHT if s != "succeeded_late") + ")"
order = _table(
    "order_",
    Column("id", Id, primary_key=True),
    Column("account", String(80), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("event_id", Id, ForeignKey("event.id"), nullable=False),
    Column("arm", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("mandate", String(80), ForeignKey("mandate.id"), nullable=False),
    Column("payer", String(80), nullable=False),
    Column("gateway", String(40), nullable=False),
    Column("key", String(120), nullable=False, unique=True),  # f(account, arm, attempt)
    Column("amount_fen", BigInteger, nullable=False),
    Column("state", String(20), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("submitted_at_s", BigInteger),
    Column("next_action_at_s", BigInteger),
    Column("asks", Integer, nullable=False, server_default=text("0")),
    Column("gateway_txn", String(120)),
    Column("reason", String(120), nullable=False, server_default=text("''")),
    Column("epoch", BigInteger, nullable=False),
    Column("caps_at_s", BigInteger),  # on whose local day and month it is counted; NULL: of created_at_s
    UniqueConstraint("account", "arm", "attempt"),
    UniqueConstraint("gateway", "gateway_txn"),
    CheckConstraint("amount_fen > 0", name="amount"),
    _where("uq_order_in_flight", _IN_FLIGHT_SQL, "account", unique=True),
    Index("ix_order_state", "state", "next_action_at_s"),
)
order_step = _table(  # every transition, append-only; the first of an order comes from ""
    "order_step",
    Column("id", Id, primary_key=True),
    Column("order_id", Id, ForeignKey("order_.id"), nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("from_state", String(20), nullable=False),
    Column("to_state", String(20), nullable=False),
    Column("evidence", Text, nullable=False),
    Index("ix_order_step_order", "order_id", "id"),
)
cap_use = _table(  # reserved by conditional update in the transaction that creates the order
    "cap_use",
    Column("scope", String(120), nullable=False),  # "payer:P:day:2026-07-01", "mandate:M:month:2026-07"
    Column("amount_fen", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    PrimaryKeyConstraint("scope"),
)
webhook = _table(  # every webhook that was authentic, once; it only ever moves an order
    "webhook",
    Column("gateway", String(40), nullable=False),
    Column("event", String(120), nullable=False),
    Column("received_at_s", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    PrimaryKeyConstraint("gateway", "event"),
)

# -- notices -------------------------------------------------------------------------------------------------
notice = _table(
    "notice",
    Column("id", Id, primary_key=True),
    Column("key", String(160), nullable=False, unique=True),
    Column("template", String(30), nullable=False),  # low_balance, charged, charge_failed, credited
    Column("party", String(80), nullable=False),  # "" = the account's holder at dispatch
    Column("account", String(80), nullable=False),
    Column("params", Text, nullable=False),  # JSON
    Column("created_at_s", BigInteger, nullable=False),
    Column("state", String(12), nullable=False, server_default=text("'pending'")),  # pending, sent, failed
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at_s", BigInteger, nullable=False),
    Column("sent_at_s", BigInteger),
    Column("error", Text, nullable=False, server_default=text("''")),
    Column("deliveries", Integer),  # to how many addresses it goes; NULL: not fanned out yet
    # Alerts come by the hundred thousand at a midnight: what is about money is found without looking at them.
    _where("ix_notice_fresh_money", "state = 'pending' AND deliveries IS NULL AND template <> 'low_balance'", "id"),
    _where("ix_notice_fresh_bulk", "state = 'pending' AND deliveries IS NULL AND template = 'low_balance'", "id"),
    _where("ix_notice_bulk", "state = 'pending' AND template = 'low_balance'", "account"),
)
notice_delivery = _table(  # one notice to one address, marked as soon as it is out
    "notice_delivery",
    Column("notice_id", Id, ForeignKey("notice.id"), nullable=False),
    Column("lane", String(60), nullable=False),
    Column("state", String(12), nullable=False, server_default=text("'pending'")),  # pending, sent, failed
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at_s", BigInteger, nullable=False),
    Column("sent_at_s", BigInteger),
    Column("error", Text, nullable=False, server_default=text("''")),
    Column("rank", Integer, nullable=False, server_default=text("0")),  # 0 goes before 1: autopay/deliveries.py
    PrimaryKeyConstraint("notice_id", "lane"),
    _where("ix_notice_delivery_open", "state = 'pending'", "lane", "rank", "attempts", "notice_id"),
)
notice_lane = _table(  # an address: channel and digest of its URL, and when it is looked at next
    "notice_lane",
    Column("lane", String(60), primary_key=True),
    Column("channel", String(20), nullable=False),
    Column("next_at_s", BigInteger),  # NULL: nothing is left to send
    Column("failures", Integer, nullable=False, server_default=text("0")),  # in a row: autopay/deliveries.py
    Column("rank", Integer, nullable=False, server_default=text("1")),  # the lowest of what is open in it
    Column("rests_until_s", BigInteger, nullable=False, server_default=text("0")),  # it failed: nothing before
    Index("ix_notice_lane_due", "channel", "rank", "next_at_s"),
)
