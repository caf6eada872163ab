#include "isolate/seccomp.h"

#include "base/scoped.h"
#include "isolate/seccomp_table.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define NUMBERS_MAX  1024 /* system call numbers below this have a verdict; above: ENOSYS */
#define NUMBERS_USED 512  /* those that kernels have: what a search is made short for */
#define PROGRAM_MAX  BPF_MAXINSNS
#define X32_BIT      0x40000000u
#define JUMP_MAX     255 /* a conditional jump's reach */
#define RETURNS_MAX  16
#define RET_ERRNO(x) (SECCOMP_RET_ERRNO | ((uint32_t)(x)&SECCOMP_RET_DATA))

/* What is to be done for one number. */
struct decision {
    uint32_t action;
    const struct syscall_check *check; /* not NULL: its terms decide */
};

/* A run of numbers with one decision, up to the next run's start. */
struct range {
    uint32_t start;
    struct decision decision;
};
#define RANGES_MAX (NUMBERS_MAX + 2) /* and two for what is above */

/* Written from its end to its start, so that where a jump leads is known when it is written. */
struct program {
    struct sock_filter *insns; /* PROGRAM_MAX of them; the last N are the program */
    size_t n;
    bool full;
    size_t n_returns;
    struct {
        uint32_t action;
        size_t label;
    } returns[RETURNS_MAX]; /* each is there once */
};

/* A label is how much of the program came after it when it was written, and itself. */
static size_t emit(struct program *p, uint16_t code, uint32_t k, size_t jt, size_t jf)
{
    if (p->n == PROGRAM_MAX) {
        p->full = true;
        return p->n;
    }
    p->insns[PROGRAM_MAX - ++p->n] = (struct sock_filter){code, (uint8_t)jt, (uint8_t)jf, k};
    return p->n;
}

static size_t emit_return(struct program *p, uint32_t action)
{
    for (size_t i = 0; i < p->n_returns; i++)
        if (p->returns[i].action == action)
            return p->returns[i].label;
    size_t label = emit(p, BPF_RET | BPF_K, action, 0, 0);
    if (p->n_returns < RETURNS_MAX) {
        p->returns[p->n_returns].action = action;
        p->returns[p->n_returns++].label = label;
    }
    return label;
}

/* LABEL, or a jump to it: a conditional one reaches only so far, and may have one of these and
 * another conditional one before it. */
static size_t in_reach(struct program *p, size_t label)
{
    if (p->n - label < JUMP_MAX - 2)
        return label;
    return emit(p, BPF_JMP | BPF_JA, (uint32_t)(p->n - label), 0, 0);
}

static size_t emit_jump(struct program *p, uint16_t how, uint32_t k, size_t yes, size_t no)
{
    yes = in_reach(p, yes);
    no = in_reach(p, no);
    return emit(p, BPF_JMP | how | BPF_K, k, p->n - yes, p->n - no);
}

static uint32_t errno_action(int errnum)
{
    if (errnum == PRETEND)
        return RET_ERRNO(0);
    return errnum == 0 ? SECCOMP_RET_ALLOW : RET_ERRNO(errnum);
}

/* Both machines are little-endian: the low half comes first. */
static uint32_t term_from(const struct term *t)
{
    return (uint32_t)(offsetof(struct seccomp_data, args) + 8 * t->arg + 4 * t->high);
}

static size_t emit_check(struct program *p, const struct syscall_check *check)
{
    size_t next = emit_return(p, errno_action(check->otherwise));

    for (size_t i = check->n_terms; i-- > 0;) {
        const struct term *t = &check->terms[i], *before = i > 0 ? t - 1 : NULL;
        size_t met = emit_return(p, errno_action(t->errnum));

        next = emit_jump(p, BPF_JEQ, t->value, t->negated ? next : met, t->negated ? met : next);
        if (t->mask != UINT32_MAX)
            next = emit(p, BPF_ALU | BPF_AND | BPF_K, t->mask, 0, 0);
        /* What the term before looked at is still there, unless it was masked. */
        if (!before || before->mask != UINT32_MAX || term_from(before) != term_from(t))
            next = emit(p, BPF_LD | BPF_W | BPF_ABS, term_from(t), 0, 0);
    }
    return next;
}

