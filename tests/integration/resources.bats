#!/usr/bin/env bats
# resources.bats - what a dyno may use: held to it, and nobody else the worse for it; standing still;
# another size while it runs; `dyno top`.

load helpers

setup_file() {
    story_begin
    agent_start -o dyno.stop_grace=5s -o dyno.restart_delay=60s -o dyno.sample_interval=200ms \
        -o size.tiny.memory=32M -o size.tiny.memory_factor=2 -o size.tiny.pids=40 \
        -o size.roomy.memory=512M \
        -o size.narrow.open_files=500 \
        -o size.capped.cpu_cap=30% -o size.heavy.cpu_shares=8192 -o size.light.cpu_shares=512
    mkdir "$STORY/app"
    "${CC:-gcc}" -static -O1 -o "$STORY/app/hoard" "$ROOT/tests/integration/hoard.c"
    cat >"$STORY/app/web.pl" <<'PERL'
use IO::Socket::INET;
$s = IO::Socket::INET->new(LocalPort => $ENV{PORT}, Listen => 5, ReuseAddr => 1) or die;
# What is not read when it is closed resets the connection.
while ($c = $s->accept) { while (<$c>) { last if /^\r?$/ } print $c "HTTP/1.0 200 OK\r\n\r\nweb.1 is here\n"; close $c }
PERL
    cat >"$STORY/app/Procfile" <<'PROC'
web: exec perl web.pl
hoard: exec ./hoard $KIND $MUCH
tick: trap 'echo saw SIGTERM; exit 3' TERM; i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done
deaf: trap '' TERM; echo deaf; while :; do sleep 0.1; done
PROC
    slug_from "$STORY/app" "$STORY/resources.tgz"
    # Who must not notice what the others do.
    start canary tick=1
    of canary/tick.1 .pid >"$STORY/canary"
}
teardown_file() { story_end; }

start() { # APP FORMATION [OPTION...]
    local app=$1 formation=$2
    shift 2
    dyno start "$app" --slug "file://$STORY/resources.tgz" -m "$formation" "$@"
}
# hoard APP KIND MUCH [OPTION...]
hoard() {
    local app=$1
    printf 'KIND=%s\nMUCH=%s\n' "$2" "$3" >"$STORY/env"
    shift 3
    start "$app" hoard=1 -e "$STORY/env" --no-wait "$@"
}
ended() { [ "$(last_event "$1" hoard.1 exit)" != null ]; }
why() { last_event "$1" hoard.1 exit | jq -r "$2"; }
canary_lives() {
    same "$(of canary/tick.1 .pid)" "$(cat "$STORY/canary")"
    up canary/tick.1
}
post() { # PATH BODY
    curl -sS --max-time 10 --unix-socket "$AGENT/run/api.sock" -X POST -d "${2:-}" "http://dynod/v1/$1"
}
# cgroup DYNO CONTROLLER: its directory, of v1 or v2
cgroup() {
    local run
    run=$(of "$1" .run)
    find /sys/fs/cgroup -maxdepth 5 -type d -path "*/$2/*/$run" | grep . ||
        find /sys/fs/cgroup -maxdepth 6 -type d -name "$run" | head -n 1
}
last_tick() { bodies "$1" | sed -n 's/^app.*: tick //p' | tail -n 1; }
# What it wrote before may still be on its way.
wait_still() { wait_for stands_still "$1"; }
stands_still() { ! ticks_on "$1"; }
ticks_on() {
    local before
    before=$(last_tick "$1")
    sleep 0.5
    [ "$(last_tick "$1")" -gt "${before:-0}" ]
}

@test "memory of every kind counts: it ends the dyno that took it, and no other (root)" {
    only_root "memory limits need cgroups"
    local kind
    for kind in anon shm memfd sockets; do
        hoard "bomb-$kind" "$kind" 300 --size tiny
    done
    hoard modest anon 40 --size tiny # the control: the same probe within its limit
    for kind in anon shm memfd sockets; do
        wait_for ended "bomb-$kind"
        same "$(why "bomb-$kind" .cause)" memory
        same "$(why "bomb-$kind" .fault)" app
        same "$(why "bomb-$kind" .evidence.oom_own)" true
        wait_logged "bomb-$kind" "Error R15 (Memory quota vastly exceeded)"
        dyno stop "bomb-$kind"
    done
    wait_logged modest "held 40"
    wait_logged modest "Error R14 (Memory quota exceeded)" # 40 of 32, and 64 at most
    up modest/hoard.1
    canary_lives
}

