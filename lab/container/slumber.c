/* Waits in the place of a spawner that has nothing to do but wait, in a fraction of an interpreter's memory.
 *
 *   slumber INTERPRETER DESCRIPTORS ARGUMENT...
 *
 * INTERPRETER is the number of a descriptor; it is executed with the arguments as soon as one of DESCRIPTORS, numbers
 * with commas, has something to be read. All of them stay open, so that nothing is lost that was written meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int interpreter = atoi(argv[1]);
    size_t count = 0;
    struct pollfd *watched = calloc(strlen(argv[2]) + 1, sizeof *watched);
    if (!watched) return 1;
    for (char *each = strtok(argv[2], ","); each; each = strtok(NULL, ","))
        watched[count++] = (struct pollfd){.fd = atoi(each), .events = POLLIN};
    while (poll(watched, count, -1) < 0 && errno == EINTR) continue;
    fcntl(interpreter, F_SETFD, FD_CLOEXEC);
    syscall(SYS_execveat, interpreter, "", argv + 3, (char *[]){NULL}, AT_EMPTY_PATH);
    return 1; /* as if it had been killed: the next command starts another spawner, which goes on */
}
