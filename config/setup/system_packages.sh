#!/usr/bin/env bash
# Install the Debian packages that setup.sh needs and this machine lacks: none, on most.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
# shellcheck source=config/setup/checks.sh
. ./checks.sh

lacking=$(
  missing_tools
  missing_python
  if facts=$(find_python "$WHEEL_PYTHONS"); then
    missing_python_parts "${facts%% *}" "${facts#* }"
  fi
)
if [ -z "$lacking" ]; then
  echo "system_packages: nothing is missing"
  exit 0
fi
if [ "$(id -u)" -eq 0 ]; then root=(); else root=(sudo); fi
mapfile -t packages < <(cut -d : -f 1 <<<"$lacking")
for package in "${packages[@]}"; do
  case "$package" in
    *-venv | *-dev) ;;
    python3*) packages+=("$package-venv" "$package-dev") ;; # in packages of their own
  esac
done
echo "system_packages: installing ${packages[*]}"
"${root[@]}" apt-get update
"${root[@]}" apt-get install --yes --no-install-recommends "${packages[@]}"
