#!/usr/bin/env bats
# quota.bats - dynos that fill their disk, on a host whose own disk is small (only root has quotas).
# BATTERY 41.

load helpers

setup_file() {
    story_begin
    is_root || return 0
    mkdir -p "$AGENT/state" "$STORY/app"
    truncate -s 256M "$STORY/disk"
    mkfs.ext4 -q -F -m 0 "$STORY/disk"
    mount -o loop "$STORY/disk" "$AGENT/state"
    rm -rf "$AGENT/state/lost+found"
    cat >"$STORY/app/fill.pl" <<'PERL'
# fill.pl bytes|files DIR: until it fails; then says how far it came, and waits.
$| = 1;
my ($what, $dir) = @ARGV;
my ($n, $block) = (0, 'x' x 65536);
opendir my $d, '/tmp' or die;
print "tmp held ", scalar(grep { !/^\./ } readdir $d), "\n";
if ($what eq 'bytes') {
    open my $f, '>', "$dir/big" or die "open: $!";
    # Past the quota by far; a control gets there.
    while ($n < 48 << 20) { my $w = syswrite $f, $block; last unless $w; $n += $w }
} else {
    while ($n < 3000) { open my $f, '>', "$dir/$n" or last; $n++ }
}
print "$what in $dir ended at $n: ", $n < ($what eq 'bytes' ? 48 << 20 : 3000) ? "$!" : 'no limit', "\n";
sleep 100000;
PERL
    printf '%s\n' 'bytes: exec perl fill.pl bytes /tmp' 'app: exec perl fill.pl bytes /app' \
        'files: exec perl fill.pl files /tmp' 'calm: exec sleep 100000' >"$STORY/app/Procfile"
    slug_from "$STORY/app" "$STORY/app.tgz"
    agent_start -o dyno.restart_delay=300ms -o dyno.sample_interval=300ms -o size.standard-1x.disk=24M \
        -o size.standard-1x.inodes=1000 -o size.free.disk=0
}
teardown_file() {
    is_root || return 0
    # The mount is the story's own, not something left behind.
    umount -l "$AGENT/state"
    story_end
}
setup() { only_root "only root has quotas"; }

# Loop devices with files of the agent's.
loops() { grep -lF "$AGENT/state" /sys/block/loop*/loop/backing_file 2>/dev/null | wc -l; }
no_loops() { same "$(loops)" 0; }
full_lines() { logs "$1" | grep -cF "Error (Disk quota exceeded)"; }
free_mb() { df -m --output=avail "$AGENT/state" | tail -n 1; }

@test "bytes: ENOSPC inside, in /tmp and in /app; nobody else notices (root)" {
    dyno start calm --slug "file://$STORY/app.tgz" -m calm=1,bytes=0,app=0,files=0
    wait_up calm/calm.1
    local calm agent
    calm=$(of calm/calm.1 .pid) agent=$(agent_pid)
    dyno start shop --slug "file://$STORY/app.tgz" -m bytes=1,app=1,files=0,calm=0
    wait_logged shop/bytes.1 "bytes in /tmp ended at"
    wait_logged shop/app.1 "bytes in /app ended at"
    has "$(logs shop/bytes.1)" ": No space left on device"
    has "$(logs shop/app.1)" ": No space left on device"
    # As much as promised, and not much more.
    local n
    for n in $(logs shop | sed -n 's/.*ended at \([0-9]*\):.*/\1/p'); do
        ((n >= 24 << 20 && n < 27 << 20)) || fail "ended at $n"
    done
    up shop/bytes.1
    up shop/app.1
    is calm/calm.1 .pid "$calm"
    same "$(agent_pid)" "$agent"
    dyno exec calm/calm.1 -- sh -c 'head -c 5000000 /dev/zero >/tmp/x && rm /tmp/x'
}

@test "the log says so, once, and so do dyno JSON and an event (root)" {
    told() { [ "$(full_lines shop/bytes.1)" = 1 ] && [ "$(full_lines shop/app.1)" = 1 ]; }
    wait_for told
    sleep 1 # three samples more
    told
    same "$(full_lines calm/calm.1)" 0
    has "$(logs shop/bytes.1)" "heroku[bytes.1]: Error (Disk quota exceeded) -> 2"
    [ "$(of shop/bytes.1 .disk)" -ge $((24 << 20)) ]
    [ "$(of shop/bytes.1 .disk_quota)" -lt $((27 << 20)) ]
    [ "$(of calm/calm.1 .disk)" -lt $((1 << 20)) ]
    [ "$(last_event shop bytes.1 disk | jq .disk)" -ge $((24 << 20)) ]
    # Room again, then full again: another episode.
    dyno exec shop/bytes.1 -- rm /tmp/big
    eased() { [ "$(of shop/bytes.1 .disk)" -lt $((24 << 20)) ]; }
    wait_for eased
    sleep 1
    dyno exec shop/bytes.1 -- sh -c 'head -c 60000000 /dev/zero >/tmp/again 2>/dev/null; true'
    twice() { [ "$(full_lines shop/bytes.1)" = 2 ]; }
    wait_for twice
}

