# Sourced by the scripts beside it: Python, the environment .venv, nginx and Docker.
# shellcheck shell=bash
# Works with bash 3.2, which macOS still has.

MINIMUM_PYTHON="3.11"
# An ordinary PATH, and that of root after `su`, lack the folders of system programs: nginx,
# dockerd, ip and what dpkg calls.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# Networks that inspect TLS put their authority into the system's store, which uv ignores by default.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"

is_ci() {
    case "${CI:-}" in
        [Tt]rue | TRUE | 1 | [Yy]es | YES) return 0 ;;
        *) return 1 ;;
    esac
}

# A network that comes up late, or a registry that is away for minutes, is waited for: all three wait
# longer from one try to the next, pip up to 2 minutes and apt-get up to 30 s. A person would rather
# know after 8 minutes; with CI=true nobody watches, and it is three quarters of an hour.
if is_ci; then
    : "${PIP_RETRIES:=30}" "${APT_RETRIES:=90}"
else
    : "${PIP_RETRIES:=12}" "${APT_RETRIES:=18}"
fi
export PIP_RETRIES UV_HTTP_RETRIES="${UV_HTTP_RETRIES:-20}"
# How long apt-get waits for another program to release the locks of dpkg and apt.
APT_LOCK_TIMEOUT_S="${APT_LOCK_TIMEOUT_S:-300}"
# Programs that handle Ctrl-C themselves, such as apt-get, end as if nothing had happened. Without
# this trap the script would continue after them. A closed terminal sends HUP, on which bash alone does
# not always finish its EXIT trap. TERM stays as it is: a trap would wait for the program in front.
trap 'exit 130' INT
trap 'exit 129' HUP

say() { printf '%s\n' "$*" >&2; }

fail() { # code, message, what to type
    say "error: $2"
    say "hint: $3"
    exit "$1"
}

# Prints the package manager's name, or nothing.
package_manager() {
    local name
    for name in apt-get dnf yum zypper apk pacman brew; do
        if command -v "$name" >/dev/null 2>&1; then
            printf '%s' "$name"
            return
        fi
    done
}

# Prints the command that installs packages, for a person or for `install`.
install_command() { # packages...
    case "$(package_manager)" in
        apt-get) printf 'apt-get install -y %s' "$*" ;;
        dnf) printf 'dnf install -y %s' "$*" ;;
        yum) printf 'yum install -y %s' "$*" ;;
        zypper) printf 'zypper --non-interactive install %s' "$*" ;;
        apk) printf 'apk add %s' "$*" ;;
        pacman) printf 'pacman -S --noconfirm %s' "$*" ;;
        brew) printf 'brew install %s' "$*" ;;
        *) printf 'your package manager, for %s' "$*" ;;
    esac
}

# Prints the name of what is wanted in the repositories of this machine's distribution, or nothing
# where none is known: nginx' Lua module is in the AUR alone on Arch, and in no repository of
# Fedora, openSUSE and Homebrew.
package_for() { # what
    case "$1:$(package_manager)" in
        python:apk) printf python3 ;;
        python:pacman) printf python ;;
        python:dnf | python:yum) printf python3.11 ;;
        python:zypper) printf python311 ;;
        python:brew) printf python@3.13 ;;
        nginx-lua:apt-get) printf libnginx-mod-http-lua ;;
        nginx-lua:apk) printf nginx-mod-http-lua ;;
        nginx-lua:*) ;;
        poppler:brew | poppler:pacman) printf poppler ;;
        poppler:zypper) printf poppler-tools ;;
        poppler:*) printf poppler-utils ;;
        ip:dnf | ip:yum) printf iproute ;;
        ip:brew) printf iproute2mac ;;
        ip:*) printf iproute2 ;;
        docker-registry:apt-get | docker-registry:apk) printf docker-registry ;;
        docker-registry:zypper) printf distribution-registry ;;
        docker-registry:*) ;;
        *) printf '%s' "$1" ;;
    esac
}

# Prints what a person types to install packages.
install_hint() { # packages...
    case "$(package_manager)" in
        "") printf 'install it with your package manager: %s' "$*" ;;
        brew) install_command "$@" ;; # which refuses root
        *) printf 'as root: %s' "$(install_command "$@")" ;;
    esac
}

# Says that a program of the tests is missing, and how to install it.
say_missing() { # program, what is left out
    local package
    package="$(package_for "$1")"
    say "no $1 here: $2"
    if [ -n "$package" ]; then
        say "hint: $(install_hint "$package")"
    else
        say "hint: no package of it is known for $(package_manager)"
    fi
}

