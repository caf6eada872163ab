#!/usr/bin/env bats
# spares.bats - sandboxes that are kept ready: taken, made anew, never used twice, gone with their
# agent.

load helpers

setup_file() {
    story_begin
    agent_start -o sandbox.spares=3 -o dyno.restart_delay=10ms -o dyno.stop_grace=2s
    mkdir "$STORY/app"
    cat >"$STORY/app/Procfile" <<'PROC'
sleeper: echo "host $(hostname), $(cat version)"; exec sleep 3600
quick: exit 3
PROC
    echo old >"$STORY/app/version"
    slug_from "$STORY/app" "$STORY/spares.tgz"
    echo new >"$STORY/app/version"
    slug_from "$STORY/app" "$STORY/new.tgz"
    dyno start app --slug "file://$STORY/spares.tgz" -m sleeper=1,quick=0
}
teardown_file() { story_end; }

setup() { wait_for ready 3; }

spares() { api /v1/status | jq -r ".spares.$1"; }
api() { curl -sS --unix-socket "$AGENT/run/api.sock" "http://d$1"; }
ready() { [ "$(spares ready)" = "$1" ]; }
dressed() { [ "$(spares dressed)" = "$1" ] && ready 3; }
no_more() { [ "$(spares ready)" = 0 ] && [ -z "$(ls "$AGENT/run/spare")" ]; }
# The dyno-inits that wait: all but those of dynos.
waiting() {
    local taken
    taken=$(dyno ps --json | jq -r '.[].pid // empty')
    pgrep -P "$(agent_pid)" -f '^dyno-init (spare|dressed)' | grep -vxF "${taken:-none}"
}

@test "a start takes one, and another is made" {
    local taken
    dyno scale app sleeper=0
    wait_for counts app sleeper 0
    taken=$(spares taken)
    dyno scale app sleeper=1
    wait_up app/sleeper.1
    same "$(spares taken)" "$((taken + 1))"
    wait_logged app/sleeper.1 "app[sleeper.1]: host sleeper-1, old"
    has "$(ls "$AGENT/run/run")" spare.
    wait_for ready 3
}

@test "one of three is dressed for what was started, and goes to its next start" {
    local taken
    wait_for dressed 1
    taken=$(spares taken_dressed)
    dyno restart app/sleeper.1
    more_taken() { [ "$(spares taken_dressed)" = $((taken + 1)) ]; }
    wait_for more_taken
    wait_up app/sleeper.1
    same "$(spares lost)" 0
    wait_for dressed 1
}

@test "a restarted dyno has another sandbox and another user" {
    local before after
    before=$(stat -c %u "/proc/$(of app/sleeper.1 .pid)")
    local old
    old=$(of app/sleeper.1 .pid)
    dyno restart app/sleeper.1
    wait_for replaced app/sleeper.1 "$old"
    after=$(stat -c %u "/proc/$(of app/sleeper.1 .pid)")
    [ "$(id -u)" != 0 ] || [ "$before" != "$after" ]
}

@test "one that crashes again and again never meets one that was used" {
    dyno scale app quick=1
    crashes() { [ "$(last_event app quick.1 exit | jq -r .status)" = 3 ] && [ "$(of app/quick.1 .restarts)" -ge 3 ]; }
    wait_for crashes
    dyno scale app quick=0
    same "$(spares lost)" 0
    # Each run's id is one of a kind.
    same "$(jq -r 'select(.kind == "exit") | .run' "$AGENT/state/events.jsonl" | sort | uniq -d)" ""
}

@test "more starts than spares: the rest start without" {
    local empty
    empty=$(spares empty)
    dyno scale app sleeper=12
    for i in $(seq 12); do wait_up "app/sleeper.$i"; done
    [ "$(spares empty)" -gt "$empty" ]
    dyno scale app sleeper=1
    wait_for counts app sleeper 1
}

@test "many starts are made one in a turn: what is taken back before its turn never runs" {
    local before
    starts() { jq -r 'select(.kind == "state" and .to == "starting") | .dyno' "$AGENT/state/events.jsonl" | wc -l; }
    before=$(starts)
    # One after the other by one client: had all been started in one turn, the second would have come after the last.
    curl -sS -o /dev/null --unix-socket "$AGENT/run/api.sock" -X PATCH -d '{"sleeper": 100}' http://d/v1/apps/app/formation \
        --next -sS -o /dev/null --unix-socket "$AGENT/run/api.sock" -X PATCH -d '{"sleeper": 1}' http://d/v1/apps/app/formation
    wait_for counts app sleeper 1
    [ $(($(starts) - before)) -lt 90 ] || fail "all of them were started: $(($(starts) - before))"
}

@test "one that dies while it waits is made anew, and the start goes on" {
    local pid lost
    lost=$(spares lost)
    three_wait() { [ "$(waiting | wc -l)" = 3 ]; } # what ended may still be there
    wait_for three_wait
    pid=$(waiting | head -n 1)
    kill -KILL "$pid"
    lost_one() { [ "$(spares lost)" = $((lost + 1)) ]; }
    wait_for lost_one
    dyno scale app sleeper=2
    wait_up app/sleeper.2
    wait_for ready 3
    dyno scale app sleeper=1
    wait_for counts app sleeper 1
}

