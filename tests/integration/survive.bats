#!/usr/bin/env bats
# survive.bats - the agent and its helpers may die at any moment: same processes, no line lost, no end
# unknown, nothing run twice. Each test has an agent of its own.

load helpers

setup_file() {
    story_begin
    mkdir "$STORY/app"
    cat >"$STORY/app/numbers.sh" <<'SH'
# Numbered lines: a lost or doubled one shows.
trap 'echo "last $i"; exit 0' TERM
i=0
while :; do
    i=$((i + 1))
    echo "number $i"
    [ $((i % 20)) -ne 0 ] || sleep 0.05
done
SH
    cat >"$STORY/app/once.sh" <<'SH'
# Says once a start that it runs; ends with 9 when somebody sends it SIGUSR1.
trap 'exit 9' USR1
echo "started as $DYNO"
while :; do sleep 0.1; done
SH
    cp "$ROOT/docs/examples/hello/web.pl" "$STORY/app/"
    cat >"$STORY/app/Procfile" <<'PROC'
web: exec perl web.pl
numbers: exec bash numbers.sh
once: exec bash once.sh
stubborn: trap "echo ignoring" TERM; echo ready; while :; do sleep 0.5; done
slow: echo "slow begins"; sleep 3; echo "slow runs"; exec sleep 3600
PROC
    slug_from "$STORY/app" "$STORY/survive.tgz"
}
setup() {
    rm -rf "$AGENT" && mkdir -p "$AGENT"
    echo "$BIN" >"$AGENT/bin"
    agent_start -o dyno.restart_delay=300ms -o dyno.stop_grace=3s -o logs.tail_lines=100000 \
        -o logs.tail_bytes=16M
}
teardown() { agent_end; }
teardown_file() { story_end_files; }
story_end_files() { rm -f "$AGENT/pid"; story_end; }

start() { dyno start life --slug "file://$STORY/survive.tgz" -m "$1"; }

# The numbers in the log of life/numbers.1 are consecutive, each once.
numbers_whole() {
    logs life/numbers.1 | sed -n 's/.*app\[numbers\.1\]: number \([0-9]*\)$/\1/p' | awk '
        NR == 1 { if ($1 != 1) { print "starts at " $1; bad = 1 } next_one = $1 }
        $1 != next_one { print "after " next_one - 1 " comes " $1; bad = 1; next_one = $1 }
        { next_one++ }
        END { if (NR < 50) { print "only " NR + 0 " lines"; bad = 1 }; exit bad }'
}
numbered_to() { [ "$(logs life/numbers.1 | grep -c "number ")" -ge "$1" ]; }
now_numbered() { logs life/numbers.1 | grep -c "number "; }

@test "kill -9 of dynod: the dynos do not notice, and are adopted with the same pids" {
    start web=2,numbers=1
    wait_up life/web.1 life/web.2 life/numbers.1
    local before port
    before=$(dyno ps --json | jq -c 'map([.dyno, .pid, .port, .restarts, .release]) | sort')
    port=$(port_of life/web.1)
    agent_kill KILL
    curl -sS --max-time "$PATIENCE" "http://127.0.0.1:$port/" | grep -q "Hello from web.1"
    agent_again
    wait_up life/web.1 life/web.2 life/numbers.1
    same "$(dyno ps --json | jq -c 'map([.dyno, .pid, .port, .restarts, .release]) | sort')" "$before"
    # It is an agent in full: it can scale, and stop what it did not start.
    dyno scale life web=1
    counts life web 1 || wait_for counts life web 1
    up life/web.1
}

@test "no log line is lost or doubled over kill -9 of dynod" {
    start numbers=1
    wait_for numbered_to 200
    agent_kill KILL
    sleep 0.5 # lines are written meanwhile: nothing to poll, nobody is there
    agent_again
    wait_for numbered_to $(($(now_numbered) + 300))
    numbers_whole
}

