/* clonevm.h - clone3(2) for a child that shares this process' memory until it executes something:
 * no page tables to copy, no page to copy again on its first write. The parent stands still
 * meanwhile (CLONE_VFORK), so the child may use what libc keeps for the thread, and must leave
 * everything else as it is. */
#ifndef ISOLATE_CLONEVM_H
#define ISOLATE_CLONEVM_H

#include <errno.h>
#include <linux/sched.h>
#include <stdint.h>
#include <sys/syscall.h>

/* Runs FN(ARG), which never returns, in the child of ARGS, whose stack is set and whose flags hold
 * CLONE_VM and CLONE_VFORK. Returns the child's pid, or -1 with errno. */
static inline int clone_vm(struct clone_args *args, void (*fn)(void *arg), void *arg)
{
#if defined(__x86_64__)
    register long result __asm__("rax") = SYS_clone3;
    register void (*keep_fn)(void *) __asm__("r12") = fn;
    register void *keep_arg __asm__("r13") = arg;

    /* The child has an empty stack: it must not return into this frame. */
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "ud2\n"
                     "1:"
                     : "+r"(result)
                     : "D"(args), "S"(sizeof(*args)), "r"(keep_fn), "r"(keep_arg)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long result __asm__("x0") = (long)(uintptr_t)args;
    register long size __asm__("x1") = sizeof(*args);
    register long number __asm__("x8") = SYS_clone3;
    register void (*keep_fn)(void *) __asm__("x19") = fn;
    register void *keep_arg __asm__("x20") = arg;

    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x30, xzr\n\t"
                     "mov x0, x20\n\t"
                     "blr x19\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(result)
                     : "r"(size), "r"(number), "r"(keep_fn), "r"(keep_arg)
                     : "memory");
#else
#error "an architecture that dynod was not ported to"
#endif
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return (int)result;
}

#endif
