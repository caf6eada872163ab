#!/usr/bin/env bats
# nothing-left.bats - thirty dynos of one slug, started and stopped again: no descriptor, mount, cgroup,
# process or file is left. (`make bench` does it with two hundred.)

load helpers

setup_file() {
    story_begin
    slug_of_procfile many 'worker: exec sleep 3600' 'crasher: exit 1' >/dev/null
    agent_start -o dyno.restart_delay=200ms
    # What a first dyno makes once and for all is no leak.
    dyno start many --slug "file://$STORY/many.tgz" -m worker=1
    wait_up many/worker.1
    dyno stop many
    wait_for all_ended
}
teardown_file() { story_end; }

# What the agent and its helpers hold, and what is on disk.
holdings() {
    local pid
    for pid in $(agent_pid) $(pgrep -P "$(agent_pid)"); do
        echo "$(cat "/proc/$pid/comm") fds $(find "/proc/$pid/fd" -mindepth 1 | wc -l) mounts $(wc -l <"/proc/$pid/mountinfo")"
    done | sort
    echo "processes $(story_processes | wc -l)"
    echo "cgroups $(find /sys/fs/cgroup -maxdepth 5 -type d -path "*$(cgroup_parent)*" 2>/dev/null | wc -l)"
    # Logs, events and the journal of what happened grow; they are the record, and bounded.
    find "$AGENT/run" "$AGENT/state" -mindepth 1 -not -path '*/logs/*' -not -name 'events*' -printf '%y %P\n' 2>/dev/null |
        sed -E 's/spare[-.][0-9a-f]+/spare/' | sort
}
# As many spares as are wanted, or what is made next is taken for a leak.
spares_made() {
    curl -sS --unix-socket "$AGENT/run/api.sock" http://d/v1/status | jq -e '.spares | .memory_short or .ready == .wanted'
}
steady() { local once; once=$(holdings); sleep 1; [ "$once" = "$(holdings)" ]; }
as_before() { [ "$(holdings)" = "$(cat "$STORY/before")" ] || { diff "$STORY/before" <(holdings); return 1; }; }

@test "thirty dynos up and stopped: everything as before" {
    wait_for spares_made
    wait_for steady # a sweep of the first dyno's remains is no holding
    holdings >"$STORY/before"
    dyno restart many
    dyno scale many worker=30
    wait_for counts many worker 30
    local pids pid
    pids=$(dyno ps --json many | jq -r '.[].pid')
    same "$(sort -u <<<"$pids" | wc -l)" 30
    dyno stop many
    wait_for all_ended
    for pid in $pids; do wait_for gone "$pid"; done
    wait_for as_before || { as_before || true; return 1; }
}

@test "crashes leave nothing either" {
    dyno scale many worker=0 crasher=3
    crashed_often() { [ "$(dyno ps --json many | jq '[.[].restarts] | add')" -ge 9 ]; }
    wait_for crashed_often
    dyno stop many
    wait_for all_ended
    dyno scale many worker=0 crasher=0
    wait_for as_before || { as_before || true; return 1; }
}

@test "one-offs and execs leave nothing either" {
    local i
    for i in $(seq 8); do dyno run --app many -- true; done
    wait_for all_ended
    wait_for as_before || { as_before || true; return 1; }
}
