"""The load generator (`meterd load`): open loop, over any MQTT 5 broker; what it measures, and what it says of it.

    asked.py        what a test is asked to be, and where the load goes
    schedule.py     which concentrator has a message due when, by pattern
    population.py   the meters of a registry directory, and what their registers show
    packets.py      the few MQTT 5 packets that a publisher needs
    session.py      one connection: what waits, what is under way, what is not held yet
    orders.py       what a generator process is told
    sender.py       a generator process: its part of the schedule over its connections
    histogram.py    latencies from a microsecond to hours, in bounded room
    generators.py   those processes, and what they say
    host.py         a daemon, a gateway and a city of our own, when no broker is named
    observe.py      what becomes visible in that daemon's files, and when
    answers.py      that as latencies, while the run goes on; what is answered is forgotten
    dues.py         when each message is due, from the generators to the observer
    accounts.py     the concentrator of every account's meter
    checks.py       energy, balances and exceptions once all is sent; what could not be checked, and why
    processes.py    processor and memory of daemon, broker and the rest, each by itself
    proc.py         what the system says of one process
    figures.py      latencies, throughput, objectives: from times to answers
    report.py       report.json and report.html

A message is due by the schedule, whatever became of those before it; every latency counts from then.
"""
