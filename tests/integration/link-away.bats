#!/usr/bin/env bats
# link-away.bats - whoever dies, is away, is a stranger or has the wrong key, on either side: the dynos
# run on, every exit is told, each as one, and the link finds its way back.

load helpers
load link

setup_file() {
    story_begin
    controllers_begin one two
    slug_for_link
    controller_start one
    agent_link_start "$(url_of one) $(url_of two)"
    wait_for registered
}
teardown() { link_tidy; }
teardown_file() { link_story_end; }

# --- dying ----------------------------------------------------------------------------------------------

@test "kill -9 of dynod, dynod-link and the controller under churn: every exit is told, each as one" {
    released churn '{"quick": 3, "worker": 2}'
    local before link i
    workers() { pids churn | jq -c '[.[] | select(.[1] | startswith("worker"))]'; }
    workers_are() { [ "$(workers)" = "$1" ]; }
    before=$(workers)
    for i in 1 2 3 4; do
        sleep 0.7
        wait_for link_pid
        link=$(link_pid)
        kill -KILL "$link"
        wait_for link_again "$link"
        sleep 0.7
        controller_kill one
        sleep 0.4
        controller_again one
        sleep 0.4
        agent_kill KILL
        agent_again
    done
    wait_for workers_are "$before"
    wait_for registered
    many() { [ "$(exits_here | wc -l)" -ge 10 ]; }
    wait_for many
    stop_all churn
    wait_for exits_agree
    same "$(exits_there | uniq -d)" ""
    same "$(ask exits | jq '[.[] | select(.differs)] | length')" 0
    same "$(ask exits | jq -c '[.[] | select(.app == "churn" and (.dyno | startswith("quick"))) | select(.cause != "stopped") | [.fault, .status]] | unique')" '[["app",7]]'
}

@test "a controller that is away: dynos run on, crashes are restarted, the exits arrive later" {
    released shop '{"web": 1, "worker": 1, "quick": 1}'
    local before n
    others() { pids shop | jq -c '[.[] | select(.[1] != "quick.1")]'; }
    others_are() { [ "$(others)" = "$1" ]; }
    before=$(others)
    controller_kill one
    n=$(exits_here | wc -l)
    shown() { link_is .state backoff && counted connect; }
    wait_for shown
    has "$(dyno ps 2>&1)" backoff
    exits_wait() { [ "$(link .exits_waiting)" -ge 3 ]; }
    more() { [ "$(exits_here | wc -l)" -ge $((n + 3)) ]; }
    wait_for more
    wait_for exits_wait
    same "$(others)" "$before"
    # Not even a new agent stops anything.
    agent_kill KILL
    agent_again
    wait_for others_are "$before"
    controller_again one
    wait_for registered
    stop_all shop
    wait_for exits_agree
    waiting_none() { link_is .exits_waiting 0; }
    wait_for waiting_none
}

@test "failover: the second URL, a second controller on the same store" {
    released shop '{"worker": 1}'
    local pid
    pid=$(of shop/worker.1 .pid)
    controller_kill one
    controller_start two --store "$CTL/one/store.db"
    at_two() { WHO=two registered && link_is .url "$(url_of two)"; }
    wait_for at_two
    WHO=two ordered_is "done -" scale '{"app": "shop", "formation": {"worker": 2}}'
    wait_up shop/worker.2
    is shop/worker.1 .pid "$pid"
    controller_kill two
    controller_again one
    wait_for registered
}

# --- who is who -----------------------------------------------------------------------------------------

@test "a certificate of another authority is refused: nothing is sent to it, the dynos run on" {
    released shop '{"worker": 1}'
    local before
    before=$(pids)
    controller_kill one
    controller_start two --store "$CTL/two/stranger.db" --cert "$CTL/stranger/server.pem" --key "$CTL/stranger/server.key"
    refused() { counted tls; }
    wait_for refused
    [ "$(WHO=two ask /rogue | jq '.calls | length')" = 0 ]
    has "$(dyno doctor 2>&1)" tls
    same "$(pids)" "$before"
}

@test "client certificates are enough" {
    released shop '{"worker": 1}'
    controller_kill one
    cp "$CTL/one/options" "$CTL/one/options.token"
    sed -i -e "s,^--token-file$,--client-ca," -e "s,^$CTL/token$,$CTL/ca/ca.pem," "$CTL/one/options"
    controller_again one
    refused() { counted tls || counted denied || counted broken; }
    wait_for refused
    agent_kill TERM
    printf '%s\n' -o "link.cert_file=$CTL/ca/client.pem" -o "link.key_file=$CTL/ca/client.key" -o link.token_file= >>"$AGENT/options"
    agent_again
    wait_for registered
    ordered_is "done -" restart '{"app": "shop"}'
    agent_kill TERM
    printf '%s\n' -o link.cert_file= -o link.key_file= -o "link.token_file=$CTL/agent-token" >>"$AGENT/options"
    controller_kill one
    mv "$CTL/one/options.token" "$CTL/one/options"
    agent_again
    controller_again one
    wait_for registered
}

@test "an empty list from a controller with a new store stops nothing; taking over does" {
    released shop '{"worker": 2}'
    local before old
    before=$(pids)
    old=$(link .store)
    controller_kill one
    controller_start two
    conflict() { WHO=two instance_is .state conflict && link_is .state conflict; }
    wait_for conflict
    WHO=two ordered_is "refused wrong-store" sync '{"apps": []}'
    WHO=two ordered_is "refused wrong-store" stop '{"app": "shop"}'
    WHO=two ordered_is "refused wrong-store" sync '{"apps": [], "replaces": "somebody-else"}'
    same "$(pids)" "$before"
    link_is .store "$old"
    has "$(dyno ps 2>&1)" conflict
    local answer
    answer=$(WHO=two tell "agents/$ID/takeover")
    same "$(result_of "$answer")" "done -"
    wait_for none_runs shop
    wait_for link_is .store "$(WHO=two ask overview | jq -r .store)"
    wait_for link_is .conflict null
    # And back: now the first is the stranger.
    controller_kill two
    controller_again one
    conflict_here() { instance_is .state conflict; }
    wait_for conflict_here
    same "$(result_of "$(tell "agents/$ID/takeover")")" "done -"
    wait_for registered
}

# --- alone ---------------------------------------------------------------------------------------------

@test "stop_after: without any contact those types stop, only those, and start again at the next" {
    released shop '{"worker": 1, "clock": 1}' '{"stop_after": {"clock": 8}}'
    local before silent ended
    before=$(of shop/worker.1 .pid)
    silent=$(date +%s)
    controller_kill one
    clock_gone() { [ "$(last_event shop clock.1 exit)" != null ]; }
    wait_for clock_gone
    ended=$(date -d "$(last_event shop clock.1 exit | jq -r .t)" +%s)
    # The last contact may be a while ago by then.
    ((ended - silent >= 4)) || fail "after $((ended - silent)) s"
    is shop/worker.1 .pid "$before"
    controller_again one
    wait_up shop/clock.1
    is shop/worker.1 .pid "$before"
}
