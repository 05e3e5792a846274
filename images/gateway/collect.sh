#!/usr/bin/env bash
# Gathers nginx, its Lua module, the libraries that it loads, their licences and package records in a folder that
# becomes the image's whole file system.
set -euo pipefail

root="$1"
owner=10001

copy() { # path: the file itself, and whatever its links lead to
    mkdir -p "$root$(dirname "$1")"
    cp -a "$1" "$root$1"
    if [ -L "$1" ]; then
        copy "$(readlink -f "$1")"
    fi
}

# dpkg knows files by the paths they were installed to, some of them from before /lib became a link.
package_of() {
    local path
    for path in "$(readlink -f "$1")" "${1#/usr}" "$1"; do
        if dpkg-query -S "$path" >/tmp/owner 2>/dev/null; then
            cut -d: -f1 /tmp/owner
            return
        fi
    done
    echo "no package has $1" >&2
    return 1
}

mkdir -p "$root"/{etc/cloister,run/cloister,usr/bin,usr/lib,usr/sbin,var/lib/dpkg/status.d}
ln -s usr/lib "$root/lib"
[ -L /lib64 ] && ln -s usr/lib64 "$root/lib64" && mkdir -p "$root/usr/lib64"

modules=/usr/lib/nginx/modules
programs=(/usr/sbin/nginx "$modules/ndk_http_module.so" "$modules/ngx_http_lua_module.so")
packages=()
for program in "${programs[@]}"; do
    copy "$program"
    packages+=("$(package_of "$program")")
done
# What the Lua module loads when nginx starts.
copy /usr/share/lua/5.1/resty
copy /usr/share/lua/5.1/ngx
packages+=(lua-resty-core lua-resty-lrucache)
while read -r library; do
    library="$(realpath -s "$library")"
    case "$library" in /lib*) library="/usr$library" ;; esac
    copy "$library"
    packages+=("$(package_of "$library")")
done < <(ldd "${programs[@]}" | grep -o '=> /[^ ]*\|^\s/[^ ]*' | grep -o '/[^ ]*')

# The same records as in a distroless image, so that scanners know what is inside.
printf '%s\n' "${packages[@]}" | sort -u | while read -r package; do
    dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
    mkdir -p "$root/usr/share/doc/$package"
    cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/"
done

cp /build/healthcheck /build/start "$root/usr/bin/"
cp /etc/os-release "$root/etc/os-release"
printf 'cloister:x:%s:%s::/nonexistent:/usr/sbin/nologin\n' $owner $owner >"$root/etc/passwd"
printf 'cloister:x:%s:\n' $owner >"$root/etc/group"
chown $owner:$owner "$root/run/cloister"
find "$root" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
