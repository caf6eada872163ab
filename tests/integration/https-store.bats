#!/usr/bin/env bats
# https-store.bats - what https:// stores may be told: a bearer token and a client certificate, to the hosts
# they are for and to no other; pre-signed addresses that are refused.

load helpers

setup_file() {
    story_begin
    store_certificates "$STORY/ca"
    (cd "$STORY/ca" && openssl ecparam -name prime256v1 -genkey -noout -out client.key &&
        openssl req -new -key client.key -subj /CN=client -out client.csr &&
        openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out client.pem) 2>/dev/null
    (printf '\037\213\010'; head -c 5000 /dev/urandom) >"$STORY/www/slug"
    cat >"$STORY/www/expired.xml" <<'XML'
<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Request has expired</Message><X-Amz-Expires>60</X-Amz-Expires></Error>
XML
    free_port >"$STORY/port"
    free_port >"$STORY/other-port"
    serve
}
teardown_file() {
    local rc=0
    kill -TERM "$(cat "$STORY/nginx.pid")"
    wait_for gone "$(cat "$STORY/nginx.pid")" || rc=1
    rm -f "$STORY/nginx.pid"
    story_end || rc=1
    return $rc
}

port() { cat "$STORY/port"; }
other_port() { cat "$STORY/other-port"; }
serve() {
    cat >"$STORY/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $STORY/nginx.own-pid;
error_log $STORY/nginx-error.log;
$(is_root && echo "user root;")
events { worker_connections 64; }
http {
  log_format told '\$server_port \$uri \$status [\$http_authorization] \$ssl_client_verify';
  access_log $STORY/requests told;
  client_body_temp_path $STORY/t1; proxy_temp_path $STORY/t2; fastcgi_temp_path $STORY/t3;
  uwsgi_temp_path $STORY/t4; scgi_temp_path $STORY/t5;
  ssl_certificate $STORY/ca/server.pem;
  ssl_certificate_key $STORY/ca/server.key;
  ssl_client_certificate $STORY/ca/ca.pem;
  ssl_verify_client optional;
  root $STORY/www;
  server {
    listen 127.0.0.1:$(port) ssl;
    location = /token/slug { if (\$http_authorization != "Bearer sesame") { return 401; } alias $STORY/www/slug; }
    location = /mutual/slug { if (\$ssl_client_verify != SUCCESS) { return 403; } alias $STORY/www/slug; }
    location = /mutual/near { if (\$ssl_client_verify != SUCCESS) { return 403; } return 302 /mutual/nearer; }
    location = /mutual/nearer { return 307 https://LOCALHOST:$(port)/mutual/slug; }
    location = /mutual/round { return 302 /mutual/round; }
    location = /mutual/plain { return 302 http://localhost:$(port)/mutual/slug; }
    location = /mutual/away { return 302 https://localhost:$(other_port)/slug; }
    location = /away { return 302 https://localhost:$(other_port)/slug; }
    location = /plain { return 302 http://localhost:$(other_port)/slug; }
    location = /expired { error_page 403 /expired.xml; return 403; }
    location = /expired.xml { internal; }
  }
  server { listen 127.0.0.1:$(other_port) ssl; }
}
CONF
    nginx -p "$STORY" -c "$STORY/nginx.conf" -e "$STORY/nginx-error.log" </dev/null >/dev/null 2>&1 3>&- 4>&- &
    echo $! >"$STORY/nginx.pid"
    wait_for curl -sf --cacert "$STORY/ca/ca.pem" -o /dev/null "https://localhost:$(port)/slug"
    : >"$STORY/requests"
}

# fetch PATH HTTPS-SETTINGS: what came is in $STORY/got, what was said in $STORY/said.
fetch() {
    rm -f "$STORY/got"
    jq -n --arg url "https://localhost:$(port)$1" --argjson https "$2" --arg ca "$STORY/ca/ca.pem" \
        '{mirrors: [$url], ca_file: $ca, stores: {https: $https}}' |
        timeout "$PATIENCE" "$BATS_TEST_DIRNAME/download-role" "$BIN/dynod-fetch" "$STORY/got" >"$STORY/said"
}
gives() {
    fetch "$@"
    cmp "$STORY/www/slug" "$STORY/got" || fail "$(cat "$STORY/said")"
}
# refuses STATUS-OR-WORDS PATH SETTINGS
refuses() {
    local words=$1
    shift
    fetch "$@"
    has "$(jq -r .error.text "$STORY/said")" "$words"
    same "$(jq -r .error.fault "$STORY/said")" operator
    hasnt "$(cat "$STORY/said")" sesame
}
token_for() { jq -n --arg hosts "$1" '{hosts: $hosts, token: "sesame"}'; }
certificate() { jq -n --rawfile cert "$STORY/ca/client.pem" --rawfile key "$STORY/ca/client.key" '{hosts: "localhost", cert: $cert, key: $key}'; }

@test "a bearer token goes to the hosts that it is for" {
    gives /token/slug "$(token_for localhost)"
    gives /token/slug "$(token_for "store.example localhost:$(port)")"
    refuses "HTTP status 401" /token/slug "$(token_for store.example)"
    refuses "HTTP status 401" /token/slug "$(token_for "localhost:$(other_port)")"
    refuses "HTTP status 401" /token/slug '{}'
    refuses "https.hosts is missing" /token/slug '{"token": "sesame"}'
}

@test "a redirect to another port takes no token along" {
    : >"$STORY/requests"
    gives /away "$(token_for localhost)"
    has "$(cat "$STORY/requests")" "$(port) /away 302 [Bearer sesame]"
    has "$(cat "$STORY/requests")" "$(other_port) /slug 200 [-]"
}

@test "a redirect from https to http is not followed" {
    : >"$STORY/requests"
    refuses "Protocol \"http\" not supported" /plain "$(token_for localhost)"
    [ ! -s "$STORY/got" ]
    hasnt "$(cat "$STORY/requests")" "$(other_port) "
}

@test "a client certificate, none, and one that is no certificate" {
    gives /mutual/slug "$(certificate)"
    refuses "HTTP status 403" /mutual/slug '{}'
    refuses "HTTP status 403" /mutual/slug "$(certificate | jq '.hosts = "store.example"')"
    refuses "certificate" /mutual/slug "$(certificate | jq '.cert = "garbage"')"
}

@test "a client certificate: redirects are followed on its own host and port" {
    : >"$STORY/requests"
    gives /mutual/near "$(certificate)"
    has "$(cat "$STORY/requests")" "$(port) /mutual/near 302 [-] SUCCESS"
    has "$(cat "$STORY/requests")" "$(port) /mutual/slug 200 [-] SUCCESS"
    refuses "over the limit of 5 redirects" /mutual/round "$(certificate)"
    same "$(grep -c /mutual/round "$STORY/requests")" 6
}

@test "a client certificate is shown to no other host: redirects there are not followed with one" {
    : >"$STORY/requests"
    refuses "redirects to another host or port are not followed where a client certificate is sent" /mutual/away "$(certificate)"
    refuses "redirects to another host or port are not followed" /mutual/plain "$(certificate)"
    hasnt "$(cat "$STORY/requests")" "$(other_port) "
    # The control: without one it goes there.
    gives /mutual/away '{}'
    has "$(cat "$STORY/requests")" "$(other_port) /slug 200"
}

# A name that anybody can have point anywhere: what counts is where the connection would go.
@test "a name that leads to a link-local address is not connected to (root)" {
    only_root "another /etc/hosts takes a mount"
    local at
    for at in 169.254.169.254 ::ffff:169.254.169.254 fd00:ec2::254 fe80::1; do
        printf '127.0.0.1 localhost\n%s evil.example\n' "$at" >"$STORY/hosts"
        jq -n '{mirrors: ["https://evil.example/slug"]}' |
            timeout "$PATIENCE" unshare -m sh -c 'mount --bind "$1" /etc/hosts && exec "$2" "$3" "$4"' - "$STORY/hosts" \
                "$BATS_TEST_DIRNAME/download-role" "$BIN/dynod-fetch" "$STORY/got" >"$STORY/said"
        has "$(jq -r .error.text "$STORY/said")" "leads to a link-local address"
        same "$(jq -r .error.fault "$STORY/said")" operator
    done
}

@test "a pre-signed address that has expired says so, without its signature" {
    refuses "HTTP status 403, AccessDenied: Request has expired" "/expired?X-Amz-Signature=sesame" '{}'
}
