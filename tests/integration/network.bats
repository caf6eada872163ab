#!/usr/bin/env bats
# network.bats - the networks of dynos: what reaches them, what they reach, what they must not (battery
# 42, 46 to 48), each guard with its control: without its rules the same probe gets through.
#
# Three network namespaces: "host", where the agent runs; "outside", a machine behind the host's
# uplink, with all metadata addresses on it; the dynos'. The machine's own network is not touched.

load helpers

METADATA="169.254.169.254 169.254.170.2 fd00:ec2::254"

setup_file() {
    is_root || return 0
    story_begin
    for side in host outside; do
        setsid unshare -n sleep 100000 </dev/null >/dev/null 2>&1 3>&- 4>&- &
        echo $! >"$STORY/$side.pid"
    done
    wait_for is_apart host
    wait_for is_apart outside
    wire
    # The agent, and what it starts, lives in "host".
    mv "$BIN/dynod" "$BIN/dynod.real"
    printf '#!/bin/sh\nexec nsenter --net=/proc/%s/ns/net %s "$@"\n' "$(cat "$STORY/host.pid")" \
        "$BIN/dynod.real" >"$BIN/dynod"
    chmod 755 "$BIN/dynod"
    agent_start -o agent.program_dir="$BIN" -o network.nameservers="192.0.2.2 2001:db8::2" \
        -o network.egress_deny="203.0.113.0/24 2001:db8:bad::/48" -o network.egress_allow=203.0.113.9 \
        -o network.connections_max=64 -o size.slow.bandwidth=128k -o dyno.boot_timeout=10s
    slug_from "$APPS/net" "$STORY/net.tgz"
    dyno start net --slug "file://$STORY/net.tgz" -m web=2
    wait_up net/web.1 net/web.2
}

setup() {
    [[ $BATS_TEST_DESCRIPTION != "(root)"* ]] || only_root
}

teardown_file() {
    local bad=0
    is_root || return 0
    story_end || bad=1
    if [ "$(in_host ip -o link | grep -c dyno)" != 0 ] || [ -n "$(in_host nft list tables)" ] ||
        [ -n "$(in_host ip route show table all proto 213)" ]; then
        echo "left in the host's network:"
        in_host ip -o link
        in_host nft list tables
        in_host ip route show table all proto 213
        bad=1
    fi
    xargs kill <"$STORY/servers"
    kill "$(cat "$STORY/host.pid")" "$(cat "$STORY/outside.pid")"
    return $bad
}

