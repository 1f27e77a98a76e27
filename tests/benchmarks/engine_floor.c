/* What the kernel itself takes for a container's start: carries out a script of system calls and prints, for each
 * script, nanoseconds from before the first call until the child's exec has happened (its close-on-exec pipe ends).
 *
 * A script has one call a line, words separated by tabs: "SECTION NAME[?] ARGUMENT...". The sections are "before"
 * (the engine, before clone), "child" and "spawner" (while the child runs). "?" allows ENOENT. Arguments:
 * iNUMBER, sTEXT, xHEXADECIMAL (bytes), zSIZE (a buffer), rN (the result kept in register N), aTEXT... (all the
 * rest: a NULL-terminated vector), - (NULL). "=N" at the end keeps the result in register N. Four are more than one of
 * the kernel's: "before clone iFLAGS [rN]" (with the v2 cgroup), "spawner netns iN" (opens the child's network
 * namespace as descriptor N), "child ifindex rN xREQUEST" (asks for a link's index, which then stands for 0x7eadbeef
 * in all later bytes), "child go" (waits until the spawner's section is done). pFILE is a filter program for seccomp.
 * Everything is parsed before the clock starts. Usage: engine_floor SCRIPT... */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CALLS = 512, MAX_ARGUMENTS = 40, REGISTERS = 32, NETNS = -1, IFINDEX = -2, CLONE = -3, GO = -4 };
static const uint32_t INDEX_MARK = 0x7eadbeef;

static const struct { const char *name; long number; } numbers[] = {
    {"capset", SYS_capset}, {"chdir", SYS_chdir}, {"chmod", SYS_chmod}, {"chroot", SYS_chroot}, {"close", SYS_close},
    {"close_range", SYS_close_range}, {"dup3", SYS_dup3}, {"execve", SYS_execve}, {"fsconfig", SYS_fsconfig},
    {"fsmount", SYS_fsmount}, {"fsopen", SYS_fsopen}, {"getcwd", SYS_getcwd}, {"ioctl", SYS_ioctl}, {"mkdir", SYS_mkdir},
    {"mknod", SYS_mknod}, {"mount", SYS_mount},
    {"mount_setattr", SYS_mount_setattr}, {"move_mount", SYS_move_mount}, {"open", SYS_open},
    {"open_tree", SYS_open_tree}, {"pipe2", SYS_pipe2}, {"pivot_root", SYS_pivot_root}, {"prctl", SYS_prctl},
    {"read", SYS_read}, {"recvfrom", SYS_recvfrom}, {"seccomp", SYS_seccomp}, {"sendto", SYS_sendto},
    {"setgroups", SYS_setgroups}, {"sethostname", SYS_sethostname}, {"setresgid", SYS_setresgid},
    {"setresuid", SYS_setresuid}, {"setrlimit", SYS_setrlimit}, {"setsid", SYS_setsid}, {"socket", SYS_socket},
    {"stat", SYS_stat}, {"symlink", SYS_symlink}, {"umask", SYS_umask}, {"umount2", SYS_umount2},
    {"unshare", SYS_unshare}, {"write", SYS_write}, {"netns", NETNS}, {"ifindex", IFINDEX}, {"clone", CLONE},
    {"go", GO},
};

struct argument { enum { VALUE, REGISTER } kind; long value; size_t size; int is_bytes; };
struct call { char section; const char *name; long number; int count, keep, may_miss; struct argument arguments[6]; };

static struct call calls[MAX_CALLS];
static int call_count;
static long registers[REGISTERS];

static void die(const char *what) { perror(what); _exit(1); }

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static long number_of(const char *name) {
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!strcmp(numbers[i].name, name)) return numbers[i].number;
    fprintf(stderr, "no system call '%s' in the table\n", name);
    exit(1);
}

static long filter_program(const char *path) {
    static struct sock_filter filter[4096];
    struct sock_fprog *program = malloc(sizeof *program);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = descriptor < 0 ? -1 : read(descriptor, filter, sizeof filter);
    if (size < 0) die(path);
    close(descriptor);
    *program = (struct sock_fprog){size / sizeof filter[0], filter};
    return (long)program;
}

static struct argument parse_argument(char *word) {
    struct argument found = {VALUE, 0, 0, 0};
    char *text = word + 1;
    if (*word == 'i') found.value = strtol(text, NULL, 0);
    if (*word == 'r') { found.kind = REGISTER; found.value = atol(text); }
    if (*word == 's') found.value = (long)strdup(text);
    if (*word == 'p') found.value = filter_program(text);
    if (*word == 'z') found.value = (long)calloc(1, atol(text));
    if (*word == 'x') {
        found.size = strlen(text) / 2;
        found.is_bytes = 1;
        unsigned char *bytes = malloc(found.size + 1);
        for (size_t i = 0; i < found.size; i++) { unsigned v; sscanf(text + 2 * i, "%2x", &v); bytes[i] = v; }
        found.value = (long)bytes;
    }
    return found;
}

