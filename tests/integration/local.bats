#!/usr/bin/env bats
# local.bats - `dyno local`: a formation in this terminal, with foreman's habits, in the dynos' sandbox.

load helpers

setup_file() {
    story_begin
    mkdir "$STORY/app"
    cp "$ROOT/docs/examples/hello/web.pl" "$STORY/app/"
    cat >"$STORY/app/Procfile" <<'PROC'
web: exec perl web.pl
worker: echo "worker on $PORT, $GREETING"; exec sleep 3600
clock: echo "clock on $PORT"; exec sleep 3600
release: echo "never part of a formation"
PROC
    printf 'GREETING="good morning"\n' >"$STORY/app/.env"
    mkdir "$STORY/ends"
    cat >"$STORY/ends/Procfile" <<'PROC'
first: trap 'exit 23' USR1; echo "first is here"; while :; do sleep 0.2; done
second: trap 'echo "second got SIGTERM"; exit 0' TERM; echo ready; while :; do sleep 0.2; done
PROC
}
teardown() {
    # Whatever a test started and did not end.
    if [ -e "$STORY/pid" ]; then
        kill -TERM "$(cat "$STORY/pid")" 2>/dev/null || true
        wait_for gone "$(cat "$STORY/pid")"
        rm -f "$STORY/pid"
    fi
    wait_for nobody_left || { story_processes; return 1; }
}
nobody_left() { [ -z "$(story_processes)" ]; }
teardown_file() { story_end; }

# local_start [OPTION...] DIR: in the background, its output in $STORY/out; like a terminal's
# foreground job it has a process group of its own.
local_start() {
    : >"$STORY/out"
    rm -f "$STORY/status"
    (
        set +e
        trap - INT
        perl -e 'setpgrp; $SIG{INT} = "DEFAULT"; exec @ARGV' "$BIN/dyno" local "$@" </dev/null >"$STORY/out" 2>&1 3>&- 4>&- &
        echo $! >"$STORY/pid"
        wait $!
        echo $? >"$STORY/status"
    ) 3>&- 4>&- &
    wait_for test -s "$STORY/pid"
}
said() { grep -qF -- "$1" "$STORY/out"; }
wait_said() { wait_for said "$1" || { cat "$STORY/out"; return 1; }; }
ended() { [ -s "$STORY/status" ]; }
local_stop() { # SIGNAL
    kill -"$1" "$(cat "$STORY/pid")"
    wait_for ended || { cat "$STORY/out"; return 1; }
}
# command_of DYNO: the pid of its command, the child of one of this story's dyno-inits.
command_of() {
    local pid parent
    while read -r pid parent; do
        [[ /proc/$parent/exe -ef $BIN/dyno-init && ! /proc/$pid/exe -ef $BIN/dyno-init ]] || continue
        grep -qszx "DYNO=$1" "/proc/$pid/environ" && echo "$pid"
    done < <(ps -eo pid=,ppid=)
}
base_port() { # room for a few hundred above it
    local port
    port=$(free_port)
    echo $((port > 60000 ? port - 20000 : port))
}

@test "the default formation: one of each, ports by foreman's rule, .env is read" {
    local base
    base=$(base_port)
    local_start -p "$base" "$STORY/app"
    wait_said "Listening on port $base"
    wait_said "worker on $((base + 100)), good morning"
    wait_said "clock on $((base + 200))"
    curl -sS --max-time "$PATIENCE" "http://127.0.0.1:$base/" | grep -q "Hello from web.1"
    run ! said "never part"
    local_stop INT
}

@test "lines look like foreman's" {
    local base
    base=$(base_port)
    local_start -p "$base" -m web=2 "$STORY/app"
    wait_said "Listening on port $base"
    wait_said "Listening on port $((base + 1))"
    grep -qE '^[0-9]{2}:[0-9]{2}:[0-9]{2} web\.1 +\| ' "$STORY/out"
    grep -qE '^[0-9]{2}:[0-9]{2}:[0-9]{2} web\.2 +\| ' "$STORY/out"
    # No terminal, no colours.
    run ! grep -q $'\033' "$STORY/out"
    local_stop TERM
}

