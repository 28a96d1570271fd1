/* Preloaded (LD_PRELOAD), it moves a program's wall clock by CLOCK_OFFSET seconds, and no other clock.
 *
 * libfaketime 0.9.10, Debian 12's, does not do for Python: with FAKETIME_DONT_FAKE_MONOTONIC time.sleep fails with
 * EINVAL, and without it a wait with a deadline (sem_clockwait) never ends. Files keep the times that they have, as
 * those of a file server with another clock.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    const char *offset = getenv("CLOCK_OFFSET");
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += atol(offset);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    if (now)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