is_apart() { [ "$(readlink "/proc/$(cat "$STORY/$1.pid")/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
in_host() { nsenter --net="/proc/$(cat "$STORY/host.pid")/ns/net" "$@"; }
in_outside() { nsenter --net="/proc/$(cat "$STORY/outside.pid")/ns/net" "$@"; }
# in_dyno DYNO COMMAND...: as root, in its network only
in_dyno() {
    local pid
    pid=$(of "$1" .pid)
    shift
    nsenter --net="/proc/$pid/ns/net" "$@"
}
net() { python3 "$APPS/net/net.py" "$@"; }
# A server in a namespace: SIDE ARG... (no function of a function: $! is to be the server itself)
server() {
    nsenter --net="/proc/$(cat "$STORY/$1.pid")/ns/net" python3 "$APPS/net/net.py" "${@:2}" \
        </dev/null >/dev/null 2>&1 3>&- 4>&- &
    echo $! >>"$STORY/servers"
}

wire() {
    local address
    in_host ip link set lo up
    in_outside ip link set lo up
    in_host ip link add up0 type veth peer name up0 netns "$(cat "$STORY/outside.pid")"
    in_host ip addr add 192.0.2.1/24 dev up0
    in_host ip addr add 2001:db8::1/64 dev up0 nodad
    in_outside ip addr add 192.0.2.2/24 dev up0
    in_outside ip addr add 2001:db8::2/64 dev up0 nodad
    in_host ip link set up0 up
    in_outside ip link set up0 up
    in_host ip route add default via 192.0.2.2
    in_host ip -6 route add default via 2001:db8::2
    for address in $METADATA 203.0.113.8 203.0.113.9 2001:db8:bad::1 198.51.100.1; do
        in_outside ip addr add "$address" dev lo
    done
    server outside canary "$STORY/canary"
    server host host 9000
    : >"$STORY/canary"
    wait_for host_answers
    wait_for canary_sings 192.0.2.2
    : >"$STORY/canary"
}
host_answers() { in_host python3 "$APPS/net/net.py" tcp 127.0.0.1 9000 | grep -q host; }
canary_sings() { in_host python3 "$APPS/net/net.py" tcp "$1" 80 | grep -q canary; }

# As the helpers', and while the agent stands still what it last said.
of() { { cat "$STORY/ps" 2>/dev/null || dyno ps --json; } | jq -r --arg d "$1" ".[] | select(.app + \"/\" + .dyno == \$d) | $2"; }
# probe DYNO ARG...: net.py inside the dyno; in its network only, while the agent stands still
probe() {
    if [ -e "$STORY/ps" ]; then
        in_dyno "$1" python3 "$APPS/net/net.py" "${@:2}"
    else
        dyno exec "$1" -- python3 net.py "${@:2}"
    fi
}
reaches() { has "$(probe "$1" tcp "$2" "$3")" "$4"; }
refused() {
    local said
    said=$(probe "$1" tcp "$2" "$3")
    case $said in
    "Connection refused" | timeout | "Network is unreachable" | "No route to host" | "Permission denied") ;;
    *) fail "$1 reaches $2 port $3: $said" ;;
    esac
}
address_of() { of "$1" .address; }
interface_of() { in_host ip -o route get "$(address_of "$1")" | sed -E 's/.* dev ([^ ]+).*/\1/'; }
table() { in_host nft list tables | awk '{ print $3 }'; }
# without CHAIN COMMENT...: takes the rules with these comments out of CHAIN. The agent, which would put
# them back at once, stands still meanwhile.
without() {
    local chain=$1 comment handle
    shift
    if [ ! -e "$STORY/ps" ]; then
        in_host nft -s list ruleset >"$STORY/rules"
        dyno ps --json >"$STORY/ps.new"
        kill -STOP "$(agent_pid)"
        mv "$STORY/ps.new" "$STORY/ps"
    fi
    for comment; do
        handle=$(in_host nft -a list chain inet "$(table)" "$chain" |
            sed -nE "s/.*comment \"$comment\".*# handle ([0-9]+)\$/\\1/p" | head -1)
        [ -n "$handle" ] || fail "no rule '$comment' in $chain"
        in_host nft delete rule inet "$(table)" "$chain" handle "$handle"
    done
}
# As they were before: the agent sees it when it goes on.
restored() {
    rm "$STORY/ps"
    kill -CONT "$(agent_pid)"
    wait_for whole
}
whole() { [ "$(in_host nft -s list ruleset | grep -o 'comment .*')" = "$(grep -o 'comment .*' "$STORY/rules")" ]; }

@test "(root) the outside, and the host itself, reach a web dyno through the host's port" {
    local port
    port=$(port_of net/web.1)
    has "$(in_outside python3 "$APPS/net/net.py" tcp 192.0.2.1 "$port")" "web.1 from 192.0.2.2"
    has "$(in_outside python3 "$APPS/net/net.py" tcp 2001:db8::1 "$port")" "web.1 from 2001:db8::2"
    has "$(in_host python3 "$APPS/net/net.py" tcp 127.0.0.1 "$port")" "web.1 from"
    has "$(in_host python3 "$APPS/net/net.py" tcp localhost "$port")" "web.1 from"
    has "$(in_host python3 "$APPS/net/net.py" tcp 192.0.2.1 "$(port_of net/web.2)")" "web.2 from"
}

