#!/usr/bin/perl
# web.pl - a page that tells which dyno answered. Needs nothing but perl-base.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

use constant { REQUEST_MAX => 8192, IDLE_SECONDS => 5, CLIENTS_MAX => 200 };

$| = 1;
$SIG{PIPE} = 'IGNORE';
my $stop = 0;
$SIG{TERM} = $SIG{INT} = sub { $stop = 1 };

my $started = time;
my $dyno    = $ENV{DYNO} // 'web.1';
my $release = $ENV{HEROKU_RELEASE_VERSION} // 'local';
my $port    = $ENV{PORT} or die "PORT is not set: nothing to listen on\n";
my $listener = IO::Socket::INET->new(
    LocalAddr => '0.0.0.0', LocalPort => $port, Listen => 64, ReuseAddr => 1, Proto => 'tcp'
) or die "cannot listen on port $port: $@\n";
my $select = IO::Select->new($listener);
my %client;    # by file number: what it has sent so far, and since when it is here

print "Listening on port $port\n";
while (!$stop) {
    for my $sock ($select->can_read(1)) {
        if   ($sock == $listener) { admit() }
        else                      { receive($sock) }
    }
    my $now = time;
    drop($_->{sock}) for grep { $now - $_->{since} > IDLE_SECONDS } values %client;
}
print "Stopped\n";

sub admit {
    my $sock = $listener->accept or return;
    return close $sock if keys %client >= CLIENTS_MAX;
    $select->add($sock);
    $client{ fileno $sock } = { sock => $sock, since => time, text => '' };
}

sub drop {
    my ($sock) = @_;
    delete $client{ fileno $sock };
    $select->remove($sock);
    close $sock;
}

sub receive {
    my ($sock) = @_;
    my $c = $client{ fileno $sock } or return;
    my $n = sysread $sock, $c->{text}, 4096, length $c->{text};
    return drop($sock) if !$n || length $c->{text} > REQUEST_MAX;
    return if $c->{text} !~ /\r?\n\r?\n/;
    respond($sock, $c->{text});
    drop($sock);
}

sub respond {
    my ($sock, $text) = @_;
    my ($method, $path) = $text =~ m{\A([A-Z]{1,16}) (/\S{0,2000}) HTTP/1\.[01]\r?\n};
    my ($status, $type, $body) =
        !defined $method           ? (400, 'text/plain', "bad request\n")
      : $method !~ /\A(GET|HEAD)\z/ ? (405, 'text/plain', "only GET and HEAD\n")
      : $path eq '/'               ? (200, 'text/html',  page())
      :                              (404, 'text/plain', "no such page\n");
    my %reason = (200 => 'OK', 400 => 'Bad Request', 404 => 'Not Found', 405 => 'Method Not Allowed');
    my $head = "HTTP/1.1 $status $reason{$status}\r\nContent-Type: $type; charset=utf-8\r\n"
      . 'Content-Length: ' . length($body) . "\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
    # The answer is smaller than any socket buffer: one write takes all of it.
    syswrite $sock, ($method // '') eq 'HEAD' ? $head : $head . $body;
    s/[^!-~]/?/g for grep { defined } $method, $path;
    printf "method=%s path=\"%s\" status=%d bytes=%d\n", $method // '-', $path // '-', $status,
      length $body;
}

sub uptime {
    my $s = time - $started;
    return $s < 60 ? "$s s" : $s < 3600 ? sprintf('%d min %d s', $s / 60, $s % 60)
      : sprintf '%d h %d min', $s / 3600, $s % 3600 / 60;
}

sub escape {
    my ($text) = @_;
    my %entity = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;');
    $text =~ s/([&<>"])/$entity{$1}/g;
    return $text;
}

sub page {
    my ($d, $r, $u) = map { escape($_) } $dyno, $release, uptime();
    # A colour of its own for each dyno: reloading several tabs shows at a glance who answered.
    my $hue = ($dyno =~ /(\d+)\z/ ? $1 : 0) * 137 % 360;
    return <<"HTML";
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$d - hello</title>
<style>
  :root { color-scheme: light dark; --dyno: hsl($hue 65% 45%) }
  body { font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center;
         min-height: 100vh; margin: 0 }
  main { border-top: 6px solid var(--dyno); padding: 1.5rem 2rem; border-radius: 8px;
         box-shadow: 0 2px 16px rgb(0 0 0 / .18); min-width: 17rem }
  h1 { margin: 0 0 1rem; font-size: 1.9rem; color: var(--dyno) }
  dl { display: grid; grid-template-columns: auto 1fr; gap: .35rem 1.2rem; margin: 0 }
  dt { opacity: .65 } dd { margin: 0; font-variant-numeric: tabular-nums }
</style>
<main>
  <h1>Hello from $d</h1>
  <dl>
    <dt>Dyno</dt><dd id="dyno">$d</dd>
    <dt>Release</dt><dd id="release">$r</dd>
    <dt>Uptime</dt><dd id="uptime">$u</dd>
    <dt>Port</dt><dd id="port">$port</dd>
  </dl>
</main>
</html>
HTML
}
