/* The console script `lab`: hands a command to the command server of its root where one stands ready, else executes the
 * lab in Python.
 *
 * To start an interpreter and to import modules is most of the time that a short command takes. A command server
 * (command_server.py) has done both, and forks a worker that carries the command out in this process's place: with its
 * streams, working directory, environment, umask and signals. What a worker cannot take over must be the same already.
 * Where it is not, or no server answers, `lab-python` beside this program is executed, the lab in its own process; and
 * `lab-command-server` is started for the next command.
 *
 * Sources: unix(7), proc(5), signalfd(2), posix_spawn(3). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROTOCOL "1" /* as in command_server.py: a server of another version has another name, and is not found */
#define LENGTH(array) (sizeof(array) / sizeof *(array))

enum { READY = 'r', ENDED = 'e', DECLINED = 'd' }; /* what a server says */
enum { LOCK_NUMBER = 3 }; /* the descriptor under which a server gets the lock that is held until it listens */
enum { EXIT_UNAVAILABLE = 3, EXIT_SERVER_DIED = 125, EXIT_SIGNAL = 128 };
enum { READY_LOOKS = 20, READY_MS = 1000, LAST_SIGNAL = 64, STREAMS = 3 };
enum { REQUEST_BYTES = 1 << 18, STATE_BYTES = 1 << 17, NAME_BYTES = 64 };

extern char **environ;

/* ---- text that grows within a fixed room ---- */