@test "a dyno of another size gets none that was dressed" {
    local taken
    wait_for dressed 1
    taken=$(spares taken_dressed)
    run -3 dyno run --app app --size standard-2x -T -- sh -c 'cat version; hostname; exit 3'
    has "$output" old
    same "$(spares taken_dressed)" "$taken"
    wait_for ready 3
}

@test "a new release gets none that was dressed for the old one" {
    local lost
    lost=$(spares lost)
    wait_for dressed 1
    dyno start app --slug "file://$STORY/new.tgz" -m sleeper=1,quick=0
    wait_logged app/sleeper.1 "app[sleeper.1]: host sleeper-1, new"
    wait_for dressed 1
    run dyno run --app app -T -- cat version
    has "$output" new
    same "$(spares lost)" "$lost"
}

@test "a slug that is removed takes those with it that were dressed for it" {
    local dressed
    dyno scale app sleeper=0
    wait_for counts app sleeper 0
    wait_for dressed 1
    dressed=$(pgrep -P "$(agent_pid)" -f '^dyno-init dressed')
    unused() { [ "$(dyno slug ls --json | jq --arg d "$(digest_of "$STORY/new.tgz")" '.slugs[] | select(.digest == $d) | .in_use')" = false ]; }
    wait_for unused
    dyno slug rm "$(sha256sum <"$STORY/new.tgz" | cut -c1-64)"
    for i in $dressed; do wait_for gone "$i"; done
    wait_for dressed 0
    same "$(spares lost)" 1 # of the test before
    # It is fetched again, and all is as it was.
    dyno scale app sleeper=1
    wait_up app/sleeper.1
    wait_for dressed 1
}

@test "an agent that is killed leaves none: what is left is swept, what was taken is adopted" {
    local pid before inits
    pid=$(of app/sleeper.1 .pid)
    before=$(ls "$AGENT/run/spare")
    inits=$(waiting)
    agent_kill KILL
    for i in $inits; do wait_for gone "$i"; done
    agent_again
    wait_up app/sleeper.1
    same "$(of app/sleeper.1 .pid)" "$pid"
    wait_for dressed 1 # for what it adopted
    local old
    for old in $before; do
        hasnt "$(ls "$AGENT/run/spare" "$AGENT/run/run" "$AGENT/state/scratch")" "$old"
    done
    same "$(find /sys/fs/cgroup -type d -path "*$(cgroup_parent)/*" -name "$(echo "$before" | head -n 1)" | wc -l)" 0
}

@test "an instance that is drained keeps none, and again some afterwards" {
    dyno scale app sleeper=0
    wait_for counts app sleeper 0
    dyno drain
    wait_for no_more
    dyno undrain
    wait_for ready 3
}

# --- when memory is short ---------------------------------------------------------------------------------

# How often it was told, as events and in the log.
told() { jq -r "select(.kind == \"spares\" and .state == \"$1\") | .state" "$AGENT/state/events.jsonl" | wc -l; }
told_times() { [ "$(told "$1")" = "$2" ]; }
# What the cgroup that all dynos are in may have; v1 has another file for that than v2.
level() { find /sys/fs/cgroup -maxdepth 4 -path "*$(cgroup_parent)/memory.$1" 2>/dev/null | head -n 1; }
limit_file() { [ -n "$(level limit_in_bytes)" ] && level limit_in_bytes || level max; }
no_limit() { [ -n "$(level limit_in_bytes)" ] && echo -1 || echo max; }

@test "memory is short below a limit: they are given back, told once, and kept again when it is over (root)" {
    only_root "needs cgroups"
    local file lost
    lost=$(spares lost)
    file=$(limit_file)
    echo $((40 << 20)) >"$file" # less than is to be left for them, more than anything here uses
    wait_for no_more
    same "$(spares memory_short)" true
    # Starts go on, without.
    dyno scale app sleeper=2
    wait_up app/sleeper.1 app/sleeper.2
    same "$(told short) $(told enough)" "1 0"
    has "$(cat "$AGENT/dynod.log")" "no spare sandboxes are kept"
    has "$(dyno events)" "left in ${file%/*}"
    same "$(spares ready)" 0
    no_limit >"$file"
    wait_for ready 3
    wait_for told_times enough 1
    same "$(told short)" 1
    same "$(spares memory_short)" false
    same "$(spares lost)" "$lost"
    dyno scale app sleeper=0
    wait_for counts app sleeper 0
}

@test "memory is short on the machine: a new agent makes none, and dynos run; the setting switches it off" {
    local options=$AGENT/options
    agent_kill TERM
    cp "$options" "$STORY/options"
    printf '%s\n' -o sandbox.spares_keep_free=1T >>"$options"
    agent_again
    short() { [ "$(spares memory_short)" = true ]; }
    wait_for short
    dyno scale app sleeper=1
    wait_up app/sleeper.1
    same "$(spares made)" 0
    has "$(dyno events)" "left on the machine"
    dyno scale app sleeper=0
    wait_for counts app sleeper 0
    agent_kill TERM
    cp "$STORY/options" "$options"
    agent_again
    wait_for ready 3
    # The control: the same limit as before, and nobody looks.
    agent_kill TERM
    printf '%s\n' -o sandbox.spares_keep_free=0 >>"$options"
    agent_again
    wait_for ready 3
    ! is_root || echo $((40 << 20)) >"$(limit_file)"
    dyno drain
    wait_for no_more
    dyno undrain
    wait_for ready 3 # made below the limit
    same "$(spares memory_short)" false
}
