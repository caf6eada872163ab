#!/usr/bin/env bats
# link.bats - an agent that a controller drives, over TLS: every command, routes, draining, and that
# what is sent is what the schema says.

load helpers
load link

setup_file() {
    story_begin
    controllers_begin one
    slug_for_link
    controller_start one
    agent_link_start "$(url_of one)" -o dyno.dynos_max=40
    wait_for registered
}
teardown() { link_tidy; }
teardown_file() { link_story_end; }

# --- commands -------------------------------------------------------------------------------------------

@test "it registers: who it is, what it can hold; ps, status and doctor show the link" {
    instance_is .labels.zone here
    [ "$(instance .capacity.dynos)" -le 40 ]
    [ "$(instance .capacity.memory)" -gt 0 ]
    instance_is .address 127.0.0.1
    instance_is .epoch "$(instance .epoch)"
    link_is .state registered
    link_is .agent "$ID"
    link_is .alive true
    has "$(dyno ps 2>&1)" registered
    has "$(dyno doctor 2>&1)" "$(url_of one)"
}

@test "start: the dynos run, with what the controller says of the release; the route answers" {
    released shop '{"web": 2, "worker": 1}' '{"env": {"A": "b c"}, "meta": {"app_id": "id-1", "app_name": "Shop",
        "created_at": "2026-11-21T12:00:00Z", "slug_commit": "abc", "slug_description": "Deploy abc"}}'
    same "$(up_there shop)" "web.1 web.2 worker.1"
    local route pid env
    route=$(ask routes | jq -r '.[] | select(.dyno == "web.2") | "\(.address):\(.port)"')
    curl -sS --max-time 10 "http://$route/" | grep -q 'Hello from web.2'
    pid=$(of shop/worker.1 .pid)
    env=$(tr '\0' '\n' <"/proc/$(pgrep -P "$pid" | head -1)/environ" | sort)
    grep -qx 'A=b c' <<<"$env"
    grep -qx HEROKU_APP_ID=id-1 <<<"$env"
    grep -qx HEROKU_APP_NAME=Shop <<<"$env"
    grep -qx HEROKU_RELEASE_VERSION=v1 <<<"$env"
    grep -qx HEROKU_RELEASE_CREATED_AT=2026-11-21T12:00:00Z <<<"$env"
    grep -qx HEROKU_SLUG_COMMIT=abc <<<"$env"
    grep -qx 'HEROKU_SLUG_DESCRIPTION=Deploy abc' <<<"$env"
    grep -qx "HEROKU_DYNO_ID=$(ask dynos | jq -r '.[] | select(.dyno == "worker.1") | .run')" <<<"$env"
}

@test "a new version replaces the app's dynos, the old ones' exits are told" {
    released shop '{"web": 2}'
    local before
    before=$(pids shop)
    released shop '{}'
    both_new() { asks dynos '[.[] | select(.app == "shop") | .release] | unique | length == 1' true && [ "$(pids shop)" != "$before" ] && all_up shop; }
    wait_for both_new
    wait_for exits_agree
}

@test "scale takes numbers and lists, up and down; restart; stop" {
    released shop '{"web": 1}'
    local one two
    one=$(of shop/web.1 .pid)
    ordered_is "done -" scale '{"app": "shop", "formation": {"web": [1, 4], "worker": 2}}'
    wait_for up_there_is shop "web.1 web.4 worker.1 worker.2"
    is shop/web.1 .pid "$one"
    two=$(of shop/worker.2 .pid)
    ordered_is "done -" restart '{"app": "shop", "dynos": ["web.1"]}'
    wait_for replaced shop/web.1 "$one"
    is shop/worker.2 .pid "$two"
    ordered_is "done -" scale '{"app": "shop", "formation": {"web": [4], "worker": [2]}}'
    wait_for up_there_is shop "web.4 worker.2"
    is shop/worker.2 .pid "$two"
    ordered_is "done -" stop '{"app": "shop", "dynos": ["worker.2"]}'
    wait_for up_there_is shop web.4
    ordered_is "done -" stop '{"app": "shop", "forget": true}'
    wait_for none_runs shop
    ordered_is "refused unknown-app" restart '{"app": "shop"}'
}

@test "run: a one-off has a name, its exit is told; prefetch: the slug is there" {
    released shop '{"worker": 1}'
    local answer name
    answer=$(tell apps/shop/run '{"command": "exit 5"}')
    same "$(result_of "$answer")" "done -"
    name=$(jq -r .result.answer.dyno <<<"$answer")
    run_told() { asks exits "[.[] | select(.dyno == \"$name\")] | map(.status, .fault) | join(\" \")" "5 app"; }
    wait_for run_told
    answer=$(tell apps/shop/run '{"argv": ["sh", "-c", "exit 0"], "num": 4123}')
    same "$(jq -r .result.answer.dyno <<<"$answer")" run.4123
    run_completed() { asks exits '[.[] | select(.dyno == "run.4123")] | map(.cause, .status, .fault) | join(" ")' "complete 0 none"; }
    wait_for run_completed
    ordered_is "done -" prefetch "{\"slug\": \"file://$STORY/link.tgz\", \"digest\": \"$(digest_of "$STORY/link.tgz")\"}"
}