struct text {
    char *bytes;
    size_t size, room;
    bool is_cut;
};
#define TEXT(name, room_bytes) \
    static char name##_room[room_bytes]; \
    static struct text name = {name##_room, 0, room_bytes, false}

static void add(struct text *text, const void *bytes, size_t size) {
    if (size > text->room - text->size) {
        text->is_cut = true;
        return;
    }
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

static void add_word(struct text *text, const char *word) {
    add(text, word, strlen(word) + 1);
}

/* Add a file of a process in /proc, nothing if this kernel has none or we may not read it; then a NUL. */
static void add_file(struct text *text, const char *process, const char *name) {
    char path[NAME_BYTES];
    snprintf(path, sizeof path, "/proc/%s/%s", process, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t got = 1;
        while (got > 0 && text->size < text->room) {
            got = read(file, text->bytes + text->size, text->room - text->size);
            text->size += got > 0 ? (size_t)got : 0;
        }
        close(file);
    }
    add(text, "", 1);
}

static bool begins_with(const char *word, const char *start) {
    return strncmp(word, start, strlen(start)) == 0;
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static void complain(const char *what, const char *why, const char *hint) {
    dprintf(STDERR_FILENO, "lab: %s%s\n     try: %s\n", what, why, hint);
}

/* Write words one after another, or return false if they are longer than a path may be. */
static bool join(char path[PATH_MAX], const char *first, const char *second, const char *third) {
    int size = snprintf(path, PATH_MAX, "%s%s%s", first, second, third);
    return size >= 0 && size < PATH_MAX;
}

/* ---- where things are ---- */

static char home[PATH_MAX];                /* the directory of this program, and of its companions in Python */
static char root[PATH_MAX], run[PATH_MAX]; /* as paths.py says */

static bool find_home(void) {
    ssize_t size = readlink("/proc/self/exe", home, sizeof home - 1);
    if (size <= 0)
        return false;
    home[size] = 0;
    char *slash = strrchr(home, '/'); /* what follows may say that the file was replaced meanwhile */
    if (!slash)
        return false;
    *slash = 0;
    return true;
}

/* Write a path without "." and "..", from the top, and without looking at links, as os.path.abspath does. */
static bool make_absolute(char absolute[PATH_MAX], const char *path) {
    char whole[2 * PATH_MAX] = "";
    size_t size = 0;
    if (strlen(path) >= PATH_MAX || (*path != '/' && !getcwd(whole, PATH_MAX)))
        return false;
    strcat(strcat(whole, "/"), path);
    char *rest = whole, *part;
    while ((part = strsep(&rest, "/"))) {
        if (!strcmp(part, ".."))
            while (size && absolute[--size] != '/')
                continue;
        else if (*part && strcmp(part, ".")) {
            if (size + 1 + strlen(part) >= PATH_MAX - 1)
                return false;
            absolute[size++] = '/';
            memcpy(absolute + size, part, strlen(part));
            size += strlen(part);
        }
    }
    if (!size)
        absolute[size++] = '/';
    absolute[size] = 0;
    return true;
}

static bool find_root(const char *given) {
    const char *chosen = *given ? given : variable("LAB_ROOT");
    if (*chosen)
        return make_absolute(root, chosen) && join(run, root, root[1] ? "/" : "", "run");
    if (geteuid() == 0)
        return join(root, "/var/lib/lab", "", "") && join(run, "/run/lab", "", "");
    const char *user = getenv("HOME"), *data = variable("XDG_DATA_HOME");
    const char *cache = variable("XDG_CACHE_HOME"), *own = variable("XDG_RUNTIME_DIR");
    if (!user)
        user = "";
    else if (*user != '/')
        return false;
    bool has_root = *data ? join(root, data, "/lab", "") : join(root, user, "/.local/share/lab", "");
    bool has_run = *own     ? join(run, own, "/lab", "")
                   : *cache ? join(run, cache, "/run/lab", "")
                            : join(run, user, "/.cache/run/lab", "");
    return has_root && has_run && *root == '/' && *run == '/';
}

/* ---- which commands a server may carry out ---- */

static bool is_any(const char *word, const char *const *words) {
    for (; *words; words++)
        if (!strcmp(word, *words))
            return true;
    return false;
}

static bool has_any(const char *word, const char *const *parts) {
    for (; *parts; parts++)
        if (strstr(word, *parts))
            return true;
    return false;
}

/* Read a command line as the parser of main.py does. Return the place of its noun, 0 if it has other flags or none. */
static int find_noun(int count, char **words, const char **given_root) {
    int place = 1;
    *given_root = "";
    while (place < count && (!strcmp(words[place], "--root") || begins_with(words[place], "--root="))) {
        *given_root = words[place][6] ? words[place] + 7 : place + 1 < count ? words[++place] : "";
        if (!**given_root)
            return 0;
        place++;
    }
    return place < count && *words[place] && *words[place] != '-' ? place : 0;
}

static bool is_servable(int count, char **words, int place) {
    static const char *const here[] = {"bench", "doctor", "report", "serve", "setup", NULL}; /* they measure, or go on */
    static const char *const descriptors[] = {"/fd/", "/proc/self", NULL};          /* a worker has streams only */
    static const char *const asking[] = {"://", "git@", NULL};
    if (is_any(words[place], here))
        return false;
    for (int each = place + 1; each < count; each++)
        if (has_any(words[each], descriptors))
            return false;
    bool builds = !strcmp(words[place], "build") || (place + 1 < count && !strcmp(words[place + 1], "build"));
    for (int each = place + 1; builds && each < count; each++)
        if (has_any(words[each], asking)) /* git and ssh ask on the terminal that controls their session */
            return false;
    return true;
}

/* Variables that shape a process at its start, and of those such that a worker does not need, or obeys by itself. */
static bool shapes_process(const char *variable_text) {
    return begins_with(variable_text, "PYTHON") || begins_with(variable_text, "LD_") ||
           begins_with(variable_text, "GLIBC_TUNABLES") || begins_with(variable_text, "MALLOC_");
}

static bool is_harmless(const char *variable_text) {
    return begins_with(variable_text, "PYTHONDONTWRITEBYTECODE=") ||
           begins_with(variable_text, "PYTHONPYCACHEPREFIX=") || begins_with(variable_text, "PYTHONUNBUFFERED=");
}

/* Return whether Python's streams would be UTF-8, which they are in the locale C as well; a worker's are. */
static bool is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t each = 0; each < LENGTH(names); each++) {
        const char *locale = variable(names[each]);
        if (!*locale)
            continue;
        const char *codeset = strchr(locale, '.');
        size_t size = codeset ? strcspn(codeset, "@") : 0;
        if (!strcmp(locale, "C") || !strcmp(locale, "POSIX"))
            return true;
        return (size == 6 && !strncasecmp(codeset, ".utf-8", size)) ||
               (size == 5 && !strncasecmp(codeset, ".utf8", size));
    }
    return true;
}

/* A terminal's background job is stopped by the kernel when it reads, but a worker is not. */
static bool is_background(void) {
    pid_t group = tcgetpgrp(STDIN_FILENO);
    return group >= 0 && group != getpgrp();
}

static bool has_usual_surroundings(void) {
    if (!strcmp(variable("LAB_COMMAND_SERVER"), "off") || !is_utf8() || is_background())
        return false;
    for (char **each = environ; *each; each++)
        if (shapes_process(*each) && !is_harmless(*each))
            return false;
    for (int stream = 0; stream < STREAMS; stream++)
        if (fcntl(stream, F_GETFD) < 0)
            return false;
    return true;
}

/* ---- what a worker must have in common with its command, since it cannot take it over ---- */

TEXT(identity, STATE_BYTES);
TEXT(server_state, STATE_BYTES);
TEXT(status, STATE_BYTES); /* a process's file of that name */

static const char *find_field(const char *name) {
    for (const char *line = status.bytes; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (begins_with(line, name))
            return line;
    }
    return NULL;
}

/* Add what others may change of a process while it lives, and what it shares with its children in the same files. */
static void add_state(struct text *text, const char *process, pid_t pid) {
    static const char *const fields[] = {
        "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:",
        "Cpus_allowed:", "Mems_allowed:",
    };
    static const char *const files[] = {"cgroup", "limits", "oom_score_adj"};
    int numbers[] = {getpriority(PRIO_PROCESS, (id_t)pid), sched_getscheduler(pid)};
    status.size = 0;
    add_file(&status, process, "status");
    text->is_cut |= status.is_cut;
    status.bytes[status.size - 1] = 0;
    for (size_t each = 0; each < LENGTH(fields); each++) {
        const char *line = find_field(fields[each]);
        if (line)
            add(text, line, strcspn(line, "\n"));
    }
    for (size_t each = 0; each < LENGTH(files); each++)
        add_file(text, process, files[each]);
    add(text, numbers, sizeof numbers);
}

static uint64_t field_of_status(const char *name, int base) {
    const char *line = find_field(name);
    return line ? strtoull(line + strlen(name), NULL, base) : 0;
}

static size_t state_size;                  /* how much of the identity others may change */
static uint64_t ignored_mask, blocked_mask; /* bit n-1 stands for signal n */
static uint32_t own_umask;

static void describe(void) {
    static const char *const namespaces[] = {
        "cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts",
    };
    struct stat top = {0};
    add_state(&identity, "self", 0);
    state_size = identity.size;
    ignored_mask = field_of_status("SigIgn:", 16);
    blocked_mask = field_of_status("SigBlk:", 16);
    own_umask = (uint32_t)field_of_status("Umask:", 8);
    add_word(&identity, PROTOCOL);
    add_word(&identity, home);
    for (size_t each = 0; each < LENGTH(namespaces); each++) {
        char path[NAME_BYTES], name[NAME_BYTES] = "";
        snprintf(path, sizeof path, "/proc/self/ns/%s", namespaces[each]);
        if (readlink(path, name, sizeof name - 1) < 0)
            name[0] = 0;
        add_word(&identity, name);
    }
    if (stat("/", &top))
        identity.is_cut = true;
    add(&identity, &top.st_dev, sizeof top.st_dev);
    add(&identity, &top.st_ino, sizeof top.st_ino);
    add_file(&identity, "self", "personality");
    add_file(&identity, "self", "attr/current");
}

/* A server has what its first command has had, unless somebody has moved it since. */
static bool is_alike(const char *server, pid_t pid) {
    add_state(&server_state, server, pid);
    return !server_state.is_cut && server_state.size == state_size &&
           !memcmp(server_state.bytes, identity.bytes, state_size);
}

/* Write the name of the socket at which the server for commands of this likeness listens. */
static void name_socket(char name[NAME_BYTES]) {
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t each = 0; each < identity.size; each++)
        hash = (hash ^ (unsigned char)identity.bytes[each]) * 0x100000001b3;
    snprintf(name, NAME_BYTES, "commands-%016llx.sock", (unsigned long long)hash);
}

