/* Keeps a container's terminal open beside its supervisor, so that the terminal outlives that one.
 *
 * Standard input is a pidfd of the container's first process, standard output the terminal's master. Nothing is ever
 * read from it or written to it here: who follows a supervisor that was killed takes it out by pidfd_getfd(2).
 */
#include <errno.h>
#include <poll.h>
#include <sys/prctl.h>

int main(void) {
    struct pollfd process = {.fd = 0, .events = POLLIN};

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* whose user is ours may take it, also under Yama */
    while (poll(&process, 1, -1) < 0 && errno == EINTR)
        continue;
    return 0;
}
