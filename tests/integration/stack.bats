#!/usr/bin/env bats
# stack.bats - stacks: a directory, a squashfs and an EROFS image; good ones, ones that are out to harm,
# and ones that are no good. What dynos share of one, none of them can change for another.

load helpers

SMALL=$STORY/small # the stack's directory

setup_file() {
    story_begin
    make_small
    mkdir "$STORY/app"
    "${CC:-gcc}" -D_GNU_SOURCE -static -O1 -o "$STORY/app/share-write" "$ROOT/tests/integration/share-write.c"
    head -c 20000 /dev/zero | tr '\0' s >"$STORY/app/data"
    printf '%s\n' 'worker: echo ready; exec sleep 3600' >"$STORY/app/Procfile"
    slug_from "$STORY/app" "$STORY/stack.tgz"
}
setup() {
    rm -rf "$AGENT" && mkdir -p "$AGENT"
    echo "$BIN" >"$AGENT/bin"
}
teardown() { [ ! -e "$AGENT/pid" ] || agent_end; }
teardown_file() { rm -f "$AGENT/pid"; story_end; }

# busybox, and traps: what a root file system should not have, and links where the agent makes its own.
make_small() {
    local s=$SMALL tool
    mkdir -p "$s"/{bin,etc/private,opt,usr/bin,usr/local,var/lib}
    cp /bin/busybox "$s/bin/"
    for tool in sh cat ls sha256sum sleep echo id stat find grep sort ln env touch; do
        ln -s busybox "$s/bin/$tool"
    done
    head -c 20000 /dev/zero | tr '\0' o >"$s/opt/data"
    echo one >"$s/etc/issue"
    echo secret >"$s/etc/shadow"
    echo secret >"$s/etc/private/key"
    echo 'echo profile of the stack' >"$s/etc/profile"
    echo evil >"$s/usr/local/hosts"
    ln -s ../usr/local/hosts "$s/etc/hosts"
    ln -s "$STORY/host-secret" "$s/etc/resolv.conf"
    ln -s "$STORY" "$s/app"
    ln -s "$STORY" "$s/tmp"
    ln -s / "$s/proc"
    ln -s /dev "$s/dev"
    ln -s ../../../../../../.. "$s/srv"
    echo "a file" >"$s/sys"
    mkfifo "$s/run" "$s/etc/fifo"
    chmod 0666 "$s/opt/data" # by its mode everybody may write to it
    echo "the host's" >"$STORY/host-secret"
    ! is_root || mknod "$s/opt/zero" c 1 5
    chmod 0711 "$STORY" # so that tester could reach what the links name
}

# image KIND [NAME]: of $SMALL; prints its path
image() {
    local out=$STORY/${2:-small}.$1
    rm -f "$out"
    case $1 in
    squashfs) mksquashfs "$SMALL" "$out" -quiet -no-progress -noappend -all-root >/dev/null || return 1 ;;
    erofs) mkfs.erofs --quiet --all-root "$out" "$SMALL" >/dev/null || return 1 ;;
    esac
    echo "$out"
}

# stack_agent PATH [OPTION...]: an agent with this stack, and its digest if it is an image
stack_agent() {
    local path=$1 o=()
    shift
    [ ! -f "$path" ] || o=(-o "sandbox.stack_digest=$(digest_of "$path")")
    agent_start -o "sandbox.stack=$path" "${o[@]}" "$@"
}
start() { dyno start stack --slug "file://$STORY/stack.tgz" -m worker="${1:-1}" && wait_up stack/worker.1; }
inside() { dyno exec stack/worker.1 -- "$@"; }

# refused TEXT PATH [OPTION...]: the agent does not start, and says TEXT
refused() {
    local text=$1 path=$2
    shift 2
    mkdir -p "$AGENT/run" "$AGENT/state"
    run timeout "$PATIENCE" "$BIN/dynod" -c /dev/null -o "agent.runtime_dir=$AGENT/run" -o "agent.state_dir=$AGENT/state" \
        -o agent.claims_dir= -o "agent.cgroup_parent=$(cgroup_parent)" -o "sandbox.stack=$path" "$@"
    [ "$status" = 1 ] || fail "it started, or worse: $status: $output"
    has "$output" "$text"
}
loops() { cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep -c "$AGENT/state/stack/" || true; }
no_loops() { [ "$(loops)" = 0 ]; }

