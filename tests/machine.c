/* A machine that is wrong as long as the file WRONG_WHILE exists, for processes that load this first (LD_PRELOAD);
   test_machine.py builds and uses it.

   FAIL=read|write|sync, FAIL_BELOW=/folder: such calls on files below the folder fail as those of a disk do that is
   broken or unplugged (EIO).
   SET_CLOCK=seconds: the wall clock is set forward (or back) by so many; the monotonic clock goes on as it was. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static int is_wrong(void) {
    const char *file = getenv("WRONG_WHILE");
    return file && !access(file, F_OK);
}

/* Whether this call on a file descriptor fails. */
static int fails(const char *kind, int fd) {
    const char *failing = getenv("FAIL"), *below = getenv("FAIL_BELOW");
    char link[64], path[4096];
    if (!failing || !below || strcmp(failing, kind) || !is_wrong()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (strncmp(path, below, strlen(below))) return 0;
    errno = EIO;
    return 1;
}

ssize_t read(int fd, void *to, size_t n) { return fails("read", fd) ? -1 : REAL(read, fd, to, n); }
ssize_t pread(int fd, void *to, size_t n, off_t at) { return fails("read", fd) ? -1 : REAL(pread, fd, to, n, at); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) {
    return fails("read", fd) ? -1 : REAL(pread64, fd, to, n, at);
}
size_t fread(void *to, size_t size, size_t n, FILE *f) {
    return fails("read", fileno(f)) ? 0 : REAL(fread, to, size, n, f);
}
ssize_t write(int fd, const void *from, size_t n) { return fails("write", fd) ? -1 : REAL(write, fd, from, n); }
ssize_t writev(int fd, const struct iovec *from, int n) { return fails("write", fd) ? -1 : REAL(writev, fd, from, n); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) {
    return fails("write", fd) ? -1 : REAL(pwrite, fd, from, n, at);
}
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) {
    return fails("write", fd) ? -1 : REAL(pwrite64, fd, from, n, at);
}
size_t fwrite(const void *from, size_t size, size_t n, FILE *f) {
    return fails("write", fileno(f)) ? 0 : REAL(fwrite, from, size, n, f);
}
int fsync(int fd) { return fails("sync", fd) ? -1 : REAL(fsync, fd); }
int fdatasync(int fd) { return fails("sync", fd) ? -1 : REAL(fdatasync, fd); }

/* By how much the wall clock is set now, in seconds. */
static time_t set_by(void) {
    const char *by = getenv("SET_CLOCK");
    return by && is_wrong() ? atol(by) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += set_by();
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = REAL(gettimeofday, now, zone);
    if (!failed) now->tv_sec += set_by();
    return failed;
}
time_t time(time_t *now) {
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    if (now) *now = wall.tv_sec;
    return wall.tv_sec;
}