@test "no log line is lost or doubled over kill -9 of dynod-logs" {
    start numbers=1
    wait_up life/numbers.1
    local pid old round
    pid=$(of life/numbers.1 .pid)
    for round in 1 2 3; do
        wait_for numbered_to $((200 * round))
        old=$(helper_pid dynod-logs)
        kill -KILL "$old"
        wait_for new_logs "$old"
    done
    wait_for numbered_to 1000
    numbers_whole
    is life/numbers.1 .pid "$pid"
    is life/numbers.1 .restarts 0
}
new_logs() { local new; new=$(helper_pid dynod-logs) && [ -n "$new" ] && [ "$new" != "$1" ]; }

@test "kill -9 of dynod and dynod-logs together" {
    start numbers=1
    wait_for numbered_to 200
    local logger
    logger=$(helper_pid dynod-logs)
    kill -KILL "$(agent_pid)" "$logger"
    wait_for gone "$logger"
    wait_for gone "$(agent_pid)"
    agent_again
    wait_for numbered_to $(($(now_numbered) + 300))
    numbers_whole
    is life/numbers.1 .restarts 0
}

@test "what ended while nobody looked: its status is known, and it runs again" {
    start once=2
    wait_up life/once.1 life/once.2
    wait_logged life/once.1 "started as" # it has set its trap
    local pid other
    pid=$(of life/once.1 .pid)
    other=$(of life/once.2 .pid)
    local command
    command=$(command_of "$pid")
    agent_kill KILL
    kill -USR1 "$command"
    wait_for gone "$command"
    agent_again
    wait_for replaced life/once.1 "$pid"
    wait_logged life/once.1 "Process exited with status 9"
    same "$(last_event life once.1 exit | jq -r .fault)" app
    is life/once.2 .pid "$other"
    same "$(logs life/once.1 | grep -c "Process exited with status")" 1
    started_twice() { [ "$(logs life/once.1 | grep -c "app\[once.1\]: started as")" = 2 ]; }
    wait_for started_twice
}

@test "kill -9 of dynod while dynos start: none is lost, none runs twice" {
    local round pids
    for round in 1 2 3 4; do
        dyno_background start life --slug "file://$STORY/survive.tgz" -m once=6 >/dev/null 2>&1
        # At another instant each round.
        sleep "0.0$((round * 2))"
        agent_kill KILL
        wait "$BACKGROUND" || true
        agent_again
        # The command may have come too early or not at all: say it again, it is the same wish.
        [ "$(dyno ps --json | jq length)" = 6 ] ||
            dyno start life --slug "file://$STORY/survive.tgz" -m once=6 >/dev/null
        wait_for counts life once 6
        pids=$(dyno ps --json | jq -r '.[].pid' | sort -u | wc -l)
        same "$pids" 6
        same "$(commands_running)" 6
        dyno stop life
        wait_for all_ended
        same "$(commands_running)" 0
    done
}
# How many commands of this story's dynos there are, seen from the host: the children of its dyno-inits, but for
# those that wait in a sandbox kept ready and are dyno-init themselves.
commands_running() {
    local pid parent n=0
    while read -r pid parent; do
        [[ ! /proc/$parent/exe -ef $BIN/dyno-init || /proc/$pid/exe -ef $BIN/dyno-init ]] || n=$((n + 1))
    done < <(ps -eo pid=,ppid=,stat= | awk '$3 !~ /^[ZX]/ { print $1, $2 }')
    echo "$n"
}

@test "kill -9 of dynod while dynos stop: the stop is carried on to its end" {
    start stubborn=2,numbers=1
    wait_up life/stubborn.1 life/stubborn.2 life/numbers.1
    wait_logged life/stubborn.1 ready
    wait_logged life/numbers.1 "number 60" # enough to judge by
    local pids pid command
    pids=$(dyno ps --json | jq -r '.[].pid')
    command=$(command_of "$(of life/numbers.1 .pid)")
    dyno_background stop life >/dev/null 2>&1
    wait_logged life/stubborn.1 "Stopping all processes with SIGTERM"
    wait_logged life/numbers.1 "Stopping all processes with SIGTERM"
    agent_kill KILL
    wait_for gone "$command" # it has all the time that it needs: nobody is there to end it
    agent_again
    for pid in $pids; do wait_for gone "$pid"; done
    wait_for all_ended
    wait_logged life/stubborn.1 "Error R12 (Exit timeout)"
    wait_logged life/stubborn.1 "Process exited with status 137"
    wait_logged life/numbers.1 "Process exited with status 0"
    numbers_whole
    # The last thing that it wrote is there, and is the last number.
    local last
    last=$(logs life/numbers.1 | sed -n 's/.*: last \([0-9]*\)$/\1/p')
    logged life/numbers.1 "number $last"
}