# What every dyno must see of a stack like this, whatever it is kept in.
looks_right() {
    local out
    same "$(inside /bin/ls /)" "$(printf '%s\n' app bin dev etc home opt proc root run srv sys tmp usr var)"
    same "$(inside /bin/ls -A /run /sys /home /root | tr -d '\n')" "/home:/root:/run:/sys:"
    same "$(inside /bin/ls -A /var)" "$(printf 'lib\ntmp')"
    same "$(inside /bin/ls -A /dev)" \
        "$(printf '%s\n' fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero)"
    same "$(inside /bin/ls -A /etc)" \
        "$(printf '%s\n' group hostname hosts issue passwd profile resolv.conf)"
    same "$(inside /bin/cat /etc/issue)" "${1:-one}"
    has "$(inside /bin/cat /etc/hosts)" localhost
    hasnt "$(inside /bin/cat /etc/resolv.conf)" "the host's"
    same "$(inside /bin/ls /srv/)" "$(inside /bin/ls /)" # ".." ends at the dyno's root
    # Every mount: no set-id, no device but those of /dev; what is of the stack is read-only.
    out=$(inside /bin/cat /proc/self/mountinfo)
    same "$(grep -v nosuid <<<"$out")" ""
    same "$(grep -v nodev <<<"$out" | awk '{ print $5 }' | grep -v '^/dev' | grep -v '^/proc/')" ""
    same "$(awk '$5 ~ "^/(bin|opt|usr|var)" && $6 !~ "^ro,"' <<<"$out")" ""
    # Nothing of the agent's. (Where on its disk a mount is from, the kernel tells: a name only.)
    hasnt "$(awk '{ print $5 }' <<<"$out")" "$AGENT"
    same "$(inside /bin/sh -c "ls $STORY $AGENT/run $AGENT/state /var/lib/dynod /run/dynod 2>/dev/null")" ""
    ! is_root || has "$(inside /bin/cat /opt/zero 2>&1 | head -c 200)" "ermission denied"
}

# The stack's file, which anybody may write to by its mode: nothing of it changes.
cannot_be_changed() {
    local ways before
    before=$(inside /bin/sha256sum /opt/data)
    ways=$(dyno run --app stack -- /app/share-write /opt/data)
    hasnt "$ways" CHANGED
    same "$(grep ' ok' <<<"$ways")" "$(printf 'private-map ok\npipe ok')"
    same "$(inside /bin/sha256sum /opt/data)" "$before"
}

@test "a directory: what is in the way of the agent's own is not followed, and every mount is harmless" {
    stack_agent "$SMALL"
    start
    looks_right
}

@test "a squashfs image is the same (root)" {
    only_root
    stack_agent "$(image squashfs)"
    start
    looks_right
    cannot_be_changed
}

@test "an EROFS image is the same, and it is mounted once for all dynos (root)" {
    only_root
    stack_agent "$(image erofs)"
    start 2
    wait_up stack/worker.2
    looks_right
    cannot_be_changed
    same "$(dyno exec stack/worker.2 -- /bin/stat -c %d /opt/data)" "$(inside /bin/stat -c %d /opt/data)"
    # Where the agent and everybody else are, there is no such mount.
    run ! grep -E 'erofs|squashfs' "/proc/$(agent_pid)/mountinfo"
}

