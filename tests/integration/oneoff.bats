#!/usr/bin/env bats
# oneoff.bats - `dyno run` and `dyno exec`: exit status, input and output, a real terminal.

load helpers

setup_file() {
    story_begin
    agent_start -o dyno.restart_delay=300ms
    mkdir "$STORY/app"
    cat >"$STORY/app/Procfile" <<'PROC'
worker: echo "worker runs"; exec sleep 3600
PROC
    echo 'I am in the slug' >"$STORY/app/file.txt"
    slug_from "$STORY/app" "$STORY/one.tgz"
    echo 'COLOUR=blue' >"$STORY/env"
    dyno start one --slug "file://$STORY/one.tgz" -m worker=1 -e "$STORY/env"
    wait_up one/worker.1
}
teardown_file() { story_end; }

@test "run: output, working directory, config vars, name" {
    run -0 --separate-stderr dyno run --app one -- bash -c 'cat file.txt; pwd; echo $COLOUR $DYNO ${PORT:-no-port}'
    same "${lines[0]}" "I am in the slug"
    same "${lines[1]}" /app
    [[ ${lines[2]} =~ ^blue\ run\.[0-9]+\ no-port$ ]]
}

@test "run: the exit status is the command's" {
    run -0 dyno run --app one -- true
    run -42 dyno run --app one -- sh -c 'exit 42'
    run -137 dyno run --app one -- sh -c 'kill -9 $$'
    run -127 dyno run --app one -- no-such-command
}

@test "run: standard input reaches the command, binary and to its end" {
    head -c 300000 /dev/urandom >"$STORY/random"
    dyno run --app one -- cat <"$STORY/random" >"$STORY/echoed"
    cmp "$STORY/random" "$STORY/echoed"
}

@test "run: stdout and stderr stay apart" {
    dyno run --app one -- sh -c 'echo to-out; echo to-err >&2' >"$STORY/out" 2>"$STORY/err" </dev/null
    same "$(cat "$STORY/out")" to-out
    has "$(cat "$STORY/err")" to-err
}

@test "run: a one-off is never restarted" {
    run -5 dyno run --app one -- sh -c 'exit 5'
    no_runs() { [ "$(dyno ps --json one | jq '[.[] | select(.type == "run" and (.state | IN("complete", "crashed", "down") | not))] | length')" = 0 ]; }
    wait_for no_runs
    local runs
    starts() { jq -c 'select(.kind == "state" and .to == "starting" and (.dyno | startswith("run.")))' "$AGENT/state/events.jsonl" | wc -l; }
    runs=$(starts)
    [ "$runs" -gt 0 ]
    sleep 1.2 # several times the restart delay: an absence can only be waited for
    same "$(starts)" "$runs"
}

@test "run: arguments arrive as they are" {
    run -0 dyno run --app one -- printf '<%s>' 'two words' '$HOME' '"quoted"' "it's"
    has "$output" "<two words><\$HOME><\"quoted\"><it's>"
}

