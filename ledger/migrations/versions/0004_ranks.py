"""Notices about money go before alerts. What was on its way before keeps its order, and goes first."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FRESH = "state = 'pending' AND deliveries IS NULL AND template "


def _index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    op.add_column("notice_delivery", sa.Column("rank", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.drop_index("ix_notice_delivery_open", "notice_delivery")
    _index("ix_notice_delivery_open", "notice_delivery", ["lane", "rank", "notice_id"], "state = 'pending'")
    op.drop_index("ix_notice_fresh", "notice")
    _index("ix_notice_fresh_money", "notice", ["id"], _FRESH + "<> 'low_balance'")
    _index("ix_notice_fresh_bulk", "notice", ["id"], _FRESH + "= 'low_balance'")
    _index("ix_notice_bulk", "notice", ["account"], "state = 'pending' AND template = 'low_balance'")