@test "a new image is for new dynos; who runs keeps the old one, which goes with the last of them (root)" {
    only_root
    local image pid options
    image=$(image squashfs)
    stack_agent "$image"
    start
    pid=$(of stack/worker.1 .pid)
    same "$(loops)" 1
    # An agent that comes back finds the device that is there.
    agent_kill KILL
    agent_again
    wait_up stack/worker.1
    same "$(loops)" 1
    grep -c "copying" "$AGENT/dynod.log" | grep -qx 1 # and does not read the image again
    agent_kill TERM
    echo two >"$SMALL/etc/issue"
    image=$(image squashfs)
    echo one >"$SMALL/etc/issue"
    sed -i "s/^sandbox.stack_digest=.*/sandbox.stack_digest=$(digest_of "$image")/" "$AGENT/options"
    agent_again
    wait_up stack/worker.1
    is stack/worker.1 .pid "$pid"
    looks_right one
    same "$(loops)" 2
    same "$(ls "$AGENT/state/stack")" "$(digest_of "$image" | cut -d: -f2)" # the old one has no name any more
    dyno restart stack/worker.1
    wait_for replaced stack/worker.1 "$pid"
    looks_right two
    one_loop() { [ "$(loops)" = 1 ]; }
    wait_for one_loop
    # Whatever becomes of the file that it was made from, dynos keep what was checked.
    head -c 100000 /dev/urandom >"$image"
    looks_right two
    agent_end
    rm "$AGENT/pid"
    wait_for no_loops
}