static size_t emit_decision(struct program *p, const struct decision *d)
{
    return d->check ? emit_check(p, d->check) : emit_return(p, d->action);
}

static bool same_decision(const struct decision *a, const struct decision *b)
{
    return a->check == b->check && a->action == b->action;
}

/* Where a search in RANGES divides them: both sides have as many numbers that are used. When it is
 * loaded the kernel runs the program once for every number that it has, to remember those that are
 * always allowed, which it then never asks the program about. */
static size_t divide(const struct range *ranges, size_t n)
{
    uint32_t first = ranges[0].start, last = ranges[n - 1].start + 1;
    uint32_t middle = (first + (last < NUMBERS_USED ? last : NUMBERS_USED)) / 2;
    size_t i = 1;

    while (i < n - 1 && ranges[i].start < middle)
        i++;
    /* The one before may be nearer. */
    if (i > 1 && middle > ranges[i - 1].start &&
        middle - ranges[i - 1].start < ranges[i].start - middle)
        i--;
    return i;
}

/* The accumulator holds the number; it is in one of RANGES. A binary search, as code, and as short
 * as may be: to convert it is most of what loading it costs. */
static size_t emit_search(struct program *p, const struct range *ranges, size_t n)
{
    if (n == 1)
        return emit_decision(p, &ranges->decision);
    /* One number among others. */
    if (n == 3 && ranges[2].start == ranges[1].start + 1 &&
        same_decision(&ranges[0].decision, &ranges[2].decision)) {
        size_t others = emit_decision(p, &ranges[0].decision);
        size_t one = emit_decision(p, &ranges[1].decision);

        return emit_jump(p, BPF_JEQ, ranges[1].start, one, others);
    }
    size_t half = divide(ranges, n);
    size_t upper = emit_search(p, ranges + half, n - half);
    size_t lower = emit_search(p, ranges, half);
    return emit_jump(p, BPF_JGE, ranges[half].start, upper, lower);
}

int filter_number(uint32_t arch, const char *name)
{
    uint32_t scmp = arch == AUDIT_ARCH_AARCH64 ? SCMP_ARCH_AARCH64 : SCMP_ARCH_X86_64;

    size_t n;
    const struct syscall_number *numbers = filter_new_numbers(&n);

    for (size_t i = 0; i < n; i++)
        if (!strcmp(numbers[i].name, name))
            return numbers[i].number;
    return seccomp_syscall_resolve_name_arch(scmp, name);
}

const char *filter_table_entry(size_t i, enum verdict *ret_verdict)
{
    size_t n_groups, n_checks;
    const struct syscall_group *groups = filter_groups(&n_groups);
    const struct syscall_check *checks = filter_checks(&n_checks);

    for (size_t g = 0; g < n_groups; g++)
        for (const char *const *name = groups[g].names; *name; name++)
            if (i-- == 0) {
                *ret_verdict = groups[g].verdict;
                return *name;
            }
    if (i >= n_checks)
        return NULL;
    *ret_verdict = VERDICT_CHECKED;
    return checks[i].name;
}

static uint32_t verdict_action(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_ALLOW:
        return SECCOMP_RET_ALLOW;
    case VERDICT_DENY:
        return RET_ERRNO(EPERM);
    case VERDICT_KILL:
        return SECCOMP_RET_KILL_PROCESS;
    default:
        return RET_ERRNO(ENOSYS);
    }
}

/* A name in two places, or a number beyond the table, is a bug of the table. */
static int decide(struct decision *all, uint32_t arch, const char *name, struct decision decision,
                  struct err *e)
{
    int nr = filter_number(arch, name);

