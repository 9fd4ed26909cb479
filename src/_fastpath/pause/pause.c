/* The first process of a PID namespace that several containers share. It waits for ever, and no child of it becomes a zombie.
 *
 * Built as a shared object like its neighbours, but with an entry point and without an interpreter or a library: the kernel runs
 * it as a program (execve(2)) in a root directory that has nothing else in it, and it uses some 12 KiB of memory.
 */

#include <asm/unistd.h>

#define IGNORE 1 /* SIG_IGN: children are reaped by the kernel, also those that are adopted (wait(2)) */
#define CHILD_ENDED 17 /* SIGCHLD */

struct action { /* the kernel's own struct sigaction */
    unsigned long handler;
    unsigned long flags;
    unsigned long restorer;
    unsigned long mask[2];
};

static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
#elif defined(__i386__)
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
#elif defined(__arm__)
    register long r7 __asm__("r7") = number, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c, r3 __asm__("r3") = d;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3) : "memory");
    return r0;
#elif defined(__riscv) && __riscv_xlen == 64
    register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c, a3 __asm__("a3") = d;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3) : "memory");
    return a0;
#else
    (void)number, (void)a, (void)b, (void)c, (void)d;
    __builtin_trap(); /* it ends, and the pod says that it did */
#endif
}

#if defined(__x86_64__) || defined(__i386__)
__attribute__((force_align_arg_pointer)) /* the kernel does not call it as a function is called */
#endif
__attribute__((noreturn)) void kubeedge_pause(void)
{
    struct action ignore = {IGNORE, 0, 0, {0, 0}};
    call(__NR_rt_sigaction, CHILD_ENDED, (long)&ignore, 0, 8);
    for (;;)
        call(__NR_ppoll, 0, 0, 0, 0);
}
