#!/usr/bin/env bats
# adopt.bats - what an agent makes of what the one before it left, at moments that are hard to hit: each
# is made by hand here. (`make soak` and kill-each-syscall look for the others.)

load helpers

setup_file() {
    story_begin
    mkdir "$STORY/app"
    printf '%s\n' 'sleeper: exec sleep 3600' 'fails: sleep 0.2; exit 7' 'parting: sleep 1; echo last words; exit 7' \
        'stubborn: trap "echo ignoring" TERM; echo ready; while :; do sleep 0.2; done' >"$STORY/app/Procfile"
    slug_from "$STORY/app" "$STORY/adopt.tgz"
}
setup() {
    rm -rf "$AGENT" && mkdir -p "$AGENT"
    echo "$BIN" >"$AGENT/bin"
    agent_start -o dyno.restart_delay=30s -o dyno.stop_grace=4s
}
teardown() { agent_end; }
teardown_file() { rm -f "$AGENT/pid"; story_end; }

start() { dyno start adopt --slug "file://$STORY/adopt.tgz" -m "$1"; }
crashed() { is adopt/fails.1 .state crashed; }
crashed_twice() { crashed && [ "$(of adopt/fails.1 .restarts)" -ge 1 ]; }
exits() { dyno events --json | jq -s '[.[] | if type == "array" then .[] else . end | select(.kind == "exit")]'; }
trace_of() { grep -l "\"type\":\"$1\"" "$AGENT"/run/run/*/run.json; }

@test "an end that was reported and not yet written down is not reported again" {
    start fails=1
    wait_for crashed_twice # the first restart is at once, the next is far away
    agent_kill KILL
    local trace before run
    before=$(grep -c '"kind":"exit"' "$AGENT/state/events.jsonl")
    trace=$(trace_of fails)
    run=$(jq -r .id "$trace")
    jq -c 'del(.end)' "$trace" >"$trace.edit" && mv "$trace.edit" "$trace"
    agent_again
    crashed_again() { [ "$(exits | jq length)" -gt "$before" ]; }
    wait_for crashed_again
    same "$(exits | jq --arg run "$run" '[.[] | select(.run == $run)] | length')" 1
}

@test "an end that nobody saw has its status and the evidence that it had started" {
    start sleeper=1
    wait_up adopt/sleeper.1
    local pid
    pid=$(of adopt/sleeper.1 .pid)
    agent_kill KILL
    if [ "$(awk '/^NSpid/ { print $NF }' "/proc/$pid/status")" = 1 ]; then pid=$(pgrep -P "$pid" | head -1); fi
    kill -TERM "$pid"
    wait_for gone "$pid"
    agent_again
    told() { [ "$(exits | jq length)" = 1 ]; }
    wait_for told
    same "$(exits | jq -c '.[0] | [.status, .cause, .fault, .evidence.started]')" '[143,"signalled","app",true]'
}

@test "a stop goes on where the agent that ordered it died, even when the dyno is wanted again" {
    start stubborn=1
    wait_up adopt/stubborn.1
    wait_logged adopt/stubborn.1 ready
    dyno scale adopt stubborn=0
    wait_logged adopt/stubborn.1 ignoring
    dyno scale adopt stubborn=1
    agent_kill KILL
    agent_again
    told() { [ "$(exits | jq length)" = 1 ]; }
    wait_for told
    same "$(exits | jq -r '.[0].cause')" exit-timeout # R12: somebody watched the grace period
    wait_up adopt/stubborn.1 # and wanted it is
}

@test "a limit that was lowered stops none that runs" {
    start sleeper=3
    wait_up adopt/sleeper.1 adopt/sleeper.2 adopt/sleeper.3
    local before
    before=$(dyno ps --json | jq -c 'map([.dyno, .pid]) | sort')
    agent_kill KILL
    printf '%s\n' -o dyno.dynos_max=1 >>"$AGENT/options"
    agent_again
    wait_up adopt/sleeper.1 adopt/sleeper.2 adopt/sleeper.3
    same "$(dyno ps --json | jq -c 'map([.dyno, .pid]) | sort')" "$before"
}

@test "half a line in the history spoils no other" {
    start sleeper=1
    wait_up adopt/sleeper.1
    agent_kill KILL
    printf '{"id":7,"kind":"ha' >>"$AGENT/state/events.jsonl"
    agent_again
    dyno restart adopt
    restarted() { [ "$(exits | jq length)" = 1 ]; }
    wait_for restarted
    agent_kill KILL
    agent_again
    wait_up adopt/sleeper.1
    # Numbers go on, none is there twice, and what came after the half line is kept.
    same "$(exits | jq length)" 1
    same "$(dyno events --json | jq -s '[.[] | if type == "array" then .[] else . end | select(.text == "started")] | length')" 3
    same "$(sed -n 's/.*"id":\([0-9]*\).*/\1/p' "$AGENT/state/events.jsonl" | grep -v '^7$' | sort | uniq -d)" ""
}

