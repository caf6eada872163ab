#!/usr/bin/env bats
# drain.bats - an instance is emptied by hand, without a controller: SIGTERM at once, nothing starts any more, not
# even after a kill -9 of the agent, until it is taken back. Each test has an agent of its own.

load helpers

setup_file() {
    story_begin
    mkdir "$STORY/app"
    cp "$ROOT/docs/examples/hello/web.pl" "$STORY/app/"
    cat >"$STORY/app/Procfile" <<'PROC'
web: exec perl web.pl
polite: trap 'echo "told to go"; exit 0' TERM; echo ready; while :; do sleep 0.1; done
stubborn: trap 'echo ignoring' TERM; echo ready; while :; do sleep 0.2; done
crashing: echo "begins"; sleep 0.5; exit 3
PROC
    slug_from "$STORY/app" "$STORY/drain.tgz"
}
setup() {
    rm -rf "$AGENT" && mkdir -p "$AGENT"
    echo "$BIN" >"$AGENT/bin"
    # No test has to be done with something before a grace is over: the stubborn end when a test says so.
    agent_start -o dyno.restart_delay=300ms -o dyno.stop_grace=10m
}
teardown() {
    [ ! -e "$STORY/waiter" ] || kill -KILL "$(cat "$STORY/waiter")" 2>/dev/null || true
    rm -f "$STORY/waiter"
    if [[ $(dyno ps --json) == *stubborn* ]]; then
        agent_kill KILL
        short_grace
    fi
    agent_end
}
teardown_file() { rm -f "$AGENT/pid"; story_end; }