# Runs a command as root. Asks for a password only where somebody sits.
as_root() {
    if [ "$(id -u)" = 0 ] || [ "$(package_manager)" = brew ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        return 1
    fi
}

install() { # what it is, packages...
    local what="$1" manager
    shift
    manager="$(package_manager)"
    say "installing $what: $(install_command "$@")"
    if [ "$manager" = apt-get ]; then
        if [ -z "${APT_UPDATED:-}" ]; then
            run_apt -qq update || ! is_locked || explain_apt "$what" "$@"
            APT_UPDATED=yes
        fi
        run_apt install -y "$@" || explain_apt "$what" "$@"
        return
    fi
    # shellcheck disable=SC2046  # the command is a list of plain words
    if [ -z "$manager" ] || ! as_root $(install_command "$@") >&2; then
        fail 10 "$what is missing and could not be installed" "$(install_hint "$@")"
    fi
}

# Runs apt-get and keeps its errors in APT_ERRORS. apt-get itself waits for the lock of dpkg only,
# and fails at once where another program holds the lock of the package lists: this function retries.
# Only stderr is captured: without a terminal as stdout, apt-get does not shield dpkg from Ctrl-C.
run_apt() { # arguments of apt-get...
    local deadline=$((SECONDS + APT_LOCK_TIMEOUT_S)) timeout=0 code patience
    while :; do
        code=0
        patience=(-o DPkg::Lock::Timeout="$timeout" -o Acquire::Retries="$APT_RETRIES")
        # Descriptors 8 and 9 are locks of these scripts, which a new service must not keep.
        { APT_ERRORS="$(as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
            apt-get "${patience[@]}" "$@" 2>&1 >&3 8>&- 9<&-)" || code=$?; } 3>&2
        [ "$code" != 0 ] && is_locked && [ "$SECONDS" -lt "$deadline" ] || break
        [ "$timeout" != 0 ] ||
            say "waiting up to $APT_LOCK_TIMEOUT_S s for another package manager: $APT_ERRORS"
        timeout=$((deadline - SECONDS))
        sleep 1
    done
    [ -z "$APT_ERRORS" ] || say "$APT_ERRORS"
    return "$code"
}

is_locked() {
    case "$APT_ERRORS" in
        *"Could not get lock"* | *"is another process using it"*) return 0 ;;
        *) return 1 ;;
    esac
}

explain_apt() { # what it is, packages...
    local what="$1"
    shift
    case "$APT_ERRORS" in
        *"dpkg was interrupted"*)
            fail 10 "$what is missing, and apt-get installs nothing after dpkg was interrupted" \
                "as root: dpkg --configure -a; then run this again"
            ;;
    esac
    if is_locked; then
        fail 10 \
            "$what is missing: another package manager held its lock for $APT_LOCK_TIMEOUT_S s" \
            "wait until it ends, then run this again"
    fi
    fail 10 "$what is missing and could not be installed" "$(install_hint "$@")"
}

is_new_enough() { # python
    "$1" -c "import sys; sys.exit(sys.version_info < (${MINIMUM_PYTHON/./, }))" 2>/dev/null
}

# Prints the first Python that is new enough, or nothing. Where .venv is active, its Python comes
# first on PATH, and .venv may be about to be removed: this prints the Python below it.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$name" >/dev/null 2>&1 && is_new_enough "$name"; then
            "$name" -c 'import sys; print(getattr(sys, "_base_executable", "") or sys.executable)'
            return
        fi
    done
}

require_python() {
    PYTHON="$(find_python)"
    if [ -z "$PYTHON" ]; then
        case "$(package_manager)" in
            apt-get) install "Python" python3 python3-venv ;;
            ?*) install "Python" "$(package_for python)" ;;
        esac
        PYTHON="$(find_python)"
    fi
    local found="no python3"
    ! command -v python3 >/dev/null 2>&1 || found="$(python3 --version 2>&1)"
    [ -n "$PYTHON" ] || fail 10 \
        "Python $MINIMUM_PYTHON or newer was not found; there is $found" \
        "install Python $MINIMUM_PYTHON or newer and its venv module, then run this again"
}

# Makes .venv and brings it to the pinned requirements; a second run has nothing to do.
require_environment() {
    # Two runs at once would delete each other's files. A child of a killed run keeps the lock too.
    {
        wait_for_environment
        if ! is_environment; then
            remove_environment
            make_environment
            pwd -P >.venv/made-in
        fi
        # uv would ask the registry even when all is installed; a copy of the list tells without it.
        cmp -s requirements/runtime.txt .venv/requirements.txt || install_requirements
    } 9<.
}

wait_for_environment() {
    command -v flock >/dev/null 2>&1 || return 0
    wait_for_lock -x 9 "another run of these scripts, which installs into .venv" ||
        say "this file system has no locks: continuing"
}

