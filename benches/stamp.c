/* A hook that tells when its first instruction ran: CLOCK_MONOTONIC, in nanoseconds, as
 * eight bytes into the FIFO that STAMP names. For the opcode HANGS, if there is one, it tells nothing and
 * stays until nobody reads its output any more. */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct timespec now;
	uint64_t nanoseconds;
	int fd;

	clock_gettime(CLOCK_MONOTONIC, &now);
#ifdef HANGS
	const char *op_code = getenv("GANETI_OP_CODE");
	struct pollfd output = { .fd = 1 };

	if (op_code && strcmp(op_code, HANGS) == 0)
		return poll(&output, 1, -1) != 1;
#endif
	nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	fd = open(STAMP, O_WRONLY);
	return write(fd, &nanoseconds, sizeof nanoseconds) != sizeof nanoseconds;
}
