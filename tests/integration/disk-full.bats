#!/usr/bin/env bats
# disk-full.bats - the agent's state on a file system of 6 MB (only root can mount one).

load helpers

setup_file() {
    story_begin
    is_root || return 0
    mkdir -p "$AGENT/state" "$STORY/app"
    mount -t tmpfs -o size=6M,mode=0711 tmpfs "$AGENT/state"
    echo 'worker: exec sleep 3600' >"$STORY/app/Procfile"
    slug_from "$STORY/app" "$STORY/fits.tgz"
    head -c 12000000 /dev/urandom >"$STORY/app/ballast"
    slug_from "$STORY/app" "$STORY/large.tgz"
    # No quota: no dyno could be promised a scratch of the usual size on this disk.
    agent_start -o dyno.restart_delay=300ms -o size.standard-1x.disk=0
}
teardown_file() {
    is_root || return 0
    # The mount is the story's own, not something left behind.
    umount -l "$AGENT/state"
    story_end
}
setup() { only_root "a small file system can only be mounted by root"; }

@test "disk full while unpacking: says so, the platform's fault, nothing half done stays (root)" {
    dyno start large --slug "file://$STORY/large.tgz" -m worker=1 >/dev/null 2>&1 || true
    full() { last_event large worker.1 exit | grep -qi 'no space left'; }
    wait_for full
    same "$(last_event large worker.1 exit | jq -r .fault)" platform
    dyno stop large
    empty() { [ -z "$(find "$AGENT/state" -path '*incoming/*' | head -1)" ]; }
    wait_for empty
}

@test "what fits runs afterwards (root)" {
    dyno start fits --slug "file://$STORY/fits.tgz" -m worker=1
    wait_up fits/worker.1
}

@test "no room for the journal: the command is refused and changes nothing, the dynos run on (root)" {
    local pid before
    pid=$(of fits/worker.1 .pid)
    before=$(dyno ps --json | jq -c 'map([.app, .dyno, .pid]) | sort')
    head -c 8000000 /dev/zero >"$AGENT/state/filler" 2>/dev/null || true
    # More than what the journal's last page still takes.
    printf 'BIG=%0100000d\n' 1 >"$STORY/big.env"
    run dyno start fits --slug "file://$STORY/fits.tgz" -e "$STORY/big.env"
    rm -f "$AGENT/state/filler"
    [ "$status" -ne 0 ]
    has "$output" "o space left"
    same "$(dyno ps --json | jq -c 'map([.app, .dyno, .pid]) | sort')" "$before"
    is fits/worker.1 .pid "$pid"
    # With room again it is an ordinary command.
    dyno scale fits worker=2
    wait_for counts fits worker 2
    dyno stop fits
    wait_for all_ended
}
