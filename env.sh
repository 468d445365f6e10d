# source env.sh
# The ROS environment of tddfa_ros in the current shell (bash or zsh): the ROS 2 that is already
# sourced, else the wheels in .venv, and over it the packages that `make setup` built in install/.
# Sourcing it again changes nothing; what the user has set is kept.

if [ -n "${ZSH_VERSION:-}" ]; then
  eval '_tddfa_file=${(%):-%x}'
else
  _tddfa_file=${BASH_SOURCE[0]}
fi
_tddfa_root=$(CDPATH='' cd -- "$(dirname -- "$_tddfa_file")" && pwd -P)

# _tddfa_prepend NAME FOLDER: put FOLDER at the front of the path variable NAME, unless it is in it.
_tddfa_prepend() {
  eval "_tddfa_value=\${$1:-}"
  case ":$_tddfa_value:" in
    *":$2:"*) ;;
    *) eval "export $1=\"\$2\${_tddfa_value:+:\$_tddfa_value}\"" ;;
  esac
}

if [ ! -f "$_tddfa_root/.venv/tddfa_setup" ]; then
  echo "env.sh: nothing is set up in $_tddfa_root yet; run 'make setup' there first" >&2
  unset -f _tddfa_prepend
  unset _tddfa_file _tddfa_root _tddfa_value
  return 1
fi

_tddfa_venv=$_tddfa_root/.venv
_tddfa_prepend PATH "$_tddfa_venv/bin"
if [ "$(head -n 1 "$_tddfa_venv/tddfa_setup")" = wheels ]; then
  for _tddfa_libs in "$_tddfa_venv"/lib/python3*/site-packages/ros_*.libs; do
    _tddfa_prepend LD_LIBRARY_PATH "$_tddfa_libs"
  done
  _tddfa_prepend LD_LIBRARY_PATH "$_tddfa_venv/lib"
  _tddfa_prepend AMENT_PREFIX_PATH "$_tddfa_venv"
  _tddfa_prepend CMAKE_PREFIX_PATH "$_tddfa_venv"
  # The wheels restart every Python once to set the library path, which is done here.
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
fi

# Fast DDS loses images between processes with its own defaults; see the README.
if [ -z "${FASTRTPS_DEFAULT_PROFILES_FILE:-}${FASTDDS_DEFAULT_PROFILES_FILE:-}" ]; then
  export FASTRTPS_DEFAULT_PROFILES_FILE="$_tddfa_root/config/fastdds.xml"
  # The name that Fast DDS 3 (after Jazzy) reads.
  export FASTDDS_DEFAULT_PROFILES_FILE="$_tddfa_root/config/fastdds.xml"
fi

# The scripts that colcon writes read variables that may be unset.
case $- in *u*) _tddfa_nounset=1; set +u ;; *) _tddfa_nounset= ;; esac
if [ -n "${ZSH_VERSION:-}" ] && [ -f "$_tddfa_root/install/local_setup.zsh" ]; then
  . "$_tddfa_root/install/local_setup.zsh"
elif [ -z "${ZSH_VERSION:-}" ] && [ -f "$_tddfa_root/install/local_setup.bash" ]; then
  . "$_tddfa_root/install/local_setup.bash"
fi
[ -z "$_tddfa_nounset" ] || set -u

unset -f _tddfa_prepend
unset _tddfa_file _tddfa_root _tddfa_value _tddfa_venv _tddfa_libs _tddfa_nounset
