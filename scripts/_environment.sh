# Sourced by scripts/run, scripts/check and scripts/test: the environment in .venv, made once, used ever after.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv

# What opencv-python's wheel is linked against and does not bring, as "library package" (Debian's and
# Ubuntu's names).
opencv_libraries=("libxcb.so.1 libxcb1" "libGL.so.1 libgl1" "libglib-2.0.so.0 libglib2.0-0")

fail() {
    printf '%s: %s\n' "scripts/$(basename "$0")" "$*" >&2
    exit 2
}

# Prints the first python that is new enough and able to make environments.
find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# quietly COMMAND...: its output is shown only when it fails; then the script ends.
quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) && return
    printf '%s\n' "$output" >&2
    fail "set-up failed at: $*"
}

# has_library FILE: whether the system's loader knows it; where nobody can say, an import will.
has_library() {
    local known
    known=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) || return 0
    [[ $known == *"$1 "* ]]
}

# lacking_for EXTRAS: prints the packages without which .venv cannot be made; nothing once it is.
lacking_for() {
    local library words
    is_ready "$1" && return
    find_python >/dev/null || printf '%s\n' python3-venv
    for library in "${opencv_libraries[@]}"; do
        read -r -a words <<<"$library"
        has_library "${words[0]}" || printf '%s\n' "${words[1]}"
    done
}

# install_system PACKAGE...: by apt-get as root; otherwise names them and ends.
install_system() {
    [ "$#" != 0 ] || return 0
    command -v apt-get >/dev/null || fail "missing system packages, by Debian's names: $*"
    [ "$(id -u)" = 0 ] || fail "missing system packages; as root: apt-get install $*"
    printf 'installing system packages: %s\n' "$*" >&2
    quietly apt-get update
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

# What an environment was made from; another answer means: install again.
fingerprint() {
    printf '%s\n' "$1" "$root"
    cat "$root/pyproject.toml"
}

is_ready() {
    [ -x "$venv/bin/python" ] && [ -f "$venv/ready$1" ] &&
        [ "$(<"$venv/ready$1")" = "$(fingerprint "$1")" ]
}

# prepare EXTRAS ("", "[web]" or "[dev]"): afterwards .venv holds the package, installed in place.
# The file `ready` is written last, so an interrupted set-up is done again, and a lock (on a file
# that is only read) lets one set-up run at a time.
prepare() {
    local extras=$1 python lacking
    is_ready "$extras" && return
    [ -w "$root" ] || fail "$root: you may not write there; copy it to a folder of your own"
    exec 9<"$root/pyproject.toml"
    if command -v flock >/dev/null; then
        flock 9
    fi
    if ! is_ready "$extras"; then
        mapfile -t lacking < <(lacking_for "$extras")
        install_system "${lacking[@]}"
        python=$(find_python) ||
            fail "needs Python 3.11 or later with venv (on Debian: apt-get install python3-venv)"
        printf 'setting up %s (once; takes a minute)\n' "$venv" >&2
        if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
            quietly "$python" -m venv --clear "$venv"
        fi
        rm -f "$venv/ready$extras"
        quietly "$venv/bin/python" -m pip install --editable "$root$extras"
        quietly "$venv/bin/python" -c 'import cv2'
        fingerprint "$extras" >"$venv/ready$extras"
    fi
    exec 9<&-
}