@test "run on a terminal: it is one, of the right size, and Ctrl-C interrupts" {
    cat >"$STORY/tty.exp" <<'EXP'
source [lindex $argv 0]
set stty_init "rows 31 columns 97"
spawn [lindex $argv 1] run --app one -- bash --norc
want {[$#] } "no prompt"
send "tty; stty size; echo COLS=\$COLUMNS-\$TERM\r"
want {/dev/pts/[0-9]+} "no tty"
want {31 97} "wrong size"
want {COLS=97-xterm} "wrong environment"
stty rows 40 columns 120 < $spawn_out(slave,name)
send "sh -c 'echo asleep-\$((40 + 1)); exec sleep 1000'\r"
want {asleep-41} "it does not run"
send "\003"
send "echo still-\$((40 + 2)); stty size\r"
want {still-42} "Ctrl-C did not interrupt"
want {40 120} "the window's new size did not arrive"
send "exit 17\r"
set status [want_end "did not end"]
if {$status != 17} { fail "status $status" }
puts "terminal ok"
EXP
    TERM=xterm DYNOD_SOCKET=$AGENT/run/api.sock run -0 expect "$STORY/tty.exp" "$BATS_TEST_DIRNAME/talk.exp" "$BIN/dyno"
    has "$output" "terminal ok"
}

@test "run: when the terminal goes away the one-off gets SIGHUP and ends" {
    cat >"$STORY/hup.exp" <<'EXP'
source [lindex $argv 0]
spawn [lindex $argv 1] run --app one -- bash -c "trap 'exit 1' HUP; echo ready; while :; do sleep 1; done"
want {ready} "did not start"
close
EXP
    DYNOD_SOCKET=$AGENT/run/api.sock run -0 expect "$STORY/hup.exp" "$BATS_TEST_DIRNAME/talk.exp" "$BIN/dyno"
    no_runs() { [ "$(dyno ps --json one | jq '[.[] | select(.type == "run" and (.state | IN("complete", "crashed", "down") | not))] | length')" = 0 ]; }
    wait_for no_runs
}

@test "run --slug needs no app" {
    run -0 dyno run --slug "$STORY/one.tgz" -- cat file.txt
    has "$output" "I am in the slug"
}

@test "exec: inside the running dyno, with its files, its environment and its limits" {
    run -0 dyno exec one/worker.1 -- bash -c 'cat file.txt; echo $DYNO $COLOUR; ls /proc | grep -c "^[0-9]"'
    has "$output" "I am in the slug"
    has "$output" "worker.1 blue"
    # It sees the dyno's processes: dyno-init, the worker, itself.
    [ "${lines[2]}" -lt 12 ]
    run -3 dyno exec one/worker.1 -- sh -c 'exit 3'
    up one/worker.1
}

@test "exec: its processes end with the dyno" {
    dyno_background exec one/worker.1 -- sleep 3600 </dev/null >/dev/null 2>&1
    local client=$BACKGROUND pid
    pid=$(of one/worker.1 .pid)
    sleeps() { dyno exec one/worker.1 -- bash -c 'grep -lsz "^3600$" /proc/[0-9]*/cmdline | wc -l' | grep -qE '[2-9]'; }
    wait_for sleeps
    dyno restart one/worker.1
    wait_for replaced one/worker.1 "$pid"
    wait_for gone "$client"
}

@test "exec: into what is not there" {
    run -1 dyno exec one/worker.9 -- true
    has "$output" worker.9
    run -1 dyno exec nobody/web.1 -- true
    has "$output" nobody
}

# entries KIND DYNO: those events, as JSON.
entries() { dyno events --json | jq -c --arg kind "$1" --arg dyno "$2" 'select(.kind == $kind and .dyno == $dyno)'; }

@test "exec: several at once, each with its own end" {
    local i status pids=()
    for i in 1 2 3 4; do
        dyno exec one/worker.1 -- sh -c "cat; exit $i" <<<"I am $i" >"$STORY/exec.$i" 2>&1 3>&- 4>&- &
        pids[i]=$!
    done
    for i in 1 2 3 4; do
        status=0
        wait "${pids[i]}" || status=$?
        same "$status" "$i"
        same "$(cat "$STORY/exec.$i")" "I am $i"
    done
}

@test "who entered what is on record, and how it ended" {
    local entered left name
    run -7 dyno exec one/worker.1 -- sh -c 'exit 7' $'a\e[31mb'
    entered=$(entries enter worker.1 | tail -1)
    same "$(jq -r '[.how, .by.via, .by.uid, .tty] | @csv' <<<"$entered")" "\"exec\",\"api\",$(id -u),false"
    same "$(jq -r .command <<<"$entered")" 'sh -c exit 7 a\x1b[31mb'
    left=$(entries leave worker.1 | tail -1)
    same "$(jq -r '[.token, .status] | @csv' <<<"$left")" "$(jq -r .token <<<"$entered"),7"
    run -127 dyno exec one/worker.1 -- /no/such/program
    same "$(entries leave worker.1 | tail -1 | jq -r .status)" 127
    # A config var's value is nowhere in it.
    echo SECRET=hush-hush >"$STORY/secret.env"
    run -0 dyno run --app one -e "$STORY/secret.env" -- sh -c 'echo $DYNO'
    name=$(grep -o 'run\.[0-9]*' <<<"$output" | tail -1)
    same "$(entries enter "$name" | jq -r '[.how, .command] | @csv')" '"run","sh -c echo $DYNO"'
    hasnt "$(cat "$AGENT/state/events.jsonl" "$AGENT/dynod.log")" hush-hush
    grep -q "enter one/$name: uid $(id -u), pid [0-9]*: sh -c" "$AGENT/dynod.log"
}
