"""Payments: the work list of waits, when a mandate was changed, on which day an order is counted."""

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
