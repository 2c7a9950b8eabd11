"""The first schema: as ledger/schema.py stands at 0.1.0; a test compares the two."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('archive_file',
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('first_offset', sa.BigInteger(), nullable=False),
    sa.Column('last_offset', sa.BigInteger(), nullable=False),
    sa.Column('path', sa.Text(), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('day_first', sa.Integer(), nullable=False),
    sa.Column('day_last', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('partition', 'first_offset', name=op.f('pk_archive_file'))
    )
    op.create_table('cap_use',
    sa.Column('scope', sa.String(length=120), nullable=False),
    sa.Column('amount_fen', sa.BigInteger(), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('scope', name=op.f('pk_cap_use'))
    )
    op.create_table('checkpoint',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('log_id', sa.String(length=40), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('as_of_s', sa.BigInteger(), nullable=False),
    sa.Column('engine_version', sa.Integer(), nullable=False),
    sa.Column('registry_digest', sa.String(length=64), nullable=False),
    sa.Column('timeline_digest', sa.String(length=64), nullable=False),
    sa.Column('counters', sa.Text(), nullable=False),
    sa.Column('slots', sa.Text(), nullable=False),
    sa.Column('crc', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_checkpoint'))
    )
    op.create_index('ix_checkpoint_partition_id', 'checkpoint', ['partition', 'id'], unique=False)
    op.create_table('entry',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('booked_at_s', sa.BigInteger(), nullable=False),
    sa.Column('reference', sa.String(length=120), nullable=True),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_entry')),
    sa.UniqueConstraint('reference', name=op.f('uq_entry_reference'))
    )
    op.create_index('ix_entry_partition_id', 'entry', ['partition', 'id'], unique=False)
    op.create_table('event',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('kind', sa.String(length=20), nullable=False),
    sa.Column('account', sa.String(length=80), nullable=False),
    sa.Column('arm', sa.BigInteger(), nullable=False),
    sa.Column('as_of_s', sa.BigInteger(), nullable=False),
    sa.Column('balance_fen', sa.BigInteger(), nullable=False),
    sa.Column('decided', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_event')),
    sa.UniqueConstraint('account', 'kind', 'arm', 'as_of_s', name=op.f('uq_event_account_kind_arm_as_of_s'))
    )
    op.create_index('ix_event_open', 'event', ['id'], unique=False, sqlite_where=sa.text('decided = 0'), postgresql_where=sa.text('decided = 0'))
    op.create_table('exception',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('key', sa.String(length=64), nullable=False),
    sa.Column('reason', sa.String(length=30), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('received_at_s', sa.BigInteger(), nullable=False),
    sa.Column('source', sa.String(length=120), nullable=False),
    sa.Column('stream', sa.String(length=120), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('meter', sa.String(length=40), nullable=True),
    sa.Column('register', sa.String(length=12), nullable=True),
    sa.Column('read_at_s', sa.BigInteger(), nullable=True),
    sa.Column('value', sa.BigInteger(), nullable=True),
    sa.Column('quality', sa.String(length=1), nullable=True),
    sa.Column('bytes', sa.LargeBinary(), nullable=False),
    sa.Column('note', sa.Text(), nullable=False),
    sa.Column('state', sa.String(length=12), server_default=sa.text("'open'"), nullable=False),
    sa.Column('resolved_at_s', sa.BigInteger(), nullable=True),
    sa.Column('resolved_why', sa.Text(), nullable=True),
    sa.Column('repeats', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_exception')),
    sa.UniqueConstraint('key', name=op.f('uq_exception_key'))
    )
    op.create_index('ix_exception_reason', 'exception', ['reason', 'state'], unique=False)
    op.create_table('inbox',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=True),
    sa.Column('kind', sa.String(length=30), nullable=False),
    sa.Column('key', sa.String(length=120), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('created_at_s', sa.BigInteger(), nullable=False),
    sa.Column('settled', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_inbox')),
    sa.UniqueConstraint('key', name=op.f('uq_inbox_key'))
    )
    op.create_index('ix_inbox_open', 'inbox', ['partition', 'id'], unique=False, sqlite_where=sa.text('settled = 0'), postgresql_where=sa.text('settled = 0'))
    op.create_table('late_page',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('crc', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_late_page'))
    )
    op.create_table('mandate',
    sa.Column('id', sa.String(length=80), nullable=False),
    sa.Column('payer', sa.String(length=80), nullable=False),
    sa.Column('account', sa.String(length=80), nullable=False),
    sa.Column('gateway', sa.String(length=40), nullable=False),
    sa.Column('token', sa.String(length=120), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('trigger_fen', sa.BigInteger(), nullable=False),
    sa.Column('amount_fen', sa.BigInteger(), nullable=False),
    sa.Column('target_fen', sa.BigInteger(), nullable=False),
    sa.Column('cap_charge_fen', sa.BigInteger(), nullable=False),
    sa.Column('cap_day_fen', sa.BigInteger(), nullable=False),
    sa.Column('cap_month_fen', sa.BigInteger(), nullable=False),
    sa.Column('cap_day_count', sa.Integer(), nullable=False),
    sa.Column('cooldown_s', sa.Integer(), nullable=False),
    sa.Column('window_from', sa.String(length=5), nullable=False),
    sa.Column('window_to', sa.String(length=5), nullable=False),
    sa.Column('valid_from_s', sa.BigInteger(), nullable=False),
    sa.Column('valid_until_s', sa.BigInteger(), nullable=False),
    sa.Column('cancelled_at_s', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_mandate'))
    )
    op.create_index('ix_mandate_account', 'mandate', ['account', 'priority'], unique=False)
    op.create_table('meta',
    sa.Column('name', sa.String(length=40), nullable=False),
    sa.Column('value', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_meta'))
    )
    op.create_table('notice',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('key', sa.String(length=160), nullable=False),
    sa.Column('template', sa.String(length=30), nullable=False),
    sa.Column('party', sa.String(length=80), nullable=False),
    sa.Column('account', sa.String(length=80), nullable=False),
    sa.Column('params', sa.Text(), nullable=False),
    sa.Column('created_at_s', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(length=12), server_default=sa.text("'pending'"), nullable=False),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('next_at_s', sa.BigInteger(), nullable=False),
    sa.Column('sent_at_s', sa.BigInteger(), nullable=True),
    sa.Column('error', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_notice')),
    sa.UniqueConstraint('key', name=op.f('uq_notice_key'))
    )
    op.create_index('ix_notice_due', 'notice', ['next_at_s'], unique=False, sqlite_where=sa.text("state = 'pending'"), postgresql_where=sa.text("state = 'pending'"))
    op.create_table('owner',
    sa.Column('role', sa.String(length=40), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('holder', sa.String(length=80), nullable=False),
    sa.PrimaryKeyConstraint('role', name=op.f('pk_owner'))
    )
    op.create_table('registry_version',
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('staged_at_s', sa.BigInteger(), nullable=False),
    sa.Column('activated_at_s', sa.BigInteger(), nullable=True),
    sa.Column('counts', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('digest', name=op.f('pk_registry_version')),
    sa.UniqueConstraint('number', name=op.f('uq_registry_version_number'))
    )
    op.create_table('state_delta',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('array', sa.String(length=20), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('format', sa.Integer(), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('crc', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_state_delta'))
    )
    op.create_index('ix_state_delta_partition_version', 'state_delta', ['partition', 'version'], unique=False)
    op.create_table('state_page',
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('array', sa.String(length=20), nullable=False),
    sa.Column('page', sa.Integer(), nullable=False),
    sa.Column('version', sa.BigInteger(), nullable=False),
    sa.Column('format', sa.Integer(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('crc', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('partition', 'array', 'page', name=op.f('pk_state_page'))
    )
    op.create_table('switch',
    sa.Column('name', sa.String(length=40), nullable=False),
    sa.Column('value', sa.Integer(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('at_s', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_switch'))
    )
    op.create_table('webhook',
    sa.Column('gateway', sa.String(length=40), nullable=False),
    sa.Column('event', sa.String(length=120), nullable=False),
    sa.Column('received_at_s', sa.BigInteger(), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('gateway', 'event', name=op.f('pk_webhook'))
    )
    op.create_table('bill_page',
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('page', sa.Integer(), nullable=False),
    sa.Column('entry_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('crc', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['entry_id'], ['entry.id'], name=op.f('fk_bill_page_entry_id')),
    sa.PrimaryKeyConstraint('partition', 'page', 'entry_id', name=op.f('pk_bill_page'))
    )
    op.create_table('decision',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('event_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('account', sa.String(length=80), nullable=False),
    sa.Column('at_s', sa.BigInteger(), nullable=False),
    sa.Column('outcome', sa.String(length=20), nullable=False),
    sa.Column('reason', sa.String(length=60), nullable=False),
    sa.Column('mandate', sa.String(length=80), nullable=True),
    sa.Column('order_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=True),
    sa.Column('retry_at_s', sa.BigInteger(), nullable=True),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['event_id'], ['event.id'], name=op.f('fk_decision_event_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_decision'))
    )
    op.create_index('ix_decision_account', 'decision', ['account', 'id'], unique=False)
    op.create_index('ix_decision_event', 'decision', ['event_id', 'id'], unique=False)
    op.create_table('inbox_applied',
    sa.Column('inbox_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.Column('checkpoint_id', sa.BigInteger(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['inbox_id'], ['inbox.id'], name=op.f('fk_inbox_applied_inbox_id')),
    sa.PrimaryKeyConstraint('inbox_id', 'partition', name=op.f('pk_inbox_applied'))
    )
    op.create_table('order_',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('account', sa.String(length=80), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('event_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('arm', sa.BigInteger(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('mandate', sa.String(length=80), nullable=False),
    sa.Column('payer', sa.String(length=80), nullable=False),
    sa.Column('gateway', sa.String(length=40), nullable=False),
    sa.Column('key', sa.String(length=120), nullable=False),
    sa.Column('amount_fen', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(length=20), nullable=False),
    sa.Column('created_at_s', sa.BigInteger(), nullable=False),
    sa.Column('submitted_at_s', sa.BigInteger(), nullable=True),
    sa.Column('next_action_at_s', sa.BigInteger(), nullable=True),
    sa.Column('asks', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('gateway_txn', sa.String(length=120), nullable=True),
    sa.Column('reason', sa.String(length=120), server_default=sa.text("''"), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.CheckConstraint('amount_fen > 0', name=op.f('ck_order__amount')),
    sa.ForeignKeyConstraint(['event_id'], ['event.id'], name=op.f('fk_order__event_id')),
    sa.ForeignKeyConstraint(['mandate'], ['mandate.id'], name=op.f('fk_order__mandate')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_order_')),
    sa.UniqueConstraint('account', 'arm', 'attempt', name=op.f('uq_order__account_arm_attempt')),
    sa.UniqueConstraint('gateway', 'gateway_txn', name=op.f('uq_order__gateway_gateway_txn')),
    sa.UniqueConstraint('key', name=op.f('uq_order__key'))
    )
    op.create_index('ix_order_state', 'order_', ['state', 'next_action_at_s'], unique=False)
    op.create_index('uq_order_in_flight', 'order_', ['account'], unique=True, sqlite_where=sa.text("state IN ('created', 'submitted', 'unknown', 'succeeded')"), postgresql_where=sa.text("state IN ('created', 'submitted', 'unknown', 'succeeded')"))
    op.create_table('posting',
    sa.Column('entry_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('line', sa.Integer(), nullable=False),
    sa.Column('account_name', sa.String(length=60), nullable=False),
    sa.Column('amount_fen', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['entry_id'], ['entry.id'], name=op.f('fk_posting_entry_id')),
    sa.PrimaryKeyConstraint('entry_id', 'line', name=op.f('pk_posting'))
    )
    op.create_table('subledger',
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('page', sa.Integer(), nullable=False),
    sa.Column('entry_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('crc', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['entry_id'], ['entry.id'], name=op.f('fk_subledger_entry_id')),
    sa.PrimaryKeyConstraint('partition', 'page', 'entry_id', name=op.f('pk_subledger'))
    )
    op.create_table('order_step',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('order_id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('at_s', sa.BigInteger(), nullable=False),
    sa.Column('from_state', sa.String(length=20), nullable=False),
    sa.Column('to_state', sa.String(length=20), nullable=False),
    sa.Column('evidence', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['order_id'], ['order_.id'], name=op.f('fk_order_step_order_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_order_step'))
    )
    op.create_index('ix_order_step_order', 'order_step', ['order_id', 'id'], unique=False)