/* ---- asking the server ---- */

static bool is_stopped(const char *server) {
    status.size = 0;
    add_file(&status, server, "status");
    status.bytes[status.size - 1] = 0;
    const char *line = find_field("State:");
    return line && begins_with(line, "State:\tT");
}

/* Wait for a server to take us, longer if it is busy; one that is stopped must not hold anybody up. */
static bool becomes_ready(int channel, const char *server) {
    for (int look = 0; look < READY_LOOKS; look++) {
        struct pollfd waiting = {channel, POLLIN, 0};
        if (poll(&waiting, 1, READY_MS) > 0) {
            char answer = 0;
            return recv(channel, &answer, 1, MSG_DONTWAIT) == 1 && answer == READY;
        }
        if (is_stopped(server))
            return false;
    }
    return false;
}

/* Return a connection to a server of our own user that stands ready, -1 if what answers is none. */
static int connect_to_server(const char *name) {
    int directory = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int channel = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX}; /* its path ends at 107 bytes: hence by the descriptor */
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, name);
    struct timeval patience = {.tv_sec = 1}; /* with a server that has stopped and whose queue is full */
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    bool is_ready = directory >= 0 && channel >= 0 &&
                    !setsockopt(channel, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) &&
                    !connect(channel, (struct sockaddr *)&address, sizeof address) &&
                    !getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.uid == geteuid() &&
                    peer.pid > 0; /* 0: in a namespace where we do not see it */
    if (directory >= 0)
        close(directory);
    if (is_ready) {
        char server[NAME_BYTES];
        snprintf(server, sizeof server, "%d", peer.pid);
        is_ready = is_alike(server, peer.pid) && becomes_ready(channel, server);
    }
    if (is_ready)
        return channel;
    if (channel >= 0)
        close(channel);
    return -1;
}

