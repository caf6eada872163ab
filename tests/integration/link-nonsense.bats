#!/usr/bin/env bats
# link-nonsense.bats - a controller that answers with status 200, and nonsense: as in link-bad.bats
# nothing is touched, everything is counted and shown, and it ends when the controller is well again.

load helpers
load link

setup_file() { rogue_begin; }
setup() { untouched; }
teardown_file() { rogue_end; }

# --- status 200, and nonsense -------------------------------------------------------------------------

# says BODY [CALL]: an answer of status 200.
says() { jq -nc --arg body "$1" --arg call "${2-}" '{kind: "answer", body: $body} + if $call == "" then {} else {calls: [$call]} end'; }

@test "HTML, honest and as JSON" {
    hurt not-json '{"kind": "answer", "type": "text/html", "body": "<html><h1>It works!</h1></html>", "calls": ["heartbeat"]}' \
        "$(says '<html><h1>It works!</h1></html>' commands)"
}
@test "not JSON: empty, cut, a list, a number, NaN, two values, no UTF-8" {
    hurt not-json "$(says '' heartbeat)" "$(says '{"commands": [' commands)"
    hurt not-json "$(says '[]' heartbeat)" "$(says '17' commands)"
    hurt not-json "$(says '{"a": NaN}' heartbeat)" "$(says '{"commands": []} {}' commands)"
    hurt not-json "$(says '{"a": "\ud800"}' heartbeat)" "$(says '{"commands": [1e999]}' commands)"
}
@test "a member twice; nested 100,000 deep; a number that nothing holds" {
    hurt not-json "$(says '{"commands": [], "commands": []}')"
    hurt not-json '{"kind": "deep", "depth": 100000}'
    hurt not-json "$(says '{"heartbeat_ms": 99999999999999999999999999}' heartbeat)"
}
@test "a registration's answer with missing members, wrong types, numbers out of range" {
    local body before
    for body in '{"commands": {}}' '{"session": 5, "store": "s"}' '{"session": "a b", "store": "s"}' \
        '{"session": "s", "store": "../s"}' '{"session": "s", "store": "s", "heartbeat_ms": -1}' \
        '{"session": "s", "store": "s", "heartbeat_ms": 1e99}' \
        '{"session": "s", "store": "s", "ttl_ms": 9223372036854775807}'; do
        before=$(link '.counts["bad-answer"] // 0')
        fault "$(says "$body" register | jq -c '{all: [. + {times: 1}, {kind: "status", status: 409, calls: ["heartbeat"], times: 1}]}')"
        wait_for spent
        wait_for counted bad-answer "$before"
        wait_for registered
        untouched
    done
}
@test "other answers with missing members, wrong types, too many commands" {
    local many
    many=$(jq -nc '{commands: [range(1; 1002) | {id: "x-\(.)", generation: (1000000 + .), op: "stop", app: "shop"}]}')
    hurt bad-answer "$(says '{"snapshot": "yes"}' heartbeat)" "$(says '{}' commands)"
    hurt bad-answer "$(says '{"ttl_ms": 5}' heartbeat)" "$(says '{"commands": [1]}' commands)"
    hurt bad-answer "$(says "$many" commands)"
}
# harmless FAULT: so spoiled, answers to the long-poll are good.
harmless() {
    local before
    before=$(link '.counts | [.["bad-answer"], .["not-json"], .status]')
    fault "$1"
    polled() { [ "$(ask /rogue | jq '.calls.commands // 0')" -ge 4 ]; }
    wait_for polled
    wait_for link_is .state registered
    same "$(link '.counts | [.["bad-answer"], .["not-json"], .status]')" "$before"
    recovers
}
@test "members that nobody knows are ignored" {
    harmless "$(says '{"commands": [], "later": {"x": [1]}}' commands)"
}
@test "an acknowledgement of another report is none" {
    fault "$(says '{"acked": 999999}' reports | jq -c '. + {times: 3}')"
    ordered scale '{"app": "shop", "formation": {"quick": 1}}' >/dev/null # it has something to report
    wait_for counted bad-answer
    ended() { [ "$(exits_here | wc -l)" -ge 1 ]; }
    wait_for ended
    well
    ordered scale '{"app": "shop", "formation": {"quick": 0}}' >/dev/null
    same_exits() { [ "$(exits_here | wc -l)" -ge 1 ] && exits_agree; }
    wait_for same_exits
    untouched_but_quick() { none_quick && untouched; }
    none_quick() { [ "$(dyno ps --json shop | jq '[.[] | select(.type == "quick" and .pid)] | length')" = 0 ]; }
    wait_for untouched_but_quick
}

