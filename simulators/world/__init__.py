"""The simulated world: one seed is one history of a small city, on one thread and a clock that is turned by hand.

    scene.py       the city: registry versions, tariffs, fleet and what its meters truly use
    weather.py     how often what goes wrong, drawn from the seed
    lines.py       the broker, and its ends at the fleet and at the daemon
    disk.py        the reading log and the ledger's writer, failing and dying on demand
    bank.py        the payment gateway: its book, late answers, webhooks
    people.py      whom notices reach
    port.py        the system under test, as the world drives it (meterd.node is it)
    world.py       what exists in a history, its time and its trace
    daemon.py      the lives of the daemon: starts, deaths
    events.py      what happens in a round beside readings: connections, clocks, bank, people, registry
    cancelling.py  a mandate that is cancelled while an order of it is in flight
    tally.py       what happened that no die tells: read off fleet, calendar and ledger
    history.py     one history: who takes turns, and how it ends
    rules.py       what must be true after every step and every death
    ending.py      what must be true at the end

What runs is the real thing: the fleet's own outbox and resend, decoding, log, engine, ledger, archive, autopay,
notices, auditor. What is simulated is what lies between and around them.
"""
