#!/usr/bin/env bash
# Checks a bundle and installs it on a machine without a network. Needs bash, coreutils, openssl 3
# and, to install, Docker. Nothing is built and nothing is pulled.
set -euo pipefail
shopt -s globstar dotglob nullglob
umask 022 # the engines, which are another user, read what is installed

readonly FAILED=12
# No list of files is longer, and no medium slower, by far.
readonly LIST_BYTES=16777216 BYTES_A_SECOND=1000000
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
         environment if this machine has the Python that the bundle names. An existing FOLDER is
         upgraded: its cloister.yaml, its state and, where the bundle brings no model, its models
         are kept, and all that was there lies in FOLDER.previous afterwards.

PUB is the signer's public key. It has to come on another way than the bundle, and so should this
script: whoever can change the bundle can change the copies in it.
END
}

# Old openssl has Ed25519 in its library only, and would call every signature a wrong one.
require_openssl() {
    command -v openssl >/dev/null || fail "openssl is not installed" "install OpenSSL 3.0 or newer"
    case "$(openssl pkeyutl -help 2>&1)" in
        *-rawin*) ;;
        *) fail "$(openssl version) cannot check the signature" "install OpenSSL 3.0 or newer" ;;
    esac
}

# Checks everything before anything is used. What says what is right is read once, into WORK.
verify() {
    local name line digest total=0
    require_openssl
    for name in SHA256SUMS SHA256SUMS.sig CONTENTS SIZES; do
        [ -f "$BUNDLE/$name" ] || [ "$name" != SIZES ] ||
            fail "\`$BUNDLE\` has no SIZES: an older Cloister made it" \
                "make it again, or use the bundle.sh that came with it"
        [ -f "$BUNDLE/$name" ] || fail "\`$BUNDLE\` is no bundle: it has no $name"
        head -c "$((LIST_BYTES + 1))" -- "$BUNDLE/$name" >"$WORK/$name" ||
            fail "\`$BUNDLE/$name\` could not be copied to $WORK" "make room, or set TMPDIR"
        [ "$(stat -c %s -- "$WORK/$name")" -le "$LIST_BYTES" ] ||
            fail "\`$BUNDLE/$name\` has more than $LIST_BYTES bytes; nothing of it was used"
    done
    [ -f "$KEY" ] || fail "there is no public key \`$KEY\`" "--key FILE, which the signer gave you"
    openssl pkeyutl -verify -pubin -inkey "$KEY" -rawin -in "$WORK/SHA256SUMS" \
        -sigfile "$WORK/SHA256SUMS.sig" >/dev/null 2>&1 ||
        fail "the signature of \`$BUNDLE\` is not of this key; nothing of it was used" \
            "check the key; if it is the right one, get the bundle again"
    while IFS= read -r line; do
        digest="${line%%  *}" name="${line#*  }"
        [[ "$digest" =~ ^[0-9a-f]{64}$ && "$name" =~ ^[A-Za-z0-9_][A-Za-z0-9_./+-]*$ &&
            "/$name/" != */../* ]] || fail "SHA256SUMS has a line that is none: $line"
        SUMS["$name"]="$digest"
    done <"$WORK/SHA256SUMS"
    for name in "$BUNDLE"/**; do
        [ ! -L "$name" ] || fail "\`$name\` is a link; a bundle has only files"
        [ ! -d "$name" ] || continue
        [ -f "$name" ] || fail "\`$name\` is no file; a bundle has only files"
        name="${name#"$BUNDLE"/}"
        case "$name" in SHA256SUMS | SHA256SUMS.sig) continue ;; esac
        [ -n "${SUMS[$name]:-}" ] || fail "\`$BUNDLE/$name\` was not signed; nothing may be added"
    done
    for name in CONTENTS SIZES; do
        printf '%s  %s\n' "${SUMS[$name]:-none}" "$name"
    done >"$WORK/lists.sum"
    (cd "$WORK" && sha256sum --check --strict --quiet lists.sum >&2) || not_signed
    while IFS= read -r line; do
        [[ "$line" =~ ^([0-9]{1,15})\ \ (.+)$ ]] || fail "SIZES has a line that is none: $line"
        SIZES["${BASH_REMATCH[2]}"]="${BASH_REMATCH[1]}"
        total=$((total + BASH_REMATCH[1]))
    done <"$WORK/SIZES"
    SIZES[SIZES]="$(stat -c %s -- "$WORK/SIZES")"
    require_sizes
    hash_all "$((total / BYTES_A_SECOND + 600))"
    say "verified: ${#SUMS[@]} files are what was signed"
}

# The sizes are right, and a file may grow now: its hash is not waited for without an end. In a
# process group of its own, which `timeout` makes without --foreground, nothing gets Ctrl-C.
hash_all() { # seconds
    local code=0
    (cd "$BUNDLE" && timeout --foreground "$1" \
        sha256sum --check --strict --quiet "$WORK/SHA256SUMS" >&2) || code=$?
    case "$code" in
        0) ;;
        1) not_signed ;;
        124)
            fail "reading \`$BUNDLE\` did not end within $1 s; nothing of it was used" \
                "copy it to a faster disk, and run this again"
            ;;
        *)
            fail "sha256sum ended with code $code; nothing of \`$BUNDLE\` was used" \
                "run this again"
            ;;
    esac
}

not_signed() {
    fail "\`$BUNDLE\` is not what was signed; nothing of it was used" "copy it again"
}

# Before anything is read: a file of any size can take the name of a small one.
require_sizes() {
    local size name
    (cd "$BUNDLE" && stat --printf '%s\t%n\n' -- "${!SUMS[@]}") >"$WORK/sizes" || not_signed
    while IFS=$'\t' read -r size name; do
        [ "$size" = "${SIZES[$name]:-none}" ] || {
            say "$name has $size bytes, and not ${SIZES[$name]:-those of a signed file}"
            not_signed
        }
    done <"$WORK/sizes"
}

room() { # where, KiB more than what comes there, what comes there
    local where="$1" more="$2" needed free
    shift 2
    needed="$(du -skc "$@" | tail -n 1 | cut -f1)"
    needed=$((needed + more))
    free="$(df -k --output=avail "$where" | tail -n 1)"
    [ "$((free))" -gt "$needed" ] ||
        fail "$where has $((free)) KiB free, and $needed KiB are needed" "make room"
}

require_room() {
    local beside root name part=0 rest=("$BUNDLE/project")
    for name in "${!SIZES[@]}"; do
        [[ "$name" != images.tar* || "${SIZES[$name]}" -le "$part" ]] || part="${SIZES[$name]}"
    done
    part=$((part / 1024 + 1)) # the copy that is given to Docker
    beside="$(dirname "$INTO")"
    [ ! -d "$BUNDLE/model" ] || rest+=("$BUNDLE/model")
    root="$(docker info --format '{{.DockerRootDir}}')"
    [ -d "$root" ] || root="$beside" # an engine that does not show its disk
    if [ "$(df --output=target "$root")" = "$(df --output=target "$beside")" ]; then
        room "$beside" "$part" "$BUNDLE"
    else
        room "$root" 0 "$BUNDLE"/images.tar*
        room "$beside" "$part" "${rest[@]}"
    fi
}

# Nothing but an installation of ours is ever moved away.
require_place() {
    local beside
    beside="$(dirname "$INTO")"
    mkdir -p "$beside" 2>/dev/null && [ -w "$beside" ] ||
        fail "$beside cannot be written" "run this as someone who may"
    [ -e "$INTO" ] || return 0
    rmdir "$INTO" 2>/dev/null || [ -f "$INTO/cloister/__init__.py" ] ||
        fail "$INTO holds something else than Cloister; nothing was changed" "--into another folder"
}

require_docker() {
    docker info >/dev/null 2>&1 || fail "no Docker engine runs here" "start it, or install one"
    # Its containers would go on with files of the folder that is moved away.
    [ -z "$(docker ps --quiet \
        --filter "label=com.docker.compose.project.working_dir=$INTO/compose")" ] ||
        fail "what is installed in $INTO is up" "cd $INTO && .venv/bin/invoke down"
}

# Prints a payload, which may be in parts: those that were signed, in their order, and of each as
# many bytes as were signed.
payload() { # name, how a part is printed
    local number
    if [ -n "${SUMS[$1]:-}" ]; then
        "$2" "$1"
        return
    fi
    for number in {000..999}; do
        [ -n "${SUMS[$1.$number]:-}" ] || break
        "$2" "$1.$number" || return # errexit is off on the left of ||
    done
}

part() { # name
    head -c "${SIZES[$1]}" -- "$BUNDLE/$1"
}

# What is read a second time from a medium need not be what was verified: the copy is, and is used.
# It has up to 256 MiB, which TMPDIR, often in memory, need not have.
checked_part() { # name
    part "$1" >"$STAGED/part" || return
    [ "$(sha256sum <"$STAGED/part")" = "${SUMS[$1]}  -" ] || {
        say "$1 is not what was verified"
        return 1
    }
    cat "$STAGED/part"
}

load_images() {
    local kind reference id digest found
    say "loading the images"
    rm -rf "$STAGED"
    mkdir -m 700 "$STAGED"
    payload images.tar checked_part | docker load --quiet >/dev/null ||
        fail "the images could not be loaded"
    rm -f "$STAGED/part"
    while IFS=$'\t' read -r kind reference id digest; do
        [ "$kind" = image ] || continue
        found="$(docker image inspect --format '{{.Id}}' "$reference")" ||
            fail "\`$reference\` was not in the images"
        # A classic engine names an image by its configuration, a containerd store by its manifest.
        [ "$found" = "$id" ] || [ "$found" = "$digest" ] ||
            fail "\`$reference\` is $found after loading, and was $id" \
                "remove it, and copy the bundle again"
    done <"$WORK/CONTENTS"
}

# Copies what was signed, and nothing that was put beside it since. The copies are checked: what is
# read a second time from a medium need not be what was read before.
copy_project() { # into
    local kind name target names=() largest=0
    for name in "${!SUMS[@]}"; do
        [ "${name%%/*}" = project ] || continue
        names+=("${name#project/}")
        [ "${SIZES[$name]}" -le "$largest" ] || largest="${SIZES[$name]}"
        printf '%s  %s\n' "${SUMS[$name]}" "${name#project/}" >>"$WORK/copied"
    done
    mkdir -m 700 "$1" # a link that was put there may have brought a file of ours
    (cd "$BUNDLE/project" && ulimit -f "$((largest / 1024 + 1))" &&
        cp --no-dereference --parents --preserve=mode -- "${names[@]}" "$1") ||
        fail "the project could not be copied; nothing was changed" "make room, and run this again"
    while IFS=$'\t' read -r kind name target; do
        [ "$kind" = model ] || continue
        [[ "$target" =~ ^models/[A-Za-z0-9_./-]+$ && "/$target/" != */../* ]] ||
            fail "CONTENTS has a model's file that belongs nowhere: $target"
        mkdir -p "$(dirname "$1/$target")"
        payload "$name" part >"$1/$target" ||
            fail "the model could not be copied; nothing was changed" \
                "make room, and run this again"
        [ "${target##*/}" != READY ] ||
            printf '%s  %s\n' "${SUMS[$name]:-${SUMS[$name.000]}}" "$target" >>"$WORK/copied"
    done <"$WORK/CONTENTS"
    say "checking the copies"
    for name in "$1"/**; do
        [ ! -L "$name" ] || fail "\`$name\` is a link and was not copied right; nothing was changed"
    done
    (cd "$1" && sha256sum --check --strict --quiet "$WORK/copied" >&2) ||
        fail "the bundle was not copied right; nothing was changed" "run this again"
    for name in "$1"/models/*/*/*/READY "$1"/models/*/*/READY; do
        (cd "$(dirname "$name")" && sha256sum --check --strict --quiet READY >&2) ||
            fail "the model was not copied right; nothing was changed" "run this again"
    done
    chmod -R u+rwX,go+rX,go-w "$1"
}

# What an earlier installation has and the bundle does not is kept.
keep() { # from, to
    local name
    for name in cloister.yaml .cloister models; do
        [ -e "$1/$name" ] || continue
        if [ "$name" = models ] && [ -e "$2/models" ]; then continue; fi
        rm -rf "${2:?}/$name"
        # Models are never changed in place, so a second name for the same bytes will do.
        if [ "$name" = models ] && cp -Rl "$1/$name" "$2/$name" 2>/dev/null; then continue; fi
        rm -rf "${2:?}/$name"
        cp -Rp "$1/$name" "$2/$name"
    done
}

# The packages are for one version of Python, which may be another one than python3.
make_environment() {
    local name python="" version
    read -r _ version _ <"$INTO/wheels/PYTHON"
    version="${version%.*}"
    for name in "python$version" python3 python; do
        if [ "$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ]
        then
            python="$name"
            break
        fi
    done
    [ -n "$python" ] || {
        say "no Python $version here, which the packages are for"
        say "hint: install it for \`invoke\`, then run this again"
        return
    }
    say "making the Python environment"
    "$python" -m venv --clear "$INTO/.venv" >/dev/null || fail "$python cannot make an environment" \
        "install its venv module (Debian: python3-venv), and run this again"
    "$INTO/.venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-index \
        --find-links "$INTO/wheels" --require-hashes -r "$INTO/requirements/runtime.txt" ||
        fail "the Python packages could not be installed" \
            "they are for $(cat "$INTO/wheels/PYTHON"), and this is $("$python" --version)"
    cp "$INTO/requirements/runtime.txt" "$INTO/.venv/requirements.txt"
    say "next: cd $INTO && .venv/bin/invoke up && .venv/bin/invoke verify"
}

# Every step can be killed and all of it run again.
install() {
    local earlier="$INTO" aside="$INTO.previous"
    require_docker
    require_room
    load_images
    rm -rf "$STAGED"
    copy_project "$STAGED"
    touch "$STAGED/.unfinished"
    if [ ! -e "$INTO" ]; then earlier="$INTO.previous"; fi # killed between the two moves below
    if [ -e "$earlier" ]; then
        say "keeping the settings and the state of $earlier"
        keep "$earlier" "$STAGED"
    fi
    if [ -e "$INTO" ]; then
        # Killed after them: the one that worked stays where it is.
        if [ -e "$INTO/.unfinished" ]; then aside="$INTO.unfinished"; fi
        rm -rf "$aside"
        mv "$INTO" "$aside"
        say "the earlier installation is kept as $aside"
    fi
    mv "$STAGED" "$INTO"
    say "installed in $INTO"
    make_environment
    rm "$INTO/.unfinished"
}

absolute() { # path, without slashes at its end
    local path="$1"
    while [[ "$path" == */ ]]; do path="${path%/}"; done
    case "$path" in /* | "") printf '%s' "$path" ;; *) printf '%s' "$PWD/$path" ;; esac
}

COMMAND="" BUNDLE="" KEY="" INTO=""
declare -A SUMS=() SIZES=()
while [ $# -gt 0 ]; do
    case "$1" in
        --key | --into)
            [ -n "${2:-}" ] || fail "$1 needs a value" "bundle.sh --help"
            if [ "$1" = --key ]; then KEY="$(absolute "$2")"; else INTO="$(absolute "$2")"; fi
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            if [ -z "$COMMAND" ]; then COMMAND="$1"; elif [ -z "$BUNDLE" ]; then BUNDLE="$(absolute "$1")"; else
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
WORK="$(mktemp -d)"
STAGED="$INTO.installing"
trap 'rm -rf "$WORK"; [ -z "$INTO" ] || rm -f "$STAGED/part"' EXIT
# Without these, a program that handles Ctrl-C itself ends, and the script continues after it.
trap 'exit 130' INT
trap 'exit 129' HUP
case "$COMMAND" in
    verify) verify ;;
    install)
        [ -n "$INTO" ] || fail "install needs --into FOLDER"
        require_place
        verify
        install
        ;;
    *) fail "unknown command $COMMAND" "bundle.sh --help" ;;
esac