@test "an agent that cannot ask a dyno whether it lives does not take it for dead" {
    start sleeper=1
    wait_up adopt/sleeper.1
    local pid sock options
    pid=$(of adopt/sleeper.1 .pid)
    agent_kill KILL
    sock=$(dirname "$(trace_of sleeper)")/init.sock
    mv "$sock" "$sock.away" && ln -s init.sock "$sock" # ELOOP: neither refused nor not there
    mapfile -t options <"$AGENT/options"
    run ! timeout "$PATIENCE" "$BIN/dynod" -c "$AGENT/dynod.conf" "${options[@]}"
    [ "$status" = 1 ] || fail "it started, or worse: $status"
    has "$output" sleeper
    rm "$sock" && mv "$sock.away" "$sock"
    agent_again
    wait_up adopt/sleeper.1
    is adopt/sleeper.1 .pid "$pid"
    same "$(exits | jq length)" 0
}

@test "a dyno-init that has to wait for a processor is not taken for dead" {
    local pid init
    start sleeper=1
    wait_up adopt/sleeper.1
    pid=$(of adopt/sleeper.1 .pid)
    init=$pid
    [ "$(awk '/^NSpid/ { print $NF }' "/proc/$pid/status")" = 1 ] || init=$(ps -o ppid= -p "$pid" | tr -d ' ')
    agent_kill KILL
    kill -STOP "$init"
    agent_again
    sleep 12 # more than an agent in a hurry would wait
    kill -CONT "$init"
    wait_up adopt/sleeper.1
    is adopt/sleeper.1 .pid "$pid"
    same "$(exits | jq length)" 0
}

@test "the last words in the pipe of a run whose end is on record are its own app's" {
    local logs
    wait_for helper_pid dynod-logs
    logs=$(helper_pid dynod-logs)
    kill -STOP "$logs" # it never hears of the dyno, whose words stay in its pipe
    start parting=1
    ended() { [ "$(exits | jq length)" -ge 1 ]; }
    wait_for ended
    dyno scale adopt parting=0 # its restart must not say them in its place
    wait_for all_ended
    agent_kill KILL
    kill -KILL "$logs"
    agent_again
    wait_logged adopt/parting.1 'app[parting.1]: last words'
}

# --- state files that are not as they should be

run_dir() { dirname "$(trace_of "$1")"; }
told_odd() { grep '"kind":"agent"' "$AGENT/state/events.jsonl" | grep -c "$1" || true; }
one_exit() { [ "$(exits | jq length)" = 1 ]; }
# The command's pid on the host: dyno-init's only child.
command_of() {
    local pid
    pid=$(of "$1" .pid)
    [ "$(awk '/^NSpid/ { print $NF }' "/proc/$pid/status")" != 1 ] || pid=$(pgrep -P "$pid" | head -1)
    echo "$pid"
}

@test "a torn run.json costs nobody a dyno, and is kept" {
    start sleeper=2
    wait_up adopt/sleeper.1 adopt/sleeper.2
    local before trace
    before=$(dyno ps --json | jq -c 'map([.dyno, .pid, .release]) | sort')
    agent_kill KILL
    trace=$(trace_of sleeper | head -1)
    truncate -s 40 "$trace"
    agent_again
    wait_up adopt/sleeper.1 adopt/sleeper.2
    same "$(dyno ps --json | jq -c 'map([.dyno, .pid, .release]) | sort')" "$before"
    same "$(exits | jq length)" 0
    same "$(told_odd 'its dyno-init says who it is')" 1
    same "$(stat -c %s "$AGENT"/run/odd/*)" 40
    agent_kill KILL # and it is sound again
    agent_again
    wait_up adopt/sleeper.1 adopt/sleeper.2
    same "$(told_odd 'its dyno-init says who it is')" 1
}

@test "a torn run.json does not lose the end that nobody saw" {
    start sleeper=1
    wait_up adopt/sleeper.1
    local trace pid init
    trace=$(trace_of sleeper)
    init=$(of adopt/sleeper.1 .pid)
    pid=$(command_of adopt/sleeper.1)
    agent_kill KILL
    kill -TERM "$pid"
    wait_for gone "$pid"
    kill -KILL "$init" # the exit record is all there is
    wait_for gone "$init"
    : >"$trace"
    agent_again
    wait_for one_exit
    same "$(exits | jq -c '.[0] | [.app, .dyno, .status, .cause, .evidence.started]')" \
        '["adopt","sleeper.1",143,"signalled",true]'
    wait_up adopt/sleeper.1
    same "$(exits | jq length)" 1
}

