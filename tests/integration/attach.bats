#!/usr/bin/env bats
# attach.bats - a one-off that a controller starts, its terminal somewhere else: dynod-link dials out to
# tests/controller/attach.py. Real terminals, pipes, exit status, R13, R16.

load helpers
load link

setup_file() {
    story_begin
    controllers_begin one
    slug_for_link
    controller_start one --client-ca "$CTL/ca/ca.pem"
    agent_link_start "$(url_of one)" -o "link.cert_file=$CTL/ca/client.pem" -o "link.key_file=$CTL/ca/client.key"
    wait_for registered
    released shop '{"worker": 1}'
}
teardown_file() {
    story_end
    local rc=$?
    controllers_end || rc=1
    return $rc
}

# What attach.py is told in every case, in ATTACH.
ready_to_attach() {
    ATTACH=("$PYTHON" -B "$CONTROLLER/attach.py" --cert "$CTL/ca/server.pem" --key "$CTL/ca/server.key"
        --client-ca "$CTL/ca/ca.pem" --people "localhost:$(cat "$CTL/one/people")" --app shop)
}
# attach COMMAND...: with our streams.
attach() {
    ready_to_attach
    timeout 100 "${ATTACH[@]}" -- "$@"
}
# attach_background COMMAND...: as our own child FRONT, which says "ready" first.
attach_background() {
    ready_to_attach
    : >"$STORY/out"
    "${ATTACH[@]}" -- "$@" </dev/null >"$STORY/out" 2>"$STORY/said" 3>&- 4>&- &
    FRONT=$!
    wait_for grep -q ready "$STORY/out"
}
# front_ends STATUS
front_ends() {
    local status=0
    wait_for gone "$FRONT"
    wait "$FRONT" || status=$?
    same "$status" "$1"
}
# ran: the one-off's name, of what attach said last.
ran() { sed -n 's/^Running on .*\.\.\. //p' "$STORY/said" | tail -n 1; }
cause_of() { last_event shop "$1" exit | jq -r '.cause + " " + .fault'; }
ended() { [ "$(last_event shop "$1" exit)" != null ]; }

@test "pipes: output, errors and the exit status arrive, apart" {
    run -42 --separate-stderr attach sh -c 'echo to-out; echo to-err >&2; exit 42' </dev/null
    same "$output" to-out
    has "$stderr" to-err
    run -0 --separate-stderr attach 'echo $DYNO $((6 * 7))' </dev/null
    [[ $output =~ ^run\.[0-9]+\ 42$ ]]
    run -137 attach sh -c 'kill -9 $$' </dev/null
    run -127 attach no-such-command </dev/null
}

@test "pipes: a lot of standard input, binary, to its end, and back" {
    head -c 3000000 /dev/urandom >"$STORY/random"
    attach cat <"$STORY/random" >"$STORY/echoed" 2>/dev/null
    cmp "$STORY/random" "$STORY/echoed"
    # A command that leaves its input alone.
    run -3 attach sh -c 'exec <&-; echo done; exit 3' <"$STORY/random"
    has "$output" done
}

@test "pipes: a signal goes to the command" {
    attach_background sh -c 'trap "echo caught INT; exit 7" INT; echo ready; while :; do sleep 0.1; done'
    kill -INT "$FRONT"
    front_ends 7
    has "$(cat "$STORY/out")" "caught INT"
}