@test "commands that cannot be carried out are refused, with a code, and the others go on" {
    released shop '{"worker": 1}'
    local before
    before=$(pids)
    ordered_is "refused unknown-op" dance
    ordered_is "refused unknown-app" scale '{"app": "nobody", "formation": {"web": 1}}'
    ordered_is "refused unknown-app" start '{"app": "nobody", "dynos": ["web.1"]}'
    ordered_is "refused bad-command" scale '{"app": "shop", "formation": {"worker": -1}}'
    ordered_is "refused bad-command" scale '{"app": "shop", "formation": {"worker": "1"}}'
    ordered_is "refused bad-command" scale '{"app": "shop"}'
    ordered_is "refused bad-command" scale '{"app": "shop", "formation": {"worker": 1}, "more": 1}'
    ordered_is "refused bad-command" scale '{"app": "shop", "formation": {"worker": [1, 1]}}'
    ordered_is "refused bad-command" start '{"app": "../shop", "dynos": ["worker.1"]}'
    ordered_is "refused bad-command" start '{"app": "shop", "dynos": ["worker"]}'
    ordered_is "refused bad-command" start '{"app": "shop", "dynos": ["worker.2"], "release": {"slug": 1}}'
    ordered_is "refused bad-command" run '{"app": "shop"}'
    ordered_is "refused bad-command" drain '{"deadline_ms": -1}'
    ordered_is "refused bad-command" sync '{"apps": {}}'
    ordered_is "refused capacity" start "$(jq -nc '{app: "shop", dynos: [range(2; 50) | "worker.\(.)"]}')"
    same "$(pids)" "$before"
    ordered_is "done -" scale '{"app": "shop", "formation": {"worker": 2}}'
    wait_for up shop/worker.2
}

@test "replayed, reordered, stale and duplicate commands do nothing, and are answered so" {
    released shop '{"worker": 1}'
    ordered_is "done -" scale '{"app": "shop", "formation": {"worker": 2}}'
    wait_for up shop/worker.2
    local last id g before
    last=$(ask "agents/$ID/commands" | jq -c '.[-1] | del(.result)')
    id=$(jq -r .id <<<"$last")
    g=$(jq .generation <<<"$last")
    before=$(pids)
    # The same again; its id under a higher number; old numbers in any order; a new one between them.
    local rest='"op": "stop", "app": "shop"'
    deliver "$last" "{\"id\": \"$id\", \"generation\": $((g + 1)), $rest}" \
        "{\"id\": \"old-1\", \"generation\": $((g - 1)), $rest}" "{\"id\": \"old-2\", \"generation\": 1, $rest}" \
        "{\"id\": \"new-1\", \"generation\": $((g + 5)), \"op\": \"scale\", \"app\": \"shop\", \"formation\": {\"worker\": 3}}" \
        "{\"id\": \"late-1\", \"generation\": $((g + 3)), $rest}"
    wait_for up shop/worker.3
    results() { jq -c 'select(.schema == "Report") | .body.results[]?' "$CTL/record"; }
    status_of() { results | jq -r --arg id "$1" --argjson g "$2" 'select(.id == $id and .generation == $g) | .status' | tail -1; }
    late_told() { [ "$(status_of late-1 $((g + 3)))" = stale ]; }
    wait_for late_told
    same "$(status_of "$id" "$g")" duplicate
    same "$(status_of "$id" $((g + 1)))" duplicate
    same "$(status_of old-1 $((g - 1)))" stale
    same "$(status_of old-2 1)" stale
    same "$(status_of new-1 $((g + 5)))" done
    # Nothing was stopped, or started twice.
    same "$(pids | jq -c '[.[] | select(.[1] != "worker.3")]')" "$before"
    same "$(count shop worker)" 3
    # The controller's own numbering goes on above: it is behind, and hears so.
    dyno stop shop >/dev/null
    controller_kill one
    controller_again one
    wait_for registered
    ordered_is "done -" stop '{"app": "shop"}'
}

@test "a sync is all that should run: of what controllers started, not of what hands did" {
    released shop '{"worker": 2}'
    dyno start byhand --slug "file://$STORY/link.tgz" -m worker=1
    wait_up byhand/worker.1
    local before
    before=$(of byhand/worker.1 .pid)
    same "$(result_of "$(tell "agents/$ID/sync")")" "done -"
    all_up shop
    ordered_is "done -" sync "{\"apps\": [{\"app\": \"fresh\", \"release\": {\"version\": 7, \"slug\": \"file://$STORY/link.tgz\"},
        \"formation\": {\"worker\": [2, 5]}}]}"
    wait_for none_runs shop
    wait_up fresh/worker.2 fresh/worker.5
    is fresh/worker.2 .release 7
    ordered_is "done -" sync '{"apps": []}'
    wait_for none_runs fresh
    is byhand/worker.1 .pid "$before"
}

