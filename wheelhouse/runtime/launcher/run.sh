#!/bin/sh
# Run a script from an offline bundle, on a node that may have no Python: the launcher before the launcher.
#
#     sh BUNDLE/run.sh [OPTIONS of run.py] SCRIPT [ARGS...]
#
# 1. Where PATH has a Python 3.9 or newer, run.py is started with it, and that is all.
# 2. Else the bundle's uv unpacks the bundle's interpreter, once, into CACHE/bootstrap of this node, offline, and
#    run.py is started with that. uv checks the archive by its sha256 in python-downloads.json.
#
# It needs nothing but a POSIX shell and what that is linked with. Where there are cp, mkdir, rm and sha256sum, uv and
# python-downloads.json are copied to the cache first, and used only if they are what SHA256SUMS says; where there are
# not, it says so. Where a site's policy asks for signatures it starts nothing of the bundle: run.py checks them.
set -eu

fail() {
    printf 'error: %s\n' "$2" >&2
    [ -z "${3:-}" ] || printf 'hint: %s\n' "$3" >&2
    exit "$1"
}

has() { command -v "$1" >/dev/null 2>&1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; }

# refuse_changed FILE NAME: FILE must be what SHA256SUMS says of NAME.
refuse_changed() {
    while read -r digest name; do
        [ "$name" = "$2" ] || continue
        found=$(sha256sum <"$1")
        [ "${found%% *}" != "$digest" ] || return 0
    done <"$bundle/SHA256SUMS"
    fail 5 "$bundle/$2 is not what SHA256SUMS says" "carry the bundle over again"
}

case $0 in
*/*) bundle=$(cd "${0%/*}" && pwd) ;;
*) bundle=$(pwd) ;;
esac
[ -f "$bundle/run.py" ] || fail 2 "run.py is not beside $0" "start the run.sh that lies in the bundle"

for python in python3 python python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
    if has "$python" && is_new_enough "$python"; then exec "$python" "$bundle/run.py" "$@"; fi
done

if [ -n "${OFFLINE_BUNDLE_POLICY:-}" ] || [ -e /etc/offline-bundle/policy.json ]; then
    fail 6 "this site asks for signatures, and no Python is on PATH to check them with" "install a Python 3.9 or newer"
fi

cache=${OFFLINE_BUNDLE_CACHE:-${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}}
[ -n "$cache" ] || fail 1 "there is no place for a cache" "set OFFLINE_BUNDLE_CACHE to a folder of your own"
[ -n "${OFFLINE_BUNDLE_CACHE:-}" ] || cache=$cache/offline-bundle
case $cache in /*) ;; *) cache=$(pwd)/$cache ;; esac
# shellcheck disable=SC3067  # dash, busybox, bash and ksh have -O; a shell that has not refuses here
if [ -e "$cache" ] && ! { [ -O "$cache" ] && [ ! -L "$cache" ]; }; then
    fail 1 "the cache $cache is not a folder of yours" "set OFFLINE_BUNDLE_CACHE to one"
fi

bootstrap=$cache/bootstrap
python=
[ ! -f "$bootstrap/python" ] || read -r python <"$bootstrap/python" || python=
if [ -n "$python" ] && is_new_enough "$python"; then exec "$python" "$bundle/run.py" "$@"; fi

# What machine this is, by uname, or by the loader that every program of its libc is started with.
machine=$(uname -sm 2>/dev/null) || machine=
if [ -z "$machine" ]; then
    for loader in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 /lib/ld-musl-*.so.1; do
        [ -e "$loader" ] || continue
        case $loader in *x86*64*) machine="Linux x86_64" ;; *aarch64*) machine="Linux aarch64" ;; esac
    done
fi
case $machine in
"Linux x86_64") platforms="x86_64-unknown-linux-musl x86_64-manylinux_2_17" ;;
"Linux aarch64") platforms="aarch64-unknown-linux-musl aarch64-manylinux_2_17" ;;
"Darwin arm64") platforms=aarch64-apple-darwin ;;
"Darwin x86_64") platforms=x86_64-apple-darwin ;;
*) platforms= ;;
esac
uv=
for platform in $platforms; do
    if [ -f "$bundle/uv/$platform/uv" ]; then uv=uv/$platform/uv && break; fi
done
if [ -z "$uv" ] || [ ! -f "$bundle/python-downloads.json" ]; then
    fail 7 "there is no Python 3.9 on PATH, and the bundle brings none for this node (${machine:-unknown machine})" \
        "on the connected side: build-offline-bundle ... --with-python"
fi

printf 'Unpacking a Python once for this node ...\n' >&2
tool=$bundle/$uv downloads=$bundle/python-downloads.json copies=
if has cp && has mkdir && has rm && has sha256sum; then
    (umask 077 && mkdir -p "$bootstrap") || fail 1 "$bootstrap cannot be made" "set OFFLINE_BUNDLE_CACHE to another"
    tool=$bootstrap/uv.$$ downloads=$bootstrap/downloads.$$.json copies=yes
    trap 'rm -f "$tool" "$downloads"' EXIT
    if ! { cp "$bundle/$uv" "$tool" && cp "$bundle/python-downloads.json" "$downloads"; }; then
        fail 1 "the bundle's uv cannot be copied to $bootstrap" "set OFFLINE_BUNDLE_CACHE to a folder with room to spare"
    fi
    refuse_changed "$tool" "$uv"
    refuse_changed "$downloads" python-downloads.json
else
    printf 'There is no sha256sum here (or no cp, mkdir, rm): the uv of the bundle is started unchecked.\n' >&2
fi
unpack() {
    umask 077
    unset UV_PYTHON UV_CONFIG_FILE UV_PROJECT UV_WORKING_DIR UV_NO_CACHE UV_PYTHON_CACHE_DIR VIRTUAL_ENV
    export UV_CACHE_DIR="$bootstrap/cache" UV_PYTHON_INSTALL_DIR="$bootstrap" UV_PYTHON_INSTALL_BIN=0 UV_OFFLINE=1
    "$tool" python install --quiet --no-config --mirror "file://$bundle/python" \
        --python-downloads-json-url "$downloads" "cpython>=3.9" &&
        cd "$bootstrap" &&
        "$tool" python find --no-config --no-project --managed-python "cpython>=3.9" >"$bootstrap/python.$$"
}
(unpack) || fail 1 "uv could not unpack the bundle's Python" "set OFFLINE_BUNDLE_CACHE to a folder with room to spare"
read -r python <"$bootstrap/python.$$"
printf '%s\n' "$python" >"$bootstrap/python"
if [ -n "$copies" ]; then
    trap - EXIT
    rm -f "$tool" "$downloads" "$bootstrap/python.$$"
fi
exec "$python" "$bundle/run.py" "$@"