@test "a new image does not keep an agent from what runs, nor from saying what is wrong (root)" {
    only_root
    local image pid
    image=$(image erofs)
    stack_agent "$image"
    start
    pid=$(of stack/worker.1 .pid)
    agent_kill KILL
    sed -i "s/^sandbox.stack_digest=.*/sandbox.stack_digest=sha256:$(printf '%064d' 7)/" "$AGENT/options"
    run ! agent_again
    has "$output" "adopted 1 dynos"
    has "$output" "is another image than stack_digest says: its digest is $(digest_of "$image")"
    alive "$pid"
    sed -i "s/^sandbox.stack_digest=.*/sandbox.stack_digest=$(digest_of "$image")/" "$AGENT/options"
    # Its copy has been tampered with by root: it is not believed.
    chmod 0600 "$AGENT"/state/stack/* && printf x | dd of="$(echo "$AGENT"/state/stack/*)" conv=notrunc status=none
    chmod 0400 "$AGENT"/state/stack/*
    agent_again
    wait_up stack/worker.1
    is stack/worker.1 .pid "$pid"
    grep -q "the copy in the state directory is made anew" "$AGENT/dynod.log"
    same "$(digest_of "$AGENT"/state/stack/*)" "$(digest_of "$image")"
}

@test "what one dyno does to what it shares no other sees" {
    local ways before after
    stack_agent "$SMALL"
    start
    before=$(inside /bin/sha256sum /opt/data /app/data)
    # The control: on a file of its own nearly every way succeeds, and the probe sees that it did.
    ways=$(dyno run --app stack -- /bin/sh -c 'cat /opt/data >/tmp/mine && /app/share-write /tmp/mine')
    for way in write map splice reopen punch open-truncate unlink; do
        grep -qx "$way ok CHANGED" <<<"$ways" || fail "$way: $ways"
    done
    cannot_be_changed
    # That is the mount's doing: the same file, without it.
    cp "$SMALL/opt/data" "$STORY/loose" && chmod 0666 "$STORY/loose"
    ways=$(only_probe "$STORY/loose")
    grep -qx "write ok CHANGED" <<<"$ways"
    # The slug's: the dyno changes a copy of its own.
    ways=$(dyno run --app stack -- /app/share-write /app/data)
    grep -qx "write ok CHANGED" <<<"$ways"
    after=$(inside /bin/sha256sum /opt/data /app/data)
    same "$after" "$before"
    has "$(dyno run --app stack -- /bin/sha256sum /opt/data /app/data)" "$before"
}
only_probe() {
    if is_root; then
        cp "$STORY/app/share-write" "$STORY/share-write"
        setpriv --reuid 12345 --regid 12345 --clear-groups "$STORY/share-write" "$1"
    else
        "$STORY/app/share-write" "$1"
    fi
}

@test "directories that are no good are refused, with the fix" {
    local bad=$STORY/bad
    mkdir -p "$bad/shell-less/usr" "$bad/open" "$bad/holds/agent"
    refused "open the stack $bad/none: No such file or directory" "$bad/none"
    touch "$bad/file"
    refused "neither a directory nor an image (.squashfs, .erofs)" "$bad/file"
    cp -r "$SMALL/bin" "$bad/open/" && chmod 0777 "$bad/open"
    refused "others may write to the stack $bad/open: chmod go-w it" "$bad/open"
    refused "has no /bin/sh that a dyno could execute" "$bad/shell-less"
    mkdir "$bad/shell-less/bin" && echo x >"$bad/shell-less/bin/sh" && chmod 0700 "$bad/shell-less/bin/sh"
    ! is_root || refused "has no /bin/sh that a dyno could execute" "$bad/shell-less"
    ln -sf /proc/1/root/bin/sh "$bad/shell-less/bin/sh" # the host's
    refused "has no /bin/sh that a dyno could execute" "$bad/shell-less"
    refused "every dyno would see $AGENT/run" "$STORY"
    refused "is for an image" "$SMALL" -o sandbox.stack_digest=sha256:"$(printf '%064d' 1)"
    if is_root; then
        cp -r "$SMALL/bin" "$bad/holds/" && chown 12345 "$bad/holds"
        refused "belongs to uid 12345: chown root it" "$bad/holds"
    fi
}

@test "no image without its digest, and no other one" {
    local image digest
    is_root && image=$(image squashfs bad) || { image=$STORY/bad.squashfs && echo x >"$image"; }
    digest=$(digest_of "$image")
    refused "needs stack_digest = sha256:" "$image"
    refused "stack_digest is not sha256: and 64" "$image" -o sandbox.stack_digest=sha256:12
    if ! is_root; then
        refused "which only root can mount" "$image" -o sandbox.stack_digest="$digest"
        return
    fi
    refused "its digest is $digest" "$image" -o sandbox.stack_digest=sha256:"$(printf '%064d' 1)"
    same "$(ls "$AGENT/state/stack")" "" # what was refused is not kept
    chmod 0666 "$image"
    refused "can be written to by others: chmod go-w it" "$image" -o sandbox.stack_digest="$digest"
    chmod 0644 "$image" && chown 12345 "$image"
    refused "does not belong to root: chown root it" "$image" -o sandbox.stack_digest="$digest"
    chown 0 "$image"
    refused "open the stack $STORY/none.erofs" "$STORY/none.erofs" -o sandbox.stack_digest="$digest"
    mkdir -p "$STORY/dir.erofs" && mkfifo "$STORY/fifo.erofs"
    refused "is no file" "$STORY/dir.erofs" -o sandbox.stack_digest="$digest"
    refused "is no file" "$STORY/fifo.erofs" -o sandbox.stack_digest="$digest"
    # What has the right digest, and is garbage all the same.
    truncate -s 9000 "$image"
    refused "is no squashfs" "$image" -o sandbox.stack_digest="$(digest_of "$image")"
    head -c 100000 /dev/urandom >"$STORY/noise.erofs"
    refused "is no erofs" "$STORY/noise.erofs" -o sandbox.stack_digest="$(digest_of "$STORY/noise.erofs")"
    : >"$STORY/empty.squashfs"
    refused "is no squashfs" "$STORY/empty.squashfs" -o sandbox.stack_digest="$(digest_of "$STORY/empty.squashfs")"
    wait_for no_loops
}

@test "what make stack built: bash, certificates, time zones, and a real app (root)" {
    only_root
    local built=${DYNOD_STACK:-$BUILD/stack}/stack.erofs
    [ -e "$built" ] || skip "make stack was not run"
    (cd "$(dirname "$built")" && sha256sum -c --quiet stack.erofs.sha256)
    stack_agent "$built"
    dyno start stack --slug "file://$(slug_app express)" -m web=1
    wait_up stack/web.1
    answers stack/web.1
    same "$(dyno exec stack/web.1 -- bash --login -c 'echo $BASH_VERSION' | cut -d. -f1)" 5
    dyno exec stack/web.1 -- test -s /etc/ssl/certs/ca-certificates.crt
    same "$(dyno exec stack/web.1 -- env TZ=Asia/Tokyo date +%Z)" JST
    same "$(dyno exec stack/web.1 -- env LC_ALL=C.UTF-8 locale charmap)" UTF-8
    same "$(dyno exec stack/web.1 -- find /bin /usr /opt -xdev -perm /6000)" ""
    dyno exec stack/web.1 -- sh -c 'curl --version >/dev/null && openssl version && ! test -e /etc/machine-id'
}