@test "(root) nothing but the port is reached, nor is a dyno's own address from outside" {
    local address
    address=$(address_of net/web.1)
    in_outside ip route replace "$address" via 192.0.2.1
    same "$(in_outside python3 "$APPS/net/net.py" tcp "$address" "$(port_of net/web.1)")" "Connection refused"
    without entering entering
    has "$(in_outside python3 "$APPS/net/net.py" tcp "$address" "$(port_of net/web.1)")" "web.1 from"
    restored
}

@test "(root) a dyno reaches the outside as the host" {
    reaches net/web.1 192.0.2.2 80 "canary from 192.0.2.1"
    reaches net/web.1 2001:db8::2 80 "canary from 2001:db8::1"
}

@test "(root) its resolv.conf names servers that it reaches, and they hear it" {
    has "$(dyno exec net/web.1 -- cat /etc/resolv.conf)" "nameserver 192.0.2.2"
    has "$(dyno exec net/web.1 -- cat /etc/resolv.conf)" "nameserver 2001:db8::2"
    : >"$STORY/canary"
    probe net/web.1 udp 192.0.2.2 53 name
    wait_for grep -qF "udp name from 192.0.2.1" "$STORY/canary"
}

@test "(root) battery 46: no packet reaches a metadata address; without the rules it does" {
    local address
    : >"$STORY/canary"
    for address in $METADATA; do
        refused net/web.1 "$address" 80
        probe net/web.1 udp "$address" 80 secret
        probe net/web.1 udp "$address" 53 secret
    done
    same "$(cat "$STORY/canary")" ""
    without leaving metadata never never6
    for address in $METADATA; do
        reaches net/web.1 "$address" 80 "canary from"
        wait_for grep -qF "tcp $address from" "$STORY/canary"
    done
    # The next agent puts them all in place again.
    rm "$STORY/ps"
    agent_kill KILL
    agent_again
    wait_up net/web.1 net/web.2
    for address in $METADATA; do
        refused net/web.1 "$address" 80
    done
}

@test "(root) rules that somebody takes away are put back at once, with the ports, and told of" {
    local name rules attack port
    name=$(table)
    rules=$(in_host nft -s list table inet "$name" | grep -v elements)
    port=$(port_of net/web.1)
    has "$(dyno doctor)" "nftables table inet $name, in place"
    for attack in "flush ruleset" "delete table inet $name" "flush table inet $name" \
        "flush chain inet $name leaving" "flush map inet $name ports4" \
        "add table inet $name { flags dormant; }" "insert rule inet $name leaving accept"; do
        in_host nft "$attack"
        wait_for are_rules "$rules" || fail "after '$attack'"
        refused net/web.1 169.254.169.254 80
        has "$(in_outside python3 "$APPS/net/net.py" tcp 192.0.2.1 "$port")" "web.1 from"
    done
    has "$(dyno doctor)" "put back 7 times"
    has "$(dyno events --json | jq -r 'select(.kind == "network") | .rules + ": " + .text')" \
        "restored: somebody changed the rules of the nftables table inet $name"
    # What is done beside it, or by the agent itself, is no such change.
    in_host nft "add table inet other; add chain inet other c; delete table inet other"
    dyno restart net/web.2
    wait_up net/web.2
    has "$(dyno doctor)" "put back 7 times"
}
are_rules() { [ "$(in_host nft -s list table inet "$(table)" 2>/dev/null | grep -v elements)" = "$1" ]; }

@test "(root) battery 47: the host's services are refused; without the rule they answer" {
    local address
    has "$(in_host python3 "$APPS/net/net.py" tcp 127.0.0.1 9000)" host
    for address in 127.0.0.1 ::1 192.0.2.1 2001:db8::1; do
        refused net/web.1 "$address" 9000
    done
    without leaving host
    for address in 192.0.2.1 2001:db8::1; do
        reaches net/web.1 "$address" 9000 host
    done
    restored
}

