"""Checkpoint rows are thinned: what is left of those that went, and by which index the ones are found that stay."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('thinned_page',
    sa.Column('last_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('crc', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('last_id', name=op.f('pk_thinned_page'))
    )
    op.create_index('ix_inbox_applied_checkpoint_id', 'inbox_applied', ['checkpoint_id'], unique=False)