    if (nr < 0)
        return 0; /* not on this machine, or not known to this libseccomp: ENOSYS */
    if (nr >= NUMBERS_MAX)
        return err_say(e, ERANGE, "seccomp: %s has the number %d", name, nr);
    if (all[nr].check || all[nr].action != RET_ERRNO(ENOSYS))
        return err_say(e, EEXIST, "seccomp: %s is in the table twice", name);
    all[nr] = decision;
    return 0;
}

static int decide_all(struct decision *all, uint32_t arch, struct err *e)
{
    size_t n_groups, n_checks;
    const struct syscall_group *groups = filter_groups(&n_groups);
    const struct syscall_check *checks = filter_checks(&n_checks);
    int r = 0;

    for (size_t i = 0; i < NUMBERS_MAX; i++)
        all[i] = (struct decision){RET_ERRNO(ENOSYS), NULL};
    for (size_t g = 0; g < n_groups; g++)
        for (const char *const *name = groups[g].names; r == 0 && *name; name++)
            r = decide(all, arch, *name, (struct decision){verdict_action(groups[g].verdict), NULL},
                       e);
    for (size_t i = 0; r == 0 && i < n_checks; i++)
        r = decide(all, arch, checks[i].name, (struct decision){0, &checks[i]}, e);
    return r;
}

static size_t find_ranges(const struct decision *all, uint32_t arch, struct range *ranges)
{
    size_t n = 0;

    for (uint32_t nr = 0; nr < NUMBERS_MAX; nr++)
        if (n == 0 || all[nr].check != ranges[n - 1].decision.check ||
            all[nr].action != ranges[n - 1].decision.action)
            ranges[n++] = (struct range){nr, all[nr]};
    if (ranges[n - 1].decision.check || ranges[n - 1].decision.action != RET_ERRNO(ENOSYS))
        ranges[n++] = (struct range){NUMBERS_MAX, {RET_ERRNO(ENOSYS), NULL}};
    if (arch == AUDIT_ARCH_X86_64)
        ranges[n++] = (struct range){X32_BIT, {SECCOMP_RET_KILL_PROCESS, NULL}};
    return n;
}

/* One ABI: a 32-bit call has other numbers, and no app of ours makes one. x32 is a range of numbers
 * above all others. SEARCH is what was written last. */
static void emit_prologue(struct program *p, uint32_t arch)
{
    size_t search = emit(p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);

    (void)emit_jump(p, BPF_JEQ, arch, search, emit_return(p, SECCOMP_RET_KILL_PROCESS));
    (void)emit(p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
}

int filter_compile(uint32_t arch, struct sock_fprog *ret, struct err *e)
{
    scoped_free struct decision *all = calloc(NUMBERS_MAX, sizeof(*all));
    scoped_free struct range *ranges = calloc(RANGES_MAX, sizeof(*ranges));
    scoped_free struct sock_filter *insns = calloc(PROGRAM_MAX, sizeof(*insns));
    struct program p = {.insns = insns};

    if (!all || !ranges || !insns)
        return err_set(e, ENOMEM, "compile the seccomp filter");
    int r = decide_all(all, arch, e);
    if (r < 0)
        return r;
    (void)emit_search(&p, ranges, find_ranges(all, arch, ranges));
    emit_prologue(&p, arch);
    if (p.full)
        return err_say(e, E2BIG, "the seccomp filter has more than %d instructions", PROGRAM_MAX);
    memmove(insns, insns + PROGRAM_MAX - p.n, p.n * sizeof(*insns));
    *ret = (struct sock_fprog){.len = (unsigned short)p.n, .filter = TAKE_PTR(insns)};
    return 0;
}

uint32_t filter_native_arch(void)
{
#if defined(__aarch64__)
    return AUDIT_ARCH_AARCH64;
#else
    return AUDIT_ARCH_X86_64;
#endif
}

int filter_load(const struct sock_fprog *program)
{
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) < 0)
        return -errno;
    return 0;
}
