# link.bash - an agent that a controller drives, for the stories of the link: loaded after helpers.bash.
#
# Controllers are tests/controller/rogue.py (the example with a switch to go wrong), each with a name
# (default "one"), a directory $CTL/NAME and ports of its own, over TLS.
# shellcheck shell=bash disable=SC2034,SC2154

PYTHON=/usr/bin/python3
CONTROLLER=$ROOT/tests/controller
CTL=$STORY/controller
ID=it-agent

# --- controllers ----------------------------------------------------------------------------------------

# The authority, the tokens; what agent_link_start needs before any controller runs.
controllers_begin() {
    local name
    mkdir -p "$CTL"
    "$CONTROLLER/mkca" "$CTL/ca" >/dev/null 2>&1 || return 1
    "$CONTROLLER/mkca" "$CTL/stranger" >/dev/null 2>&1 || return 1
    echo token-one >"$CTL/token"
    cp "$CTL/token" "$CTL/agent-token"
    for name; do
        mkdir -p "$CTL/$name"
        free_port >"$CTL/$name/agents"
        free_port >"$CTL/$name/people"
    done
}
url_of() { echo "https://localhost:$(cat "$CTL/${1:-one}/agents")"; }

# controller_start [NAME] [OPTION]...: without --store, its own; options are kept for controller_again.
controller_start() {
    local name=${1:-one} dir
    dir=$CTL/$name
    shift
    printf '%s\n' --store "$dir/store.db" --agents "127.0.0.1:$(cat "$dir/agents")" \
        --people "127.0.0.1:$(cat "$dir/people")" --cert "$CTL/ca/server.pem" --key "$CTL/ca/server.key" \
        --token-file "$CTL/token" --heartbeat-ms 400 --ttl-ms 20000 --poll-ms 1000 --result-ms 30000 \
        --record "$CTL/record" --ready "$dir/ready" "$@" >"$dir/options"
    controller_again "$name"
}
controller_again() {
    local dir=$CTL/${1:-one} options
    mapfile -t options <"$dir/options"
    rm -f "$dir/ready"
    setsid "$PYTHON" -B "$CONTROLLER/rogue.py" "${options[@]}" </dev/null >>"$dir/log" 2>&1 3>&- 4>&- &
    echo $! >"$dir/pid"
    wait_for test -s "$dir/ready" || { cat "$dir/log"; return 1; }
}
controller_kill() {
    local pid
    pid=$(cat "$CTL/${1:-one}/pid")
    kill -"${2:-KILL}" "$pid"
    wait_for gone "$pid"
    rm -f "$CTL/${1:-one}/pid"
}
controllers_end() {
    local pid
    for pid in "$CTL"/*/pid; do
        [ ! -e "$pid" ] || controller_kill "$(basename "$(dirname "$pid")")" TERM
    done
}

# ask PATH / tell PATH [JSON]: the controller's people API; WHO names another than "one".
ask() { curl -sS --max-time "$PATIENCE" "http://localhost:$(cat "$CTL/${WHO:-one}/people")$(prefixed "$1")"; }
tell() {
    local body=${2-}
    curl -sS --max-time "$PATIENCE" -d "${body:-"{}"}" "http://localhost:$(cat "$CTL/${WHO:-one}/people")$(prefixed "$1")"
}
prefixed() { case $1 in /*) echo "$1" ;; *) echo "/v1/$1" ;; esac; }

# asks PATH JQ WANTED: what JQ makes of the answer is WANTED.
asks() { [ "$(ask "$1" | jq -c -r "$2")" = "$3" ]; }
instance() { ask instances | jq -r ".[] | select(.agent == \"$ID\") | $1"; }
instance_is() { [ "$(instance "$1")" = "$2" ]; }
registered() { link_is .state registered && instance_is .state alive; }

# ordered OP JSON: any command, with its result. done_by: the result's status.
ordered() { tell "agents/$ID/commands" "$(jq -nc --arg op "$1" --argjson more "${2:-"{}"}" '{op: $op} + $more')"; }
result_of() { jq -r '.result | .status + " " + (.error.code // "-")' <<<"$1"; }
ordered_is() { # WANTED OP JSON
    local answer
    answer=$(ordered "$2" "${3:-"{}"}")
    same "$(result_of "$answer")" "$1" || { echo "$answer"; return 1; }
}
# deliver COMMAND...: the next long-poll's answer, to the letter.
deliver() { tell /rogue/deliver "$(printf '%s\n' "$@" | jq -sc --arg a "$ID" '{agent: $a, commands: .}')"; }

# released APP FORMATION [MORE]: a release of $STORY/link.tgz; waits until every dyno of it is up.
released() {
    tell "apps/$1/release" "$(jq -nc --arg s "file://$STORY/link.tgz" --argjson f "$2" --argjson more "${3:-"{}"}" \
        '{slug: $s, formation: $f} + $more')" >/dev/null
    wait_for all_up "$1"
}
# Every dyno that the controller wants of APP is up, and it knows.
all_up() { asks dynos "[.[] | select(.app == \"$1\" and .role == \"home\")] | length > 0 and all(.up)" true; }
# What the controller takes for up: "web.1 web.3".
up_there() { ask "dynos" | jq -r --arg a "$1" '[.[] | select(.app == $a and .up) | .dyno] | join(" ")'; }
up_there_is() { [ "$(up_there "$1")" = "$2" ]; }
stopped() { [ -z "$(ask dynos | jq -r --arg a "$1" '.[] | select(.app == $a)')" ]; }
stop_all() {
    tell "apps/$1/stop" >/dev/null
    wait_for none_runs "$1"
}
none_runs() {
    [ "$(dyno ps --json | jq --arg a "$1" '[.[] | select(.app == $a and (.state | IN("provisioning", "starting", "up", "stopping")))] | length')" = 0 ]
}

# --- the agent's side -----------------------------------------------------------------------------------

slug_for_link() {
    mkdir "$STORY/link-app"
    cp "$ROOT/docs/examples/hello/web.pl" "$STORY/link-app/"
    printf '%s\n' 'web: exec perl web.pl' 'worker: exec sleep 3600' 'clock: exec sleep 3600' 'quick: sleep 0.3; exit 7' \
        'stubborn: trap "" TERM; echo ready; while :; do sleep 0.2; done' >"$STORY/link-app/Procfile"
    slug_from "$STORY/link-app" "$STORY/link.tgz"
}

# agent_link_start CONTROLLERS [-o SECTION.KEY=VALUE]...
agent_link_start() {
    local urls=$1
    shift
    agent_start -o "link.controllers=$urls" -o "link.ca_file=$CTL/ca/ca.pem" -o "link.token_file=$CTL/agent-token" \
        -o "link.agent_id=$ID" -o link.labels=zone=here -o link.metadata=off -o dyno.route_drain=500ms \
        -o dyno.stop_grace=3s -o dyno.restart_delay=300ms -o dyno.restart_delay_max=1s "$@"
}
# link FIELD: of the link's status, as the agent's API has it.
status() { curl -sS --max-time "$PATIENCE" --unix-socket "$AGENT/run/api.sock" http://dynod/v1/status; }
link() { status | jq -r ".link | $1"; }
link_is() { [ "$(link "$1")" = "$2" ]; }
counted() { [ "$(link ".counts[\"$1\"] // 0")" -gt "${2:-0}" ]; }
link_pid() { helper_pid dynod-link; }
link_again() { [ -n "$(link_pid)" ] && [ "$(link_pid)" != "$1" ]; }

pids() { dyno ps --json "$@" | jq -c '[.[] | select(.pid) | [.app, .dyno, .pid]] | sort'; }
# pids_are PIDS [APP]: a new agent has to hear of them from each dyno-init first.
pids_are() { [ "$(pids "${@:2}")" = "$1" ]; }

# The ids of all exits: as the agent's own history has them, and as the controller does.
exits_here() {
    dyno events --json | jq -rs '[.[] | if type == "array" then .[] else . end | select(.kind == "exit") | .run] | sort | .[]'
}
exits_there() { ask exits | jq -r '[.[].id] | sort | .[]'; }
exits_agree() { [ "$(exits_here)" = "$(exits_there)" ]; }

# After each test, whatever a failed one left: controller "one", the right token, no app.
link_tidy() {
    cp "$CTL/token" "$CTL/agent-token"
    [ -e "$CTL/two/pid" ] && controller_kill two
    [ -e "$CTL/one/pid" ] || controller_again one
    local app
    for app in $(dyno ps --json | jq -r '.[].app' | sort -u); do
        tell "apps/$app/stop" >/dev/null
        dyno stop "$app" >/dev/null
    done
    wait_for all_ended
}
link_story_end() {
    story_end
    local rc=$?
    controllers_end || rc=1
    return $rc
}

# --- a controller gone wrong --------------------------------------------------------------------------------

LINK_RSS_MAX_KB=65536

rogue_begin() {
    story_begin
    controllers_begin one two
    slug_for_link
    controller_start one
    agent_link_start "$(url_of one)"
    wait_for registered
    released shop '{"web": 1, "worker": 1}'
    pids shop >"$STORY/pids"
    link_pid >"$STORY/link-pid"
}
rogue_end() {
    well
    link_story_end
}

# fault JSON: from now on. well: no more.
fault() { tell /rogue/fault "$1" | jq -e '. == {}' >/dev/null; }
well() { fault '{"kind": null}'; }

# The same dynos, the same dynod-link, and it never was large.
untouched() {
    same "$(pids shop)" "$(cat "$STORY/pids")"
    same "$(link_pid)" "$(cat "$STORY/link-pid")"
    local kb
    kb=$(awk '/^VmHWM/ { print $2 }' "/proc/$(link_pid)/status")
    [ "$kb" -le "$LINK_RSS_MAX_KB" ] || fail "dynod-link needed $kb kB"
}

# hurt KIND FAULT...: each FAULT spoils two answers. Errors of KIND are counted and shown, nothing is
# touched, and everything works again.
hurt() {
    local kind=$1 before
    before=$(link ".counts[\"$kind\"] // 0")
    shift
    fault "$(printf '%s\n' "$@" | jq -sc '{all: map({times: 2} + .)}')" || fail "no such fault: $*"
    wait_for counted "$kind" "$before" || { link .counts; return 1; }
    untouched
    has "$(dyno doctor 2>&1)" "$kind"
    wait_for spent
    wait_for counted "$kind" $((before + 1))
    recovers
}
spent() { [ "$(ask /rogue | jq .left)" = 0 ]; }
# By itself, and commands get through.
recovers() {
    well
    wait_for registered
    ordered_is "done -" scale '{"app": "shop", "formation": {"worker": 1}}'
    untouched
}
# A new dynod-link, which registers as a first thing.
link_anew() {
    local pid
    pid=$(link_pid)
    kill -KILL "$pid"
    wait_for link_again "$pid"
    link_pid >"$STORY/link-pid"
}
