/* The kernel's own cost of a container start: the same namespaces, cgroups, overlay, mounts, loopback and system call
 * filter as the engine asks for, from a small C program. Prints one number per round: nanoseconds from before the
 * first call until the exec in the child has happened (its close-on-exec pipe ends).
 * Usage: engine_floor ROUNDS LOWER SCRATCH BPF-FILE PARENT HIERARCHY... */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sock_filter filter[4096];
static struct sock_fprog program = {0, filter};

static void check(long result, const char *what) {
    if (result < 0) { perror(what); _exit(1); }
}

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void kernel_mount(const char *type, const char *at, long flags, const char *data) {
    if (mount(type, at, type, flags, data) == 0) return;
    mkdir(at, 0755);
    check(mount(type, at, type, flags, data), at);
}

static void child(char **hierarchies, int count, const char *cgroup, const char *lower, const char *scratch) {
    char path[4096], options[4096];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s/tasks", hierarchies[i], cgroup);
        int fd = open(path, O_WRONLY);
        if (fd < 0) continue; /* v2 */
        check(write(fd, "0", 1), path);
        close(fd);
    }
    check(unshare(CLONE_NEWCGROUP), "unshare");
    setsid();
    check(mount("", "/", "", MS_REC | MS_PRIVATE, ""), "private");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, scratch, scratch);
    snprintf(path, sizeof path, "%s/root", scratch);
    check(mount("overlay", path, "overlay", 0, options), "overlay");
    check(chdir(path), path);
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount2");
    check(chdir("/"), "/");
    long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    kernel_mount("proc", "/proc", safe, "");
    kernel_mount("tmpfs", "/dev", MS_NOSUID, "mode=755");
    const int devices[6][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}};
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "/dev/%d.%d", devices[i][0], devices[i][1]);
        check(mknod(path, S_IFCHR | 0666, makedev(devices[i][0], devices[i][1])), path);
    }
    kernel_mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666");
    kernel_mount("tmpfs", "/dev/shm", safe, "mode=1777");
    kernel_mount("mqueue", "/dev/mqueue", safe, "");
    kernel_mount("sysfs", "/sys", safe | MS_RDONLY, "");
    kernel_mount("tmpfs", "/sys/fs/cgroup", safe, "mode=755");
    for (int i = 0; i < count; i++) {
        const char *name = strrchr(hierarchies[i], '/') + 1;
        if (!strcmp(name, "unified")) continue;
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
        mkdir(path, 0755);
        check(mount("cgroup", path, "cgroup", safe | MS_RDONLY, name), path);
    }
    struct ifreq request = {.ifr_flags = IFF_UP};
    strcpy(request.ifr_name, "lo");
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    check(ioctl(s, SIOCSIFFLAGS, &request), "lo");
    close(s);
    check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 4, &program), "seccomp");
    execl("/bin/busybox", "busybox", "true", NULL);
    perror("exec");
    _exit(127);
}

int main(int argc, char **argv) {
    int rounds = atoi(argv[1]), count = argc - 6, bpf = open(argv[4], O_RDONLY);
    program.len = read(bpf, filter, sizeof filter) / sizeof filter[0];
    for (int round = 0; round < rounds; round++) {
        char path[4096], byte;
        int status[2];
        long start = now();
        for (int i = 0; i < count; i++) {
            snprintf(path, sizeof path, "%s/%s", argv[6 + i], argv[5]);
            mkdir(path, 0755);
        }
        check(pipe2(status, O_CLOEXEC), "pipe");
        long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | SIGCHLD;
        pid_t pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
        check(pid, "clone");
        if (pid == 0) child(argv + 6, count, argv[5], argv[2], argv[3]);
        close(status[1]);
        (void)!read(status[0], &byte, 1);
        long end = now();
        close(status[0]);
        int ended;
        waitpid(pid, &ended, 0);
        if (ended) return 1;
        printf("%ld\n", end - start);
        for (int i = 0; i < count; i++) {
            snprintf(path, sizeof path, "%s/%s", argv[6 + i], argv[5]);
            while (rmdir(path) < 0 && errno == EBUSY) continue;
        }
    }
    return 0;
}