# The machine has one limit for the buffers of all TCP sockets; beyond it nobody's connections get on.
@test "connections that are not read hold no more than their dyno may: R15, and its neighbour's get on (root)" {
    only_root "memory limits need cgroups"
    start neighbour web=1
    wait_up neighbour/web.1
    hoard few tcp 100 --size tiny # some 25 MB of the 64 that are its limit
    hoard wide tcp 1500 --size roomy # the control: what ends the next is no harm where it has room
    wait_logged few "held 100"
    wait_logged wide "held 1500"
    hoard flood tcp 1500 --size tiny
    wait_for ended flood
    same "$(why flood .cause)" memory
    same "$(why flood .fault)" app
    wait_logged flood "Error R15 (Memory quota vastly exceeded)"
    answers neighbour/web.1
    up few/hoard.1
    up wide/hoard.1
    # What a size has from now on is no limit of who runs already.
    sed -i 's/^size.roomy.memory=.*/size.roomy.memory=16M/' "$AGENT/options"
    agent_kill
    agent_again
    wait_up wide/hoard.1
    sleep 1 # some samples
    up wide/hoard.1
    dyno stop flood
    dyno stop wide
    dyno stop few
    dyno stop neighbour
    canary_lives
}

@test "R14 is told once an episode, also across agents (root)" {
    only_root "memory limits need cgroups"
    up modest/hoard.1
    agent_kill
    agent_again
    wait_up modest/hoard.1
    sleep 1 # some samples
    same "$(logs modest | grep -c 'Error R14')" 1
    dyno stop modest
}

@test "an app's own SIGKILL near its limit is its own (root)" {
    only_root "memory limits need cgroups"
    hoard own suicide 50 --size tiny
    wait_for ended own
    same "$(why own .cause)" signalled
    same "$(why own .evidence.oom_kills)" null
    hasnt "$(logs own)" R15
    dyno stop own
}

@test "descriptors, terminals and watches of one are not those of another (root)" {
    only_root "rootless, dynos are one user"
    local n
    hoard files fds 100000 --size narrow
    wait_logged files "Too many open files"
    n=$(bodies files | sed -n 's/.*held \([0-9]*\) .*/\1/p' | head -n 1)
    ((n >= 490 && n < 500)) || fail "held $n" # 500, and what it had open
    hoard ptys ptys 9000
    hoard watches watches 200000
    wait_logged ptys "held "
    wait_logged watches "held "
    # The neighbour still gets one of each.
    dyno exec canary/tick.1 -t -- sh -c 'test -t 0 && exec 5</dev/null && echo fine' | grep -q fine ||
        dyno exec canary/tick.1 -- sh -c 'exec 5<>/dev/ptmx 6</dev/null && echo fine' | grep -q fine
    dyno exec canary/tick.1 -- timeout 5 ./hoard watches 5 | grep -q "held 5"
    canary_lives
    dyno stop files
    dyno stop ptys
    dyno stop watches
}

@test "no cgroup file is to be seen, or written (root)" {
    only_root "rootless, there is no cgroup"
    local c
    c=$(cgroup canary/tick.1 pids)
    [ -w "$c/pids.max" ] # the control: it is there, and root's to write
    run -0 dyno exec canary/tick.1 -- sh -c 'find / -name cgroup.procs -o -name tasks -o -name release_agent -o -name pids.max 2>/dev/null | grep -v ^/proc; cat /proc/self/cgroup; cat /proc/self/mountinfo'
    hasnt "$output" pids.max
    hasnt "$output" release_agent
    hasnt "$output" cgroup.procs
    hasnt "$output" " - cgroup"
    hasnt "$output" dynod # its cgroup is its root
    run dyno exec canary/tick.1 -- sh -c 'mkdir -p /tmp/c && mount -t cgroup -o pids none /tmp/c'
    [ "$status" != 0 ]
    canary_lives
}