static void parse(char *line) {
    struct call *call = &calls[call_count++];
    *call = (struct call){.section = line[0], .keep = -1};
    strtok(line, "\t\n");
    char *name = strtok(NULL, "\t\n");
    call->may_miss = name[strlen(name) - 1] == '?';
    if (call->may_miss) name[strlen(name) - 1] = 0;
    call->number = number_of(name);
    call->name = strdup(name);
    for (char *word; (word = strtok(NULL, "\t\n"));) {
        if (*word == '=') { call->keep = atoi(word + 1); continue; }
        if (*word == 'a') {
            char **vector = calloc(MAX_ARGUMENTS, sizeof *vector);
            int n = 0;
            for (; word && *word == 'a'; word = strtok(NULL, "\t\n")) vector[n++] = strdup(word + 1);
            call->arguments[call->count++] = (struct argument){VALUE, (long)vector, 0, 0};
            if (!word) break;
        }
        call->arguments[call->count++] = parse_argument(word);
    }
}

static long value(const struct argument *argument) {
    return argument->kind == REGISTER ? registers[argument->value] : argument->value;
}

static void learn_index(struct call *call) {
    static unsigned char answer[8192];
    struct argument *request = &call->arguments[1];
    if (syscall(SYS_sendto, value(&call->arguments[0]), request->value, request->size, 0, 0, 0) < 0) die("ifindex");
    if (syscall(SYS_recvfrom, value(&call->arguments[0]), answer, sizeof answer, 0, 0, 0) < 24) die("ifindex");
    for (struct call *later = call + 1; later < calls + call_count; later++)
        for (int i = 0; i < later->count; i++) {
            if (!later->arguments[i].is_bytes || later->arguments[i].size < 4) continue;
            unsigned char *bytes = (unsigned char *)later->arguments[i].value;
            for (size_t at = 0; at + 4 <= later->arguments[i].size; at += 4)
                if (!memcmp(bytes + at, &INDEX_MARK, 4)) memcpy(bytes + at, answer + 20, 4);
        }
}

static void open_netns(const struct call *call, pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || dup3(descriptor, call->arguments[0].value, O_CLOEXEC) < 0) die(path);
    close(descriptor);
}

static int go[2];

static void await_go(void) {
    char byte;
    close(go[1]);
    if (read(go[0], &byte, 1) != 1) die("go pipe");
}

static void carry_out(char section, pid_t child) {
    for (struct call *call = calls; call < calls + call_count; call++) {
        if (call->section != section || call->number == CLONE) continue;
        if (call->number == NETNS) { open_netns(call, child); continue; }
        if (call->number == GO) { await_go(); continue; }
        if (call->number == IFINDEX) { learn_index(call); continue; }
        long v[6] = {0};
        for (int i = 0; i < call->count; i++) v[i] = value(&call->arguments[i]);
        long result = syscall(call->number, v[0], v[1], v[2], v[3], v[4], v[5]);
        if (result < 0 && !(call->may_miss && errno == ENOENT)) {
            dprintf(2, "section %c, call %d: ", section, (int)(call - calls));
            die(call->name);
        }
        if (call->keep >= 0) registers[call->keep] = result;
    }
}

static pid_t clone_child(void) {
    for (struct call *call = calls; call < calls + call_count; call++)
        if (call->number == CLONE) {
            struct clone_args arguments = {.flags = value(&call->arguments[0]), .exit_signal = SIGCHLD};
            if (call->count > 1) arguments.cgroup = value(&call->arguments[1]);
            return syscall(SYS_clone3, &arguments, sizeof arguments);
        }
    die("the script has no clone");
    return -1;
}

static long run(void) {
    char byte;
    int status[2];
    long start = now();
    carry_out('b', 0);
    if (pipe2(status, O_CLOEXEC) || pipe2(go, O_CLOEXEC)) die("pipe2");
    pid_t pid = clone_child();
    if (pid < 0) die("clone3");
    if (pid == 0) { carry_out('c', 0); _exit(127); }
    close(status[1]);
    carry_out('s', pid);
    if (write(go[1], "g", 1) != 1) die("go pipe");
    if (read(status[0], &byte, 1)) die("status pipe");
    long end = now();
    int ended;
    if (waitpid(pid, &ended, 0) < 0 || ended) { fprintf(stderr, "the child ended with %d\n", ended); exit(1); }
    close_range(3, ~0U, 0);
    return end - start;
}

int main(int argc, char **argv) {
    static char line[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *script = fopen(argv[i], "re");
        if (!script) die(argv[i]);
        call_count = 0;
        while (fgets(line, sizeof line, script)) parse(line);
        fclose(script);
        printf("%ld\n", run());
    }
    return 0;
}
