#!/bin/sh
# Installs what meterd is tested against and does not carry itself: the Mosquitto broker (Debian package).
# Nothing is left running: tests and benchmarks start brokers of their own, on free ports of the loopback.
set -eu

PATH="$PATH:/usr/sbin:/sbin"
if command -v mosquitto >/dev/null; then
    echo "mosquitto: $(command -v mosquitto)"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "mosquitto is missing and there is no apt-get: install it by hand" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
fi
# The package would start a broker on port 1883 and enable it for every boot: told not to, where the policy hook is free.
hook=/usr/sbin/policy-rc.d
made=
if [ ! -e "$hook" ] && [ "$(id -u)" -eq 0 ]; then
    printf '#!/bin/sh\nexit 101\n' >"$hook"
    chmod +x "$hook"
    made=yes
fi
trap '[ -z "$made" ] || rm -f "$hook"' EXIT
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
$as_root apt-get install -y -qq --no-install-recommends mosquitto
echo "mosquitto: $(command -v mosquitto)"
