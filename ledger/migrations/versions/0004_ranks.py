"""Notices about money go before alerts, also those that were on their way before."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FRESH = "state = 'pending' AND deliveries IS NULL AND template "
# An alert that a later notice about its account follows keeps that one's rank, as at the fan-out.
_BULK = """
UPDATE notice_delivery SET rank = 1 WHERE state = 'pending' AND notice_id IN (
    SELECT alert.id FROM notice AS alert LEFT JOIN (
        SELECT account, max(id) AS id FROM notice WHERE state = 'pending' AND template <> 'low_balance' GROUP BY account
    ) AS newest ON newest.account = alert.account
    WHERE alert.state = 'pending' AND alert.template = 'low_balance' AND (newest.id IS NULL OR newest.id < alert.id)
)"""
_MONEY_LANES = """
UPDATE notice_lane SET rank = 0
WHERE lane IN (SELECT lane FROM notice_delivery WHERE state = 'pending' AND rank = 0)"""
_RESTS = "UPDATE notice_lane SET rests_until_s = next_at_s WHERE failures > 0 AND next_at_s IS NOT NULL"


def _index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    op.add_column("notice_delivery", sa.Column("rank", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("notice_lane", sa.Column("rank", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column(
        "notice_lane", sa.Column("rests_until_s", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.drop_index("ix_notice_delivery_open", "notice_delivery")
    op.drop_index("ix_notice_lane_due", "notice_lane")
    for change in (_BULK, _MONEY_LANES, _RESTS):
        op.execute(change)
    open_columns = ["lane", "rank", "attempts", "notice_id"]
    _index("ix_notice_delivery_open", "notice_delivery", open_columns, "state = 'pending'")
    op.create_index("ix_notice_lane_due", "notice_lane", ["channel", "rank", "next_at_s"], unique=False)
    op.drop_index("ix_notice_fresh", "notice")
    _index("ix_notice_fresh_money", "notice", ["id"], _FRESH + "<> 'low_balance'")
    _index("ix_notice_fresh_bulk", "notice", ["id"], _FRESH + "= 'low_balance'")
    _index("ix_notice_bulk", "notice", ["account"], "state = 'pending' AND template = 'low_balance'")