@test "(root) the host's loopback is out of reach of forged packets; without the guard it is not" {
    # Root in the dyno's network: what a dyno could do after a kernel bug gave it that network.
    local got="$STORY/loopback"
    server host canary "$got"
    wait_for has_canary
    in_dyno net/web.1 ip route replace table 7 127.0.0.0/8 via "$(gateway)" dev eth0 onlink
    in_dyno net/web.1 ip rule add pref 0 to 127.0.0.0/8 lookup 7
    in_dyno net/web.1 sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet'
    in_dyno net/web.1 ip rule add pref 100 lookup local
    in_dyno net/web.1 ip rule del pref 0 lookup local
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge "$(address_of net/web.1)" 127.0.0.1 guarded
    without spoofing loopback
    without leaving host
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge "$(address_of net/web.1)" 127.0.0.1 open
    wait_for grep -q "udp open" "$got"
    run ! grep guarded "$got" # it was sent before
    restored
    dyno restart net/web.1
    wait_up net/web.1
}
has_canary() { in_host python3 "$APPS/net/net.py" tcp 127.0.0.1 80 | grep -q canary; }
gateway() { network_range | sed 's,\.0/20,.1,'; }

@test "(root) battery 47: dynos do not reach each other, by any address; without the rules they do" {
    local other port
    other=$(address_of net/web.2)
    port=$(port_of net/web.2)
    refused net/web.1 "$other" "$port"
    refused net/web.1 192.0.2.1 "$port"
    refused net/web.1 2001:db8::1 "$port"
    without leaving dynos dynos6
    refused net/web.1 "$other" "$port" # the second wall
    without forwarding "other agents"
    refused net/web.1 "$other" "$port" # the third
    without entering entering
    reaches net/web.1 "$other" "$port" "web.2 from"
    restored
}

@test "(root) battery 48: forged addresses are dropped; without the rule they arrive" {
    local other
    other=$(address_of net/web.2)
    : >"$STORY/canary"
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge "$other" 192.0.2.2 "as web.2"
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge 198.51.100.77 192.0.2.2 "as stranger"
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge fd64::99 2001:db8::2 "as six"
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge "$(address_of net/web.1)" 192.0.2.2 "as itself"
    wait_for grep -q "udp as itself" "$STORY/canary"
    run ! grep -vF "as itself" "$STORY/canary"
    without spoofing spoofing
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge "$other" 192.0.2.2 "as web.2"
    in_dyno net/web.1 python3 "$APPS/net/net.py" forge fd64::99 2001:db8::2 "as six"
    wait_for grep -q "udp as web.2" "$STORY/canary"
    wait_for grep -q "udp as six" "$STORY/canary"
    restored
}

@test "(root) battery 48: ARP is not heard; with it switched on it is" {
    local link
    link=$(interface_of net/web.1)
    in_dyno net/web.1 python3 "$APPS/net/net.py" arp "$(address_of net/web.1)" 192.0.2.1
    sleep 0.2
    same "$(in_host ip neigh show dev "$link")" ""
    in_host ip link set "$link" arp on
    in_dyno net/web.1 python3 "$APPS/net/net.py" arp "$(address_of net/web.1)" 192.0.2.1
    wait_for learned "$link"
    in_host ip link set "$link" arp off
}
learned() { in_host ip neigh show dev "$1" | grep -q lladdr; }

@test "(root) networks of egress_deny are refused, those of egress_allow in them not" {
    refused net/web.1 203.0.113.8 80
    refused net/web.1 2001:db8:bad::1 80
    reaches net/web.1 203.0.113.9 80 canary
    without leaving egress egress6
    reaches net/web.1 203.0.113.8 80 canary
    reaches net/web.1 2001:db8:bad::1 80 canary
    restored
}

