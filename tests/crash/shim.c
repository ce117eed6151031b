/* A library for LD_PRELOAD: it counts the calls that write below a folder, and lets one of them fail.

   The settings lie in a file that all processes of a command map, named by the variable CRASH_STATE; see `State` in
   shim.py, which has the same layout. A process counts from its start, or, where CRASH_WAIT is set, once `crash_arm`
   is called. The mapped file also lists what was called, in order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECORDS 16384
enum kind { COUNT, FULL_ONCE, BROKEN, SHORT, KILLED, FULL };

struct record {
    int32_t pid;
    char call[12];
    int64_t bytes;
    char path[232];
};

struct state {
    int64_t count;  /* calls so far */
    int64_t target; /* the call that fails, from 1 */
    int32_t kind;
    int32_t fired; /* whether it did */
    char folder[496];
    struct record records[RECORDS];
};

static struct state *state;
static int armed;

void crash_arm(int on) { armed = on; }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CRASH_STATE");
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (found != MAP_FAILED)
        state = found;
    armed = !getenv("CRASH_WAIT");
}

/* What of the folder a path is, or NULL: not below it. */
static const char *below(const char *path) {
    size_t length = strlen(state->folder);
    if (!length || strncmp(path, state->folder, length) || (path[length] != '/' && path[length]))
        return NULL;
    return path[length] ? path + length + 1 : ".";
}

/* The path that a file descriptor stands for. */
static int named(int file, char path[PATH_MAX]) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static const char *of_file(int file, char whole[PATH_MAX]) { return named(file, whole) ? below(whole) : NULL; }

static const char *of_path(int at, const char *path, char whole[PATH_MAX]) {
    char base[PATH_MAX] = "";
    if (!path)
        return NULL;
    if (path[0] == '/')
        return below(path);
    if (!(at == AT_FDCWD ? getcwd(base, sizeof base) != NULL : named(at, base)))
        return NULL;
    if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
        return NULL;
    return below(whole);
}

__attribute__((noreturn)) static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Count a call; returns 0 to make it, -1 to fail with errno, 1 to make half of it, 2 to make half of it and die. */
static int next(const char *call, const char *path, int64_t bytes) {
    if (!state || !armed || !path)
        return 0;
    int64_t number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
    if (number <= RECORDS) {
        struct record *mine = &state->records[number - 1];
        mine->pid = getpid();
        mine->bytes = bytes;
        snprintf(mine->call, sizeof mine->call, "%s", call);
        snprintf(mine->path, sizeof mine->path, "%s", path);
    }
    int writes = !strcmp(call, "write"), frees = !strcmp(call, "unlink") || !strcmp(call, "rmdir");
    if (state->kind == COUNT || number < state->target || (number > state->target && state->kind != FULL))
        return 0;
    if (state->kind == FULL && (frees || !strcmp(call, "rename")))
        return 0; /* a full disk gives space back */
    if (state->kind == SHORT && (!writes || bytes < 2))
        return 0;
    __atomic_store_n(&state->fired, 1, __ATOMIC_SEQ_CST);
    switch (state->kind) {
    case SHORT:
        return 1;
    case KILLED:
        if (writes && bytes > 1)
            return 2;
        die();
    case FULL:
        if (writes && bytes > 1 && number == state->target)
            return 1; /* what still fits */
        errno = ENOSPC;
        return -1;
    case FULL_ONCE:
        errno = ENOSPC;
        return -1;
    default:
        errno = EIO;
        return -1;
    }
}

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real)                                                                                                         \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & O_CREAT))

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        REAL(int, #name, const char *, int, ...);                                                                      \
        char whole[PATH_MAX];                                                                                          \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = va_arg(more, mode_t);                                                                            \
        va_end(more);                                                                                                  \
        if (state && armed && WRITES(flags) && next("open", of_path(AT_FDCWD, path, whole), 0))                                 \
            return -1;                                                                                                 \
        return real(path, flags, mode);                                                                                \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int at, const char *path, int flags, ...) {                                                               \
        REAL(int, #name, int, const char *, int, ...);                                                                 \
        char whole[PATH_MAX];                                                                                          \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = va_arg(more, mode_t);                                                                            \
        va_end(more);                                                                                                  \
        if (state && armed && WRITES(flags) && next("open", of_path(at, path, whole), 0))                                       \
            return -1;                                                                                                 \
        return real(at, path, flags, mode);                                                                            \
    }
OPENAT(openat)
OPENAT(openat64)

#define CREAT(name)                                                                                                    \
    int name(const char *path, mode_t mode) {                                                                          \
        REAL(int, #name, const char *, mode_t);                                                                        \
        char whole[PATH_MAX];                                                                                          \
        if (state && armed && next("open", of_path(AT_FDCWD, path, whole), 0))                                                  \
            return -1;                                                                                                 \
        return real(path, mode);                                                                                       \
    }
CREAT(creat)
CREAT(creat64)

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *mode) {                                                                   \
        REAL(FILE *, #name, const char *, const char *);                                                               \
        char whole[PATH_MAX];                                                                                          \
        if (state && armed && strpbrk(mode, "wa+") && next("open", of_path(AT_FDCWD, path, whole), 0))                          \
            return NULL;                                                                                               \
        return real(path, mode);                                                                                       \
    }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int file, const void *content, size_t bytes) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char whole[PATH_MAX];
    int how = state && armed ? next("write", of_file(file, whole), (int64_t)bytes) : 0;
    if (how < 0)
        return -1;
    ssize_t done = real(file, content, how ? bytes / 2 : bytes);
    if (how == 2)
        die();
    return done;
}

