#!/bin/sh
# Makes .venv and installs what a lock file names; costs nothing when that has been done.
#
#   sh embedded/install.sh requirements.lock        what the system needs
#   sh embedded/install.sh requirements-dev.lock    what its tests and checks need as well
set -eu
cd "$(dirname "$0")/.."
lock=$1
python=.venv/bin/python

fail() {
    echo "everturn: $*" >&2
    exit 1
}

# The locks' content, and which Python it was for: a system's upgrade may exchange that.
key() { { cat requirements.lock requirements-dev.lock && readlink -f "$python"; } | cksum; }
installed() { [ -x "$python" ] && [ -f ".venv/.installed-$1" ] && [ "$(cat ".venv/.installed-$1")" = "$(key)" ]; }
recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if installed "$lock" || installed requirements-dev.lock; then exit 0; fi
if command -v flock >/dev/null; then  # two commands in one fresh clone take turns
    exec 9<embedded/install.sh
    flock 9
    if installed "$lock" || installed requirements-dev.lock; then exit 0; fi
fi

if ! { recent "$python" && "$python" -m pip --version >/dev/null 2>&1; }; then
    base=
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if command -v "$candidate" >/dev/null && recent "$candidate"; then base=$candidate; break; fi
    done
    [ -n "$base" ] || fail "needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3 …"
    echo "making .venv with $("$base" --version)"
    if "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        "$base" -m venv --clear .venv
    elif command -v uv >/dev/null; then
        UV_PYTHON_DOWNLOADS=never uv venv --quiet --clear --seed --python "$base" .venv
    else
        fail "$base cannot make environments; on Debian and Ubuntu: apt-get install python3-venv"
    fi
fi

echo "installing $lock into .venv, once …"
with_uv() {
    command -v uv >/dev/null &&
        UV_PYTHON_DOWNLOADS=never uv pip install --quiet --python "$python" \
            --only-binary :all: --require-hashes --requirement "$lock"
}
# uv is faster; pip knows the machine's own settings for proxies and certificates.
with_uv || "$python" -m pip install -qq --disable-pip-version-check \
    --only-binary :all: --require-hashes --requirement "$lock" ||
    fail "could not install $lock (see above)"
key >".venv/.installed-$lock"
