#!/usr/bin/env bats
# upgrade.bats - another agent over the same dynos, under load: a later version, the version before, and
# one that cannot read what the one before it wrote. The dynos do not notice.

load helpers

NEXT=$BUILD/next/bin
NEXT_VERSION=99.1.0

setup_file() {
    story_begin
    mkdir "$STORY/app"
    cat >"$STORY/app/numbers.sh" <<'SH'
# Numbered lines: a lost or doubled one shows.
i=0
while :; do
    i=$((i + 1))
    echo "number $i"
    [ $((i % 5)) -ne 0 ] || sleep 0.1
done
SH
    cp "$ROOT/docs/examples/hello/web.pl" "$STORY/app/"
    printf '%s\n' 'web: exec perl web.pl' 'numbers: exec bash numbers.sh' >"$STORY/app/Procfile"
    slug_from "$STORY/app" "$STORY/upgrade.tgz"
}
setup() {
    rm -rf "$AGENT" && mkdir -p "$AGENT"
    echo "$BIN" >"$AGENT/bin"
    agent_start -o logs.tail_lines=100000 -o logs.tail_bytes=16M
}
teardown() {
    traffic_end || true
    agent_end
}
teardown_file() { rm -f "$AGENT/pid"; story_end; }

# --- traffic: every web dyno is asked again and again, and each answer that is not one is written down

traffic_begin() {
    local port ports
    ports=$(dyno ps --json | jq -r '.[] | select(.type == "web") | .port')
    : >"$STORY/traffic"
    (
        while [ ! -e "$STORY/traffic.stop" ]; do
            for port in $ports; do
                curl -sS --max-time "$PATIENCE" "http://127.0.0.1:$port/" 2>&1 | grep -oE 'Hello from web[.0-9]*|^curl: .*' ||
                    echo "nothing from $port"
            done >>"$STORY/traffic"
            sleep 0.05
        done
    ) </dev/null >/dev/null 2>&1 3>&- 4>&- &
    echo $! >"$STORY/traffic.pid"
}
traffic_end() {
    [ -e "$STORY/traffic.pid" ] || return 0
    touch "$STORY/traffic.stop"
    wait_for gone "$(cat "$STORY/traffic.pid")"
    rm -f "$STORY/traffic.stop" "$STORY/traffic.pid"
}
# How often a dyno answered so far.
answered() { grep -c "^Hello from web" "$STORY/traffic" || true; }
more_answers() { [ "$(answered)" -gt "$1" ]; }

# --- what must not change

pids() { dyno ps --json | jq -c 'map([.app, .dyno, .pid, .port]) | sort'; }
all_up() { [ "$(dyno ps --json | jq '[.[] | select(.state == "up")] | length')" = "$1" ]; }
only() { [ "$(dyno ps --json | jq length)" = "$1" ] && all_up "$1"; }
exit_events() { grep -c '"kind":"exit"' "$AGENT/state/events.jsonl"; }
status_version() { curl -sS --unix-socket "$AGENT/run/api.sock" http://d/v1/status | jq -r .version; }

# The numbers of each worker are consecutive, each once, and more than there were.
numbers_whole() {
    local n
    for n in $(seq "$1"); do
        logs "up/numbers.$n" | sed -n 's/.*app\[numbers\.[0-9]*\]: number \([0-9]*\)$/\1/p' | awk -v n="$n" '
            NR == 1 && $1 != 1 { print n " starts at " $1; bad = 1 }
            NR > 1 && $1 != last + 1 { print n ": after " last " comes " $1; bad = 1 }
            { last = $1 }
            END { if (NR < 50) { print n ": only " NR + 0 " lines"; bad = 1 }; exit bad }' || return 1
    done
}

# replace SIGNAL DIR VERSION: another agent in the place of this one.
replace() {
    local seen
    agent_kill "$1"
    [ -z "${BETWEEN:-}" ] || "$BETWEEN"
    echo "$2" >"$AGENT/bin"
    agent_again
    wait_for all_up "$DYNOS" || return 1
    same "$(pids)" "$BEFORE" || return 1
    same "$(status_version)" "$3" || return 1
    same "$("$2/dyno" --version)" "dyno $3" || return 1
    same "$(exit_events)" 0 || return 1
    seen=$(answered)
    wait_for more_answers $((seen + 20))
}

of_the_future() {
    local file
    for file in "$AGENT"/run/run/*/run.json; do
        jq -c '{v: 2, id: .id, everything: "is called otherwise", there: .record}' "$file" >"$file.edit"
        mv "$file.edit" "$file"
    done
}
torn() {
    local file n=0
    for file in "$AGENT"/run/run/*/run.json; do
        truncate -s $((n++ * 17)) "$file"
    done
}

begin() {
    dyno start up --slug "file://$STORY/upgrade.tgz" -m "web=$1,numbers=$2"
    DYNOS=$(($1 + $2))
    wait_for all_up "$DYNOS"
    BEFORE=$(pids)
    traffic_begin
}

@test "an upgrade, and back, under load: same processes, no exit, no line lost, no request unanswered" {
    local old
    begin 10 10
    old=$("$BIN/dynod" --version | cut -d' ' -f2)
    replace TERM "$NEXT" "$NEXT_VERSION"
    replace KILL "$BIN" "$old"
    replace KILL "$NEXT" "$NEXT_VERSION"
    replace TERM "$BIN" "$old"
    traffic_end
    same "$(grep -v '^Hello from web' "$STORY/traffic")" ""
    numbers_whole 10
    [ ! -e "$AGENT/run/odd" ] # everybody could read what was there
}

@test "back to an agent that cannot read the state files: set aside, said so, and the truth asked of the dynos" {
    local old
    begin 4 4
    old=$("$BIN/dynod" --version | cut -d' ' -f2)
    replace TERM "$NEXT" "$NEXT_VERSION"
    BETWEEN=of_the_future replace KILL "$BIN" "$old"
    same "$(find "$AGENT/run/odd" -type f | wc -l)" 8
    same "$(grep '"kind":"agent"' "$AGENT/state/events.jsonl" | grep -c 'from a later version of dynod (2)')" 8
    BETWEEN=torn replace TERM "$NEXT" "$NEXT_VERSION"
    same "$(find "$AGENT/run/odd" -type f | wc -l)" 16
    traffic_end
    same "$(grep -v '^Hello from web' "$STORY/traffic")" ""
    numbers_whole 4
    # They are whole dynos: what was rebuilt is enough to scale, restart and stop them.
    dyno scale up web=1 numbers=2
    wait_for only 3
    same "$(pids)" "$(jq -c '[.[] | select(.[1] | IN("web.1", "numbers.1", "numbers.2"))]' <<<"$BEFORE")"
    dyno restart up/web.1
    wait_for replaced up/web.1 "$(jq -r '.[] | select(.[1] == "web.1")[2]' <<<"$BEFORE")"
}
