/* certificates.h - what TLS needs in a test, by openssl(1). */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

#include <stdio.h>
#include <stdlib.h>

/* In DIR, .pem and .key: server and client of ca; other, of nobody; wrong, of ca for another host.
 * 0, or -1. */
static inline int certificates_make(const char *dir)
{
    char command[2000];

    (void)snprintf(
        command, sizeof(command),
        "cd %s && exec >/dev/null 2>&1; k() { openssl ecparam -name prime256v1 -genkey -noout -out "
        "$1.key; }; k ca; k other && openssl req -x509 -new -key ca.key -days 30 -subj /CN=ca "
        "-addext basicConstraints=critical,CA:TRUE -out ca.pem && openssl req -x509 -new -key "
        "other.key -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
        "-out other.pem && printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' > ext && "
        "printf 'subjectAltName=DNS:elsewhere.example\\n' > wrong.ext && "
        "for n in server client wrong; do x=ext; [ $n != wrong ] || x=wrong.ext; k $n; openssl req "
        "-new -key $n.key -subj /CN=$n -out $n.csr && openssl x509 -req -in $n.csr -CA ca.pem -CAkey "
        "ca.key -CAcreateserial -days 30 -extfile $x -out $n.pem || exit 1; done",
        dir);
    return system(command) == 0 ? 0 : -1;
}

#endif