@test "inodes: the same (root)" {
    dyno scale shop files=1
    wait_logged shop/files.1 "files in /tmp ended at"
    has "$(logs shop/files.1)" ": No space left on device"
    told() { [ "$(full_lines shop/files.1)" = 1 ]; }
    wait_for told
    [ "$(of shop/files.1 .inodes)" -ge 1000 ]
    [ "$(of shop/files.1 .disk)" -lt $((20 << 20)) ]
    dyno exec calm/calm.1 -- touch /tmp/one-more
}

@test "the agent killed: the dynos keep what they wrote, and nothing is told twice (root)" {
    local pid
    pid=$(of shop/files.1 .pid)
    agent_kill
    agent_again
    wait_up shop/files.1
    is shop/files.1 .pid "$pid"
    counted() { [ "$(of shop/files.1 .inodes)" -ge 1000 ]; }
    wait_for counted
    sleep 1
    same "$(full_lines shop/files.1)" 1
    dyno exec shop/files.1 -- ls /tmp/999
}

@test "a restart begins empty (root)" {
    local pid
    pid=$(of shop/files.1 .pid)
    dyno restart shop/files.1
    wait_for replaced shop/files.1 "$pid"
    twice() { [ "$(logs shop/files.1 | grep -c 'files in /tmp ended')" = 2 ]; }
    wait_for twice
    same "$(logs shop/files.1 | grep -c 'tmp held 0')" 2
}

@test "every dyno full: the journal still writes, and what is promised is there (root)" {
    dyno scale shop bytes=3 app=2 files=1
    all_full() { [ "$(dyno ps --json shop | jq '[.[] | select(.disk >= 25165824)] | length')" = 5 ]; }
    wait_for all_full
    [ "$(free_mb)" -ge 12 ] # a twentieth
    # A dyno more has no place; that is said, the platform's fault, and changes nothing for the others.
    dyno scale shop bytes=9
    # Which of the new ones are those is anybody's guess.
    faults() { grep 'no room on the disk' "$AGENT/state/events.jsonl" | jq -r 'select(.kind == "exit") | .fault'; }
    refused() { [ -n "$(faults)" ]; }
    wait_for refused
    same "$(faults | sort -u)" platform
    dyno scale shop bytes=3
    # A command of some size is taken, and is there after a crash of the agent.
    printf 'BIG=%0100000d\n' 1 >"$STORY/big.env"
    dyno start more --slug "file://$STORY/app.tgz" -m bytes=0,calm=1,app=0,files=0 \
        -e "$STORY/big.env" --no-wait # its dyno has no place, either
    agent_kill
    agent_again
    dyno scale more calm=0
    up calm/calm.1
}

@test "without a quota the same goes through (root)" {
    dyno stop shop
    wait_for counts shop bytes 0
    dyno start free --size free --slug "file://$STORY/app.tgz" -m bytes=1,files=1,app=0,calm=0
    wait_logged free/bytes.1 "bytes in /tmp ended at 50331648: no limit"
    wait_logged free/files.1 "files in /tmp ended at 3000: no limit"
    same "$(of free/bytes.1 .disk_quota)" 0
    same "$(full_lines free/bytes.1)" 0
    dyno stop free
    dyno stop calm
    wait_for all_ended
    no_scratch() { same "$(find "$AGENT/state/scratch" -mindepth 1 -not -path '*/spare[-.]*' | wc -l)" 0; }
    wait_for no_scratch
    # Those kept ready go with the agent.
    agent_kill TERM
    wait_for no_loops
    agent_again
}

@test "what cannot be done stops the start, with the fix (root)" {
    local dir=$STORY/other
    mkdir -p "$dir/run" "$dir/state"
    try() {
        run timeout "$PATIENCE" "$BIN/dynod" -o "agent.runtime_dir=$dir/run" -o "agent.state_dir=$dir/state" \
            -o agent.claims_dir= -o "agent.cgroup_parent=$(cgroup_parent)-other" "$@"
        [ "$status" -ne 0 ] && [ "$status" -ne 124 ] || fail "status $status: $output"
    }
    try -o sandbox.disk_quota=project
    has "$output" "prjquota"
    try -o size.standard-1x.disk=1T
    has "$output" "too small for one dyno"
    try -o sandbox.disk_quota=never
    has "$output" "auto project image none"
}
