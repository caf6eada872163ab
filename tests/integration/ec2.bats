#!/usr/bin/env bats
# ec2.bats - an instance of EC2, as its metadata service tells: who it is, and that it is about to go: it is
# drained, its controller told, and its dynos gone before the deadline. A service that lies, hangs or is not
# there costs nothing.

load helpers
load link
load imds

ID=i-0123456789abcdef0
SPOT=meta-data/spot/instance-action

setup_file() {
    story_begin
    controllers_begin one
    slug_for_link
    imds_instance "$ID"
    imds_put meta-data/tags/instance/.list $'Name\nteam'
    imds_put meta-data/tags/instance/Name 'web fleet'
    imds_put meta-data/tags/instance/team blue
    imds_start
    controller_start one
    agent_link_start "$(url_of one)" -o link.agent_id= -o link.labels=zone=told,rack=7 -o "link.metadata=$(imds_url)"
    wait_for registered
}
teardown_file() {
    story_end
    local rc=$?
    controllers_end || rc=1
    [ ! -e "$IMDS/pid" ] || imds_stop || rc=1
    return $rc
}
setup() { imds_take "$SPOT"; }

# spot_at SECONDS: since 1970
spot_at() { imds_put "$SPOT" "{\"action\": \"terminate\", \"time\": \"$(date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ)\"}"; }
draining() { status | jq -r .instance.draining; }
drains() { [ "$(draining)" = "$1" ]; }
asked_again() { [ "$(imds_asked "$1")" -gt "$2" ]; }

@test "the instance's identity: its id is the agent's, its labels beside the configured ones" {
    link_is .agent "$ID"
    instance_is .labels.region eu-west-1
    instance_is .labels.type m6i.large
    instance_is .labels.lifecycle spot
    instance_is '.labels["tag.Name"]' 'web fleet'
    instance_is '.labels["tag.team"]' blue
    instance_is .labels.rack 7
    # What is configured is meant.
    instance_is .labels.zone told
    instance_is .address 127.0.0.1
}

@test "nothing is announced: nothing drains; tokens are asked for again when they are refused" {
    released shop '{"worker": 1}'
    local before
    before=$(imds_asked "$SPOT")
    wait_for asked_again "$SPOT" "$((before + 2))"
    drains false
    [ "$(imds_asked api/token)" -ge 2 ]
    same "$(link '.counts | keys | map(select(startswith("metadata"))) | length')" 0
}

@test "garbage, errors and silence of the service: counted, the dynos untouched" {
    local before
    before=$(pids)
    imds_put "$SPOT" '<html><body>Service busy</body></html>'
    wait_for counted metadata-garbage
    imds_put "$SPOT" '!500'
    wait_for counted metadata-status
    imds_put "$SPOT" '!hang'
    wait_for counted metadata-silent
    imds_take "$SPOT"
    imds_stop
    sleep 1
    imds_start
    local asked
    asked=$(imds_asked "$SPOT")
    wait_for asked_again "$SPOT" "$asked"
    drains false
    same "$(pids)" "$before"
    link_is .state registered
    has "$(dyno doctor 2>&1)" metadata-garbage
}

@test "a spot notice: drained, the controller told, starts refused, SIGTERM in time before the deadline" {
    local deadline
    released shop '{"web": 1, "worker": 1}'
    deadline=$(($(date +%s) + 30))
    spot_at "$deadline"
    wait_for drains true
    # They run on, for their replacements to come up elsewhere first.
    up shop/web.1
    up shop/worker.1
    same "$(status | jq -r .instance.reason)" spot
    wait_for instance_is .instance.draining true
    instance_is .instance.reason spot
    same "$(date -d "$(instance .instance.deadline)" +%s)" "$deadline"
    ordered_is "refused draining" start '{"app": "shop", "dynos": ["worker.2"]}'
    run ! dyno run --app shop -- true
    has "$(dyno ps 2>&1)" spot
    wait_for none_runs shop
    local ended
    ended=$(date -d "$(last_event shop web.1 exit | jq -r .t)" +%s)
    ((ended < deadline)) || fail "the deadline was over"
    ((ended > deadline - 20)) || fail "they were ended too early: $((deadline - ended)) s before"
    same "$(last_event shop web.1 exit | jq -r '.cause + " " + .fault')" "stopped operator"
}

@test "an instance that stays after all is taken back by hand" {
    drains true
    imds_take "$SPOT"
    wait_for grep -q "withdrawn" "$AGENT/dynod.log"
    drains true
    dyno undrain
    drains false
    released shop '{"worker": 1}'
    # The same notice once more is a new one.
    spot_at $(($(date +%s) + 3600))
    wait_for drains true
    up shop/worker.1
    dyno undrain
}

@test "the autoscaling group ends it: drained too, without a deadline of its own" {
    imds_put meta-data/autoscaling/target-lifecycle-state Terminated
    wait_for drains true
    same "$(status | jq -r .instance.reason)" autoscaling
    imds_put meta-data/autoscaling/target-lifecycle-state InService
    dyno undrain
}

@test "off EC2 all this is quietly absent" {
    grep -qs 'Amazon EC2' /sys/class/dmi/id/sys_vendor && skip "this is EC2"
    agent_end
    : >"$AGENT/dynod.log"
    agent_start -o link.metadata=auto
    sleep 1
    same "$(helper_pid dynod-link)" ""
    hasnt "$(cat "$AGENT/dynod.log")" metadata
    # With a controller it runs, and asks nobody else.
    agent_kill TERM
    : >"$IMDS/requests"
    agent_link_start "$(url_of one)" -o link.metadata=auto
    wait_for link_is .state registered
    hasnt "$(cat "$AGENT/dynod.log")" metadata
    same "$(imds_asked "")" 0
}