@test "a torn run.json whose end was reported is not reported again" {
    start fails=1
    wait_for crashed_twice
    agent_kill KILL
    local before
    before=$(grep -c '"kind":"exit"' "$AGENT/state/events.jsonl")
    truncate -s 100 "$(trace_of fails)"
    agent_again
    more() { [ "$(exits | jq length)" -gt "$before" ]; }
    wait_for more # of its next run
    same "$(exits | jq '[group_by(.run)[] | length] | max')" 1
    same "$(told_odd 'is no good')" 1
}

@test "a torn exit record is no exit status, and no failed start" {
    start sleeper=1
    wait_up adopt/sleeper.1
    local init dir
    init=$(of adopt/sleeper.1 .pid)
    dir=$(run_dir sleeper)
    agent_kill KILL
    kill -KILL "$init"
    wait_for gone "$init"
    truncate -s 30 "$dir/exit"
    agent_again
    wait_for one_exit
    same "$(exits | jq -c '.[0] | [.status, .cause, .fault]')" '[-1,"init-lost","platform"]'
    same "$(stat -c %s "$AGENT"/run/odd/*.exit)" 30
    wait_up adopt/sleeper.1
}

@test "a torn exit record of a dyno that runs is written anew at its end" {
    start sleeper=1
    wait_up adopt/sleeper.1
    local pid command
    pid=$(of adopt/sleeper.1 .pid)
    agent_kill KILL
    truncate -s 30 "$(run_dir sleeper)/exit"
    agent_again
    wait_up adopt/sleeper.1
    is adopt/sleeper.1 .pid "$pid"
    command=$(command_of adopt/sleeper.1)
    agent_kill KILL
    kill -TERM "$command"
    wait_for gone "$command"
    agent_again
    wait_for one_exit
    same "$(exits | jq -c '.[0] | [.status, .cause]')" '[143,"signalled"]'
}

@test "(root) a dyno that cannot be reached any more is ended before another takes its place" {
    only_root "without cgroups nothing else leads to its processes"
    start sleeper=1
    wait_up adopt/sleeper.1
    local pid
    pid=$(of adopt/sleeper.1 .pid)
    agent_kill KILL
    rm "$(run_dir sleeper)/init.sock"
    agent_again
    wait_for one_exit
    wait_for gone "$pid"
    same "$(exits | jq -c '.[0] | [.status, .cause, .fault]')" '[-1,"init-lost","platform"]'
    wait_up adopt/sleeper.1
}

@test "(root) processes whose run's directory is gone, or empty, are found, ended and reported" {
    only_root "without cgroups nothing else leads to its processes"
    start sleeper=2
    wait_up adopt/sleeper.1 adopt/sleeper.2
    local pids pid dirs
    pids=$(dyno ps --json | jq -r '.[].pid')
    mapfile -t dirs < <(trace_of sleeper | xargs -n 1 dirname)
    agent_kill KILL
    rm -r "${dirs[0]}"
    find "${dirs[1]}" -mindepth 1 -delete
    agent_again
    both() { [ "$(exits | jq length)" = 2 ]; }
    wait_for both
    for pid in $pids; do wait_for gone "$pid"; done
    same "$(exits | jq -c 'map([.app, .dyno, .status, .cause, .fault]) | sort')" \
        '[["adopt","sleeper.1",-1,"init-lost","platform"],["adopt","sleeper.2",-1,"init-lost","platform"]]'
    same "$(told_odd 'its directory is gone, its processes are not')" 2
    wait_up adopt/sleeper.1 adopt/sleeper.2
    both
}

@test "what is no run is put away, and a run that had not begun is nothing to speak of" {
    start sleeper=1
    wait_up adopt/sleeper.1
    local pid
    pid=$(of adopt/sleeper.1 .pid)
    agent_kill KILL
    mkdir "$AGENT/run/run/adopt.sleeper.9.0000abcd" "$AGENT/run/run/not a run"
    echo scribble >"$AGENT/run/run/note"
    agent_again
    wait_up adopt/sleeper.1
    is adopt/sleeper.1 .pid "$pid"
    same "$(ls "$AGENT/run/run")" "$(basename "$(run_dir sleeper)")"
    same "$(cat "$AGENT"/run/odd/*-note)" scribble
    same "$(told_odd 'is no good')" 2
    same "$(exits | jq length)" 0
}

