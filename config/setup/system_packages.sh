#!/usr/bin/env bash
# Install the Debian packages that setup.sh needs and this machine lacks: none, on most.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=config/setup/checks.sh
. ./checks.sh

lacking=$(missing_tools; missing_python)
if [ -z "$lacking" ]; then
  facts=$(find_python "$WHEEL_PYTHONS")
  lacking=$(missing_python_parts "${facts%% *}" "${facts#* }")
fi
if [ -z "$lacking" ]; then
  echo "system_packages: nothing is missing"
  exit 0
fi
if [ "$(id -u)" -eq 0 ]; then root=(); else root=(sudo); fi
mapfile -t packages < <(cut -d : -f 1 <<<"$lacking")
case " ${packages[*]} " in *" python3 "*) packages+=(python3-venv python3-dev) ;; esac
echo "system_packages: installing ${packages[*]}"
"${root[@]}" apt-get update
"${root[@]}" apt-get install --yes --no-install-recommends "${packages[@]}"