@test "(root) battery 42: one dyno's connections are limited, the other's are its own" {
    local got
    got=$(probe net/web.1 many 192.0.2.2 80 100)
    ((got >= 60 && got <= 64)) || fail "$got connections, of 64"
    reaches net/web.2 192.0.2.2 80 canary
    without count connections
    same "$(probe net/web.2 many 192.0.2.2 80 100)" 100
    restored
}

@test "(root) connections, both ways, outlive the agent" {
    local port
    port=$(port_of net/web.1)
    cat >"$STORY/hold.py" <<'PY'
import socket, sys, time, os
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
f = s.makefile("rw")
f.readline()
open(sys.argv[3], "w").close()
while not os.path.exists(sys.argv[4]):
    time.sleep(0.05)
f.write("still there\n"); f.flush()
s.settimeout(20)
print(f.readline().strip())
PY
    in_outside python3 "$STORY/hold.py" 192.0.2.1 "$port" "$STORY/in.up" "$STORY/go" >"$STORY/in" &
    local first=$!
    in_dyno net/web.1 python3 "$STORY/hold.py" 192.0.2.2 80 "$STORY/out.up" "$STORY/go" >"$STORY/out" &
    local second=$!
    wait_for test -e "$STORY/in.up"
    wait_for test -e "$STORY/out.up"
    agent_kill KILL
    has "$(in_outside python3 "$APPS/net/net.py" tcp 192.0.2.1 "$port")" web.1 # and new ones without it
    agent_again
    touch "$STORY/go"
    wait "$first"
    wait "$second"
    same "$(cat "$STORY/in")" "still there"
    same "$(cat "$STORY/out")" "still there"
}

@test "(root) bandwidth: a size's limit holds both ways" {
    local ms
    dyno start slow --slug "file://$STORY/net.tgz" -m web=1 --size slow
    wait_up slow/web.1
    ms=$(in_outside python3 "$APPS/net/net.py" pull 192.0.2.1 "$(port_of slow/web.1)" 400000)
    ((ms > 1500)) || fail "400 kB at 128 kB/s took $ms ms"
    # Ten times as much, which would take half a minute.
    ms=$(in_outside python3 "$APPS/net/net.py" pull 192.0.2.1 "$(port_of net/web.1)" 4000000)
    ((ms < 25000)) || fail "without a limit it took $ms ms"
    # A resize is for the one that runs.
    curl -sS --unix-socket "$AGENT/run/api.sock" -d '{"size": "standard-1x"}' http://dynod/v1/apps/slow/resize >"$STORY/resized"
    same "$(jq -c '[.resized, .at_next_start]' "$STORY/resized")" '[["web.1"],[]]'
    ms=$(in_outside python3 "$APPS/net/net.py" pull 192.0.2.1 "$(port_of slow/web.1)" 4000000)
    ((ms < 25000)) || fail "after the resize it took $ms ms"
    dyno stop slow
}

@test "(root) a dyno that ends takes its interface and its port along" {
    local link port
    link=$(interface_of net/web.2)
    port=$(port_of net/web.2)
    dyno scale net web=1
    wait_for no_link "$link"
    same "$(in_outside python3 "$APPS/net/net.py" tcp 192.0.2.1 "$port")" "Connection refused"
    dyno scale net web=2
    wait_up net/web.2
}
no_link() { ! in_host ip link show "$1"; }

@test "(root) an interface that no dyno is behind is swept by the next agent" {
    local link group
    link=$(interface_of net/web.1)
    group=$(in_host ip -o link show "$link" | sed -E 's/.* group ([^ ]+) .*/\1/')
    agent_kill KILL
    in_host ip link add "${link%-*}-4000" group "$group" type veth peer name left0
    agent_again
    wait_for no_link "${link%-*}-4000"
    in_host ip link show "$link"
    wait_up net/web.1
    has "$(in_host python3 "$APPS/net/net.py" tcp 127.0.0.1 "$(port_of net/web.1)")" web.1
}

