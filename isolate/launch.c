#include "isolate/launch.h"

#include "base/fdio.h"
#include "base/scoped.h"
#include "base/str.h"
#include "isolate/initproto.h"

#include <errno.h>
#include <string.h>

#define LAUNCH_STRING_MAX 131072u /* MAX_ARG_STRLEN, execve(2), with the NUL */
#define NAME_SHOWN_MAX    64      /* of a variable's name in an error */

/* A variable is named, never shown: its value may be a secret. */
static int string_too_long(const char *text, bool is_env, uint32_t index, struct err *e)
{
    char name[NAME_SHOWN_MAX * 4];

    if (is_env)
        (void)err_say(e, E2BIG, "the config var %s is longer than %u bytes",
                      text_escape(name, sizeof(name), text, strcspn(text, "=")),
                      LAUNCH_STRING_MAX - 1);
    else
        (void)err_say(e, E2BIG, "argument %u of the command is longer than %u bytes", index,
                      LAUNCH_STRING_MAX - 1);
    return err_blame(e, FAULT_OPERATOR);
}

/* Appends the strings of LIST to S and counts them. */
static int add_strings(struct str *s, char *const *list, bool is_env, uint32_t *ret_n,
                       struct err *e)
{
    uint32_t n = 0;

    for (; list && list[n]; n++) {
        size_t len = strlen(list[n]) + 1;

        if (len > LAUNCH_STRING_MAX)
            return string_too_long(list[n], is_env, n, e);
        if (n == INIT_LAUNCH_STRINGS) {
            (void)err_say(e, E2BIG, "more than %u %s", INIT_LAUNCH_STRINGS,
                          is_env ? "config vars" : "arguments");
            return err_blame(e, FAULT_OPERATOR);
        }
        str_add_n(s, list[n], len);
    }
    *ret_n = n;
    return 0;
}

int launch_memfd(const struct launch *launch, int *ret_fd, struct err *e)
{
    scoped(str_done) struct str s = {.max = INIT_LAUNCH_MAX};
    struct init_launch head = {.magic = INIT_LAUNCH_MAGIC,
                               .flags = launch->tty ? INIT_TTY : 0,
                               .rows = launch->rows,
                               .cols = launch->cols};

    if (!launch->argv || !launch->argv[0]) {
        (void)err_say(e, EINVAL, "the command is empty");
        return err_blame(e, FAULT_OPERATOR);
    }
    str_add_n(&s, &head, sizeof(head));
    int r = add_strings(&s, launch->argv, false, &head.argc, e);
    if (r == 0)
        r = add_strings(&s, launch->env, true, &head.envc, e);
    if (r < 0)
        return r;
    if (s.failed) {
        (void)err_say(e, E2BIG, "the command and the config vars are over %u bytes together",
                      INIT_LAUNCH_MAX);
        return err_blame(e, FAULT_OPERATOR);
    }
    head.size = (uint32_t)s.len;
    memcpy(s.data, &head, sizeof(head));
    return memfd_with("dyno-launch", s.data, s.len, ret_fd, e);
}

void launch_shell(bool stack_has_bash, const char *command, const char *argv[5])
{
    argv[0] = stack_has_bash ? "bash" : "/bin/sh";
    argv[1] = stack_has_bash ? "--login" : "-l";
    argv[2] = "-c";
    argv[3] = command;
    argv[4] = NULL;
}
