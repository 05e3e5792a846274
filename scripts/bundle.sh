#!/usr/bin/env bash
# Checks a bundle and installs it on a machine without a network. Needs bash, coreutils, openssl
# and, to install, Docker. Nothing is built and nothing is pulled.
set -euo pipefail
shopt -s globstar dotglob nullglob

readonly FAILED=12
say() { printf '%s\n' "$*" >&2; }
fail() { # message, what to type
    say "error: $1"
    [ -z "${2:-}" ] || say "hint: $2"
    exit "$FAILED"
}

usage() {
    cat <<'END'
usage: bundle.sh verify BUNDLE --key PUB
       bundle.sh install BUNDLE --key PUB --into FOLDER

verify   checks the signature, and every byte of the bundle
install  does that, then loads the images, copies everything into FOLDER, and makes the Python
         environment if this machine has Python 3.11 or newer. An existing FOLDER is upgraded: its
         cloister.yaml, its state and, where the bundle brings no model, its models are kept.

PUB is the signer's public key. It has to come on another way than the bundle, and so should this
script: whoever can change the bundle can change the copies in it.
END
}

# Checks everything before anything is used.
verify() {
    local name line digest
    for name in SHA256SUMS SHA256SUMS.sig CONTENTS; do
        [ -f "$BUNDLE/$name" ] || fail "\`$BUNDLE\` is no bundle: it has no $name"
    done
    [ -f "$KEY" ] || fail "there is no public key \`$KEY\`" "--key FILE, which the signer gave you"
    openssl pkeyutl -verify -pubin -inkey "$KEY" -rawin -in "$BUNDLE/SHA256SUMS" \
        -sigfile "$BUNDLE/SHA256SUMS.sig" >/dev/null 2>&1 ||
        fail "the signature of \`$BUNDLE\` is not of this key; nothing of it was used" \
            "check the key; if it is the right one, get the bundle again"
    declare -gA SUMS=()
    while IFS= read -r line; do
        digest="${line%%  *}" name="${line#*  }"
        [[ "$digest" =~ ^[0-9a-f]{64}$ && "$name" =~ ^[A-Za-z0-9_][A-Za-z0-9_./+-]*$ &&
            "/$name/" != */../* ]] || fail "SHA256SUMS has a line that is none: $line"
        SUMS["$name"]="$digest"
    done <"$BUNDLE/SHA256SUMS"
    for name in "$BUNDLE"/**; do
        [ ! -L "$name" ] || fail "\`$name\` is a link; a bundle has only files"
        [ ! -d "$name" ] || continue
        name="${name#"$BUNDLE"/}"
        case "$name" in SHA256SUMS | SHA256SUMS.sig) continue ;; esac
        [ -n "${SUMS[$name]:-}" ] || fail "\`$BUNDLE/$name\` was not signed; nothing may be added"
    done
    (cd "$BUNDLE" && sha256sum --check --strict --quiet SHA256SUMS >&2) ||
        fail "\`$BUNDLE\` is not what was signed; nothing of it was used" "copy it again"
    say "verified: ${#SUMS[@]} files are what was signed"
}

require_room() {
    local needed free
    needed="$(du -sk "$BUNDLE" | cut -f1)"
    free="$(df -Pk "$(dirname "$INTO")" | tail -n 1 | tr -s ' ' | cut -d' ' -f4)"
    [ "$free" -gt "$needed" ] ||
        fail "$(dirname "$INTO") has $free KiB free, and $needed KiB are needed" "make room"
}

require_docker() {
    docker info >/dev/null 2>&1 || fail "no Docker engine runs here" "start it, or install one"
}

# Prints a payload, which may be in parts. Signed parts only, in their order.
payload() { # name
    local parts=("$BUNDLE/$1".[0-9][0-9][0-9])
    if [ "${#parts[@]}" -gt 0 ]; then cat "${parts[@]}"; else cat "$BUNDLE/$1"; fi
}

load_images() {
    local kind reference id digest found
    say "loading the images"
    payload images.tar | docker load --quiet >/dev/null || fail "the images could not be loaded"
    while IFS=$'\t' read -r kind reference id digest; do
        [ "$kind" = image ] || continue
        found="$(docker image inspect --format '{{.Id}}' "$reference")" ||
            fail "\`$reference\` was not in the images"
        # A classic engine names an image by its configuration, a containerd store by its manifest.
        [ "$found" = "$id" ] || [ "$found" = "$digest" ] ||
            fail "\`$reference\` is $found after loading, and was $id"
    done <"$BUNDLE/CONTENTS"
}

copy_project() { # into
    local kind name target
    cp -R "$BUNDLE/project" "$1"
    while IFS=$'\t' read -r kind name target; do
        [ "$kind" = model ] || continue
        mkdir -p "$(dirname "$1/$target")"
        payload "$name" >"$1/$target"
    done <"$BUNDLE/CONTENTS"
    for ready in "$1"/models/*/*/*/READY "$1"/models/*/*/READY; do
        say "verifying $(dirname "${ready#"$1"/}")"
        (cd "$(dirname "$ready")" && sha256sum --check --strict --quiet READY >&2) ||
            fail "the model was not copied right" "run this again"
    done
}

# What an earlier installation has and the bundle does not is kept.
keep() { # from, to
    local name
    for name in cloister.yaml .cloister models; do
        [ -e "$1/$name" ] || continue
        if [ "$name" = models ] && [ -e "$2/models" ]; then continue; fi
        rm -rf "${2:?}/$name"
        # Models are never changed in place, so a second name for the same bytes will do.
        if [ "$name" = models ]; then cp -Rl "$1/$name" "$2/$name"; else cp -Rp "$1/$name" "$2/$name"; fi
    done
}

make_environment() {
    local python=""
    for name in python3 python3.11 python3.12 python3.13; do
        if command -v "$name" >/dev/null && "$name" -c \
            'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python="$name"
            break
        fi
    done
    [ -n "$python" ] || {
        say "no Python 3.11 or newer here: install it for \`invoke\`, then run this again"
        return
    }
    say "making the Python environment"
    "$python" -m venv "$INTO/.venv" >/dev/null || fail "$python cannot make an environment" \
        "install its venv module (Debian: python3-venv), and run this again"
    "$INTO/.venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-index \
        --find-links "$INTO/wheels" --require-hashes -r "$INTO/requirements/runtime.txt" ||
        fail "the Python packages could not be installed" \
            "they are for $(cat "$INTO/wheels/PYTHON"), and this is $("$python" --version)"
    cp "$INTO/requirements/runtime.txt" "$INTO/.venv/requirements.txt"
}

install() {
    local staged="$INTO.installing"
    require_docker
    mkdir -p "$(dirname "$INTO")"
    require_room
    load_images
    rm -rf "$staged"
    copy_project "$staged"
    if [ -e "$INTO" ]; then
        keep "$INTO" "$staged"
        rm -rf "$INTO.previous"
        mv "$INTO" "$INTO.previous"
        say "the earlier installation is kept as $INTO.previous"
    fi
    mv "$staged" "$INTO"
    make_environment
    say "installed in $INTO; next: cd $INTO && .venv/bin/invoke up && .venv/bin/invoke verify"
}

COMMAND="" BUNDLE="" KEY="" INTO=""
while [ $# -gt 0 ]; do
    case "$1" in
        --key) KEY="${2:-}" && shift ;;
        --into) INTO="${2:-}" && shift ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            if [ -z "$COMMAND" ]; then COMMAND="$1"; elif [ -z "$BUNDLE" ]; then BUNDLE="${1%/}"; else
                fail "unknown argument $1" "bundle.sh --help"
            fi
            ;;
    esac
    shift
done
[ -n "$BUNDLE" ] && [ -n "$KEY" ] || {
    usage >&2
    exit 1
}
case "$COMMAND" in
    verify) verify ;;
    install)
        [ -n "$INTO" ] || fail "install needs --into FOLDER"
        case "$INTO" in /*) ;; *) INTO="$PWD/$INTO" ;; esac
        verify
        install
        ;;
    *) fail "unknown command $COMMAND" "bundle.sh --help" ;;
esac
