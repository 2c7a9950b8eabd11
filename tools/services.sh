#!/bin/sh
# Installs what meterd is tested against and does not carry itself, from Debian packages: the Mosquitto broker, libfiu
# (disks that fail), libfaketime (clocks that leap) and openssl (certificates). Nothing is left running: tests and benchmarks start what they
# need, on free ports of the loopback. With `bench`: PostgreSQL, too.
set -eu

PATH="$PATH:/usr/sbin:/sbin"
missing=
command -v mosquitto >/dev/null || missing="$missing mosquitto"
command -v fiu-run >/dev/null || missing="$missing fiu-utils"
command -v faketime >/dev/null || missing="$missing faketime"
command -v openssl >/dev/null || missing="$missing openssl"
if [ "${1:-}" = bench ]; then # what only benchmarks compare with
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
fi
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "missing, and there is no apt-get, install by hand:$missing" >&2
        exit 1
    fi
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        as_root="sudo -n"
    fi
    # Mosquitto's package would start a broker on port 1883 and enable it for every boot: told not to, where the
    # policy hook is free.
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
    # shellcheck disable=SC2086 # a list of names
    $as_root apt-get install -y -qq --no-install-recommends $missing
fi
for program in mosquitto fiu-run faketime openssl; do
    echo "$program: $(command -v $program)"
done
