# story.bash - what the stories of the VM are told with. Loaded by guest/run.
# shellcheck shell=bash disable=SC2034

# How long anything may take before a test gives up, on a machine that is emulated; never how long it
# is expected to take.
PATIENCE=120
DYNOS=/sys/fs/cgroup/dynod.slice/dynod-dynos.service
AGENT=/sys/fs/cgroup/dynod.slice/dynod.service
failed=0
export LC_ALL=C.UTF-8

# test_that NAME FUNCTION: FUNCTION with `set -e`, in a process of its own; its output when it fails.
test_that() {
    local rc began=$SECONDS
    (
        set -eE
        trap 'echo "line ${BASH_LINENO[0]}: $BASH_COMMAND" >&2' ERR
        "$2"
    ) >/job/output 2>&1
    rc=$?
    case $rc in
    0) echo "ok - $1" ;;
    77) echo "ok - $1 # skip $(tail -n 1 /job/output)" ;;
    *)
        echo "not ok - $1"
        failed=1
        { cat /job/output; diagnose; } 2>&1 | sed 's/^/# /'
        ;;
    esac
    echo "# $((SECONDS - began)) s"
}

# suite NAME SECONDS COMMAND...: a test program that speaks TAP; its tests become ours. cmocka writes a
# skip as `not ok N # SKIP NAME`, and a plan for each of its groups.
suite() {
    local name=$1 seconds=$2 line rc planned="" n=0 bad="" began=$SECONDS
    shift 2
    while IFS= read -r line; do
        if [[ $line =~ ^1\.\.([0-9]+) ]]; then
            planned=$((planned + BASH_REMATCH[1]))
        elif [[ $line =~ ^(not\ )?ok\ [0-9]+\ (-\ )?(#\ SKIP\ )?(.*) ]]; then
            n=$((n + 1))
            if [ -n "${BASH_REMATCH[3]}" ]; then
                echo "ok - $name: ${BASH_REMATCH[4]} # skip"
            else
                bad=$bad${BASH_REMATCH[1]}
                echo "${BASH_REMATCH[1]}ok - $name: ${BASH_REMATCH[4]}"
            fi
        else
            echo "# ${line#\# }"
        fi
    done < <(timeout -k 10 "$seconds" "$@" 2>&1 </dev/null)
    wait $! # the program's own status: it may die after its last test
    rc=$?
    if [ "${planned:-none}" != "$n" ] || { [ $rc -ne 0 ] && [ -z "$bad" ]; }; then
        echo "not ok - $name: $n results, planned: ${planned:-none}, exit status $rc"
        bad=1
    fi
    [ -z "$bad" ] || failed=1
    echo "# $name: $((SECONDS - began)) s"
}

# Not in the short form.
long_test_that() { [ -e /job/short ] || test_that "$@"; }

# What follows would only wait for what cannot come.
end_if_failed() { [ "$failed" = 0 ] || exit 1; }

skip() {
    echo "$1"
    exit 77
}

# Ends this part of the story; it is told again, from its beginning, when the machine is back.
reboot_machine() {
    sync
    systemctl reboot
    sleep infinity
}

diagnose() {
    echo "--- dyno ps, dyno events"
    dyno ps
    dyno events | tail -n 15
    echo "--- units"
    systemctl --no-pager -l status dynod.service dynod-dynos.service | head -n 40
    echo "--- journal"
    journalctl --no-pager -q -n 40
}

fail() {
    echo "$*"
    return 1
}
same() { [ "$1" = "$2" ] || fail "expected: $2, found: $1"; }
has() { [[ $1 == *"$2"* ]] || fail "expected to find: $2" "in: $1"; }

# The machine's own takes more than a second to start here.
jq() { /job/tools/gojq "$@"; }

wait_for() {
    local deadline=$((SECONDS + PATIENCE))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "gave up waiting for: $*" || return 1
        sleep 0.2
    done
}

alive() { grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }
gone() { ! alive "$1"; }

# of DYNO FIELD: a field of `dyno ps --json`; DYNO is APP/web.1.
of() { dyno ps --json | jq -r --arg d "$1" ".[] | select(.app + \"/\" + .dyno == \$d) | $2"; }
up() { [ "$(of "$1" .state)" = up ]; }
# All in one answer: programs start slowly here.
all_up() { dyno ps --json | jq -e '[.[] | select(.state == "up") | .app + "/" + .dyno] | $ARGS.positional - . == []' --args "$@"; }
wait_up() { wait_for all_up "$@"; }
pids() { dyno ps --json | jq -c '[.[] | [.app, .dyno, .pid]] | sort'; }
# How many exits are on record, of APP when one is given.
exits() { dyno events --json | jq -s --arg a "${1:-}" \
    '[.[] | if type == "array" then .[] else . end | select(.kind == "exit" and ($a == "" or .app == $a))] | length'; }
last_exit() { dyno events --json | jq -cs --arg a "$1" \
    '[.[] | if type == "array" then .[] else . end | select(.kind == "exit" and .app == $a)] | last'; }
logged() { dyno logs -n 1000 "$1" | grep -qF -- "$2"; }

# The cgroup of the dyno APP/TYPE.N
cgroup_of() { echo /sys/fs/cgroup"$(cut -d: -f3 "/proc/$(of "$1" .pid)/cgroup")"; }
main_pid() { systemctl show -P MainPID dynod; }
answers() { dyno ps >/dev/null; }
active() { systemctl -q is-active dynod && answers; }
# A dynod that is not PID answers.
another_than() { active && [ "$(main_pid)" != "$1" ]; }

# slug_of LINE...: a slug with this Procfile and what is in /job/app; prints its URL.
slug_of() {
    mkdir -p /job/app
    printf '%s\n' "$@" >/job/app/Procfile
    dyno slug pack /job/app -o /job/slug.tgz >/dev/null
    echo file:///job/slug.tgz
}
# conf LINE...: a drop-in of dynod.conf
conf() { printf '%s\n' "$@" >/etc/dynod/dynod.conf.d/story.conf; }
