/* What the kernel itself takes for a container's start: carries out the system calls of one and prints nanoseconds from
 * before the first call until the child's exec has happened (its close-on-exec pipe ends).
 *
 * The child's calls are the engine's own program, carried out by the engine's own machine.c in a copy of this small
 * process. The parent's are a script: one call a line, words separated by tabs, "SECTION NAME ARGUMENT...". The sections
 * are "before" (before clone), "limits" and "network" (while the child runs). Arguments: iNUMBER, sTEXT, xHEXADECIMAL
 * (bytes), zSIZE (a buffer), rN (the result kept in register N), - (NULL). "=N" at the end keeps the result in register
 * N. Two are more than one of the kernel's: "before clone iFLAGS [rN]" (with the v2 cgroup), "network netns iN" (opens
 * the child's network namespace as descriptor N). "network go xMESSAGE" is what the child is told at the end.
 * Everything is parsed before the clock starts. Usage: engine_floor SCRIPT PROGRAM */
#include "machine.c"
#include <stdio.h>
#include <sys/wait.h>

enum { MAX_CALLS = 512, REGISTERS = 32, NETNS = -1, CLONE = -2, GO = -3, LIMITS_NUMBER = 197, GO_NUMBER = 198 };

static const struct { const char *name; long number; } numbers[] = {
    {"close", SYS_close}, {"mkdir", SYS_mkdir}, {"open", SYS_open}, {"recvfrom", SYS_recvfrom}, {"sendto", SYS_sendto},
    {"socket", SYS_socket}, {"write", SYS_write}, {"netns", NETNS}, {"clone", CLONE}, {"go", GO},
};

struct argument { int is_register; long value; size_t size; };
struct call { char section; const char *name; long number; int count, keep; struct argument arguments[6]; };

static struct call calls[MAX_CALLS];
static int call_count;
static long registers[REGISTERS];

static void give_up(const char *what) { perror(what); _exit(1); }

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

static struct argument parse_argument(char *word) {
    struct argument found = {0, 0, 0};
    char *text = word + 1;
    if (*word == 'i') found.value = strtol(text, NULL, 0);
    if (*word == 'r') { found.is_register = 1; found.value = atol(text); }
    if (*word == 's') found.value = (long)strdup(text);
    if (*word == 'z') found.value = (long)calloc(1, atol(text));
    if (*word == 'x') {
        found.size = strlen(text) / 2;
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
    call->number = number_of(name);
    call->name = strdup(name);
    for (char *word; (word = strtok(NULL, "\t\n"));)
        if (*word == '=') call->keep = atoi(word + 1);
        else call->arguments[call->count++] = parse_argument(word);
}

static long value(const struct argument *argument) {
    return argument->is_register ? registers[argument->value] : argument->value;
}

static void open_netns(const struct call *call, pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || dup3(descriptor, call->arguments[0].value, O_CLOEXEC) < 0) give_up(path);
    close(descriptor);
}

/* Have the reading end of a pipe under the number that the program knows; return the writing end. */
static int pipe_for(int number) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) || dup3(ends[0], number, O_CLOEXEC) < 0) give_up("pipe2");
    close(ends[0]);
    return ends[1];
}

static void carry_out_section(char section, pid_t child, int go) {
    for (struct call *call = calls; call < calls + call_count; call++) {
        if (call->section != section || call->number == CLONE) continue;
        if (call->number == NETNS) { open_netns(call, child); continue; }
        long v[6] = {0};
        for (int i = 0; i < call->count; i++) v[i] = value(&call->arguments[i]);
        long result = call->number == GO ? write(go, (char *)v[0], call->arguments[0].size)
                                         : syscall(call->number, v[0], v[1], v[2], v[3], v[4], v[5]);
        if (result < 0) {
            fprintf(stderr, "section %c, call %d: ", section, (int)(call - calls));
            give_up(call->name);
        }
        if (call->keep >= 0) registers[call->keep] = result;
    }
}

static pid_t clone_child(char *program, int status, int *pidfd) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (struct call *call = calls; call < calls + call_count; call++)
        if (call->number == CLONE) {
            int cgroup = call->count > 1 ? (int)value(&call->arguments[1]) : -1;
            return start(program, value(&call->arguments[0]), cgroup, null, null, null, status, pidfd);
        }
    give_up("the script has no clone");
    return -1;
}

static long run(char *program) {
    char told[4096];
    int status[2], pidfd;
    long started = now();
    carry_out_section('b', 0, -1);
    int limits = pipe_for(LIMITS_NUMBER), go = pipe_for(GO_NUMBER);
    if (pipe2(status, O_CLOEXEC)) give_up("pipe2");
    pid_t pid = clone_child(program, status[1], &pidfd);
    if (pid < 0) give_up("clone3");
    close(status[1]);
    carry_out_section('l', pid, -1);
    if (write(limits, "g", 1) != 1) give_up("limits pipe");
    carry_out_section('n', pid, go);
    close(go);
    while (read(status[0], told, sizeof told) > 0) continue;
    long end = now();
    int ended;
    if (waitpid(pid, &ended, 0) < 0 || ended) { fprintf(stderr, "the child ended with %d: %s\n", ended, told); exit(1); }
    return end - started;
}

int main(int argc, char **argv) {
    static char line[1 << 20], program[1 << 20] __attribute__((aligned(16)));
    if (argc != 3) return 2;
    FILE *script = fopen(argv[1], "re"), *child = fopen(argv[2], "re");
    if (!script || !child || !fread(program, 1, sizeof program, child)) give_up(argv[1]);
    while (fgets(line, sizeof line, script)) parse(line);
    fclose(script);
    fclose(child);
    printf("%ld\n", run(program));
    return 0;
}
