#!/usr/bin/env bash
# The floor for a rolling restart: ssh, systemctl, curl until 200, the next host. No proof, no
# bound, no record. Usage: bare_loop.sh KEY KNOWN_HOSTS SSH_PORT:HTTP_PORT…
set -euo pipefail
key=$1 known_hosts=$2
shift 2
for ports in "$@"; do
    ssh -i "$key" -o IdentitiesOnly=yes -o UserKnownHostsFile="$known_hosts" \
        -o StrictHostKeyChecking=yes -o BatchMode=yes -p "${ports%:*}" oncall@127.0.0.1 \
        sudo -n systemctl restart shop.service
    url="http://127.0.0.1:${ports#*:}/healthz"
    until [ "$(curl -s -o /dev/null -m 2 -w '%{http_code}' "$url")" = 200 ]; do sleep 0.1; done
done
