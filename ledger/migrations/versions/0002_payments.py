"""Payments: the work list of waits, when a mandate was changed, on which day an order is counted; deliveries of notices."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mandate", sa.Column("changed_at_s", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("order_", sa.Column("caps_at_s", sa.BigInteger(), nullable=True))
    op.create_table('autopay_wait',
    sa.Column('event_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('account', sa.String(length=80), nullable=False),
    sa.Column('at_s', sa.BigInteger(), nullable=False),
    sa.Column('reason', sa.String(length=60), nullable=False),
    sa.ForeignKeyConstraint(['event_id'], ['event.id'], name=op.f('fk_autopay_wait_event_id')),
    sa.PrimaryKeyConstraint('event_id', name=op.f('pk_autopay_wait'))
    )
    op.create_index('ix_autopay_wait_account', 'autopay_wait', ['account'], unique=False)
    op.create_index('ix_autopay_wait_at', 'autopay_wait', ['at_s'], unique=False)
    # Waits, and what used to be refused for ever: looked at again by the next pass.
    op.execute(
        "INSERT INTO autopay_wait (event_id, account, at_s, reason) SELECT event_id, account, 0, reason FROM decision"
        " WHERE id IN (SELECT max(id) FROM decision GROUP BY event_id) AND (outcome = 'wait' OR (outcome = 'refuse'"
        " AND reason IN ('nobody_can_pay', 'no_mandate', 'disabled')))"
    )
    op.add_column("notice", sa.Column("deliveries", sa.Integer(), nullable=True))
    op.drop_index("ix_notice_due", "notice")
    op.create_index('ix_notice_fresh', 'notice', ['id'], unique=False, sqlite_where=sa.text("state = 'pending' AND deliveries IS NULL"), postgresql_where=sa.text("state = 'pending' AND deliveries IS NULL"))
    op.create_table('notice_delivery',
    sa.Column('notice_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('lane', sa.String(length=60), nullable=False),
    sa.Column('state', sa.String(length=12), server_default=sa.text("'pending'"), nullable=False),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('next_at_s', sa.BigInteger(), nullable=False),
    sa.Column('sent_at_s', sa.BigInteger(), nullable=True),
    sa.Column('error', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.ForeignKeyConstraint(['notice_id'], ['notice.id'], name=op.f('fk_notice_delivery_notice_id')),
    sa.PrimaryKeyConstraint('notice_id', 'lane', name=op.f('pk_notice_delivery'))
    )
    op.create_index('ix_notice_delivery_open', 'notice_delivery', ['lane', 'notice_id'], unique=False, sqlite_where=sa.text("state = 'pending'"), postgresql_where=sa.text("state = 'pending'"))
    op.create_table('notice_lane',
    sa.Column('lane', sa.String(length=60), nullable=False),
    sa.Column('channel', sa.String(length=20), nullable=False),
    sa.Column('next_at_s', sa.BigInteger(), nullable=True),
    sa.Column('failures', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.PrimaryKeyConstraint('lane', name=op.f('pk_notice_lane'))
    )
    op.create_index('ix_notice_lane_due', 'notice_lane', ['channel', 'next_at_s'], unique=False)
