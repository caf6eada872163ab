/* start.c - what a libc would bring: the entry point, clone on a stack of its own, and the memory
 * functions that the compiler calls by itself. */
#include "isolate/init/sys.h"

void start_from_stack(const long *sp);

/* Called by _start. SP: what the kernel left on the stack, argc and then argv. */
__attribute__((used)) void start_from_stack(const long *sp)
{
    int status = start_main((int)sp[0], (char **)(uintptr_t)(sp + 1));

    for (;;)
        (void)sys1(__NR_exit_group, status);
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".global _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call start_from_stack\n"
        "    hlt\n"
        /* start_clone(rdi flags, rsi stack, rdx fn, rcx arg, r8 child_tid): fn and arg travel on
         * the child's stack, because the system call takes rcx, r10 and r8 for itself. */
        ".global start_clone\n"
        "start_clone:\n"
        "    sub $16, %rsi\n"
        "    mov %rdx, (%rsi)\n"
        "    mov %rcx, 8(%rsi)\n"
        "    xor %edx, %edx\n"
        "    mov %r8, %r10\n"
        "    xor %r8d, %r8d\n"
        "    mov $56, %eax\n" /* __NR_clone */
        "    syscall\n"
        "    test %rax, %rax\n"
        "    jz 1f\n"
        "    ret\n"
        "1:  xor %ebp, %ebp\n"
        "    pop %rax\n"
        "    pop %rdi\n"
        "    call *%rax\n"
        "    hlt\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".global _start\n"
        "_start:\n"
        "    mov x29, #0\n"
        "    mov x30, #0\n"
        "    mov x0, sp\n"
        "    bl start_from_stack\n"
        "    brk #0\n"
        ".global start_clone\n"
        "start_clone:\n"
        "    mov x9, x2\n"
        "    mov x10, x3\n"
        "    mov x2, #0\n"
        "    mov x3, #0\n"   /* x4 is where child_tid belongs already */
        "    mov x8, #220\n" /* __NR_clone */
        "    svc #0\n"
        "    cbz x0, 1f\n"
        "    ret\n"
        "1:  mov x29, #0\n"
        "    mov x30, #0\n"
        "    mov x0, x10\n"
        "    blr x9\n"
        "    brk #0\n");
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
    unsigned char *t = to;
    const unsigned char *f = from;

    while (len-- > 0)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t len)
{
    unsigned char *t = to;
    const unsigned char *f = from;

    if (t <= f)
        return memcpy(to, from, len);
    while (len-- > 0)
        t[len] = f[len];
    return to;
}

void *memset(void *to, int byte, size_t len)
{
    unsigned char *t = to;

    while (len-- > 0)
        *t++ = (unsigned char)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t len)
{
    const unsigned char *x = a, *y = b;

    for (; len > 0; len--, x++, y++)
        if (*x != *y)
            return *x < *y ? -1 : 1;
    return 0;
}

size_t strlen(const char *text)
{
    size_t len = 0;

    while (text[len] != '\0')
        len++;
    return len;
}