# --- routes ---------------------------------------------------------------------------------------------

@test "a dyno leaves the route before it gets SIGTERM" {
    released shop '{"web": 1}'
    local port pid
    port=$(port_of shop/web.1)
    pid=$(of shop/web.1 .pid)
    ask routes | jq -e --argjson p "$port" 'any(.port == $p)' >/dev/null
    # A pause whose end nobody waits for: it is there until an agent has a shorter one.
    agent_kill TERM
    printf '%s\n' -o dyno.route_drain=10m >>"$AGENT/options"
    agent_again
    wait_for all_up shop
    is shop/web.1 .pid "$pid"
    tell apps/shop/stop >/dev/null
    unrouted() { asks routes length 0; }
    wait_for unrouted
    curl -sS --max-time "$PATIENCE" "http://127.0.0.1:$port/" | grep -q 'Hello from web.1' # what was on its way is served
    run ! logged shop/web.1 "Stopping all processes with SIGTERM"
    agent_kill TERM
    printf '%s\n' -o dyno.route_drain=500ms >>"$AGENT/options"
    agent_again
    wait_logged shop/web.1 "Stopping all processes with SIGTERM"
    wait_for none_runs shop
}

# --- keys ----------------------------------------------------------------------------------------------

@test "a token that is changed on both sides; a wrong one is the operator's fault, and shown" {
    released shop '{"worker": 1}'
    local before
    before=$(pids)
    echo token-two >"$CTL/token"
    says_401() { [[ $(dyno ps 2>&1) == *401*operator* ]]; }
    wait_for says_401
    has "$(dyno doctor 2>&1)" denied
    cp "$CTL/token" "$CTL/agent-token"
    wait_for link_is .state registered
    same "$(pids)" "$before"
    ordered_is "done -" restart '{"app": "shop"}'
}

# --- emptied -------------------------------------------------------------------------------------------

@test "a draining instance refuses starts, keeps its dynos for the controller to stop, and is told of" {
    released shop '{"worker": 2}'
    local before
    before=$(pids)
    ordered_is "done -" drain '{"deadline_ms": 60000}'
    draining() { instance_is .state draining; }
    wait_for draining
    instance_is .instance.reason controller
    same "$(status | jq .instance.draining)" true
    ordered_is "refused draining" start '{"app": "shop", "dynos": ["worker.3"]}'
    ordered_is "refused draining" run '{"app": "shop", "command": "true"}'
    # But it may be made ready for what comes after.
    ordered_is "done -" prefetch "{\"slug\": \"file://$STORY/link.tgz\", \"digest\": \"$(digest_of "$STORY/link.tgz")\"}"
    same "$(pids)" "$before"
    # It stays so over the death of the agent.
    agent_kill KILL
    agent_again
    same "$(status | jq .instance.draining)" true
    wait_for pids_are "$before"
    ordered_is "done -" stop '{"app": "shop", "dynos": ["worker.2"]}'
    wait_for counts shop worker 1
    ordered_is "done -" undrain
    wait_for instance_is .state alive
    ordered_is "done -" start '{"app": "shop", "dynos": ["worker.3"]}'
    wait_up shop/worker.3
}

@test "dyno drain by hand: the controller hears it, what is left is stopped before the deadline" {
    released shop '{"worker": 2}'
    local deadline
    deadline=$(dyno drain --deadline 10s --no-wait --json | jq -r .deadline)
    draining() { instance_is .state draining && instance_is .instance.reason operator; }
    wait_for draining
    wait_for none_runs shop
    [[ $(last_event shop worker.2 exit | jq -r .t) < "$deadline" ]] || fail "after $deadline"
    dyno undrain
    wait_for instance_is .state alive
    wait_for all_up shop # wanted they still are
}

# --- the contract -----------------------------------------------------------------------------------------

@test "everything that the agent has sent is as the schema says" {
    "$PYTHON" -B "$CONTROLLER/check_docs.py" --record "$CTL/record"
}

@test "a wrong hash is noticed by the next heartbeat, and a snapshot puts it right" {
    released shop '{"worker": 1}'
    local n
    snapshots() { jq -s '[.[] | select(.schema == "Report" and .body.snapshot)] | length' "$CTL/record"; }
    n=$(snapshots)
    tell /rogue/forget-dynos "{\"agent\": \"$ID\"}" >/dev/null
    back() { [ "$(snapshots)" -gt "$n" ] && all_up shop; }
    wait_for back
}
