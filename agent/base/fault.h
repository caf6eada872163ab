/* fault.h - whose doing an end was. Every exit and every failed step carries exactly one. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

enum fault {
    FAULT_NONE,     /* an expected end: a completed one-off */
    FAULT_APP,      /* the app's code, its slug or its memory */
    FAULT_PLATFORM, /* this agent, the instance, or a store that is down */
    FAULT_OPERATOR, /* a command, a config, a credential */
};

/* "none", "app", "platform", "operator"; a static string. */
const char *fault_name(enum fault fault);

/* The reverse of fault_name(); FAULT_PLATFORM for anything else: what cannot be
 * attributed is ours until shown otherwise. */
enum fault fault_from_name(const char *name);

#endif
