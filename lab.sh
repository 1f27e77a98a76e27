#!/bin/sh
# Set up what the lab needs on a fresh Debian 12/13 or Ubuntu machine, then run it.
#
#   sudo ./lab.sh demo           set up, measure the quick suite on real targets, build the report
#   sudo ./lab.sh test [ARG...]  set up, with the peers and the tools, and run every test (ARG goes to tox)
#   ./lab.sh ANYTHING            `lab ANYTHING` in the same environment
#
# Safe to repeat: a step that is done is not done again until a file changes that says what is installed.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
venv=$here/.venv
log=$venv/setup.log
EXIT_UNAVAILABLE=3

# What every use needs: the virtual environment (libvirt-python is compiled), QEMU with libvirt's embedded driver,
# the makers of base images and disks, and the programs that workloads call.
BASE_PACKAGES="python3-venv python3-dev gcc libc6-dev pkg-config libvirt-dev
    libvirt0 libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils
    mmdebstrap busybox-static e2fsprogs erofs-utils squashfs-tools cpio kmod lz4 zstd xz-utils
    iproute2 nftables util-linux libseccomp2 fio iperf3 git ca-certificates"

# What the tests need besides: every peer, so that no arm goes untested, and the tools of the lint run.
TEST_PACKAGES="docker.io docker-compose podman runc crun skopeo docker-registry dnsmasq-base shellcheck"
# Not in every release of every distribution; what is missing is then reported by `lab doctor`.
OPTIONAL_TEST_PACKAGES="docker-cli runsc chromium-headless-shell virtiofsd"

say() { printf 'lab.sh: %s\n' "$*" >&2; }

refuse() {
    say "$@"
    exit "$EXIT_UNAVAILABLE"
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    refuse "Python 3.11 or later is needed and not found; on Debian and Ubuntu: apt-get install python3"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || refuse "$1 needs root: run 'sudo $0 $2'"
}

digest() {
    (cd "$here" && cat lab.sh pyproject.toml setup.py bin/* lab/cli/command_client.c) | sha256sum | cut -d ' ' -f 1
}

# is_done STEP: whether STEP was finished with these very files.
is_done() { [ "$(cat "$venv/$1.stamp" 2>/dev/null)" = "$(digest)" ]; }

mark_done() { digest >"$venv/$1.stamp"; }

# quietly WHAT COMMAND...: run with the output in the log; show its end if the command fails.
quietly() {
    what=$1
    shift
    say "$what ..."
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        say "$what failed; the whole log is in $log"
        exit 1
    fi
}

require_debian() {
    # shellcheck source=/dev/null
    family=$(. /etc/os-release 2>/dev/null && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
    case " $family " in
    *" debian "* | *" ubuntu "*) command -v apt-get >/dev/null && return ;;
    esac
    say "this is not Debian or Ubuntu, so nothing was installed; install what these Debian packages hold, then"
    say "make the environment with: python3 -m venv .venv && .venv/bin/pip install -e '.[test,lint]'"
    # word splitting is meant: one package a word
    # shellcheck disable=SC2086
    printf '  %s\n' $BASE_PACKAGES >&2
    say "and for the tests:"
    # shellcheck disable=SC2086
    printf '  %s\n' $TEST_PACKAGES $OPTIONAL_TEST_PACKAGES >&2
    exit "$EXIT_UNAVAILABLE"
}

# The lab starts what it needs by itself: while packages are installed, no service of theirs may be started.
# (A machine that has such a policy already keeps its own.)
policy=/usr/sbin/policy-rc.d
forbid_services() {
    [ -e "$policy" ] && return
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours=yes
}

allow_services() {
    [ "${ours:-}" = yes ] || return 0
    rm -f "$policy"
    trap - EXIT INT TERM
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing_of() {
    for package in "$@"; do
        is_installed "$package" || printf '%s ' "$package"
    done
}

known_of() {
    for package in "$@"; do
        [ -z "$(apt-cache --quiet=0 madison "$package" 2>/dev/null)" ] || printf '%s ' "$package"
    done
}

# apt_install REQUIRED OPTIONAL: install what is missing of two lists of packages. The lists of packages are read in any
# case: the guest kernel and the base images are made from them.
apt_install() {
    # shellcheck disable=SC2086
    required=$(missing_of $1)
    # shellcheck disable=SC2086
    optional=$(missing_of $2)
    export DEBIAN_FRONTEND=noninteractive
    quietly "reading the package lists" apt-get -o DPkg::Lock::Timeout=300 -q update
    # shellcheck disable=SC2086
    wanted="$required$(known_of $optional)"
    [ -n "$wanted" ] || return 0
    forbid_services
    # shellcheck disable=SC2086
    quietly "installing $wanted" apt-get -o DPkg::Lock::Timeout=300 -q -y install --no-install-recommends $wanted
    allow_services
}

# libvirt's embedded driver refuses to open without this user, even where its configuration names root; the package
# that makes it is the daemon's, which is not needed.
libvirt_user() {
    getent passwd libvirt-qemu >/dev/null ||
        quietly "making the user libvirt-qemu" useradd --system --user-group --no-create-home \
            --shell /usr/sbin/nologin libvirt-qemu
}

# environment EXTRAS: the virtual environment in .venv with the lab in it, editable. (Mode "compat" is one path in a file;
# the other mode runs a finder at each start of Python, which costs 13 ms every time.)
environment() {
    "$venv/bin/python" -c 'import pip' 2>/dev/null ||
        quietly "making the virtual environment" "$python" -m venv "$venv"
    quietly "installing the lab and its Python packages (a minute or two)" \
        "$venv/bin/python" -m pip install --quiet --config-settings editable_mode=compat --editable "$here$1"
}

# setup_base: enough for `lab ANYTHING`; setup_test: enough for every test.
setup_base() {
    is_done base || is_done test && return
    need_root "setting up" "$1"
    require_debian
    mkdir -p "$venv"
    apt_install "$BASE_PACKAGES" ""
    libvirt_user
    environment ""
    mark_done base
}

setup_test() {
    is_done test && return
    require_debian
    mkdir -p "$venv"
    apt_install "$BASE_PACKAGES $TEST_PACKAGES" "$OPTIONAL_TEST_PACKAGES"
    libvirt_user
    environment "[test,lint]"
    mark_done test
}

demo() {
    need_root "measuring" demo
    setup_base demo
    "$venv/bin/lab" setup
    "$venv/bin/lab" bench run quick "$@"
    "$venv/bin/lab" report build latest >&2
    "$venv/bin/lab" report path latest
}

# `test` hands its arguments to tox: `./lab.sh test -e unit` runs one environment.
tests() {
    need_root "testing" test
    setup_test
    "$venv/bin/lab" setup
    cd "$here"
    exec "$venv/bin/tox" run-parallel --parallel 2 --parallel-live "$@"
}

python=$(find_python)
case "${1:-}" in
demo)
    shift
    demo "$@"
    ;;
test)
    shift
    tests "$@"
    ;;
*)
    setup_base "${1:---help}"
    exec "$venv/bin/lab" "$@"
    ;;
esac
