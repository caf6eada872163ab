#!/usr/bin/env bats
# swift.bats - slugs in a real OpenStack Swift, by its own interface and by its S3 one: what is there comes,
# whole and in parts, and what does not come says why and whose fault it is.

load helpers
load imds
load swift

# Over the size from which a download has several connections.
LARGE=21000000
SEGMENT=8000000

setup_file() {
    story_begin
    swift_start
    swift_front_start
    swift_login
    # A gzip's first bytes: what it holds is nobody's business here.
    (printf '\037\213\010'; head -c $LARGE /dev/urandom) >"$STORY/large"
    (printf '\037\213\010'; head -c 5000 /dev/urandom) >"$STORY/small"
    swift_curl PUT /slugs
    swift_curl PUT /slugs/small -T "$STORY/small"
    swift_curl PUT /slugs/large -T "$STORY/large"
    swift_segments
}
swift_segments() {
    local s list=
    (cd "$STORY" && split -b $SEGMENT large segment.)
    for s in "$STORY"/segment.*; do
        swift_curl PUT "/slugs/parts/$(basename "$s")" -T "$s"
        list="$list${list:+,}{\"path\": \"slugs/parts/$(basename "$s")\"}"
        rm "$s"
    done
    # More parts than two connections have at first.
    cat "$STORY/large" <(head -c $SEGMENT "$STORY/large") <(head -c $SEGMENT "$STORY/large") >"$STORY/long"
    s="{\"path\": \"slugs/parts/segment.aa\"}"
    swift_curl PUT '/slugs/long?multipart-manifest=put' --data "[$list,$s,$s]"
    swift_curl PUT /slugs/dynamic -H 'X-Object-Manifest: slugs/parts/' --data ''
    swift_curl PUT '/slugs/static?multipart-manifest=put' --data "[$list]"
}
teardown_file() {
    local rc=0
    swift_stop || rc=1
    [ ! -e "$IMDS/pid" ] || imds_stop || rc=1
    story_end || rc=1
    return $rc
}

# swift_settings [MEMBER=VALUE...]: "stores" with Swift's; an empty value takes a member away.
swift_settings() { settings swift auth_url="$(swift_auth)" user="$SWIFT_USER" key="$SWIFT_KEY" "$@"; }
s3_settings() { settings s3 endpoint="$(swift_url)" access_key="$SWIFT_USER" secret_key="$SWIFT_KEY" "$@"; }
settings() {
    local store=$1
    shift
    printf '%s\n' "$@" | jq -Rn --arg store "$store" \
        '[inputs | capture("^(?<key>[^=]*)=(?<value>.*)")] | from_entries | with_entries(select(.value != "")) | {($store): .}'
}

# fetch ADDRESS SETTINGS [REQUEST]: what came is in $STORY/got, what was said in $STORY/said.
fetch() {
    rm -f "$STORY/got"
    jq -n --arg url "$1" --argjson stores "$2" --argjson more "${3:-{\}}" \
        '{mirrors: [$url], stores: $stores} + $more' |
        timeout "$PATIENCE" "$BATS_TEST_DIRNAME/download-role" "$BIN/dynod-fetch" "$STORY/got" >"$STORY/said"
}
# gives FILE ADDRESS SETTINGS [REQUEST]
gives() {
    local file=$1
    shift
    fetch "$@"
    cmp "$STORY/$file" "$STORY/got" || fail "$* gave something else: $(cat "$STORY/said")"
    same "$(jq -r .ok.digest "$STORY/said")" "$(sha256sum "$STORY/$file" | cut -d' ' -f1)"
}
# refuses FAULT WORDS ADDRESS SETTINGS [REQUEST]: and never a secret.
refuses() {
    local fault=$1 words=$2
    shift 2
    fetch "$@"
    has "$(jq -r .error.text "$STORY/said")" "$words"
    same "$(jq -r .error.fault "$STORY/said")" "$fault"
    hasnt "$(cat "$STORY/said")" testing
    [ ! -s "$STORY/got" ] || fail "$* gave bytes"
}

@test "swift://: a small object and one in parts, with a token by v1 auth" {
    gives small swift://slugs/small "$(swift_settings)"
    gives large swift://slugs/large "$(swift_settings)"
}

@test "swift://: segmented objects come as one, static and dynamic ones" {
    gives large swift://slugs/static "$(swift_settings)"
    gives large swift://slugs/dynamic "$(swift_settings)"
}