# An environment is complete once its requirements.txt is there, which is written last. It must also
# have been made in this folder: the programs in it name their interpreter by its full path.
is_environment() {
    [ -f .venv/requirements.txt ] || return 1
    [ ! -f .venv/made-in ] || [ "$(cat .venv/made-in)" = "$(pwd -P)" ] || return 1
    # A newer Python of the system does not see the packages of the older one.
    .venv/bin/python -I -c "import sys, importlib.util
is_old = sys.version_info < (${MINIMUM_PYTHON/./, })
is_environment = sys.prefix != sys.base_prefix and importlib.util.find_spec('pip')
sys.exit(is_old or not is_environment)" 2>/dev/null
}

remove_environment() {
    if [ ! -e .venv ] && [ ! -L .venv ]; then return; fi
    say ".venv is incomplete, or is of another Python or folder: creating it again"
    rm -rf .venv || fail 10 ".venv cannot be removed" "as root: rm -rf '$(pwd -P)/.venv'"
}

# An interruption leaves .venv without requirements.txt, and the next run creates .venv again. A failure
# that changed no package, such as one of the network, leaves .venv as it was.
install_requirements() {
    local stamp=.venv/requirements.txt
    cp requirements/runtime.txt "$stamp.new"
    [ ! -f "$stamp" ] || mv -f "$stamp" "$stamp.old"
    say "installing Python packages into .venv; a network that is away is waited for, some minutes"
    if .venv/bin/python -m uv --version >/dev/null 2>&1 ||
        .venv/bin/python -m pip --quiet --disable-pip-version-check install \
            --require-hashes -r requirements/uv.txt; then
        if .venv/bin/python -m uv --quiet pip sync --python .venv/bin/python --require-hashes \
            requirements/runtime.txt; then
            mv -f "$stamp.new" "$stamp"
            rm -f "$stamp.old"
            return
        fi
    fi
    if [ -f "$stamp.old" ] && [ -z "$(find .venv/lib -name site-packages -newer "$stamp.new")" ]; then
        mv -f "$stamp.old" "$stamp"
    fi
    fail 10 "the Python packages of requirements/runtime.txt could not be installed" \
        "check the network and the free disk space, then run this again"
}

make_environment() {
    [ -w . ] || fail 10 "$(id -un) may not write in $(pwd -P), where .venv has to be" \
        "run this as the owner of the folder, or in a clone of your own"
    if "$PYTHON" -m venv .venv >/dev/null 2>&1; then
        return
    fi
    # Debian keeps a part of venv in a package of its own.
    rm -rf .venv
    if [ "$(package_manager)" = apt-get ]; then
        install "Python's venv" "python$("$PYTHON" -c \
            'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    "$PYTHON" -m venv .venv || fail 10 "$PYTHON cannot make a virtual environment" \
        "install its venv module and run this again"
}

has_nginx() { command -v nginx >/dev/null 2>&1; }

# nginx prints where its modules are.
has_nginx_lua() {
    local folder=/usr/lib/nginx/modules
    [[ "$(nginx -V 2>&1)" =~ --modules-path=([^ ]+) ]] && folder="${BASH_REMATCH[1]}"
    [ -e "$folder/ngx_http_lua_module.so" ]
}

require_nginx() {
    local package
    package="$(package_for nginx-lua)"
    has_nginx_lua || [ -n "$package" ] || fail 10 \
        "nginx' Lua module is missing, and no package of it is known for this machine" \
        "use the docker runtime (invoke up --set runtime=docker), or build the module"
    install_nginx
    has_nginx_lua && return
    install "nginx' Lua module" "$package"
    has_nginx_lua || fail 10 "nginx' Lua module was installed but is not found" \
        "use the docker runtime: invoke up --set runtime=docker"
}

install_nginx() {
    has_nginx && return
    install nginx nginx
    has_nginx || fail 10 "nginx was installed but is not found" "put it on PATH"
    # Distributions start their own nginx on port 80. Nobody asked for that one.
    if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
        as_root systemctl disable --now nginx >/dev/null 2>&1 &&
            say "stopped the distribution's own nginx service, which nothing here needs"
    fi
    return 0
}

# curl is a client under test, and olmOCR, another, draws pages with poppler.
require_client_tools() {
    command -v curl >/dev/null 2>&1 || install curl curl
    command -v pdftoppm >/dev/null 2>&1 || install poppler "$(package_for poppler)"
}