used() { of "$1" .cpu_usec; }
@test "a busy machine is shared by weight, and a cap holds on an idle one (root)" {
    only_root "cpu shares need cgroups"
    local i heavy=0 light=0 before wall cpu
    printf 'KIND=spin\nMUCH=1\n' >"$STORY/env"
    start capped hoard=1 -e "$STORY/env" --size capped
    wall=$(date +%s%N) # the time is that around both looks, however long they take
    before=$(used capped/hoard.1)
    sleep 1
    cpu=$(($(used capped/hoard.1) - before))
    wall=$((($(date +%s%N) - wall) / 1000))
    [ "$cpu" -lt $((wall * 60 / 100)) ] # 30%, and a period more or less
    dyno resize capped --size light
    start heavy hoard=3 -e "$STORY/env" --size heavy
    start light hoard=3 -e "$STORY/env" --size light
    heavy=-$(sum heavy) light=-$(sum light)
    sleep 2
    heavy=$((heavy + $(sum heavy))) light=$((light + $(sum light)))
    [ "$heavy" -gt $((3 * light)) ] || fail "heavy $heavy, light $light" # 16 times the shares
    canary_lives
    for i in capped heavy light; do dyno stop "$i"; done
}
sum() { dyno ps --json "$1" | jq '[.[].cpu_usec] | add'; }

@test "without cgroups a pause says why not" {
    is_root && skip "root has cgroups"
    run -1 dyno pause canary/tick.1
    has "$output" "freezer"
    wait_for ticks_on canary/tick.1
}

@test "a paused dyno stands still, out of the route, and is found so by the next agent (root)" {
    only_root "the freezer is a cgroup's"
    local pid
    start still web=1,tick=1
    pid=$(of still/web.1 .pid)
    get still/web.1 / | grep -q "is here"
    has "$(dyno pause still)" "paused web.1"
    is still/web.1 .state paused
    is still/web.1 .up false
    has "$(dyno ps still)" paused
    wait_still still/tick.1
    run -1 dyno exec still/tick.1 -- true
    has "$output" "is paused"
    agent_kill
    agent_again
    wait_for is still/tick.1 .state paused
    is still/web.1 .state paused
    is still/web.1 .pid "$pid"
    wait_still still/tick.1
    dyno resume still/web.1
    is still/web.1 .state up
    is still/web.1 .pid "$pid"
    get still/web.1 / | grep -q "is here"
    is still/tick.1 .state paused
    run -1 dyno resume nobody
    run -1 dyno pause still/web.7
    dyno resume still
    wait_for ticks_on still/tick.1
    dyno exec still/tick.1 -- true
}

@test "a stop ends a pause: SIGTERM is seen; and SIGKILL after the grace (root)" {
    only_root "the freezer is a cgroup's"
    start mute deaf=1
    wait_logged mute deaf
    dyno pause still/tick.1
    dyno pause mute
    dyno stop still
    dyno stop mute
    wait_for all_of_ended still
    wait_logged still/tick.1 "saw SIGTERM"
    hasnt "$(logs still)" R12
    wait_for all_of_ended mute
    wait_logged mute "Error R12 (Exit timeout)"
}
all_of_ended() { same "$(dyno ps --json "$1" | jq length)" 0; }

@test "SIGKILL from outside ends a paused dyno as a crash; its restart runs (root)" {
    only_root "the freezer is a cgroup's"
    local pid
    start hit tick=1
    pid=$(of hit/tick.1 .pid)
    dyno pause hit
    kill -KILL "$pid" # to its PID 1
    echo THAWED >"$(cgroup hit/tick.1 freezer)/freezer.state" 2>/dev/null || true # v1 holds it back
    wait_for replaced hit/tick.1 "$pid"
    wait_for ticks_on hit/tick.1
    dyno stop hit
}

@test "another size while it runs: in the kernel, across agents and restarts (root)" {
    only_root "limits need cgroups"
    local pid
    start grow tick=2
    pid=$(of grow/tick.1 .pid)
    limit() { cat "$(cgroup "$1" pids)/pids.max"; }
    run -0 dyno resize grow/tick.1 --size tiny
    has "$output" "tick.1 has size tiny"
    is grow/tick.1 .pid "$pid"
    is grow/tick.1 .size tiny
    is grow/tick.1 .memory_max $((64 << 20))
    is grow/tick.2 .size standard-1x
    same "$(limit grow/tick.1)" 40
    same "$(limit grow/tick.2)" 256
    agent_kill
    agent_again
    wait_up grow/tick.1
    is grow/tick.1 .size tiny
    same "$(limit grow/tick.1)" 40
    dyno restart grow/tick.1
    wait_for replaced grow/tick.1 "$pid"
    is grow/tick.1 .size tiny
    same "$(limit grow/tick.1)" 40
    run -0 dyno resize grow/tick --size standard-2x
    same "$(limit grow/tick.1)" 512
    same "$(limit grow/tick.2)" 512
    # What only a start brings is said.
    has "$(dyno resize grow --size narrow)" "tick.1 has size narrow"
    pid=$(of grow/tick.1 .pid)
    dyno restart grow/tick.1
    wait_for replaced grow/tick.1 "$pid"
    same "$(dyno exec grow/tick.1 -- sh -c 'ulimit -n')" 500
    run -1 dyno resize grow --size huge
    has "$output" "unknown size"
    run -1 dyno resize grow/nope --size tiny
    run -1 dyno resize grow/tick.9 --size tiny
    run -2 dyno resize grow
    dyno stop grow
}