@test "parts of an object carry its tag, and a token is asked for once" {
    local slow
    slow=http://127.0.0.1:$(swift_port slow)
    : >"$SWIFT/requests"
    gives large swift://slugs/static "$(swift_settings auth_url="$slow/auth/v1.0")"
    same "$(grep -c 'GET /auth/v1.0 200' "$SWIFT/requests")" 1
    (($(grep -c 'GET /v1/AUTH_test/slugs/static 206 bytes=' "$SWIFT/requests") > 1)) || fail "$(cat "$SWIFT/requests")"
}

@test "a token that ends in the middle is renewed once, and the parts go on" {
    local slow
    slow=http://127.0.0.1:$(swift_port slow)
    : >"$SWIFT/requests"
    # When its first bytes are here: the parts that are asked for next find that out.
    rm -f "$STORY/got"
    (wait_for test -s "$STORY/got" && swift_forget_tokens) 3>&- &
    gives long swift://slugs/long "$(swift_settings auth_url="$slow/auth/v1.0")" '{"limits": {"connections": 2}}'
    wait $!
    same "$(grep -c 'GET /auth/v1.0 200' "$SWIFT/requests")" 2
    (($(grep -c 'GET /v1/AUTH_test/slugs/long 401' "$SWIFT/requests") > 0)) || fail "$(cat "$SWIFT/requests")"
}

@test "swift://: a wrong key, a user that may not, a container and an object that are not there" {
    refuses operator "the user or the key is wrong" swift://slugs/small "$(swift_settings key=other)"
    refuses operator "the user or the key is wrong" swift://slugs/small "$(swift_settings user=test:nobody)"
    refuses operator "this user may not read the container" swift://slugs/small \
        "$(swift_settings user="$SWIFT_GUEST" key="$SWIFT_GUEST_KEY")"
    refuses operator "no such object in the container" swift://slugs/other "$(swift_settings)"
    refuses operator "the store has no container other" swift://other/small "$(swift_settings)"
    refuses operator "swift.auth_url is missing" swift://slugs/small '{}'
    refuses operator "HTTP status 412" swift://slugs/small "$(swift_settings auth_url="$(swift_url)/v1.0")"
    refuses platform 127.0.0.1 swift://slugs/small "$(swift_settings auth_url="http://127.0.0.1:$(free_port)/v1.0")" \
        '{"limits": {"total_ms": 10000}}'
}

@test "a token that came by TLS goes to no store without, unless the settings name it" {
    local ca
    ca=$(jq -n --arg ca "$STORY/ca/ca.pem" '{ca_file: $ca}')
    # This proxy does not know that there is TLS before it.
    refuses operator "plain http://" swift://slugs/small \
        "$(swift_settings auth_url="https://localhost:$(swift_port tls)/auth/v1.0")" "$ca"
    gives small swift://slugs/small "$(swift_settings auth_url="https://localhost:$(swift_port tls)/auth/v1.0" \
        storage_url="https://localhost:$(swift_port tls)/v1/AUTH_test/")" "$ca"
}

# temporary EXPIRES [PATH]: a TempURL, by TLS.
temporary() {
    local path=/v1/AUTH_test/slugs/${2:-large} mac
    mac=$(printf 'GET\n%s\n/v1/AUTH_test/slugs/large' "$1" | openssl dgst -sha256 -hmac tempkey -r | cut -d' ' -f1)
    echo "https://localhost:$(swift_port tls)$path?temp_url_sig=$mac&temp_url_expires=$1"
}

@test "a temporary URL is plain https://: in parts, expired, and of another object" {
    local ca
    ca=$(jq -n --arg ca "$STORY/ca/ca.pem" '{ca_file: $ca}')
    swift_login
    swift_curl POST "" -H 'X-Account-Meta-Temp-URL-Key: tempkey'
    gives large "$(temporary $(($(date +%s) + 600)))" '{}' "$ca"
    refuses operator "HTTP status 401" "$(temporary $(($(date +%s) - 10)))" '{}' "$ca"
    hasnt "$(cat "$STORY/said")" temp_url_sig
    refuses operator "HTTP status 401" "$(temporary $(($(date +%s) + 600)) small)" '{}' "$ca"
}

@test "s3://: a small object, one in parts, and a segmented one" {
    gives small s3://slugs/small "$(s3_settings)"
    gives large s3://slugs/large "$(s3_settings)"
    gives large s3://slugs/static "$(s3_settings)"
}

