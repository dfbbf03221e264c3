/* A hook that tells when its first instruction ran: CLOCK_MONOTONIC, in nanoseconds, as
 * eight bytes into the FIFO that STAMP names. */
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct timespec now;
	uint64_t nanoseconds;
	int fd;

	clock_gettime(CLOCK_MONOTONIC, &now);
	nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	fd = open(STAMP, O_WRONLY);
	return write(fd, &nanoseconds, sizeof nanoseconds) != sizeof nanoseconds;
}