@test "a real terminal: its size, its keys, its end" {
    cat >"$STORY/tty.exp" <<'EXP'
source [lindex $argv 0]
set stty_init "rows 33 cols 101"
spawn -noecho {*}[lrange $argv 1 end]
want {\$ |# |bash} "a prompt"
send "stty size; tty; echo \$TERM \$DYNO\r"
want {33 101} "the size of the window"
want {/dev/} "a terminal"
want {screen run\.[0-9]+} "its name"
send "sh -c 'echo \$((40 + 2)) is there; exec sleep 100'\r"
want {42 is there} "a command"
send "\003"
send "echo status \$?\r"
want {status 130} "^C"
stty rows 20 cols 50 < $spawn_out(slave,name)
send "until \[ \"\$(stty size)\" = '20 50' \]; do sleep 0.1; done; echo size \$((4 + 1))\r"
want {size 5} "the window's new size"
send "exit 5\r"
exit [want_end "the end"]
EXP
    ready_to_attach
    TERM=screen run -5 expect "$STORY/tty.exp" "$BATS_TEST_DIRNAME/talk.exp" "${ATTACH[@]}" -- bash --norc
}

@test "a terminal that goes away is a hangup: SIGHUP, and R16 for who does not mind" {
    local name stubborn
    attach_background sh -c 'trap "exit 9" HUP; echo ready; while :; do sleep 0.1; done'
    name=$(ran)
    kill -KILL "$FRONT"
    attach_background sh -c 'trap "" HUP; echo ready; while :; do sleep 0.1; done'
    stubborn=$(ran)
    kill -KILL "$FRONT"
    wait_for ended "$name"
    hasnt "$(bodies "shop/$name")" R16
    wait_for ended "$stubborn"
    wait_logged "shop/$stubborn" "Error R16 (Detached)"
}

@test "nobody comes: R13 after thirty seconds, the operator's fault, and the controller hears of it" {
    local answer name took began=$SECONDS
    PATIENCE=80
    # Somebody takes the connection, and says nothing.
    "$PYTHON" -c 'import socket, sys, time
ear = socket.create_server(("127.0.0.1", 0)); print(ear.getsockname()[1], flush=True); time.sleep(110)' \
        >"$STORY/ear" 3>&- 4>&- &
    local ear=$!
    wait_for test -s "$STORY/ear"
    answer=$(ordered run "{\"app\": \"shop\", \"argv\": [\"sleep\", \"1000\"],
        \"attach\": {\"url\": \"tls://localhost:$(cat "$STORY/ear")\", \"secret\": \"s\"}}")
    same "$(result_of "$answer")" "done -"
    name=$(jq -r .result.answer.dyno <<<"$answer")
    wait_for ended "$name"
    kill "$ear"
    ((SECONDS - began >= 29)) || fail "it took $((SECONDS - began)) s"
    # As the agent has it: who asks may have to wait for a processor.
    took=$(dyno events --json | jq -s --arg d "$name" '[.[] | if type == "array" then .[] else . end | select(.dyno == $d)]
        | map(select(.to == "up"), select(.kind == "attach")) | map(.t | sub("[.].*"; "Z") | fromdate) | max - min')
    ((took >= 28 && took < 40)) || fail "it took $took s from its start"
    same "$(cause_of "$name")" "attach-failed operator"
    wait_logged "shop/$name" "Error R13 (Attach error) -> Failed to attach to process"
    wait_for asks notices '[.[] | select(.kind == "attach" and .code == "R13")] | length >= 1' true
    hasnt "$(link .counts)" '"crash'
}

@test "the wrong one is no terminal: R13 at once for a stranger's certificate" {
    local answer name
    timeout 60 "$PYTHON" -B "$CONTROLLER/attach.py" --cert "$CTL/stranger/server.pem" --key "$CTL/stranger/server.key" \
        --ready "$STORY/ready" --wait 20 </dev/null >/dev/null 2>&1 3>&- 4>&- &
    local stranger=$!
    wait_for test -s "$STORY/ready"
    answer=$(ordered run "$(jq -c '{app: "shop", argv: ["sleep", "1000"], attach: .}' "$STORY/ready")")
    name=$(jq -r .result.answer.dyno <<<"$answer")
    wait_for ended "$name"
    same "$(cause_of "$name")" "attach-failed operator"
    has "$(last_event shop "$name" attach | jq -r .text)" certificate
    kill "$stranger"
    wait "$stranger" || true
}

@test "a url that is none is refused, and no one-off is started" {
    ordered_is "refused bad-command" run '{"app": "shop", "command": "true", "attach": {"url": "http://x:1", "secret": "s"}}'
    ordered_is "refused bad-command" run '{"app": "shop", "command": "true", "attach": {"url": "tls://x:1"}}'
}

@test "dynod-link is killed: the terminal went away, the worker did not" {
    local before link name
    before=$(of shop/worker.1 .pid)
    attach_background sh -c 'trap "exit 9" HUP; echo ready; while :; do sleep 0.1; done'
    name=$(ran)
    link=$(link_pid)
    kill -KILL "$link"
    front_ends 125
    wait_for ended "$name"
    hasnt "$(bodies "shop/$name")" R16
    wait_for link_again "$link"
    wait_for link_is .state registered
    is shop/worker.1 .pid "$before"
}
