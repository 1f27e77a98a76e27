/*
 * Become QEMU inside the cgroups of its guest: a process that joins first has all of its memory charged there.
 *
 * CGROUPS names a variable with the paths of cgroup.procs files, STARTED one with the path of a file that gets the time
 * (CLOCK_MONOTONIC, nanoseconds) at which QEMU's program is entered: what is before it is the manager's, what comes
 * after it QEMU's own. Both may be missing: libvirt also runs this to find out what QEMU can do.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int put(const char *path, int flags, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC | flags, 0600);

	return file < 0 || write(file, text, strlen(text)) < 0 || close(file) != 0;
}

int main(int argc, char **argv)
{
	char *path, *rest = getenv(CGROUPS), *started = getenv(STARTED), text[32];
	struct timespec now;

	(void)argc;
	while (rest != NULL && (path = strsep(&rest, " ")) != NULL)
		if (*path && put(path, 0, "0\n")) {
			perror(path);
			return 1;
		}
	if (started != NULL) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		snprintf(text, sizeof text, "%lld\n", now.tv_sec * 1000000000ll + now.tv_nsec);
		put(started, O_CREAT, text); /* who cannot tell, as another user, runs all the same */
	}
	argv[0] = QEMU;
	execv(QEMU, argv);
	perror(QEMU);
	return 1;
}
