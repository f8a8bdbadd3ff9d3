#!/usr/bin/env bash
# Build a bundle in CI. Used by the GitHub Action (action.yml) and the GitLab component
# (templates/prebake.yml); other CI systems can call it too.
#
#   prebake.sh setup    install the tool's dependencies, pinned by hash, into PREBAKE_TOOL
#   prebake.sh key      print a key for the CI cache, computed from the scripts and options
#   prebake.sh build    build or update the bundle
#
# All inputs are environment variables, so that no value is interpreted by a shell:
#   PREBAKE_SCRIPTS            scripts, one per line
#   PREBAKE_OUTPUT             folder of the bundle
#   PREBAKE_PYTHON_VERSIONS    Python versions of the nodes, separated by spaces or lines; optional
#   PREBAKE_PLATFORMS          platforms of the nodes, likewise
#   PREBAKE_ARGUMENTS          more arguments of build-offline-bundle, one per line; optional
#   PREBAKE_TOOL               folder for the tool's environment
#   PREBAKE_PYTHON             Python 3.11 or newer; default: python3
# Results are appended to GITHUB_OUTPUT if it is set: `key`, or `bundle`, `content-key` and `changed`.
set -euo pipefail

source_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="${PREBAKE_TOOL:?set it to a folder}/bin/python"

setup() {
  "${PREBAKE_PYTHON:-python3}" -m venv "$PREBAKE_TOOL"
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip install --quiet --require-hashes \
    --requirement "$source_folder/requirements-uv.txt"
  VIRTUAL_ENV="$PREBAKE_TOOL" "$PREBAKE_TOOL/bin/uv" pip install --quiet --require-hashes \
    --requirement "$source_folder/requirements.txt"
}

# Run this checkout, which is not installed. -P: no module of the workspace is imported.
offline_bundle() {
  "$python" -P -c 'import sys; sys.path.insert(0, sys.argv.pop(1)); from offline_bundle.cli import main; main()' \
    "$source_folder" "$@"
}

# Fill `arguments` with the scripts and the options, one word each.
collect_arguments() {
  arguments=()
  local line word
  while IFS= read -r line; do
    [ -z "$line" ] || arguments+=("$line")
  done <<<"${PREBAKE_SCRIPTS:?set it to one or more scripts}"
  # shellcheck disable=SC2086 # lists separated by spaces; no version or platform contains a character that a shell expands
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
    : "${PREBAKE_OUTPUT:?set it to a folder}"
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
