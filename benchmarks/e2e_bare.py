"""I/O: the baseline: a process with a bare paho client that acknowledges by hand and does nothing else.

    python -m benchmarks.e2e_bare PORT VERSION COUNT TOPIC...

One session for all topics: four of them, a thread of paho each, are slower. It subscribes, prints a line, and prints
when the last of COUNT messages came (monotonic seconds).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_DEADLINE_S = 120.0


def main() -> None:
    port, version, count, topics = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    five = version == "5"
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id="bare",
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
        manual_ack=True,
    )
    subscribed, done = threading.Event(), threading.Event()
    received = 0
    last = 0.0

    def on_message(_client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        nonlocal received, last
        client.ack(message.mid, message.qos)
        received += 1
        if received == count:
            last = time.monotonic()
            done.set()

    client.on_message = on_message
    client.on_connect = lambda *_: client.subscribe([(topic, 1) for topic in topics]) and None
    client.on_subscribe = lambda *_: subscribed.set()
    options: dict[str, Any] = {}
    if five:
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.ReceiveMaximum = 1000  # as ingest's default
        options = {"properties": wishes}
    client.connect("127.0.0.1", port, **options)
    client.loop_start()
    assert subscribed.wait(10), "no subscription"
    print("ready", flush=True)
    assert done.wait(_DEADLINE_S), f"{received} of {count} messages came"
    print(json.dumps({"last": last, "received": received}), flush=True)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
