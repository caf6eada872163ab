#!/usr/bin/env bats
# limits.bats - what the platform ends, and how it says so: R10, R12, R14, R15; pids.

load helpers

setup_file() {
    story_begin
    agent_start -o dyno.boot_timeout=2s -o dyno.stop_grace=4s -o dyno.restart_delay=1s \
        -o dyno.sample_interval=1s
    cat >"$STORY/hog.pl" <<'PERL'
$| = 1;
print "hog started\n";
my @hog;
for my $mb (1 .. $ENV{EAT_MB}) { push @hog, chr($mb % 256) x (1 << 20) }
print "hog has eaten\n";
sleep 3600;
PERL
    mkdir "$STORY/app"
    cp "$STORY/hog.pl" "$STORY/app/"
    cat >"$STORY/app/Procfile" <<'PROC'
web: exec sleep 3600
stubborn: trap 'echo "no, I stay"' TERM; echo "stubborn started"; while :; do sleep 1; done
hog: exec perl hog.pl
bomb: echo "bomb started"; for i in $(seq 2000); do sleep 3600 & done; echo "bomb is over"; wait
PROC
    slug_from "$STORY/app" "$STORY/limits.tgz"
}
teardown_file() { story_end; }

start() { # APP FORMATION [OPTION...]
    local app=$1 formation=$2
    shift 2
    dyno start "$app" --slug "file://$STORY/limits.tgz" -m "$formation" "$@"
}

@test "R10: a web dyno that never listens is killed after the boot time" {
    # The command may wait for up, and then fails: it is not what is tested.
    start deaf web=1 || true
    wait_logged deaf/web.1 'heroku[web.1]: Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 2 seconds of launch'
    wait_logged deaf/web.1 'heroku[web.1]: Stopping process with SIGKILL'
    wait_logged deaf/web.1 'heroku[web.1]: Process exited with status 137'
    event() { [ "$(last_event deaf web.1 exit | jq -r .cause)" != null ]; }
    wait_for event
    has "$(last_event deaf web.1 exit | tojson)" R10
    same "$(last_event deaf web.1 exit | jq -r .fault)" app
    dyno stop deaf
}
tojson() { cat; }

@test "R12: a dyno that ignores SIGTERM is killed after the grace" {
    start mule stubborn=1
    wait_up mule/stubborn.1
    wait_logged mule/stubborn.1 "stubborn started"
    local pid
    pid=$(of mule/stubborn.1 .pid)
    dyno stop mule
    wait_for gone "$pid"
    wait_logged mule/stubborn.1 "app[stubborn.1]: no, I stay"
    wait_logged mule/stubborn.1 'heroku[stubborn.1]: Error R12 (Exit timeout) -> Process failed to exit within 4 seconds of SIGTERM'
    wait_logged mule/stubborn.1 'heroku[stubborn.1]: Stopping process with SIGKILL'
    wait_logged mule/stubborn.1 'heroku[stubborn.1]: Process exited with status 137'
    # In this order.
    bodies mule/stubborn.1 | grep -oE 'SIGTERM$|R12|SIGKILL$|status 137' | tr '\n' ' ' |
        grep -q 'SIGTERM .*R12 .*SIGKILL status 137'
}

# The first process of DYNO's namespace.
init_of() {
    local pid
    pid=$(of "$1" .pid)
    [ "$(awk '/^NSpid/ { print $NF }' "/proc/$pid/status")" = 1 ] || pid=$(ps -o ppid= -p "$pid" | tr -d ' ')
    echo "$pid"
}

@test "SIGKILL: dyno-init has time to tell the status, where it cannot it is known" {
    local init
    start slow stubborn=2
    wait_up slow/stubborn.1 slow/stubborn.2
    wait_logged slow/stubborn.1 "stubborn started"
    wait_logged slow/stubborn.2 "stubborn started"
    init=$(init_of slow/stubborn.1)
    kill -STOP "$init" "$(init_of slow/stubborn.2)" # as if what it waits for took its time
    dyno stop slow
    wait_logged slow/stubborn.1 'heroku[stubborn.1]: Stopping process with SIGKILL'
    sleep 1
    kill -CONT "$init"
    wait_logged slow/stubborn.1 'heroku[stubborn.1]: Process exited with status 137'
    same "$(last_event slow stubborn.1 exit | jq -c '[.cause, .status, .evidence.wait_status]')" '["exit-timeout",137,9]'
    wait_logged slow/stubborn.2 'heroku[stubborn.2]: Process exited with status 137'
    same "$(last_event slow stubborn.2 exit | jq -c '[.cause, .status, .evidence.wait_status]')" '["exit-timeout",137,null]'
}

@test "R14: over the quota it is reported and runs on (root)" {
    only_root "memory limits need cgroups"
    echo EAT_MB=700 >"$STORY/eat"
    start fat hog=1 -e "$STORY/eat"
    wait_logged fat/hog.1 "hog has eaten"
    wait_logged fat/hog.1 'heroku[hog.1]: Error R14 (Memory quota exceeded)'
    up fat/hog.1
    [ "$(of fat/hog.1 .memory)" -gt $((512 << 20)) ]
    same "$(of fat/hog.1 .memory_quota)" $((512 << 20))
    dyno stop fat
}

@test "R15: far over the quota it is killed, and only it (root)" {
    only_root "memory limits need cgroups"
    echo EAT_MB=4000 >"$STORY/eat"
    start calm stubborn=1
    wait_up calm/stubborn.1
    local calm
    calm=$(of calm/stubborn.1 .pid)
    start glutton hog=1 -e "$STORY/eat"
    wait_logged glutton/hog.1 'heroku[hog.1]: Error R15 (Memory quota vastly exceeded)'
    wait_logged glutton/hog.1 'heroku[hog.1]: Process exited with status 137'
    event() { last_event glutton hog.1 exit | grep -q R15; }
    wait_for event
    same "$(last_event glutton hog.1 exit | jq -r .fault)" app
    dyno stop glutton
    is calm/stubborn.1 .pid "$calm"
    dyno stop calm
}

@test "a fork bomb meets the pids limit, the agent answers meanwhile (root)" {
    only_root "the pids limit needs cgroups"
    start boom bomb=1
    wait_logged boom/bomb.1 "bomb started"
    wait_logged boom/bomb.1 "Resource temporarily unavailable"
    [ "$(of boom/bomb.1 .pids)" -le 256 ]
    dyno stop boom
    wait_for all_ended
}
