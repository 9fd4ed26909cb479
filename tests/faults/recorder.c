/* Preloaded into a process: writes down, in order, what it does to the files below $RECORD_DIR, into $RECORD_LOG.
 *
 * A record: type u8, file u32, offset u64, length u32 (little endian), then `length` bytes.
 *   'N' a file is there by this name (relative)   'P' likewise a directory   'W' bytes at offset   'T' truncated to offset
 *   'S' synced: a file its bytes, a directory its names   'U' removed   'R' renamed to this name
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_FILES 4096
#define MOST_FDS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *names[MOST_FILES];
static uint32_t files;
static int file_of[MOST_FDS]; /* file number + 1 */
static int log_fd = -1;
static const char *directory;
static char *directory_of; /* what `directory` points to, when it is ours */
static size_t directory_length;

static void start(void)
{
    if (log_fd >= 0 || !getenv("RECORD_DIR"))
        return;
    directory = getenv("RECORD_DIR");
    directory_length = strlen(directory);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, getenv("RECORD_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Begin anew, from inside of the process. `full` makes every write that a file grows by fail as on a full disk. */
static int full;

void record_into(const char *where, const char *into)
{
    pthread_mutex_lock(&lock);
    if (log_fd >= 0)
        syscall(SYS_close, log_fd);
    for (uint32_t n = 0; n < files; n++) {
        free(names[n]);
        names[n] = NULL;
    }
    files = 0;
    memset(file_of, 0, sizeof file_of);
    free((void *)directory_of);
    directory = directory_of = strdup(where);
    directory_length = strlen(where);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, into, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        abort();
    pthread_mutex_unlock(&lock);
}

void record_full(int now) { full = now; }

static void record(char type, uint32_t file, uint64_t offset, const void *data, uint32_t length)
{
    unsigned char head[17] = {(unsigned char)type};
    memcpy(head + 1, &file, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &length, 4);
    if (syscall(SYS_write, log_fd, head, sizeof head) != sizeof head)
        abort();
    for (uint32_t done = 0; done < length;) {
        long n = syscall(SYS_write, log_fd, (const char *)data + done, length - done);
        if (n <= 0)
            abort();
        done += (uint32_t)n;
    }
}

static const char *ours(const char *path)
{
    start();
    if (log_fd < 0 || strncmp(path, directory, directory_length) != 0)
        return NULL;
    path += directory_length;
    return *path == '/' ? path + 1 : *path == 0 ? path : NULL;
}

static uint32_t number(const char *name, char type) /* with the lock */
{
    for (uint32_t n = files; n-- > 0;)
        if (names[n] && strcmp(names[n], name) == 0)
            return n;
    if (files == MOST_FILES)
        abort();
    names[files] = strdup(name);
    record(type, files, 0, name, (uint32_t)strlen(name));
    return files++;
}

static void opened(int fd, const char *path)
{
    const char *name = fd >= 0 ? ours(path) : NULL;
    if (fd < 0 || fd >= MOST_FDS)
        return;
    struct stat what;
    char type = name && fstat(fd, &what) == 0 && S_ISDIR(what.st_mode) ? 'P' : 'N';
    pthread_mutex_lock(&lock);
    file_of[fd] = name ? (int)number(name, type) + 1 : 0;
    pthread_mutex_unlock(&lock);
}

#define MODE                                                                \
    va_list rest;                                                           \
    va_start(rest, flags);                                                  \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest)

int open(const char *path, int flags, ...)
{
    MODE;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    opened(fd, path);
    return fd;
}

int open64(const char *path, int flags, ...)
{
    MODE;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    opened(fd, path);
    return fd;
}

#define KNOWN(fd) ((fd) >= 0 && (fd) < MOST_FDS && file_of[fd])

static int no_room(int fd, size_t length, off_t at)
{
    struct stat what;
    if (!full || fstat(fd, &what) != 0 || at + (off_t)length <= what.st_size)
        return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int fd, const void *data, size_t length)
{
    if (!KNOWN(fd))
        return syscall(SYS_write, fd, data, length);
    pthread_mutex_lock(&lock);
    off_t at = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t n = syscall(SYS_write, fd, data, length);
    if (n > 0)
        record('W', (uint32_t)file_of[fd] - 1, (uint64_t)at, data, (uint32_t)n);
    pthread_mutex_unlock(&lock);
    return n;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    if (!KNOWN(fd))
        return syscall(SYS_pwrite64, fd, data, length, at);
    pthread_mutex_lock(&lock);
    ssize_t n = no_room(fd, length, at) ? -1 : syscall(SYS_pwrite64, fd, data, length, at);
    if (n > 0)
        record('W', (uint32_t)file_of[fd] - 1, (uint64_t)at, data, (uint32_t)n);
    pthread_mutex_unlock(&lock);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return pwrite64(fd, data, length, at); }

int ftruncate64(int fd, off64_t length)
{
    if (!KNOWN(fd))
        return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_ftruncate, fd, length);
    if (done == 0)
        record('T', (uint32_t)file_of[fd] - 1, (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int synced(int fd, long call)
{
    /* what others write meanwhile is not covered by this sync: it is recorded before the call, for what came before it */
    pthread_mutex_lock(&lock);
    int done = (int)syscall(call, fd);
    if (done == 0 && KNOWN(fd))
        record('S', (uint32_t)file_of[fd] - 1, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { return KNOWN(fd) ? synced(fd, SYS_fsync) : (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { return KNOWN(fd) ? synced(fd, SYS_fdatasync) : (int)syscall(SYS_fdatasync, fd); }

int close(int fd)
{
    if (fd >= 0 && fd < MOST_FDS)
        file_of[fd] = 0;
    return (int)syscall(SYS_close, fd);
}

int unlink(const char *path)
{
    const char *name = ours(path);
    if (!name)
        return (int)syscall(SYS_unlink, path);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlink, path);
    if (done == 0) {
        uint32_t n = number(name, 'N');
        record('U', n, 0, NULL, 0);
        free(names[n]);
        names[n] = NULL;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to)
{
    const char *name = ours(from), *next = ours(to);
    if (!name || !next)
        return (int)syscall(SYS_rename, from, to);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_rename, from, to);
    if (done == 0) {
        uint32_t n = number(name, 'N');
        for (uint32_t other = 0; other < files; other++)
            if (names[other] && strcmp(names[other], next) == 0) {
                free(names[other]);
                names[other] = NULL;
            }
        record('R', n, 0, next, (uint32_t)strlen(next));
        free(names[n]);
        names[n] = strdup(next);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
