#!/bin/sh
# Run a script from an offline bundle, on a node that may have no Python.
#
#     sh BUNDLE/run.sh [OPTIONS of run.py] SCRIPT [ARGS...]
#
# 1. If PATH has a Python 3.9 or newer, start run.py with it.
# 2. Else the bundle's uv unpacks the bundle's interpreter, once per node and offline, into
#    CACHE/bootstrap, and run.py is started with that. uv checks the archive by its sha256 in
#    python-downloads.json.
#
# It needs only a POSIX shell. With cp, mkdir, rm and sha256sum, uv and python-downloads.json are
# first copied to the cache and checked against SHA256SUMS; without them, it prints a warning. Under
# a signature policy it starts nothing from the bundle: only run.py checks signatures.
set -eu

fail() {
    printf 'error: %s\n' "$2" >&2
    [ -z "${3:-}" ] || printf 'hint: %s\n' "$3" >&2
    exit "$1"
}

has() { command -v "$1" >/dev/null 2>&1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; }

# check_digest FILE NAME: FILE must have the digest that SHA256SUMS has for NAME.
check_digest() {
    while read -r digest name; do
        [ "$name" = "$2" ] || continue
        actual=$(sha256sum <"$1")
        [ "${actual%% *}" != "$digest" ] || return 0
    done <"$bundle/SHA256SUMS"
    fail 5 "$bundle/$2 does not match SHA256SUMS" "copy the bundle again"
}

owner() (
    # shellcheck disable=SC2046  # words: mode, links, owner, group
    set -- $(ls -ldn "$1/.")
    printf %s "$3"
)

# is_private FOLDER [link]: others can neither write there nor replace it or a folder above, as
# cache_dir.py checks. With "link", neither can they replace a link in FOLDER.
is_private() (
    place=${2:-}
    folder=$(cd -P "$1" && pwd) || exit 1
    root=$(owner /)
    while :; do
        # shellcheck disable=SC2046
        set -- $(ls -ldn "$folder/.")
        case $1,$place in
        ?????w*, | ????????w*,) exit 1 ;;  # the folder itself
        ?????????[tT]*,above) ;;
        ????????w*) exit 1 ;;
        # a group that this user has alone, of equal number
        ?????w????+*) exit 1 ;;  # an access list
        ?????w*) [ "$4" = 0 ] || { [ "$4" = "$user" ] && [ -G "$folder" ]; } || exit 1 ;;
        esac
        [ -O "$folder" ] || [ "$3" = 0 ] || [ "$3" = "$root" ] || exit 1
        [ "$folder" != / ] || exit 0
        place=above folder=${folder%/*}
        folder=${folder:-/}
    done
)

case $0 in
*/*) bundle=$(cd "${0%/*}" && pwd) ;;
*) bundle=$(pwd) ;;
esac
[ -f "$bundle/run.py" ] || fail 2 "run.py is not beside $0" "start run.sh from the bundle"

# Programs come from absolute folders only: an empty element of PATH is the working folder.
folders=${PATH:-}: PATH=
while [ -n "$folders" ]; do
    case ${folders%%:*} in /*) PATH=$PATH${PATH:+:}${folders%%:*} ;; esac
    folders=${folders#*:}
done

for python in python3 python python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
    if has "$python" && is_new_enough "$python"; then exec "$python" "$bundle/run.py" "$@"; fi
done

site=/etc/offline-bundle  # a link, or a folder that this user cannot search, counts as a policy
if [ -n "${OFFLINE_BUNDLE_POLICY:-}" ] || [ -e $site/policy.json ] || [ -L $site/policy.json ] ||
    { [ -d $site ] && ! [ -x $site ]; }; then
    fail 6 "this site requires signatures, and PATH has no Python to check them" "install Python 3.9 or newer"
fi

cache=${OFFLINE_BUNDLE_CACHE:-${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}}
[ -n "$cache" ] || fail 1 "no folder for the cache: HOME is not set" "set OFFLINE_BUNDLE_CACHE to a folder of your own"
[ -n "${OFFLINE_BUNDLE_CACHE:-}" ] || cache=$cache/offline-bundle
case $cache in /*) ;; *) cache=$(pwd)/$cache ;; esac
! has mkdir || (umask 077 && mkdir -p "$cache") || fail 1 "$cache cannot be created" "set OFFLINE_BUNDLE_CACHE"
# shellcheck disable=SC3067  # dash, busybox, bash and ksh have -O and -G; other shells fail here
if [ -e "$cache" ] && ! { [ -O "$cache" ] && { has ls || ! [ -L "$cache" ] || [ -O "${cache%/*}" ]; }; }; then
    fail 1 "the cache $cache is not a folder of your own" "set OFFLINE_BUNDLE_CACHE to one"
fi
if [ -e "$cache" ] && has ls; then
    user=$(owner "$cache")
    if { [ -L "$cache" ] && ! is_private "${cache%/*}" link; } || ! is_private "$cache"; then
        fail 1 "the cache $cache can be written or replaced by others" "set OFFLINE_BUNDLE_CACHE to another folder"
    fi
    cache=$(cd -P "$cache" && pwd)  # what was checked is used: links on its path may change
fi

bootstrap=$cache/bootstrap
python=
[ ! -f "$bootstrap/python" ] || read -r python <"$bootstrap/python" || python=
if [ -n "$python" ] && is_new_enough "$python"; then exec "$python" "$bundle/run.py" "$@"; fi

# The machine: from uname, or from the dynamic loader of its C library.
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
[ -f "$bundle/SHA256SUMS" ] || platforms=
for platform in $platforms; do
    while [ -z "$uv" ] && read -r _ name; do
        case $name in uv/"$platform"/uv | uv/"$platform"/*/uv) uv=$name ;; esac
    done <"$bundle/SHA256SUMS"
done
if [ -z "$uv" ] || [ ! -f "$bundle/python-downloads.json" ]; then
    fail 7 "no Python 3.9 on PATH, and none in the bundle for this node (${machine:-unknown machine})" \
        "on the connected side: build-offline-bundle ... --with-python"
fi

printf 'Unpacking a Python once for this node ...\n' >&2
tool=$bundle/$uv downloads=$bundle/python-downloads.json copies=
if has cp && has mkdir && has rm && has sha256sum; then
    (umask 077 && mkdir -p "$bootstrap") || fail 1 "$bootstrap cannot be created" "set OFFLINE_BUNDLE_CACHE"
    ! has chmod || chmod 700 "$bootstrap" || :  # an access list may allow others to enter it
    tool=$bootstrap/uv.$$ downloads=$bootstrap/downloads.$$.json copies=yes
    trap 'rm -f "$tool" "$downloads"' EXIT
    if ! { cp "$bundle/$uv" "$tool" && cp "$bundle/python-downloads.json" "$downloads"; }; then
        fail 1 "the bundle's uv cannot be copied to $bootstrap" "set OFFLINE_BUNDLE_CACHE to a folder with more room"
    fi
    check_digest "$tool" "$uv"
    check_digest "$downloads" python-downloads.json
else
    printf 'warning: no sha256sum (or cp, mkdir, rm): the uv of the bundle is started unchecked\n' >&2
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
(unpack) || fail 1 "uv could not unpack the bundle's Python" "set OFFLINE_BUNDLE_CACHE to a folder with more room"
read -r python <"$bootstrap/python.$$"
printf '%s\n' "$python" >"$bootstrap/python"
if [ -n "$copies" ]; then
    trap - EXIT
    rm -f "$tool" "$downloads" "$bootstrap/python.$$"
fi
exec "$python" "$bundle/run.py" "$@"
