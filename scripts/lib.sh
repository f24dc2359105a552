# Shared by the scripts here: finding the workspace and getting the tools that they need.
# shellcheck shell=bash

set -euo pipefail
# Where the script was started.
here="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# need COMMAND=PACKAGE…: installs the Debian packages of missing commands, or says how to.
need() {
    local missing=() entry
    for entry in "$@"; do
        command -v "${entry%%=*}" >/dev/null 2>&1 || missing+=("${entry#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "missing tools; please run: sudo apt-get install ${missing[*]}"
        root=(sudo -n)
    fi
    command -v apt-get >/dev/null || fail "missing tools, and no apt-get here: install ${missing[*]}"
    say "installing ${missing[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
        fail "cannot install ${missing[*]}: please do that by hand"
}

need_rust() {
    command -v cargo >/dev/null 2>&1 ||
        fail "no cargo: install a Rust toolchain (1.95 or later), for example with rustup, and put it in PATH"
}

# Where cargo puts what it builds.
target_directory() {
    cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

# build PROFILE: builds the rr binary and sets RR to its path.
build() {
    say "building rr ($1)"
    local flags=()
    [ "$1" = release ] && flags=(--release)
    cargo build --quiet "${flags[@]}" --bin rr
    RR="$(target_directory)/$1/rr"
    [ -x "$RR" ] || fail "cargo built no $RR"
}

# rr_to_test: sets RR to $RR_BIN, which may be relative to where the script was started, or else builds a release.
rr_to_test() {
    RR="${RR_BIN:-}"
    [ -n "$RR" ] || build release
    [ "${RR#/}" != "$RR" ] || RR="$here/$RR"
}