@test "what the journal forgot runs on, under the agent after the next one too, until a command comes" {
    start sleeper=2
    wait_up adopt/sleeper.1 adopt/sleeper.2
    local before
    before=$(dyno ps --json | jq -c 'map([.dyno, .pid]) | sort')
    agent_kill KILL
    echo '{"v":99}' >"$AGENT/state/journal" # of a version that nobody knows
    for _ in 1 2 3; do
        agent_again
        wait_up adopt/sleeper.1 adopt/sleeper.2
        sleep 0.3
        same "$(dyno ps --json | jq -c 'map([.dyno, .pid]) | sort')" "$before"
        agent_kill KILL
    done
    agent_again
    start sleeper=1 # somebody who knows has spoken
    only_one() { [ "$(dyno ps --json | jq -c 'map([.dyno, .state])')" = '[["sleeper.1","up"]]' ]; }
    wait_for only_one
}

@test "what the journal forgot can be stopped, and an agent after that does not hold it" {
    start sleeper=2
    wait_up adopt/sleeper.1 adopt/sleeper.2
    agent_kill KILL
    echo '{"v":99}' >"$AGENT/state/journal"
    agent_again
    wait_up adopt/sleeper.1 adopt/sleeper.2
    dyno stop adopt
    agent_kill KILL # perhaps before its SIGTERM went out
    agent_again
    none_left() { [ "$(dyno ps --json)" = '[]' ]; }
    wait_for none_left
}

@test "a journal that is gone is no command to stop" {
    start sleeper=1
    wait_up adopt/sleeper.1
    local pid
    pid=$(of adopt/sleeper.1 .pid)
    agent_kill KILL
    rm "$AGENT/state/journal"
    for _ in 1 2; do
        agent_again
        wait_up adopt/sleeper.1
        sleep 0.3
        is adopt/sleeper.1 .pid "$pid"
        agent_kill KILL
    done
    agent_again
    start sleeper=1
    wait_for replaced adopt/sleeper.1 "$pid"
}

@test "a clock that jumps by a day, either way, loses no dyno, no end and no line, and turns no order around" {
    cat >"$STORY/shift.c" <<'C'
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *t)
{
    int r = (int)syscall(SYS_clock_gettime, clock, t);
    const char *shift = getenv("SHIFT");

    if (r == 0 && clock == CLOCK_REALTIME && shift)
        t->tv_sec += atol(shift);
    return r;
}
C
    "${CC:-gcc}" -shared -fPIC -o "$STORY/shift.so" "$STORY/shift.c"
    start sleeper=2
    wait_up adopt/sleeper.1 adopt/sleeper.2
    local stays n=0 command seen shift began was told
    stays=$(of adopt/sleeper.2 .pid)
    for shift in -86400 -172800 86400; do
        command=$(command_of adopt/sleeper.1)
        began=$SECONDS
        seen=$(of adopt/sleeper.2 .uptime_ms)
        agent_kill KILL
        kill -TERM "$command"
        wait_for gone "$command"
        SHIFT=$shift LD_PRELOAD=$STORY/shift.so agent_again
        n=$((n + 1))
        ended() { [ "$(exits | jq '[.[] | select(.cause == "signalled")] | length')" = "$n" ]; }
        wait_for ended
        wait_up adopt/sleeper.1
        was=$(of adopt/sleeper.1 .pid)
        dyno restart adopt/sleeper.1 # which makes the next end a first one again
        wait_for replaced adopt/sleeper.1 "$was"
        wait_up adopt/sleeper.2
        is adopt/sleeper.2 .pid "$stays"
        [ "$(of adopt/sleeper.2 .uptime_ms)" -ge "$seen" ]
        [ "$(of adopt/sleeper.2 .uptime_ms)" -le $((seen + (SECONDS - began + 1) * 1000)) ]
        told=$(date -d "$(dyno events --json | jq -rs '[.[] | if type == "array" then .[] else . end][-1].t')" +%s)
        told=$((told - shift - $(date +%s)))
        ((told > -600 && told <= 0)) || fail "an event of $told s from now"
    done
    same "$(exits | jq -c 'map(.status) | unique')" '[143]'
    all_said() { [ "$(logs adopt/sleeper.1 | grep -c 'Process exited with status 143')" = "$(exits | jq length)" ]; }
    wait_for all_said
    sed -n 's/.*"id":\([0-9]*\).*/\1/p' "$AGENT/state/events.jsonl" | sort -n -c -u
}
