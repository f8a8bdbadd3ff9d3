#!/usr/bin/env bash
# What the GitHub Action (action.yml) and the GitLab component (templates/prebake.yml) do; good for any other CI too.
#
#   prebake.sh setup    install the tool's dependencies, pinned by hash, into PREBAKE_TOOL
#   prebake.sh key      a key for the CI's cache, from the scripts and options alone
#   prebake.sh build    build the bundle, or bring it up to date
#
# Everything comes in by environment variables, so that no value is ever taken for shell text:
#   PREBAKE_SCRIPTS            the scripts, one per line
#   PREBAKE_OUTPUT             the bundle's folder
#   PREBAKE_PYTHON_VERSIONS    Pythons of the nodes, one per line or between spaces; may be empty
#   PREBAKE_PLATFORMS          platforms of the nodes, the same
#   PREBAKE_ARGUMENTS          further arguments of build-offline-bundle, one per line; may be empty
#   PREBAKE_TOOL               a folder for the tool's environment
#   PREBAKE_PYTHON             a Python of 3.11 or newer; default: python3
# Results go to GITHUB_OUTPUT where it is set: `key`; `bundle`, `content-key` and `changed`.
set -euo pipefail

source_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="${PREBAKE_TOOL:?names no folder}/bin/python"

setup() {
  "${PREBAKE_PYTHON:-python3}" -m venv "$PREBAKE_TOOL"
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip install --quiet --require-hashes \
    --requirement "$source_folder/requirements-uv.txt"
  VIRTUAL_ENV="$PREBAKE_TOOL" "$PREBAKE_TOOL/bin/uv" pip install --quiet --require-hashes \
    --requirement "$source_folder/requirements.txt"
}

offline_bundle() {
  "$python" "$source_folder/offline_bundle.py" "$@"
}

# Fills `arguments` with the scripts and the options, one word each.
collect_arguments() {
  arguments=()
  local line word
  while IFS= read -r line; do
    [ -z "$line" ] || arguments+=("$line")
  done <<<"${PREBAKE_SCRIPTS:?names no script}"
  # shellcheck disable=SC2086 # lists between spaces; no version or platform has a character that a shell would expand
  set -f
  for word in ${PREBAKE_PYTHON_VERSIONS:-}; do arguments+=(--python-version "$word"); done
  for word in ${PREBAKE_PLATFORMS:-}; do arguments+=(--python-platform "$word"); done
  set +f
  while IFS= read -r line; do
    [ -z "$line" ] || arguments+=("$line")
  done <<<"${PREBAKE_ARGUMENTS:-}"
  if [ "${GITHUB_ACTIONS:-}" = true ]; then arguments+=(--annotations github); fi
}

# output NAME VALUE
output() {
  printf '%s=%s\n' "$1" "$2"
  if [ -n "${GITHUB_OUTPUT:-}" ]; then printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"; fi
}

content_key() {
  if [ -f "$PREBAKE_OUTPUT/bundle.json" ]; then offline_bundle show --key "$PREBAKE_OUTPUT"; fi
}

case "${1:-}" in
  setup) setup ;;
  key)
    collect_arguments
    key=$(offline_bundle show --key "${arguments[@]}")
    output key "$key"
    ;;
  build)
    : "${PREBAKE_OUTPUT:?names no folder}"
    case "$PREBAKE_OUTPUT" in *$'\n'*) echo "PREBAKE_OUTPUT: more than one line" >&2; exit 2 ;; esac
    collect_arguments
    before=$(content_key)
    offline_bundle build "${arguments[@]}" --output "$PREBAKE_OUTPUT"
    after=$(content_key)
    output bundle "$PREBAKE_OUTPUT"
    output content-key "$after"
    if [ "$before" = "$after" ]; then output changed false; else output changed true; fi
    ;;
  *)
    echo "usage: prebake.sh setup|key|build" >&2
    exit 2
    ;;
esac
