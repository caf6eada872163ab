#!/usr/bin/env bats
# link-bad.bats - a controller that answers with everything it should not, as far as HTTP goes. Whatever
# it is: the dynos are untouched, dynod-link stays small and alive, the error is counted and shown, and
# when the controller is well again so is the link. (link-nonsense.bats: answers of status 200.)

load helpers
load link

setup_file() { rogue_begin; }
setup() { untouched; }
teardown_file() { rogue_end; }

# --- no answer of HTTP --------------------------------------------------------------------------------

@test "closed without a word" { hurt broken '{"kind": "hang_up", "times": 6}'; } # one of a kept connection is tried again at once
@test "not HTTP" { hurt not-http '{"kind": "not_http"}'; }
@test "half an answer" { hurt broken '{"kind": "cut"}'; }
@test "no answer at all, and a slow drip" {
    hurt timeout '{"kind": "silence", "calls": ["heartbeat"], "times": 1}' '{"kind": "drip", "calls": ["commands"], "times": 1}'
}

# --- answers that are too much --------------------------------------------------------------------------

poured_little() {
    local bytes
    bytes=$(ask /rogue | jq .bytes)
    [ "$bytes" -le 100000000 ] || fail "$bytes bytes were taken"
}
@test "10 GB without an announcement" {
    hurt too-big '{"kind": "endless", "size": 10000000000}'
    poured_little
}
@test "10 GB, announced" {
    hurt too-big '{"kind": "endless", "size": 10000000000, "announced": true}'
    poured_little
}
@test "a header of 10 GB" {
    hurt too-big '{"kind": "endless_head", "size": 10000000000}'
    poured_little
}

# --- other statuses ---------------------------------------------------------------------------------------

@test "a redirect is not followed" {
    controller_start two
    hurt redirect "$(jq -nc --arg to "$(url_of two)/v1/agents/$ID/register" '{kind: "redirect", to: $to}')"
    same "$(WHO=two ask /rogue | jq '.calls | length')" 0
    same "$(WHO=two ask instances | jq length)" 0
    controller_kill two
}
@test "401 and 403 are the operator's to put right" {
    fault '{"kind": "status", "status": 403}'
    says_403() { [[ $(dyno ps 2>&1) == *403*operator* ]]; }
    wait_for says_403
    link_is .state backoff
    recovers
    hurt denied '{"kind": "status", "status": 401}'
}
@test "404" { hurt not-found '{"kind": "status", "status": 404}'; }
@test "409, again and again, is no loop" {
    fault '{"kind": "status", "status": 409}'
    wait_for counted session-lost 2
    sleep 2.5
    [ "$(ask /rogue | jq '.calls | add')" -le 12 ] || fail "$(ask /rogue)"
    recovers
}
@test "400, 418, 500, 502" {
    hurt status '{"kind": "status", "status": 400, "calls": ["heartbeat"]}' '{"kind": "status", "status": 418, "calls": ["commands"]}'
    hurt server-error '{"kind": "status", "status": 500, "calls": ["heartbeat"]}' \
        '{"kind": "status", "status": 502, "calls": ["commands"]}'
}
@test "429 with Retry-After is honoured, 503 with a date too" {
    local spec shortest
    # Of the two that share a connection: reports and heartbeats.
    both() { ask /rogue | jq -c '[.at.commands // [], ((.at.heartbeat // []) + (.at.reports // []) | sort)]'; }
    asked_again() { [ "$(both | jq 'map(length) | min')" -ge 2 ]; }
    for spec in '{"kind": "status", "status": 429, "retry_after": 3}' \
        '{"kind": "status", "status": 503, "retry_after": "date:4"}'; do
        fault "$spec"
        wait_for asked_again
        shortest=$(both | jq '[.[] as $at | range(1; $at | length) as $i | $at[$i] - $at[$i - 1]] | min')
        [ "$shortest" -ge 2900 ] || fail "again after $shortest ms: $(ask /rogue)"
        untouched
        recovers
    done
    counted busy 1
}
@test "a Retry-After of a year, or of yesterday, or of nonsense: bounded" {
    fault '{"kind": "status", "status": 503, "retry_after": 31536000, "calls": ["heartbeat"]}'
    far() { [ "$(link '.retry_ms // 0')" -gt 500000 ]; }
    wait_for far
    [ "$(link .retry_ms)" -le 600000 ] || fail "it waits $(link .retry_ms) ms"
    well
    link_anew # who is told such a thing needs a new one
    wait_for registered
    hurt server-error '{"kind": "status", "status": 503, "retry_after": "date:-86400"}'
    hurt server-error '{"kind": "status", "status": 503, "retry_after": "soon"}'
    hurt busy '{"kind": "status", "status": 429, "retry_after": "-5"}'
}