@test "a clean restart: same pids, nothing lost" {
    start web=1,numbers=1
    wait_up life/web.1 life/numbers.1
    wait_for numbered_to 100
    local before
    before=$(dyno ps --json | jq -c 'map([.dyno, .pid, .port, .restarts]) | sort')
    agent_kill TERM
    agent_again
    wait_up life/web.1 life/numbers.1
    same "$(dyno ps --json | jq -c 'map([.dyno, .pid, .port, .restarts]) | sort')" "$before"
    wait_for numbered_to $(($(now_numbered) + 200))
    numbers_whole
}

@test "an upgrade: another binary at another path takes over" {
    start web=1,numbers=1
    wait_up life/web.1 life/numbers.1
    local before
    before=$(dyno ps --json | jq -c 'map([.dyno, .pid, .port, .restarts]) | sort')
    cp -r "$BIN" "$STORY/upgraded"
    agent_kill TERM
    echo "$STORY/upgraded" >"$AGENT/bin"
    agent_again
    same "$(readlink "/proc/$(agent_pid)/exe")" "$STORY/upgraded/dynod"
    wait_up life/web.1 life/numbers.1
    same "$(dyno ps --json | jq -c 'map([.dyno, .pid, .port, .restarts]) | sort')" "$before"
    dyno scale life web=2
    wait_up life/web.2
    wait_for numbered_to $(($(now_numbered) + 200))
    numbers_whole
    # And back: a downgrade is the same thing.
    agent_kill KILL
    echo "$BIN" >"$AGENT/bin"
    agent_again
    wait_up life/web.1 life/web.2 life/numbers.1
    rm -rf "$STORY/upgraded"
}

@test "kill -9 of a dyno-init: the dyno is gone whole, and runs again, the platform's fault" {
    start once=1
    wait_up life/once.1
    local pid init
    pid=$(of life/once.1 .pid)
    init=$(init_of "$pid")
    [ -n "$init" ] || fail "no dyno-init above $pid"
    kill -KILL "$init"
    wait_for gone "$pid"
    wait_for replaced life/once.1 "$pid"
    event() { [ "$(last_event life once.1 exit | jq -r .fault)" = platform ]; }
    wait_for event
}
# The app's own process: PID, or the child of PID when that is the dyno's PID 1.
command_of() {
    if [ "$(awk '/^NSpid/ { print $NF }' "/proc/$1/status")" = 1 ]; then pgrep -P "$1" | head -1; else echo "$1"; fi
}
# The PID 1 of the dyno that PID belongs to: PID itself, or its parent.
init_of() {
    local pid=$1
    [ "$(awk '/^NSpid/ { print $NF }' "/proc/$pid/status")" = 1 ] || pid=$(awk '/^PPid/ { print $2 }' "/proc/$pid/status")
    [ "$(awk '/^NSpid/ { print $NF }' "/proc/$pid/status")" = 1 ] && echo "$pid"
}

@test "an agent that is running refuses a second one for the same directories" {
    start once=1
    wait_up life/once.1
    local options
    mapfile -t options <"$AGENT/options"
    run ! timeout "$PATIENCE" "$BIN/dynod" -c "$AGENT/dynod.conf" "${options[@]}"
    [ "$status" -ne 124 ] || fail "the second agent ran"
    up life/once.1
    agent_answers
}

@test "a torn journal is cut and said so; what was wanted before still runs" {
    start once=1
    wait_up life/once.1
    local pid journal
    pid=$(of life/once.1 .pid)
    agent_kill KILL
    journal=$(find "$AGENT/state" -maxdepth 2 -type f -name 'journal*' | head -1)
    [ -n "$journal" ]
    printf '12345678 400 {"op":"sca' >>"$journal"
    agent_again
    wait_up life/once.1
    is life/once.1 .pid "$pid"
    grep -qi journal "$AGENT/dynod.log"
}
