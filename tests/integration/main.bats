#!/usr/bin/env bats
# main.bats - the main job on real apps: an Express and a Flask app, from an nginx over HTTPS.

load helpers

setup_file() {
    story_begin
    store_start
    store_add "$(slug_app express)" express.tgz
    store_add "$(slug_app flask)" flask.tgz
    agent_start -o dyno.restart_delay=300ms -o dyno.restart_delay_max=2s
    # Nobody else's on this machine.
    echo "hello there, $RUN_ID-$(id -u)" >"$STORY/greeting"
    echo "GREETING=\"$(cat "$STORY/greeting")\"" >"$STORY/env"
    dyno start shop --slug "$(store_url)/express.tgz" --digest "$(digest_of "$SLUGS/express.tgz")" \
        -m web=1 -e "$STORY/env"
    dyno start pages --slug "$(store_url)/flask.tgz" -m web=1
    wait_up shop/web.1 pages/web.1
}
teardown_file() { story_end; }

@test "Express, by https:// with its digest, is up and answers" {
    wait_for answers shop/web.1
    same "$(get shop/web.1 /)" "express web.1"
}

@test "Flask, on the stack's Python, is up and answers" {
    wait_for answers pages/web.1
    same "$(get pages/web.1 /)" "flask web.1"
}

@test "ps --json has every field" {
    local fields
    fields=$(dyno ps --json shop | jq -r '.[0] | keys[]')
    for field in app dyno type num state release port pid restarts since uptime_ms memory memory_quota \
        cpu_usec pids size command last_exit; do
        grep -qx "$field" <<<"$fields" || fail "no field $field in: $fields"
    done
    same "$(of shop/web.1 .type)" web
    same "$(of shop/web.1 .num)" 1
    same "$(of shop/web.1 .restarts)" 0
    same "$(of shop/web.1 .size)" standard-1x
    same "$(of shop/web.1 .command)" "node server.js"
    alive "$(of shop/web.1 .pid)"
}

@test "ps prints a table with state, uptime, restarts, memory and port" {
    run -0 dyno ps shop
    for column in DYNO STATE UPTIME RESTARTS MEMORY PORT; do
        has "${lines[0]}" "$column"
    done
    has "$output" "web.1"
    has "$output" "$(port_of shop/web.1)"
}

@test "the environment is the contract's" {
    local env
    env=$(get shop/web.1 /env)
    value() { jq -r --arg n "$1" '.[$n] // "unset"' <<<"$env"; }
    same "$(value HOME)" /app
    same "$(value PWD)" /app
    same "$(value DYNO)" web.1
    same "$(value PORT)" "$(port_of shop/web.1)"
    same "$(value USER)" dyno
    same "$(value LOGNAME)" dyno
    same "$(value SHELL)" /bin/bash
    same "$(value GREETING)" "$(cat "$STORY/greeting")"
    same "$(value NODE_ENV)" production
    # .profile.d put the slug's own node before the platform's PATH.
    same "$(value PATH)" "/app/.heroku/node/bin:/app/node_modules/.bin:/usr/local/bin:/usr/bin:/bin"
    same "$(value DYNOD_SOCKET)" unset
    same "$(get shop/web.1 /pid | jq -r .cwd)" /app
    same "$(get pages/web.1 /env | jq -r .PATH)" /usr/local/bin:/usr/bin:/bin
}

@test "config vars are in no argv" {
    same "$(grep -lsFf "$STORY/greeting" /proc/[0-9]*/cmdline)" ""
}

@test "the log has the platform's lines to the letter" {
    wait_logged shop/web.1 "State changed from starting to up"
    local text
    text=$(bodies shop/web.1)
    has "$text" 'heroku[web.1]: Starting process with command `node server.js`'
    has "$text" 'heroku[web.1]: State changed from starting to up'
    has "$text" "app[web.1]: listening on $(port_of shop/web.1)"
    # RFC 3339 with microseconds.
    logs shop/web.1 | grep -qE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}(\+00:00|Z) app\[web\.1\]: '
}