# refuses_to_start TEXT [OPTION...]: another agent does not start, and says TEXT
refuses_to_start() {
    local text=$1 out
    shift
    mkdir -p "$STORY/second/run" "$STORY/second/state"
    out=$(timeout "$PATIENCE" "$BIN/dynod" -c /dev/null -o agent.runtime_dir="$STORY/second/run" \
        -o agent.state_dir="$STORY/second/state" -o agent.program_dir="$BIN" \
        -o agent.claims_dir= -o agent.cgroup_parent="$(cgroup_parent)-2" "$@" 2>&1) && fail "it started"
    has "$out" "$text"
}

@test "(root) bad input: each stops the start with the thing and the fix" {
    in_host ip addr add 10.77.0.1/24 dev up0
    in_host ip route add 10.78.0.0/16 via 192.0.2.2
    refuses_to_start "ipv4_range 10.77.0.0/16 is in use on this host: it has the" -o network.ipv4_range=10.77.0.0/16
    refuses_to_start "10.78.0.0/16 on up0; choose another one" -o network.ipv4_range=10.78.0.0/20
    refuses_to_start "ipv6_range" -o network.ipv4_range=10.79.0.0/16 -o network.ipv6_range=2001:db8::/64
    # that of the agent which runs
    refuses_to_start "is in use on this host" -o network.ipv4_range="$(network_range)"
    refuses_to_start "room for 253 dynos, fewer than dynos_max = 1000" -o network.ipv4_range=10.79.0.0/24
    refuses_to_start "is not an IPv4 network of /8 to /29" -o network.ipv4_range=10.79.0.0/30
    refuses_to_start "is not a network" -o network.ipv4_range=10.79.0.1/16
    refuses_to_start "is not a list of networks" -o network.egress_deny=everything
    refuses_to_start "nameservers: 127.0.0.53/32" -o network.ipv4_range=10.79.0.0/16 -o network.nameservers=127.0.0.53
    refuses_to_start "auto" -o sandbox.network=bridge
    in_host ip addr del 10.77.0.1/24 dev up0
    in_host ip route del 10.78.0.0/16
}

@test "(root) bad input: an interface's name that is taken" {
    local link
    link=$(interface_of net/web.1)
    agent_kill KILL
    in_host ip link add "${link%-*}-4001" type veth peer name left1
    run timeout "$PATIENCE" bash -c 'mapfile -t o <"$0/options"; "$(cat "$0/bin")/dynod" -c "$0/dynod.conf" "${o[@]}"' "$AGENT"
    same "$status" 1
    has "$output" "an interface that is not this agent's is called ${link%-*}-4001"
    in_host ip link del "${link%-*}-4001"
    agent_again
    wait_up net/web.1
}

@test "(root) bad input: a machine whose forwarding cannot be switched on" {
    in_host sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'
    mv "$BIN/dynod" "$BIN/dynod.plain"
    printf '#!/bin/sh\nexec nsenter --net=/proc/%s/ns/net unshare -m sh -c '\''mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$0" "$@"'\'' %s "$@"\n' \
        "$(cat "$STORY/host.pid")" "$BIN/dynod.real" >"$BIN/dynod"
    chmod 755 "$BIN/dynod"
    refuses_to_start "set /proc/sys/net/ipv4/ip_forward to 1" -o network.ipv4_range=10.79.0.0/16
    mv "$BIN/dynod.plain" "$BIN/dynod"
    in_host sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

@test "without root a private network is refused, and says why" {
    ! is_root || skip "root has one"
    mkdir -p "$BATS_TEST_TMPDIR/u"
    run timeout "$PATIENCE" "$BUILD/bin/dynod" --local "$BATS_TEST_TMPDIR/u" -o sandbox.network=private
    same "$status" 1
    has "$output" "network = private takes root"
}