/* ---- handing the command over ---- */

struct request_head {
    uint64_t ignored, blocked;
    uint32_t umask, arguments;
}; /* then arguments and variables, each ended by NUL; with descriptors of the streams and of the directory */

TEXT(request, REQUEST_BYTES);

static bool send_request(int channel, int count, char **words) {
    struct request_head head = {ignored_mask, blocked_mask, own_umask, (uint32_t)count - 1};
    add(&request, &head, sizeof head);
    for (int each = 1; each < count; each++)
        add_word(&request, words[each]);
    for (char **each = environ; *each; each++)
        add_word(&request, *each);
    int here = request.is_cut ? -1 : open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (here < 0)
        return false;
    int descriptors[STREAMS + 1] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, here};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof descriptors)];
    } rights = {.header = {CMSG_LEN(sizeof descriptors), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&rights.header), descriptors, sizeof descriptors);
    struct iovec part = {request.bytes, request.size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = rights.room, .msg_controllen = sizeof rights.room,
    };
    bool is_sent = sendmsg(channel, &message, MSG_NOSIGNAL) >= 0; /* EMSGSIZE: an environment too big for a packet */
    close(here);
    return is_sent;
}

/* ---- until it has ended ---- */

/* Collect the signals that the worker is to get: all but those that are ignored or blocked, that tell of this process
 * itself, or that are a matter of job control; SIGTSTP is passed on, and obeyed as well. */
static void collect_signals(sigset_t *passed) {
    static const int kernels_own[] = {
        SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGCHLD, SIGCONT, SIGSTOP, SIGTTIN, SIGTTOU, SIGURG, SIGSYS,
    };
    sigemptyset(passed);
    for (int number = 1; number <= LAST_SIGNAL; number++)
        if (!((ignored_mask | blocked_mask) >> (number - 1) & 1))
            sigaddset(passed, number); /* refuses what belongs to the C library */
    for (size_t each = 0; each < LENGTH(kernels_own); each++)
        sigdelset(passed, kernels_own[each]);
}

static void tell(int channel, uint32_t number) {
    char byte = (char)number;
    send(channel, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* a server that has gone is seen by who waits for it */
}

/* Stand still as SIGTSTP asks for, until the shell lets us go on. */
static void suspend(void) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    kill(getpid(), SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stop, NULL);
    sigprocmask(SIG_BLOCK, &stop, NULL);
}

static void pass_signals_on(int channel, int signals) {
    struct signalfd_siginfo got;
    while (read(signals, &got, sizeof got) == sizeof got) {
        tell(channel, got.ssi_signo);
        if (got.ssi_signo == SIGTSTP) {
            suspend();
            tell(channel, SIGCONT);
        }
    }
}