#define PWRITE(name, offset_type)                                                                                      \
    ssize_t name(int file, const void *content, size_t bytes, offset_type offset) {                                    \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type);                                                  \
        char whole[PATH_MAX];                                                                                          \
        int how = state && armed ? next("write", of_file(file, whole), (int64_t)bytes) : 0;                            \
        if (how < 0)                                                                                                   \
            return -1;                                                                                                 \
        ssize_t done = real(file, content, how ? bytes / 2 : bytes, offset);                                           \
        if (how == 2)                                                                                                  \
            die();                                                                                                     \
        return done;                                                                                                   \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* Of several buffers, half of the first non-empty one. */
ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    char whole[PATH_MAX];
    int64_t bytes = 0;
    int first = 0;
    for (int part = count - 1; part >= 0; part--) {
        bytes += (int64_t)parts[part].iov_len;
        first = parts[part].iov_len ? part : first;
    }
    int how = state && armed ? next("write", of_file(file, whole), bytes) : 0;
    if (how < 0)
        return -1;
    if (!how)
        return real(file, parts, count);
    struct iovec half = {parts[first].iov_base, (parts[first].iov_len + 1) / 2};
    ssize_t done = real(file, &half, 1);
    if (how == 2)
        die();
    return done;
}

#define OF_FILE(name, call)                                                                                            \
    int name(int file) {                                                                                               \
        REAL(int, #name, int);                                                                                         \
        char whole[PATH_MAX];                                                                                          \
        return state && armed && next(call, of_file(file, whole), 0) ? -1 : real(file);                                \
    }
OF_FILE(fsync, "fsync")
OF_FILE(fdatasync, "fsync")

#define TRUNCATE(name, offset_type)                                                                                    \
    int name(int file, offset_type bytes) {                                                                            \
        REAL(int, #name, int, offset_type);                                                                            \
        char whole[PATH_MAX];                                                                                          \
        return state && armed && next("truncate", of_file(file, whole), 0) ? -1 : real(file, bytes);                   \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define OF_PATH(name, call)                                                                                            \
    int name(const char *path) {                                                                                       \
        REAL(int, #name, const char *);                                                                                \
        char whole[PATH_MAX];                                                                                          \
        return state && armed && next(call, of_path(AT_FDCWD, path, whole), 0) ? -1 : real(path);                               \
    }
OF_PATH(unlink, "unlink")
OF_PATH(rmdir, "rmdir")

int unlinkat(int at, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char whole[PATH_MAX];
    const char *call = flags & AT_REMOVEDIR ? "rmdir" : "unlink";
    return state && armed && next(call, of_path(at, path, whole), 0) ? -1 : real(at, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    char whole[PATH_MAX];
    return state && armed && next("mkdir", of_path(AT_FDCWD, path, whole), 0) ? -1 : real(path, mode);
}

int mkdirat(int at, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    char whole[PATH_MAX];
    return state && armed && next("mkdir", of_path(at, path, whole), 0) ? -1 : real(at, path, mode);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    char whole[PATH_MAX];
    return state && armed && next("rename", of_path(AT_FDCWD, to, whole), 0) ? -1 : real(from, to);
}

int renameat(int at, const char *from, int to_at, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    char whole[PATH_MAX];
    return state && armed && next("rename", of_path(to_at, to, whole), 0) ? -1 : real(at, from, to_at, to);
}

int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char whole[PATH_MAX];
    return state && armed && next("rename", of_path(to_at, to, whole), 0) ? -1 : real(at, from, to_at, to, flags);
}

int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    char whole[PATH_MAX];
    return state && armed && next("link", of_path(AT_FDCWD, to, whole), 0) ? -1 : real(from, to);
}

int symlink(const char *from, const char *to) {
    REAL(int, "symlink", const char *, const char *);
    char whole[PATH_MAX];
    return state && armed && next("link", of_path(AT_FDCWD, to, whole), 0) ? -1 : real(from, to);
}

#define COPIES(...)                                                                                              \
    int how = state && armed ? next("write", of_file(to, whole), (int64_t)bytes) : 0;                                  \
    if (how < 0)                                                                                                       \
        return -1;                                                                                                     \
    bytes = how ? bytes / 2 : bytes;                                                                                   \
    ssize_t done = real(__VA_ARGS__);                                                                                  \
    if (how == 2)                                                                                                      \
        die();                                                                                                         \
    return done;

ssize_t sendfile64(int to, int from, off64_t *offset, size_t bytes) {
    REAL(ssize_t, "sendfile64", int, int, off64_t *, size_t);
    char whole[PATH_MAX];
    COPIES(to, from, offset, bytes)
}

ssize_t sendfile(int to, int from, off_t *offset, size_t bytes) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    char whole[PATH_MAX];
    COPIES(to, from, offset, bytes)
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t bytes, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    char whole[PATH_MAX];
    COPIES(from, at, to, to_at, bytes, flags)
}