@test "stdout and stderr both reach the log" {
    get shop/web.1 /log/needle-1
    wait_logged shop/web.1 "app[web.1]: out needle-1"
    wait_logged shop/web.1 "app[web.1]: err needle-1"
}

@test "logs -f follows" {
    dyno_background logs -f -n 1 shop >"$STORY/followed" 2>&1
    wait_for test -s "$STORY/followed" # what is new comes after the last that was there
    get shop/web.1 /log/follow-me
    wait_for grep -q "out follow-me" "$STORY/followed"
    kill "$BACKGROUND"
    wait_for gone "$BACKGROUND"
}

@test "killed from inside by SIGKILL, it comes back: status 137, the app's fault" {
    local pid
    pid=$(of shop/web.1 .pid)
    get shop/web.1 /kill
    wait_for replaced shop/web.1 "$pid"
    wait_for answers shop/web.1
    wait_for gone "$pid" # a restart does not wait for what is left of the run before
    wait_logged shop/web.1 "heroku[web.1]: Process exited with status 137"
    wait_logged shop/web.1 "heroku[web.1]: State changed from up to crashed"
    same "$(of shop/web.1 .restarts)" 1
    same "$(last_event shop web.1 exit | jq -r .fault)" app
}

@test "Flask killed from inside comes back" {
    local pid
    pid=$(of pages/web.1 .pid)
    get pages/web.1 /kill || true
    wait_for replaced pages/web.1 "$pid"
    wait_for answers pages/web.1
    same "$(of pages/web.1 .restarts)" 1
}

@test "an exit is recorded with its status and cause" {
    local pid
    pid=$(of shop/web.1 .pid)
    get shop/web.1 /exit/3
    wait_for replaced shop/web.1 "$pid"
    wait_logged shop/web.1 "Process exited with status 3"
    local event
    event=$(last_event shop web.1 exit)
    same "$(jq -r .fault <<<"$event")" app
    has "$event" '"status":3'
    [ "$(jq -r .cause <<<"$event")" != null ]
    has "$(of shop/web.1 '.last_exit | tojson')" '"status":3'
}

@test "scaled up, every dyno answers by its own name on its own port, from one download" {
    dyno scale shop web=3 worker=1
    wait_for counts shop web 3
    wait_up shop/worker.1
    local n
    for n in 1 2 3; do
        wait_for answers "shop/web.$n"
        same "$(get "shop/web.$n" /)" "express web.$n"
    done
    same "$(dyno ps --json shop | jq '[.[] | select(.type == "web").port] | unique | length')" 3
    same "$(store_hits express.tgz)" 1
    # Types other than web get no port.
    wait_logged shop/worker.1 "worker started, PORT=unset"
    same "$(of shop/worker.1 .port)" null
}

@test "what a dyno writes is its own, and gone after a restart" {
    local pid
    pid=$(of shop/web.1 .pid)
    has "$(get shop/web.1 /write/mine.txt)" mine.txt
    hasnt "$(get shop/web.2 /files)" mine.txt
    dyno restart shop/web.1
    wait_for replaced shop/web.1 "$pid"
    wait_for answers shop/web.1
    hasnt "$(get shop/web.1 /files)" mine.txt
}

@test "restart of one dyno leaves the others alone, restart of the app takes all" {
    local one two
    one=$(of shop/web.1 .pid)
    two=$(of shop/web.2 .pid)
    dyno restart shop/web.1
    wait_for replaced shop/web.1 "$one"
    is shop/web.2 .pid "$two"
    one=$(of shop/web.1 .pid)
    dyno restart shop
    wait_for replaced shop/web.1 "$one"
    wait_for replaced shop/web.2 "$two"
    wait_logged shop/web.2 "Stopping all processes with SIGTERM"
    wait_logged shop/web.2 "app[web.2]: got SIGTERM"
    wait_logged shop/web.2 "Process exited with status 0"
}

@test "scaled down, the last ones go" {
    wait_for counts shop web 3
    local third
    third=$(of shop/web.3 .pid)
    dyno scale shop web=1 worker=0
    wait_for gone "$third"
    wait_for counts shop web 1
    wait_for counts shop worker 0
    up shop/web.1
}