@test "on a terminal it is coloured, and Ctrl-C ends all" {
    cat >"$STORY/ctrl-c.exp" <<'EXP'
source [lindex $argv 0]
spawn [lindex $argv 1] local -p [lindex $argv 2] [lindex $argv 3]
want {Listening on port} "did not start"
send "\003"
want_end "did not end"
EXP
    TERM=xterm-256color run -0 env -u NO_COLOR expect "$STORY/ctrl-c.exp" "$BATS_TEST_DIRNAME/talk.exp" "$BIN/dyno" "$(base_port)" "$STORY/app"
    has "$output" $'\033['
}

@test "the first exit ends all, with its status" {
    local_start -p "$(base_port)" "$STORY/ends"
    wait_said "ready"
    wait_said "first is here"
    kill -USR1 "$(command_of first.1)"
    wait_for ended || { cat "$STORY/out"; return 1; }
    same "$(cat "$STORY/status")" 23
    said "second got SIGTERM"
    rm -f "$STORY/pid"
}

@test "Ctrl-C stops every process, twice is safe, nothing is left" {
    local base
    base=$(base_port)
    local_start -p "$base" "$STORY/app"
    wait_said "Listening on port $base"
    kill -INT "$(cat "$STORY/pid")"
    kill -INT "$(cat "$STORY/pid")" 2>/dev/null || true
    wait_for ended || { cat "$STORY/out"; return 1; }
    run ! curl -s --max-time 2 "http://127.0.0.1:$base/"
    rm -f "$STORY/pid"
}

@test "-f, -e and a folder that is given" {
    echo 'only: echo "from another file: $GREETING"; exec sleep 3600' >"$STORY/Other"
    echo 'GREETING=evening' >"$STORY/other.env"
    local_start -f "$STORY/Other" -e "$STORY/other.env" -p "$(base_port)" "$STORY/app"
    wait_said "from another file: evening"
    local_stop TERM
}

@test "--slug runs a packed slug in the same way" {
    slug_from "$STORY/app" "$STORY/app.tgz"
    local base
    base=$(base_port)
    local_start --slug "$STORY/app.tgz" -p "$base" -m web=1,worker=1
    wait_said "Listening on port $base"
    wait_said "worker on $((base + 100))"
    curl -sS --max-time "$PATIENCE" "http://127.0.0.1:$base/" | grep -q "Hello from web.1"
    local_stop INT
}

@test "the environment and the sandbox are a dyno's" {
    mkdir -p "$STORY/env"
    cat >"$STORY/env/Procfile" <<'PROC'
web: echo "DYNO=$DYNO HOME=$HOME PWD=$PWD USER=$USER PATH=$PATH"; ls -1 / | tr '\n' ' '; echo; grep -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status | tr -d '\t' | tr '\n' ' '; echo; exec sleep 3600
PROC
    local_start -p "$(base_port)" "$STORY/env"
    wait_said "DYNO=web.1 HOME=/app PWD=/app USER=dyno PATH=/usr/local/bin:/usr/bin:/bin"
    wait_said "CapEff:0000000000000000"
    wait_said "NoNewPrivs:1"
    wait_said "Seccomp:2"
    local_stop TERM
}

@test "a command that is not there" {
    mkdir -p "$STORY/missing"
    echo 'web: no-such-command-here' >"$STORY/missing/Procfile"
    run -127 timeout 60 "$BIN/dyno" local -p "$(base_port)" "$STORY/missing"
    has "$output" "no-such-command-here: command not found"
}

@test "PORT in .env is the base" {
    mkdir -p "$STORY/ports"
    local base
    base=$(base_port)
    echo 'web: echo "here is $PORT"; exec sleep 3600' >"$STORY/ports/Procfile"
    echo "PORT=$base" >"$STORY/ports/.env"
    local_start "$STORY/ports"
    wait_said "here is $base"
    local_stop TERM
}
