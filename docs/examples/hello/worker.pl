#!/usr/bin/perl
# worker.pl - something that works without a port: one line every few seconds.
use strict;
use warnings;

$| = 1;
my $stop = 0;
$SIG{TERM} = $SIG{INT} = sub { $stop = 1 };

my $every = $ENV{HEARTBEAT_SECONDS} // 3;
my $beats = 0;
print "Working, one heartbeat every $every s\n";
until ($stop) {
    printf "heartbeat %d of release %s\n", ++$beats, $ENV{HEROKU_RELEASE_VERSION} // 'local';
    # A signal ends the pause early.
    select undef, undef, undef, $every;
}
print "Stopped after $beats heartbeats\n";