@test "a new release replaces the dynos and has its own config vars" {
    local pid before
    pid=$(of shop/web.1 .pid)
    before=$(of shop/web.1 .release)
    echo 'GREETING=changed' >"$STORY/env2"
    dyno start shop --slug "$(store_url)/express.tgz" -e "$STORY/env2"
    wait_for replaced shop/web.1 "$pid"
    wait_for answers shop/web.1
    same "$(get shop/web.1 /env | jq -r .GREETING)" changed
    [ "$(of shop/web.1 .release)" != "$before" ]
    same "$(get shop/web.1 /env | jq -r .HEROKU_RELEASE_VERSION)" v2
}

@test "a crash loop is restarted with growing pauses, and says what happened" {
    dyno scale shop crasher=1
    restarts_at_least() { [ "$(of shop/crasher.1 .restarts)" -ge 3 ]; }
    wait_for restarts_at_least
    wait_logged shop/crasher.1 "app[crasher.1]: about to fail"
    wait_logged shop/crasher.1 "heroku[crasher.1]: Process exited with status 7"
    # The pauses that the agent chose, in milliseconds: none first, then growing up to the cap.
    local delays
    delays=$(dyno events --json | jq -cs '(if (.[0] | type) == "array" then .[0] else . end)
        | [.[] | select(.app == "shop" and .dyno == "crasher.1" and .kind == "exit") | .evidence.restart_ms // .restart_ms]')
    if [ "$(jq '.[0]' <<<"$delays")" != null ]; then
        jq -e '.[0] == 0 and .[1] >= 150 and .[1] <= 300 and (all(.[]; . <= 2000))' <<<"$delays" ||
            fail "delays: $delays"
    fi
    dyno scale shop crasher=0
    crasher_ended() { [ "$(count shop crasher starting)$(count shop crasher up)" = 00 ]; }
    wait_for crasher_ended
    up shop/web.1
}

@test "a command that is not there is the app's fault: 127, with the shell's own words" {
    dyno scale shop missing=1
    wait_logged shop/missing.1 "no-such-command-anywhere: command not found"
    wait_logged shop/missing.1 "heroku[missing.1]: Process exited with status 127"
    missing_event() { [ "$(last_event shop missing.1 exit | jq -r .fault)" = app ]; }
    wait_for missing_event
    dyno scale shop missing=0
}

@test "a stop reaches every process of the dyno, also one in a session of its own" {
    local pids pid
    get shop/web.1 /daemon
    pids=$(dyno_processes shop/web.1)
    [ "$(wc -l <<<"$pids")" -ge 2 ] || fail "processes: $pids"
    dyno stop shop
    for pid in $pids; do wait_for gone "$pid"; done
    wait_logged shop/web.1 "Stopping all processes with SIGTERM"
    # It stays down: stop is a wish, not an accident.
    wait_for all_of_shop_ended
}
all_of_shop_ended() {
    [ "$(dyno ps --json shop | jq '[.[] | select(.state | IN("provisioning", "starting", "up", "stopping", "crashed"))] | length')" = 0 ]
}
# The pids of all processes with the dyno's PORT in their environment, seen from the host.
dyno_processes() {
    local port
    port=$(port_of "$1")
    grep -lsz "^PORT=$port\$" /proc/[0-9]*/environ | cut -d/ -f3 |
        while read -r pid; do alive "$pid" && echo "$pid"; done
}

@test "a restart brings a stopped app back" {
    dyno restart shop
    wait_up shop/web.1
    wait_for answers shop/web.1
}

@test "events tell the story in order, in words and as JSON" {
    run -0 dyno events
    has "$output" shop/web.1
    run -0 dyno events --json
    dyno events --json | jq -es '(if (.[0] | type) == "array" then .[0] else . end)
        | (map(.id) | . == sort) and all(.[]; has("t") and has("kind"))' >/dev/null
}

@test "doctor says what was found" {
    run dyno doctor
    [ "$status" -le 1 ]
    [ "${#lines[@]}" -ge 5 ]
    dyno doctor --json | jq -e 'all(.[]; has("name") and has("found"))' >/dev/null
}