# Nothing in its answers says that it takes ranges, and its tags have no quotes.
@test "s3://: parts come over several connections, with the object's tag" {
    : >"$SWIFT/requests"
    gives large s3://slugs/large "$(s3_settings endpoint="http://127.0.0.1:$(swift_port slow)")"
    (($(grep -c 'GET /slugs/large 206 bytes=' "$SWIFT/requests") > 1)) || fail "$(cat "$SWIFT/requests")"
}

@test "names with blanks, pluses, percent signs, quotes and what is no ASCII, by both interfaces" {
    local name path by_swift by_s3
    by_swift=$(swift_settings)
    by_s3=$(s3_settings)
    swift_login
    while read -r name path; do
        swift_curl PUT "/slugs/$path" -T "$STORY/small"
        gives small "s3://slugs/$name" "$by_s3"
        gives small "swift://slugs/$name" "$by_swift"
    done <<'NAMES'
a%20b a%20b
a+b a%2Bb
100%25 100%25
%2541 %2541
a?b=c&d#e a%3Fb%3Dc%26d%23e
-._~!$'()*,;:@[] -._~%21%24%27%28%29%2A%2C%3B%3A%40%5B%5D
ü/€/日本 %C3%BC/%E2%82%AC/%E6%97%A5%E6%9C%AC
a//b a//b
NAMES
}

@test "s3://: a wrong secret, key, region, bucket and name; no keys" {
    refuses operator "the secret key is not that of the access key" s3://slugs/small "$(s3_settings secret_key=other)"
    # Swift has one answer for both.
    refuses operator "the secret key is not that of the access key" s3://slugs/small "$(s3_settings access_key=test:nobody)"
    refuses operator "in the region us-east-1, not in eu-west-1" s3://slugs/small "$(s3_settings region=eu-west-1)"
    refuses operator "the store has no bucket nothing" s3://nothing/small "$(s3_settings)"
    refuses operator "no such key in the bucket" s3://slugs/other "$(s3_settings)"
    refuses operator "access denied" s3://slugs/small "$(s3_settings access_key="$SWIFT_GUEST" secret_key="$SWIFT_GUEST_KEY")"
    refuses operator "s3://slugs/small" s3://slugs/small "$(s3_settings access_key= secret_key=)"
}

@test "s3://: a wrong clock is said to be one" {
    swift_skewed_start 1800
    refuses operator "this machine's clock is 30 minutes behind the store's" s3://slugs/small \
        "$(s3_settings endpoint="http://127.0.0.1:$(swift_port skewed)")"
}

role_of() {
    imds_put meta-data/iam/security-credentials/web "$(jq -n --arg id "$1" --arg key "$2" --arg at "$(date -u -d "+$3 seconds" +%Y-%m-%dT%H:%M:%SZ)" \
        '{Code: "Success", Type: "AWS-HMAC", AccessKeyId: $id, SecretAccessKey: $key, Token: "a-session", Expiration: $at}')"
}
role_settings() { s3_settings access_key= secret_key= role=imds imds="$(imds_url)" "$@"; }

@test "s3://: the instance's role: its keys, those that end while they are used, and none" {
    imds_start
    imds_put meta-data/iam/security-credentials/.list web
    role_of "$SWIFT_USER" "$SWIFT_KEY" 21600
    gives small s3://slugs/small "$(role_settings)"
    # They end after four seconds: asked for again while the parts come.
    role_of "$SWIFT_USER" "$SWIFT_KEY" 4
    : >"$IMDS/requests"
    gives long s3://slugs/long "$(role_settings endpoint="http://127.0.0.1:$(swift_port slow)")" '{"limits": {"connections": 2}}'
    (($(imds_asked meta-data/iam/security-credentials/web) > 1)) || fail "$(cat "$IMDS/requests" "$SWIFT/requests")"
    role_of "$SWIFT_USER" wrong 21600
    refuses operator "the secret key is not that" s3://slugs/small "$(role_settings)"
    imds_take meta-data/iam/security-credentials/.list
    rm "$IMDS/latest/meta-data/iam/security-credentials/web"
    refuses operator "this instance has no role" s3://slugs/small "$(role_settings)"
    imds_put meta-data/iam/security-credentials/.list '<html>busy</html>'
    refuses platform "not a role's name" s3://slugs/small "$(role_settings)"
}

@test "instance metadata is for the role alone: no address leads there" {
    refuses operator "leads to a link-local address" s3://latest/meta-data "$(s3_settings endpoint=http://169.254.169.254)"
    refuses operator "leads to a link-local address" swift://a/b "$(swift_settings auth_url=http://169.254.169.254/v1.0)"
    refuses operator "leads to a link-local address" http://169.254.169.254/latest/meta-data '{}' '{"allow_http": true}'
}
