# What tddfa_ros needs from the system. Sourced by setup.sh and system_packages.sh.

# The ROS wheels exist for these versions of Python.
WHEEL_PYTHONS="3.11 3.12"

# lacks CMD: whether a command is absent or does not run (a version manager leaves stubs).
lacks() {
  ! "$1" --version >/dev/null 2>&1
}

# python_facts CMD: "VERSION EXECUTABLE" of an interpreter outside any virtual environment.
python_facts() {
  "$1" -I -c 'import sys
print("%d.%d" % sys.version_info[:2], getattr(sys, "_base_executable", sys.executable))' 2>/dev/null
}

# cmake_too_old: whether the cmake on PATH is older than 3.20.
cmake_too_old() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  # shellcheck disable=SC2086  # two words on purpose
  set -- ${version:-0 0}
  [ "$1" -lt 3 ] || { [ "$1" -eq 3 ] && [ "$2" -lt 20 ]; }
}

# missing_tools: one line "PACKAGE: what is missing" for each tool that is not there.
missing_tools() {
  if lacks git; then echo "git: git is missing"; fi
  if lacks g++; then echo "g++: the C++ compiler g++ is missing"; fi
  if lacks make; then echo "make: make is missing"; fi
  if lacks cmake; then
    echo "cmake: cmake is missing"
  elif cmake_too_old; then
    echo "cmake: $(cmake --version | head -n 1) is too old, 3.20 or newer is needed"
  fi
}

# find_python VERSIONS: "VERSION EXECUTABLE" of the first interpreter of one of these versions.
# $PYTHON, when set, is the only candidate.
find_python() {
  local candidate facts version
  for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    facts=$(python_facts "$candidate") || continue
    version=${facts%% *}
    case " $1 " in *" $version "*) echo "$facts"; return 0 ;; esac
  done
  return 1
}

# missing_python: one line "PACKAGE: what is missing" when no interpreter of WHEEL_PYTHONS is there.
missing_python() {
  local facts
  if find_python "$WHEEL_PYTHONS" >/dev/null; then return; fi
  if facts=$(python_facts "${PYTHON:-python3}"); then
    echo "python3.11: ${PYTHON:-python3} is Python ${facts%% *}, ROS 2 needs 3.11 or 3.12 (PYTHON=... names another)"
  else
    echo "python3: ${PYTHON:-python3} is missing, Python 3.11 or 3.12 is needed"
  fi
}

# missing_python_parts VERSION EXECUTABLE: what Debian packages apart from the interpreter.
missing_python_parts() {
  if ! "$2" -I -c 'import ensurepip, venv' 2>/dev/null; then
    echo "python$1-venv: the venv module of $2 is missing"
  fi
  if ! "$2" -I -c 'import os, sysconfig
os.stat(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null; then
    echo "python$1-dev: the C headers of $2 are missing"
  fi
}