begin() { dyno start shop --slug "file://$STORY/drain.tgz" -m "$1" "${@:2}"; }
api() { curl -sS --max-time "$PATIENCE" --unix-socket "$AGENT/run/api.sock" "$@"; }
instance() { api http://dynod/v1/instance | jq -r "$1"; }
running() { dyno ps --json | jq '[.[] | select(.pid != 0)] | length'; }
runs() { [ "$(running)" = "$1" ]; }
# For the next agent.
short_grace() { printf '%s\n' -o dyno.stop_grace=1s >>"$AGENT/options"; }
begin_stubborn() {
    begin "$@"
    wait_logged shop/stubborn.1 ready # else SIGTERM is its end
}
end_stubborn() { kill -KILL "$(of shop/stubborn.1 .pid)"; }
starts_of() { dyno events | grep -c "$1 provisioning -> starting"; }

# A `dyno drain` that waits meanwhile; its words go to $STORY/drain.out, its status to `waiter_ended`.
drain_meanwhile() {
    DYNOD_SOCKET=$AGENT/run/api.sock "$BIN/dyno" drain "$@" >"$STORY/drain.out" 2>"$STORY/drain.err" 3>&- 4>&- &
    WAITER=$!
    echo "$WAITER" >"$STORY/waiter"
}
waiter_ended() {
    local status=0
    wait "$WAITER" || status=$?
    rm -f "$STORY/waiter"
    same "$status" "$1"
}
waiter_says() { grep -q -- "$1" "$STORY/drain.out"; }

@test "drain: SIGTERM at once, waits until nothing runs, says how many still do" {
    begin web=2,polite=1
    run -0 dyno drain
    same "${lines[-1]}" 'drained: no dyno runs here, and none is started until `dyno undrain`'
    [[ ${lines[0]} == *"still run"* ]]
    runs 0
    wait_logged shop/polite.1 "told to go"
    same "$(last_event shop polite.1 exit | jq -r '.cause + " " + .fault')" "stopped operator"
    same "$(instance '[.draining, .reason, .dynos] | @csv')" 'true,"operator",0'
    same "$(api http://dynod/v1/status | jq -c '[.instance.draining, .link]')" '[true,null]'
    run -0 dyno ps
    has "$output" "drained (operator): no dyno runs here"
    # Once more: it is drained.
    run -0 dyno drain --json
    same "$(jq -c '[.draining, .dynos]' <<<"$output")" '[true,0]'
}

@test "a drained instance starts nothing, by no way" {
    begin polite=1,crashing=0
    dyno drain >/dev/null
    run ! dyno start other --slug "file://$STORY/drain.tgz" -m polite=1
    has "$output" "drain"
    run ! dyno run --app shop -- true
    has "$output" "drain"
    same "$(api -o /dev/null -w '%{http_code}' -d '{"command":"true","attach":false}' http://dynod/v1/apps/shop/run)" 503
    dyno scale shop polite=3 || true
    dyno restart shop || true
    sleep 1
    runs 0
    # Nor does what a reboot or an upgrade starts anew.
    agent_kill TERM
    agent_again
    same "$(instance .draining)" true
    sleep 1
    runs 0
}

@test "a crashed dyno is not restarted while the instance drains" {
    begin_stubborn stubborn=1,crashing=1 --no-wait
    wait_logged shop/crashing.1 begins
    dyno drain --no-wait
    wait_for runs 1
    local n
    n=$(starts_of crashing.1)
    sleep 1.5 # its restart would take less
    same "$(starts_of crashing.1)" "$n"
    end_stubborn
    wait_for runs 0
    sleep 0.5
    same "$(starts_of crashing.1)" "$n"
}

# As an agent leaves it that dies between having written the drain down and having acted on it.
journal_drain() {
    python3 -c 'import sys, zlib
entry = b"{\"op\":\"drain\",\"reason\":\"operator\"}"
open(sys.argv[1], "ab").write(b"%08x %d %s\n" % (zlib.crc32(entry), len(entry), entry))' "$AGENT/state/journal"
}
is_crashed() { [ "$(dyno ps --json | jq -r '.[] | select(.dyno == "crashing.1") | .state')" = crashed ]; }
begun() { logs shop/crashing.1 | grep -c "\]: begins"; }
begun_twice() { [ "$(begun)" = 2 ]; }
begun_again() { [ "$(begun)" -gt 2 ]; }

@test "kill -9 of dynod: what it left waiting for a restart is not restarted by one that drains" {
    agent_kill
    agent_start -o dyno.restart_delay=60s
    begin crashing=1 --no-wait
    wait_for begun_twice # the first restart is immediate
    wait_for is_crashed
    agent_kill
    journal_drain
    agent_again
    wait_for runs 0
    sleep 1.5
    same "$(begun)" 2
    same "$(starts_of crashing.1)" 2
    same "$(dyno ps --json | jq length)" 0
    dyno undrain
    wait_for begun_again
}

@test "undrain brings every dyno back" {
    begin web=2,polite=1
    dyno drain >/dev/null
    run -0 dyno undrain
    same "$output" "this instance takes dynos again"
    wait_up shop/web.1 shop/web.2 shop/polite.1
    wait_for answers shop/web.1
    same "$(instance '[.draining, .deadline, .reason, .dynos] | @json')" '[false,null,null,3]'
    run -0 dyno ps
    hasnt "$output" drain
    # A second one does nothing.
    dyno undrain
    wait_up shop/web.1
    dyno run --app shop -- true
}

@test "kill -9 of dynod in the middle: the drain goes on, and whoever waits for it too" {
    begin_stubborn web=1,stubborn=1
    local pid
    pid=$(of shop/stubborn.1 .pid)
    drain_meanwhile
    wait_logged shop/stubborn.1 ignoring
    agent_kill KILL
    alive "$pid"
    short_grace
    agent_again
    same "$(instance .draining)" true
    waiter_ended 0
    same "$(tail -n 1 "$STORY/drain.out")" 'drained: no dyno runs here, and none is started until `dyno undrain`'
    wait_for gone "$pid"
    same "$(last_event shop stubborn.1 exit | jq -r .cause)" exit-timeout
    sleep 1
    runs 0
    dyno undrain
    wait_up shop/web.1 shop/stubborn.1
}

@test "an agent that stays away ends the wait, not the drain" {
    begin_stubborn stubborn=1
    drain_meanwhile
    wait_for waiter_says "1 dyno still runs"
    agent_kill KILL
    short_grace
    waiter_ended 1
    has "$(cat "$STORY/drain.err")" "no agent listens"
    agent_again
    same "$(instance .draining)" true
    wait_for runs 0
}

@test "Ctrl-C ends the wait, not the drain; somebody's undrain ends it, too" {
    begin_stubborn stubborn=1
    drain_meanwhile
    wait_for waiter_says "1 dyno still runs"
    kill -INT "$WAITER"
    waiter_ended 130
    has "$(cat "$STORY/drain.err")" "still drains"
    same "$(instance .draining)" true
    end_stubborn
    wait_for runs 0
    dyno undrain
    wait_up shop/stubborn.1
    ready_again() { [ "$(logs shop/stubborn.1 | grep -c ': ready')" = 2 ]; }
    wait_for ready_again
    drain_meanwhile
    wait_for waiter_says "1 dyno still runs"
    dyno undrain
    waiter_ended 1
    has "$(cat "$STORY/drain.err")" "took the drain back"
    end_stubborn
    wait_up shop/stubborn.1
}

@test "--deadline is kept and shown; a wrong one is refused and changes nothing" {
    begin_stubborn stubborn=1
    run -0 dyno drain --no-wait --deadline 90s
    [[ $output =~ "draining (operator): 1 dyno still runs, deadline in 1m"[0-9]+s ]]
    local left
    left=$(instance '((.deadline | sub("[.].*"; "Z") | fromdate) - now) | floor')
    ((left > 60 && left <= 90))
    end_stubborn
    wait_for runs 0
    # Another drain sets another deadline.
    run -0 dyno drain --no-wait --deadline 10m --json
    left=$(jq '((.deadline | sub("[.].*"; "Z") | fromdate) - now) | floor' <<<"$output")
    ((left > 500 && left <= 600))
    dyno undrain
    for bad in '{"deadline_ms":-1}' '{"deadline_ms":"1"}' '{"deadline_ms":1.5}' '{"dead_line":1}' '{"reason":7}' \
        '{"deadline_ms":1e300}' '[]' '{'; do
        same "$(api -o "$STORY/answer" -w '%{http_code}' -d "$bad" http://dynod/v1/instance/drain)" 400
        same "$(jq -r .error.fault "$STORY/answer")" operator
    done
    same "$(instance .draining)" false
    wait_up shop/stubborn.1
    run -2 dyno drain --deadline soon
}

@test "an app started while it drains is told why, and what the formation wants starts later" {
    begin polite=1
    dyno drain >/dev/null
    run ! dyno start shop --slug "file://$STORY/drain.tgz" -m polite=2
    has "$output" drain
    dyno undrain
    wait_up shop/polite.1
}

@test "somebody else's socket: a clear refusal, and nothing drains (root)" {
    only_root "needs another user"
    begin polite=1
    chmod 0755 "$AGENT" "$AGENT/run"
    run setpriv --reuid=1001 --regid=1001 --clear-groups env "DYNOD_SOCKET=$AGENT/run/api.sock" "$BIN/dyno" drain
    same "$status" 1
    has "$output" "may not use"
    same "$(instance .draining)" false
    run setpriv --reuid=1001 --regid=1001 --clear-groups env "DYNOD_SOCKET=$AGENT/run/api.sock" "$BIN/dyno" undrain
    same "$status" 1
    up shop/polite.1
}