@test "a size that it does not fit into is refused, and nothing is changed (root)" {
    only_root "limits need cgroups"
    hoard full anon 200
    wait_logged full "held 200"
    run -1 dyno resize full --size tiny
    has "$output" "holds"
    has "$output" "size tiny"
    is full/hoard.1 .size standard-1x
    same "$(post dynos/full/hoard.1/resize '{"size":"tiny"}' | jq -r .error.code)" conflict
    up full/hoard.1
    dyno stop full # what it says to do
    wait_for all_of_ended full
    dyno resize full --size tiny
    dyno stop full
}

@test "top: text for scripts, JSON, one app" {
    run -0 dyno top -n 1
    has "$output" " up, 0 paused"
    has "$output" canary/tick.1
    has "$output" "tick \$i" # the command
    same "$(dyno top -n 1 --json | jq -r '.dynos[0].dyno')" tick.1
    same "$(dyno top -n 1 --json | jq -r '.status.version')" "$(dyno version | cut -d' ' -f2)"
    run -0 dyno top -n 1 nobody
    hasnt "$output" canary
    run -2 dyno top -n 0
    run -2 dyno top -s size
    run -2 dyno top canary/tick.1
    # Not a terminal: text until somebody ends it.
    dyno_background top </dev/null >"$STORY/top"
    twice() { [ "$(grep -c canary/tick.1 "$STORY/top")" -ge 2 ]; }
    wait_for twice
    kill "$BACKGROUND"
    wait_for gone "$BACKGROUND"
}

@test "top: the live screen, its keys, another window size, and a terminal as it was" {
    cat >"$STORY/top.exp" <<'EXPECT'
source [lindex $argv 0]
set stty_init "rows 24 columns 80"
spawn -noecho sh -c "stty -a | grep -o icanon; [lindex $argv 1] top; stty -a | grep -oE -e '(-)?icanon' -e '(-)?echo;?' | head -n 1"
want "canary/tick.1" "no dyno is shown"
send "m"
want "memory" "m does not sort"
send "n"
want "name" "n does not sort"
send "a"
want "only canary" "a does not filter"
send "\033OB\033OA"
stty rows 12 columns 132 < $spawn_out(slave,name)
want "UPTIME" "it is not as wide as the terminal"
send "q"
want "icanon" "the terminal is not as it was"
exit [want_end "it does not end"]
EXPECT
    TERM=xterm DYNOD_SOCKET=$AGENT/run/api.sock run expect "$STORY/top.exp" "$BATS_TEST_DIRNAME/talk.exp" "$BIN/dyno"
    [ "$status" = 0 ] || fail "$output"
    # One that can show no screen gets text.
    cat >"$STORY/plain.exp" <<'EXPECT'
source [lindex $argv 0]
spawn -noecho [lindex $argv 1] top -s name
want "COMMAND\r\n(\[^\n\]*\n)*canary/tick.1" "no text"
close
EXPECT
    TERM=dumb-as-a-stone DYNOD_SOCKET=$AGENT/run/api.sock run -0 expect "$STORY/plain.exp" "$BATS_TEST_DIRNAME/talk.exp" "$BIN/dyno"
}

@test "what cannot be given stops the start, and says why" {
    run ! "$BIN/dynod" -c /dev/null -o size.x.open_files=1000000000 --dump-config
    has "$output" "LimitNOFILE"
    run ! "$BIN/dynod" -c /dev/null -o size.x.cpu_cap=150 --dump-config
    has "$output" "150%"
    run ! "$BIN/dynod" -c /dev/null -o size.x.io_weight=1001 --dump-config
    has "$output" "1 to 1000"
}