has_docker() { command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

# The engine that was started by hand on this machine: its process number, and a lock that every run
# of the tests shares, in whatever checkout. In a folder of root, who alone starts one.
DOCKERD_FILE="${DOCKERD_FILE:-/run/cloister-dockerd}"

# Lets other runs know that this one needs the engine; waits while the last one stops it.
share_docker() {
    { exec 8>>"$DOCKERD_FILE"; } 2>/dev/null ||
        fail 10 "$DOCKERD_FILE cannot be written" "touch $DOCKERD_FILE prints why"
    wait_for_lock -s 8 "another run of the tests, which stops the Docker engine"
    SHARES_DOCKER=yes
}

wait_for_lock() { # -s to share it or -x, descriptor, who may have it
    flock "$1" -n "$2" && return
    say "waiting for $3"
    flock "$1" "$2"
}

# Prints the process number of the engine that a run started, or nothing where it has ended.
dockerd_pid() {
    local pid=""
    read -r pid <"$DOCKERD_FILE" || return 0 # nobody started one by hand
    # The number may be another program's by now.
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != dockerd ] || printf '%s' "$pid"
}

# Two runs that start together must not start two engines: the second one would end at once, and its
# number would replace that of the first, which nobody would stop then.
require_engine() {
    {
        wait_for_lock -x 7 "another run of the tests, which starts the Docker engine"
        has_docker || start_docker
    } 7>>"$DOCKERD_FILE.start"
}

# Starts an engine where no service manager does; the last run that needs it stops it.
start_docker() {
    local log=.nox/dockerd.log pid
    if [ -d /run/systemd/system ] && as_root systemctl start docker >/dev/null 2>&1; then
        return
    fi
    mkdir -p .nox
    pid="$(dockerd_pid)" # where a run was killed before its engine was ready
    if [ -z "$pid" ]; then
        say "starting dockerd by hand; its log is $log"
        setsid dockerd >"$log" 2>&1 7>&- 8>&- &
        pid=$!
        echo "$pid" >"$DOCKERD_FILE"
    fi
    for _ in $(seq 240); do
        has_docker && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
    done
    fail 10 "dockerd did not start: $(tail -n 1 "$log" 2>/dev/null)" "read $log, then run this again"
}

stop_docker() {
    [ -n "${SHARES_DOCKER:-}" ] || return 0
    flock --exclusive --nonblock 8 || return 0 # another run needs it
    local pid
    pid="$(dockerd_pid)"
    [ -n "$pid" ] || return 0
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 120); do
        if ! kill -0 "$pid" 2>/dev/null; then
            : >"$DOCKERD_FILE"
            return
        fi
        sleep 0.5
    done
    say "error: dockerd did not stop within 60 s"
    say "hint: kill -9 $pid"
}

# Where the packages of the container tests can be installed without a password.
is_root_on_debian() { [ "$(id -u)" = 0 ] && [ "$(package_manager)" = apt-get ]; }

# Installs and starts an engine where that is allowed: as root, with apt-get, and asked for.
require_docker() { # yes, or empty to ask
    ! is_root_on_debian || share_docker
    if has_docker; then
        require_ip "$1"
        return
    fi
    if ! is_root_on_debian; then
        say "no Docker engine here, and only root on Debian can install one by this script:"
        say "the container tests will be skipped"
        return
    fi
    if [ -z "$1" ] && [ -t 0 ]; then
        read -r -p "Install and start Docker for the container tests? [y/N] " answer
        case "$answer" in [yY]*) set -- yes ;; esac
    fi
    if [ -z "$1" ]; then
        say "no Docker engine here; --yes installs and starts one. Container tests will be skipped"
        return
    fi
    command -v dockerd >/dev/null 2>&1 || install "Docker" docker.io
    require_ip "$1"
    require_engine
}

# The container tests make a machine outside with ip.
require_ip() { # yes, or empty to do without
    command -v ip >/dev/null 2>&1 && return
    if [ -z "$1" ] || ! is_root_on_debian; then
        say_missing ip "some container tests will fail"
        return
    fi
    install iproute2 iproute2
}

# A registry for the tests of what is pushed and pulled; each starts one of its own.
require_registry() { # yes, or empty to do without
    command -v docker-registry >/dev/null 2>&1 && return
    if [ -z "$1" ] || ! is_root_on_debian; then
        say_missing docker-registry "the tests that push and pull will be skipped"
        return
    fi
    install "a registry" docker-registry
    if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
        as_root systemctl disable --now docker-registry >/dev/null 2>&1 || true
    fi
}

# skopeo, for the tests of publishing. cosign they fetch themselves: Debian 12 has none.
require_skopeo() { # yes, or empty to do without
    command -v skopeo >/dev/null 2>&1 && return
    if [ -z "$1" ] || ! is_root_on_debian; then
        say_missing skopeo "the tests of publishing will be skipped"
        return
    fi
    install skopeo skopeo
}
