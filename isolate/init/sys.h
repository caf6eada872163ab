/* sys.h - the kernel without a libc: raw system calls of x86-64 and arm64, for programs whose start
 * time and memory count. Each call returns what the kernel does: a result, or -errno.
 *
 * Structures and constants come from the kernel's own headers; what those lack is defined here. */
#ifndef INIT_SYS_H
#define INIT_SYS_H

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/time_types.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
#else
#error "dyno-init knows x86-64 and arm64"
#endif

#define sys0(nr)                sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a)             sys6(nr, (long)(a), 0, 0, 0, 0, 0)
#define sys2(nr, a, b)          sys6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define sys3(nr, a, b, c)       sys6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sys4(nr, a, b, c, d)    sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sys5(nr, a, b, c, d, e) sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* start.c: the entry point calls this; what it returns is the exit status. */
int start_main(int argc, char **argv);

/* start.c: what the compiler may call by itself. */
void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *text);

/* start.c: clone(2) with FLAGS, the child on the stack that ends at STACK_TOP (aligned to 16), in
 * FN(ARG), which does not return. CHILD_TID: for CLONE_CHILD_CLEARTID, or NULL. */
long start_clone(unsigned long flags, void *stack_top, void (*fn)(void *), void *arg,
                 uint32_t *child_tid);

/* The kernel's view of sendmsg(2), which no kernel header has. */
struct sys_iovec {
    void *base;
    size_t len;
};
struct sys_msghdr {
    void *name;
    int name_len;
    struct sys_iovec *iov;
    size_t iov_len;
    void *control;
    size_t control_len;
    unsigned flags;
};
struct sys_cmsghdr {
    size_t len;
    int level;
    int type;
};
#define SYS_SEEK_END         2
#define SYS_SOL_SOCKET       1
#define SYS_SCM_RIGHTS       1
#define SYS_MSG_PEEK         0x02
#define SYS_MSG_TRUNC        0x20
#define SYS_MSG_DONTWAIT     0x40
#define SYS_MSG_NOSIGNAL     0x4000
#define SYS_MSG_CMSG_CLOEXEC 0x40000000

#endif
