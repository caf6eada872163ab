#!/usr/bin/env bats
# lacking.bats - a machine that lacks what a dyno's sandbox takes: `dyno doctor` names it with the fix, and
# an agent that needs it does not start. The kernel's answers are lacking.c's; the control is the same without it.

load helpers

setup_file() {
    story_begin
    "${CC:-gcc}" -static -O1 -o "$STORY/lacking" "$ROOT/tests/integration/lacking.c"
}

# doctor [FEATURE...]: what it finds without an agent
doctor() {
    DYNOD_SOCKET="$STORY/none" timeout 30 "$STORY/lacking" "$@" -- "$BIN/dyno" doctor
}
# names FEATURE STATE NAME FIX: a line of it
names() {
    local line
    line=$(doctor "$1" | grep -E "^$2 +$3  ") || fail "without $1 no line '$2 $3'" "$(doctor "$1")"
    has "$line" "$4"
    doctor | grep -qE "^found +$3  " || fail "the control: $3 is missing here anyway"
}
# stops FEATURE TEXT [OPTION...]: an agent without it does not start
stops() {
    local feature=$1 text=$2
    shift 2
    mkdir -p "$STORY/a/run" "$STORY/a/state"
    run timeout 20 "$STORY/lacking" "$feature" -- "$BIN/dynod" -c /dev/null -o "agent.runtime_dir=$STORY/a/run" \
        -o "agent.state_dir=$STORY/a/state" -o agent.claims_dir= -o "agent.cgroup_parent=$(cgroup_parent)" \
        -o "network.ipv4_range=$(network_range)" -o "network.ipv6_range=$(network_range6)" "$@"
    same "$status" 1
    has "$output" "$text"
}

@test "doctor: what no dyno can do without, each with what it takes" {
    names mount-calls MISSING "new mount API" "Linux 5.12 or later is needed"
    names openat2 MISSING openat2 "Linux 5.6"
    names pidfd MISSING pidfd "Linux 5.3 or later is needed"
    names seccomp MISSING seccomp "no dyno can start"
    run -1 doctor seccomp
    run -0 doctor
}

@test "doctor: a second wall that is not there is said, and no reason to fail" {
    doctor | grep -q "^found *landlock" || skip "this kernel has no landlock"
    names landlock missing landlock "boot with lsm=landlock"
    run -0 doctor landlock
}

@test "doctor: no user namespaces (root)" {
    only_root # a user's own doctor is in one already
    names user-namespaces MISSING "user namespaces" "sysctl user.max_user_namespaces"
}

@test "doctor: no network namespaces, no nftables (root)" {
    only_root
    names network-namespaces missing "private network" "network = host"
    names nftables missing "private network" "nf_tables"
}

@test "start: without nftables there is no private network, and no agent that promises one (root)" {
    only_root
    stops nftables "the kernel needs nf_tables: CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET; or set network = host"
}

@test "start: without the calls that a quota takes, with the way out (root)" {
    only_root
    stops mount-calls "or disk_quota = none" -o sandbox.network=host
    stops pidfd "or disk_quota = none" -o sandbox.network=host
}

@test "start: users and ports of another agent's (root)" {
    only_root
    local dir=$STORY/two
    agent_start -o sandbox.network=host
    mkdir -p "$dir/run" "$dir/state"
    try() {
        run timeout 20 "$BIN/dynod" -c /dev/null -o "agent.runtime_dir=$dir/run" -o "agent.state_dir=$dir/state" \
            -o "agent.claims_dir=$STORY/claims" -o "agent.cgroup_parent=$(cgroup_parent)-two" -o sandbox.network=host "$@"
    }
    try
    same "$status" 1
    has "$output" "uid_range 900000000-900065535 overlaps 900000000-900065535"
    has "$output" "state_dir $AGENT/state, pid $(agent_pid)"
    try -o agent.uid_range=901000000-901065535 -o dyno.port_range="$(port_range)"
    same "$status" 1
    has "$output" "port_range $(port_range) overlaps $(port_range)"
    has "$(dyno doctor)" "no other agent of this machine has a part of them"
    # One that was killed and left nothing is in nobody's way.
    agent_kill KILL
    run timeout 5 "$BIN/dynod" -c /dev/null -o "agent.runtime_dir=$dir/run" -o "agent.state_dir=$dir/state" \
        -o "agent.claims_dir=$STORY/claims" -o "agent.cgroup_parent=$(cgroup_parent)-two" -o sandbox.network=host
    same "$status" 124 # it ran until it was ended
    agent_again
    dyno doctor | grep -E "^found +stack +host"
}

teardown_file() { story_end; }
