"""Pure: the faults that are planted in the real code, each of which the simulated world must find (`planting`)."""

from __future__ import annotations

from typing import Final

from simulators.world.planting import Edit, Planted

_FAULTS: Final = (
    Planted(
        "ack-before-durable",
        "a message is acknowledged before the log has it",
        (
            Edit(
                "ingest.shell:MqttShell.turn",
                "    self._gaps(batch",
                "    self._acknowledge(group)\n    self._gaps(batch",
            ),
        ),
    ),
    Planted(
        "held-before-durable",
        "a concentrator is told that a message is held before the log has it",
        (
            Edit(
                "ingest.shell:MqttShell.turn",
                "    tick = self._tick(batch, now_s)\n",
                "    tick = self._tick(batch, now_s)\n"
                "    self._durable(batch, now_s, tick)\n"
                "    self._say_held(force=True)\n",
            ),
        ),
    ),
    Planted(
        "ack-of-another-connection",
        "acknowledgements go out over whatever connection there is, not only the one their messages came over",
        (Edit("ingest.session:Session.acknowledge", "generation != self.generation or not mids", "not mids"),),
    ),
    Planted(
        "failed-append-acknowledged",
        "what the log could not take is acknowledged all the same",
        (
            Edit(
                "ingest.shell:MqttShell._append",
                "if not error.retriable:\n                raise",
                "if not error.retriable:\n                return []",
            ),
        ),
    ),
    Planted(
        "dedupe-before-write",
        "a row of the inbox is stamped as applied, for nobody to apply again, before what it changed is durable",
        (
            Edit(
                "ledger.commit:write_checkpoints",
                "    versions = [",
                "    last = connection.exec_driver_sql('SELECT coalesce(max(id), 0) FROM checkpoint').scalar()\n"
                "    for number, one in enumerate(planned, last + 1):\n"
                "        inbox.stamp(connection, one.asked.applied, partition=one.asked.partition,\n"
                "            partitions=partitions, checkpoint_id=number, now_s=now_s)\n"
                "    connection.exec_driver_sql('COMMIT')\n"
                "    connection.exec_driver_sql('BEGIN IMMEDIATE')\n"
                "    versions = [",
            ),
            Edit("ledger.commit:write_checkpoints", "            asked.applied,\n", "            [],\n"),
        ),
    ),
    Planted(
        "memory-before-durable",
        "rating is handed records before the log has them",
        (
            Edit(
                "ingest.tail:TailedLog.append",
                "        stored = self._log.append(records, marks)\n        self._keep(stored)\n",
                "        ends = {r.partition: self._log.bounds(r.partition)[1] for r in records}\n"
                "        early = []\n"
                "        for record in records:\n"
                "            ends[record.partition] += 1\n"
                "            early.append(StoredRecord(ends[record.partition], record))\n"
                "        self._keep(early)\n"
                "        stored = self._log.append(records, marks)\n",
            ),
        ),
    ),
    Planted(
        "cursor-outside-transaction",
        "the cursor and the state are committed before the money of the same checkpoint",
        (
            Edit(
                "ledger.commit:write_checkpoints",
                "        _money(connection, asked)",
                "        connection.exec_driver_sql('COMMIT')\n"
                "        connection.exec_driver_sql('BEGIN IMMEDIATE')\n"
                "        _money(connection, asked)",
            ),
        ),
    ),
    Planted(
        "money-outside-transaction",
        "the money of a checkpoint is committed before its cursor and its state",
        (
            Edit(
                "ledger.store:LedgerStore._write_all",
                "    credited = rows.write_checkpoints",
                "    for one in planned:\n"
                "        rows._money(connection, one.asked)\n"
                "    connection.exec_driver_sql('COMMIT')\n"
                "    connection.exec_driver_sql('BEGIN IMMEDIATE')\n"
                "    planned = [__import__('dataclasses').replace(\n"
                "        one, asked=__import__('dataclasses').replace(one.asked, entries=[])) for one in planned]\n"
                "    credited = rows.write_checkpoints",
            ),
        ),
    ),
    Planted(
        "tick-skipped",
        "rating passes over every fifth tick",
        (
            Edit(
                "rating.engine:PartitionEngine.apply",
                "self._tick(stored.record.received_at_s)",
                "stored.offset % 5 and self._tick(stored.record.received_at_s)",
            ),
        ),
    ),
    Planted(
        "remainder-dropped",
        "what is less than a fen at a cycle's end is dropped instead of carried into the bill's rounding",
        (
            Edit(
                "rating.booking:Bookings.close",
                'np.add.at(part.account["carry_energy_e11"], owners[last], closes["energy_rest"][last])',
                "pass",
            ),
        ),
    ),
    Planted(
        "household-bound-forgotten",
        "a household of five and more has no wider tiers",
        (Edit("rating.schedule:bounds_of", "bound + times * add for", "bound for"),),
    ),
    Planted(
        "estimate-as-baseline",
        "an estimate counts as an actual register, so that nothing takes back what it guessed too high",
        (Edit("rating.estimates:guesses", "np.full(count, ESTIMATE, np.uint8)", "np.zeros(count, np.uint8)"),),
    ),
    Planted(
        "summer-time-forgotten",
        "local days keep the winter's offset all year",
        (Edit("rating.calendar:LocalCalendar.local_s", "self.offset_s[span]", "self.offset_s[0 * span]"),),
    ),
    Planted(
        "tariff-version-late",
        "a new version of a tariff comes into force a day late",
        (Edit("rating.timeline:compile_timeline", 'side="right") - 1\n    inside', 'side="left") - 1\n    inside'),),
    ),
    Planted(
        "hysteresis-removed",
        "a low balance is armed again as soon as the balance is over the limit",
        (Edit("rating.engine:PartitionEngine._judge", "self._autopay.hysteresis_fen", "0"),),
    ),
    Planted(
        "final-read-forgotten",
        "the last register of a replaced meter is not counted",
        (Edit("rating.commands:Commands.close_removed", "if len(slots) == 0:", "if len(slots) >= 0:"),),
    ),
    Planted(
        "register-not-taken-over",
        "a span that follows a move or a change of tariff dated back does not go on from the register",
        (Edit("rating.takeover:take_over", "if len(slots) == 0:", "if len(slots) >= 0:"),),
    ),
    Planted(
        "credit-doubled",
        "the credit of an order is added to the balance twice",
        (
            Edit(
                "rating.commands:Commands._money",
                'account["balance_fen"][slot] += signed_fen',
                'account["balance_fen"][slot] += signed_fen * (2 if told.order_id is not None else 1)',
            ),
        ),
    ),
    Planted(
        "inbox-by-greater-than",
        "rating takes inbox rows after the last one that it applied, so that one that becomes visible late is lost",
        (
            Edit(
                "ledger.inbox:pending",
                'rows = connection.execute(_PENDING, {"home": partition, "most": limit})',
                "mine = inbox_applied.c.partition == partition\n"
                "    last = connection.scalar(select(func.max(inbox_applied.c.inbox_id)).where(mine)) or 0\n"
                '    found = connection.execute(_PENDING, {"home": partition, "most": limit})\n'
                "    rows = [row for row in found if row.id > last]",
            ),
        ),
    ),
    Planted(
        "key-fresh-at-retry",
        "a charge whose outcome is unknown is made again under another key",
        (
            Edit(
                "autopay.service:AutopayService._answered",
                "self._charge(row, again)",
                "self._charge(__import__('dataclasses').replace(row, key=row.key + '-again'), again)",
            ),
        ),
    ),
    Planted(
        "amount-fresh-at-retry",
        "a charge whose outcome is unknown is made again with what is owed by then",
        (
            Edit(
                "autopay.service:AutopayService._answered",
                "self._charge(row, again)",
                "self._charge(__import__('dataclasses').replace(row, amount_fen=row.amount_fen + 100), again)",
            ),
        ),
    ),
    Planted(
        "credit-from-webhook",
        "a webhook itself inserts a credit, beside the one that the order's own move inserts",
        (
            Edit(
                "autopay.answers:take_webhook",
                'row, word = settle(connection, book, found[0], told.outcome, "webhook", now_s)\n',
                'row, word = settle(connection, book, found[0], told.outcome, "webhook", now_s)\n'
                "        if hasattr(told.outcome, 'txn'):\n"
                "            gives = {'account': row.account, 'amount_fen': row.amount_fen, 'gateway': gateway}\n"
                "            __import__('ledger.inbox').inbox.submit(connection, kind='credit',\n"
                "                key='webhook:' + told.event, body=gives | {'reference': told.outcome.txn},\n"
                "                partition=row.partition, now_s=now_s)\n",
            ),
        ),
    ),
    Planted(
        "webhook-unsigned",
        "a webhook is believed whoever signed it",
        (
            Edit(
                "autopay.gateways.signing:authentic",
                'return hmac.compare_digest(sign(secret, body, int(stamp[2:])).encode(), value.encode("utf-8", '
                '"replace"))',
                "return True",
            ),
        ),
    ),
    Planted(
        "unknown-as-declined",
        "a time-out counts as a decline",
        (
            Edit(
                "autopay.answers:apply_answer",
                "row = order_by_id(connection, order_id)\n",
                "row = order_by_id(connection, order_id)\n"
                "    if isinstance(answer, Unknown):\n"
                "        answer = __import__('autopay.orders').orders.Declined('no answer')\n",
            ),
        ),
    ),
    Planted(
        "caps-outside-transaction",
        "caps are judged by what was seen before the transaction, and only counted in it",
        (
            Edit(
                "autopay.deciding:_decide_one",
                "caps.used(connection, scopes)",
                "{scope: vars(connection.engine).setdefault(scope, caps.used(connection, [scope]).get(scope, (0, 0)))"
                " for scope in scopes}",
            ),
            Edit(
                "autopay.deciding:_decide_one",
                "full = caps.reserve(connection, made.limits, made.amount_fen)",
                "full = caps.force(connection, [limit.scope for limit in made.limits], made.amount_fen)",
            ),
        ),
    ),
    Planted(
        "decline-forgotten",
        "a low balance whose charge was declined is not looked at again",
        (
            Edit(
                "autopay.settle:_decline",
                'write_decision(connection, low, Wait(now_s, "declined"',
                'low and (lambda *_: None)(connection, low, Wait(now_s, "declined"',
            ),
        ),
    ),
    Planted(
        "trigger-missed",
        "one low balance in three is not told to autopay",
        (
            Edit(
                "rating.engine:PartitionEngine._judge",
                "    for row in judged:\n",
                "    for row in judged:\n"
                "        if KIND_NAME[int(row['kind'])] == 'low_balance' and int(row['arm']) % 3 == 2:\n"
                "            continue\n",
            ),
        ),
    ),
    Planted(
        "balance-not-kept",
        "an account whose day was posted is not written with the state",
        (Edit("rating.booking:Bookings.close", "part.dirty_account[owners] = 1", "owners.sort()"),),
    ),
    Planted(
        "pending-forgotten",
        "what an open bill charges beside its energy is not held against the live balance",
        (Edit("rating.settling:refresh_pending", "np.add.at(total, group.which, found.beside_e11)", "pass"),),
    ),
    Planted(
        "day-of-service-early",
        "a day counts as served when it begins",
        (
            Edit(
                "rating.settling:refresh_pending",
                "until_day = calendar.day_of(ticked_s) if ticked_s else 0",
                "until_day = calendar.day_of(ticked_s) + 1 if ticked_s else 0",
            ),
        ),
    ),
    Planted(
        "cells-not-emptied",
        "energy of a bill that has closed is in the bill after the next one, too",
        (Edit("rating.settling:_close", "part.cell[cells] = 0", "part.cell[cells[:0]] = 0"),),
    ),
    Planted(
        "charge-of-the-last-version",
        "a charge of a version that ended inside the bill is not posted",
        (
            Edit(
                "rating.settling:_settle",
                "for one in found.charges:",
                "for one in [c for c in found.charges if c.version == found.charges[-1].version]:",
            ),
        ),
    ),
    Planted(
        "carry-not-shown",
        "the balance that people see leaves out what is carried to the bill",
        (
            Edit(
                "ledger.reads:balances",
                'accrued = accounts["carry_energy_e11"] + accounts["carry_adder_e11"]',
                'accrued = accounts["carry_energy_e11"] * 0',
            ),
        ),
    ),
    Planted(
        "holder-not-told",
        "only the payer hears of a charge",
        (
            Edit(
                "autopay.settle:_succeed",
                'add_notice(connection, f"charged:{row.key}:holder", "charged", "", row.account, params, now_s)',
                "pass",
            ),
        ),
    ),
    Planted(
        "notice-before-sent",
        "a notice is marked as sent before it is out",
        (
            Edit(
                "autopay.outbox:NoticeDispatcher._run_lane",
                "    sent = self._send(channel, left[:hand])\n",
                "    sent = Sent([(row, None) for row in left[:hand]], None, alive=True)\n"
                "        self._store.write(partial(record, tried=sent.tried, now_s=self._clock.now_s(),"
                " settings=self._settings))\n"
                "        self._send(channel, left[:hand])\n",
            ),
        ),
    ),
    Planted(
        "pruned-unarchived",
        "the log is pruned up to what is rated, archived or not",
        (
            Edit(
                "meterd.loops:ArchivePass._prune",
                "self._archiver.prune(partition, ledger_offset, end)",
                "self._archiver.prune(partition, ledger_offset, ledger_offset)",
            ),
        ),
    ),
)
PLANTED: Final = {fault.name: fault for fault in _FAULTS}
