"""Any order of faults: declines, time-outs, contradictions, webhooks, balances that move, deaths at every step.

The money is right all the time, and nobody who is low is ever forgotten.
"""

from __future__ import annotations

import json
from collections import defaultdict

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import autopay.service as service_module
from autopay.orders import DOUBT, State
from autopay.policy import Live
from config.settings import AutopaySettings
from ledger.schema import decision, order_step, wait

ACCOUNTS = ("a0", "a1", "a2")
STEPS = ("order.created", "order.submitted", "order.answered", "order.succeeded")
SETTINGS = AutopaySettings(
    cap_day_fen=30_000, cap_month_fen=40_000, cap_day_count=3, cooldown_s=3600, retry_after_s=(600,), failures_max=2
)


class Died(BaseException):
    """The process ended here."""


def storm(new_world):
    """The machine, bound to the world's class (a fixture, as helpers are here)."""

    class Storm(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.world = new_world(SETTINGS)
            self.world.gateway.key_lifetime_s = 10**9  # lifetimes have their own tests
            for account in ACCOUNTS:  # one daughter for all three: her caps span accounts
                self.world.mandate(id=f"{account}-1", account=account, token=f"t-{account}", cap_day_count=2)
                self.world.mandate(
                    id=f"{account}-2",
                    account=account,
                    payer="son",
                    token=f"s-{account}",
                    priority=2,
                    window_from="00:00",
                    window_to="00:00",
                    trigger_fen=3000 if account == "a0" else 1500,  # with "a1" and "a2" he comes later
                )
            self.arms = defaultdict(int)
            self.webhooks = 0
            self.die_at = None

        @rule(account=st.sampled_from(ACCOUNTS))
        def falls_low(self, account):
            self.arms[account] += 1
            self.world.event(account=account, arm=self.arms[account])
            self.world.lives[account] = Live(1900)

        @rule(account=st.sampled_from(ACCOUNTS), balance_fen=st.sampled_from([-500, 1400, 2050, 2900]))
        def drifts(self, account, balance_fen):
            self.world.lives[account] = Live(balance_fen)

        @rule(account=st.sampled_from(ACCOUNTS))
        def recovers(self, account):
            self.world.event(kind="recovered", account=account, arm=self.arms[account], balance_fen=9000)
            self.world.lives[account] = Live(9000)

        @rule(
            words=st.lists(
                st.sampled_from(["ok", "declined", "timeout_before", "timeout_after", "error", "contradict"]),
                max_size=4,
            )
        )
        def gateway_turns(self, words):
            self.world.gateway.script.extend(words)

        @rule(deaf=st.booleans())
        def gateway_hears(self, deaf):
            self.world.gateway.deaf = deaf

        @rule(seconds=st.sampled_from([1, 31, 700, 3600, 8000, 86_400]))
        def time_passes(self, seconds):
            self.world.clock.advance(seconds)

        @rule()
        def steps(self):
            self.world.run(3)

        @rule(step=st.sampled_from(STEPS))
        def dies(self, step):
            def reach(name):
                if name == step:
                    raise Died

            kept, service_module.reach = service_module.reach, reach
            try:
                self.world.run(3)
            except Died:
                pass
            finally:
                service_module.reach = kept
            self.world.restart()

        @rule(index=st.integers(0, 30), again=st.booleans())
        def webhook(self, index, again):
            known = sorted(self.world.gateway._results)
            if not known or not self.world.service._epoch:
                return
            self.webhooks += not again
            headers, body = self.world.gateway.webhook_of(known[index % len(known)], f"evt-{self.webhooks}")
            assert self.world.service.webhook("bank", headers, body) == 200

        @rule()
        def a_person_ends_doubts(self):
            end_doubts(self.world)

        @rule()
        def credits(self):
            self.world.apply_credits()

        @rule(on=st.booleans())
        def hold(self, on):
            self.world.service.start()
            if on:
                self.world.service.set_hold("by hand")
            else:
                self.world.service.lift_hold("by hand")

        @invariant()
        def at_most_one_in_flight(self):
            if not hasattr(self, "world"):
                return
            flying = [row["account"] for row in self.world.orders() if row["state"] in service_flight()]
            assert len(flying) == len(set(flying))

        @invariant()
        def caps_hold(self):
            if not hasattr(self, "world"):
                return
            sums = defaultdict(int)
            for row in self.world.orders():
                if row["state"] not in ("declined", "cancelled"):
                    day = ((row["caps_at_s"] or row["created_at_s"]) + 8 * 3600) // 86_400
                    sums[row["payer"], day] += row["amount_fen"]
            assert all(fen <= SETTINGS.cap_day_fen for fen in sums.values())
            payer_of, really = {row["key"]: row["payer"] for row in self.world.orders()}, defaultdict(int)
            for charge in self.world.gateway.book().charges:  # on the day that the gateway has in its book
                really[payer_of[charge.key], (charge.at_s + 8 * 3600) // 86_400] += charge.amount_fen
            assert all(fen <= SETTINGS.cap_day_fen for fen in really.values())
            for scope, (fen, count) in self.world.caps().items():
                assert 0 <= fen <= (SETTINGS.cap_day_fen if ":day:" in scope else SETTINGS.cap_month_fen)
                assert count >= 0

        @invariant()
        def one_key_never_two_amounts_nor_two_charges(self):
            if not hasattr(self, "world"):
                return
            amounts = defaultdict(set)
            for key, amount in self.world.gateway.calls:
                amounts[key].add(amount)
            assert all(len(found) == 1 for found in amounts.values())
            keys = [charge.key for charge in self.world.gateway.book().charges]
            assert len(keys) == len(set(keys))

        @invariant()
        def credits_never_exceed_the_book(self):
            if not hasattr(self, "world"):
                return
            credited = {json.loads(row["body"])["reference"] for row in self.world.credits()}
            assert credited <= {charge.txn for charge in self.world.gateway.book().charges}
            assert len(credited) == len(self.world.credits())

        @invariant()
        def nobody_is_forgotten(self):
            if not hasattr(self, "world"):
                return
            waiting = {row["event_id"] for row in self.world.rows(wait)}
            newest = {row["event_id"]: row for row in self.world.rows(decision)}
            over = {"declined", "cancelled"}
            alive = {row["event_id"] for row in self.world.orders() if row["state"] not in over}
            for event_id, row in newest.items():
                assert event_id in waiting or event_id in alive or row["outcome"] == "refuse", row
                assert row["outcome"] != "refuse" or event_id not in waiting

        def teardown(self):
            """Quiet time: everything that was charged is credited, nothing is forgotten, the table was kept to."""
            if not hasattr(self, "world"):
                return
            world = self.world
            world.gateway.deaf = False
            world.gateway.script.clear()
            world.service.start()
            world.service.lift_hold("quiet", force=True)
            for _ in range(12):
                world.later(8000)
                end_doubts(world)
                world.apply_credits()
            book = sum(charge.amount_fen for charge in world.gateway.book().charges)
            assert book == sum(json.loads(row["body"])["amount_fen"] for row in world.credits())
            assert set(world.states()) <= {"credited", "declined", "cancelled"}
            charged = {charge.key for charge in world.gateway.book().charges}
            assert charged == {row["key"] for row in world.orders() if row["state"] == "credited"}
            used = world.caps()
            for payer in ("daughter", "son"):
                kept = sum(fen for scope, (fen, _) in used.items() if scope.startswith(f"payer:{payer}:month"))
                mine = [r for r in world.orders() if r["payer"] == payer and r["state"] == "credited"]
                assert kept == sum(row["amount_fen"] for row in mine)
            for row in world.rows(order_step):
                from autopay.orders import move

                if row["from_state"]:
                    move(State(row["from_state"]), State(row["to_state"]))

    return Storm


def end_doubts(world):
    """What a person finds in the gateway's console is true: charged under this transaction, or not charged."""
    charged = {charge.key: charge.txn for charge in world.gateway.book().charges}
    world.service.start()
    for row in world.orders():
        if row["reason"].startswith(DOUBT) and row["state"] != "created":
            world.service.settle_by_hand(row["id"], charged.get(row["key"]), "looked", "op")


def service_flight():
    return ("created", "submitted", "unknown", "succeeded")


def test_storm(new_world):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        storm(new_world),
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