/* End as the worker has ended: with its exit code, or by its signal. */
static _Noreturn void leave(int wait_status) {
    if (!WIFSIGNALED(wait_status))
        _exit(WEXITSTATUS(wait_status));
    int number = WTERMSIG(wait_status);
    struct rlimit none = {0}; /* the worker has left its core where one is wanted */
    sigset_t only;
    setrlimit(RLIMIT_CORE, &none);
    sigemptyset(&only);
    sigaddset(&only, number);
    signal(number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    kill(getpid(), number);
    _exit(EXIT_SIGNAL + number); /* a first process is not killed by its own signals */
}

static _Noreturn void leave_without_server(void) {
    complain("the command server has ended, and this command with it", "", "the same command again");
    _exit(EXIT_SERVER_DIED);
}

/* Pass signals on until the command has ended, and end as it did; return only if the server has declined it. */
static void await_end(int channel, int signals) {
    struct {
        char kind;
        int32_t status;
    } __attribute__((packed)) answer = {0};
    struct pollfd events[] = {{channel, POLLIN, 0}, {signals, POLLIN, 0}};
    do {
        if (poll(events, LENGTH(events), -1) < 0)
            events[0].revents = 0; /* it is asked again */
        else if (events[1].revents)
            pass_signals_on(channel, signals);
    } while (!events[0].revents);
    ssize_t got = recv(channel, &answer, sizeof answer, 0);
    if (got >= 1 && answer.kind == DECLINED)
        return;
    if (got != sizeof answer || answer.kind != ENDED)
        leave_without_server();
    leave(answer.status);
}

/* Let the server carry the command out; return only if it does not, and has done nothing. */
static void ask(int channel, int count, char **words) {
    sigset_t passed, before;
    collect_signals(&passed);
    sigprocmask(SIG_BLOCK, &passed, &before); /* those that come now wait for the command that they are meant for */
    int signals = signalfd(-1, &passed, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals >= 0 && send_request(channel, count, words))
        await_end(channel, signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (signals >= 0)
        close(signals);
    close(channel);
}

/* ---- the companions in Python ---- */

static char script[PATH_MAX], python[PATH_MAX];

/* Find a script beside this program, and the interpreter beside it, which takes the place of the one that the script
 * names where the whole environment was moved. */
static bool find_script(const char *name) {
    return join(script, home, "/", name) && join(python, home, "/", "python3");
}

static bool make_directory(char path[PATH_MAX]) {
    if (!mkdir(path, 0700) || errno == EEXIST)
        return true;
    for (char *slash = path + 1; errno == ENOENT && (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        bool is_there = !mkdir(path, 0777) || errno == EEXIST;
        *slash = '/';
        if (!is_there)
            return false;
        errno = ENOENT;
    }
    return !mkdir(path, 0700) || errno == EEXIST;
}

static void launch(const char *name, int lock, int log, int null) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t every, none;
    char *kept[8], *words[] = {python, script, PROTOCOL, run, (char *)name, NULL};
    size_t count = 0;
    for (char **each = environ; *each && count < LENGTH(kept) - 1; each++)
        if (is_harmless(*each) || begins_with(*each, "HOME="))
            kept[count++] = *each;
    kept[count] = NULL;
    sigfillset(&every);
    sigdelset(&every, SIGKILL);
    sigdelset(&every, SIGSTOP);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, null, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, null, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, log, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, lock, LOCK_NUMBER);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attributes, &every);
    posix_spawnattr_setsigmask(&attributes, &none);
    pid_t pid;
    if (posix_spawn(&pid, script, &actions, &attributes, words + 1, kept) == ENOENT)
        posix_spawn(&pid, python, &actions, &attributes, words, kept);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
}

/* Start a server for the commands to come, unless another command is just doing that; wait for nothing. What cannot be
 * written to is not ours: the command will say what that means for it. */
static void start_server(const char *name) {
    struct stat found;
    if (stat(root, &found) || !S_ISDIR(found.st_mode) || !make_directory(run) || !find_script("lab-command-server"))
        return;
    int directory = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int lock = -1, log = -1, null = -1;
    if (directory >= 0 && !fstat(directory, &found) && found.st_uid == geteuid() && !(found.st_mode & S_IWOTH))
        lock = openat(directory, "commands.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock >= 0 && !flock(lock, LOCK_EX | LOCK_NB)) {
        log = openat(directory, "commands.log", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (log >= 0 && null >= 0)
            launch(name, lock, log, null);
    }
    int opened[] = {directory, lock, log, null};
    for (size_t each = 0; each < LENGTH(opened); each++)
        if (opened[each] >= 0)
            close(opened[each]);
}

/* Be the lab in Python, with the same arguments. */
static _Noreturn void execute_here(int count, char **words) {
    char **with_python = calloc((size_t)count + 2, sizeof *with_python);
    if (with_python && find_script("lab-python")) {
        with_python[0] = python;
        with_python[1] = script;
        memcpy(with_python + 2, words + (count ? 1 : 0), (size_t)(count ? count - 1 : 0) * sizeof *words);
        execv(script, with_python + 1);
        if (errno == ENOENT)
            execv(python, with_python);
    }
    complain("cannot execute lab-python beside the lab: ", strerror(errno), "install the lab again");
    _exit(EXIT_UNAVAILABLE);
}

int main(int count, char **words) {
    const char *given_root;
    if (!find_home()) {
        complain("cannot find the directory that it is in: ", strerror(errno), "mount -t proc proc /proc");
        return EXIT_UNAVAILABLE;
    }
    int noun = find_noun(count, words, &given_root);
    if (noun && is_servable(count, words, noun) && has_usual_surroundings() && find_root(given_root)) {
        char name[NAME_BYTES];
        describe();
        if (!identity.is_cut) {
            name_socket(name);
            int channel = connect_to_server(name);
            if (channel >= 0)
                ask(channel, count, words);
            else
                start_server(name);
        }
    }
    execute_here(count, words);
}