# --- commands that are none -----------------------------------------------------------------------------

@test "commands without id, generation or sense: refused one by one, those after them are carried out" {
    local g
    g=$(link .generation)
    tell /rogue/deliver "$(jq -nc --arg a "$ID" --argjson g "$g" '{agent: $a, commands: [
        {op: "stop", app: "shop"},
        {id: "b-1", op: "stop", app: "shop"},
        {id: "b-2", generation: "9", op: "stop", app: "shop"},
        {id: "b-3", generation: -1, op: "stop", app: "shop"},
        {id: "b-4", generation: 1.5, op: "stop", app: "shop"},
        {id: 5, generation: ($g + 1), op: "stop", app: "shop"},
        {id: "b 6", generation: ($g + 1), op: "stop", app: "shop"},
        {id: ("b" * 65), generation: ($g + 1), op: "stop", app: "shop"},
        {id: "b-8", generation: ($g + 2), op: ["stop"], app: "shop"},
        {id: "b-9", generation: ($g + 3), op: "stop", app: ["shop"]},
        {id: "b-10", generation: ($g + 4), op: "stop", app: "shop", now: true},
        {id: "b-11", generation: ($g + 5), op: "scale", app: "shop", formation: {worker: 2}}]}')" >/dev/null
    wait_for up shop/worker.2
    untouched_but_two() { [ "$(pids shop | jq -c 'map(select(.[1] != "worker.2"))')" = "$(cat "$STORY/pids")" ]; }
    untouched_but_two
    controller_kill one # whose numbering is behind now
    controller_again one
    wait_for registered
    back() { [ "$(pids shop)" = "$(cat "$STORY/pids")" ]; }
    wait_for back
}
@test "the same dyno twice in one command" {
    ordered_is "refused bad-command" start '{"app": "shop", "dynos": ["worker.1", "worker.1"]}'
    untouched
}
@test "an empty list of another store's sync stops nothing" {
    kill -STOP "$(link_pid)" # the session that there is would have it from its own store
    tell /rogue/fault "$(jq -nc --argjson r "$(says '{"session": "s-1", "store": "another", "poll_ms": 1000}' register)" \
        --argjson c "$(says '{"commands": [{"id": "e-1", "generation": 1000000, "op": "sync", "apps": []}]}' commands)" \
        --argjson h "$(says '{}' heartbeat)" '{all: [$r, $c, $h]}')" >/dev/null
    link_anew
    shown() { [[ $(dyno ps 2>&1) == *conflict* ]]; }
    wait_for shown
    refused() { [ "$(jq -r 'select(.schema == "Report") | .body.results[]? | select(.id == "e-1") | .error.code' "$CTL/record" | head -1)" = wrong-store ]; }
    wait_for refused
    untouched
    recovers
}
@test "clocks that do not agree: the controller's is in the next century" {
    harmless '{"kind": "answer", "calls": ["commands"], "body": "{\"commands\": []}", "date": "Fri, 01 Jan 2100 00:00:00 GMT"}'
}
@test "a heartbeat's answer may change the times" {
    fault "$(says '{"heartbeat_ms": 100, "ttl_ms": 5000}' heartbeat)"
    often() { [ "$(ask /rogue | jq '.calls.heartbeat // 0')" -ge 15 ]; }
    wait_for often
    recovers
}
