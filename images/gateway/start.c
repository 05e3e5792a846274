/* start SOCKET PROGRAM [ARGUMENT]...
 *
 * Removes the Unix socket that a killed run left, and becomes the program. nginx does not remove
 * what it finds in the place of a socket that it is to listen on: it ends. Whatever is served stays
 * there, and nginx says that the address is in use. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (argc < 3 || strlen(argv[1]) >= sizeof address.sun_path) {
		fprintf(stderr, "usage: start SOCKET PROGRAM [ARGUMENT]..., the socket's path at most %zu bytes\n",
			sizeof address.sun_path - 1);
		return 2;
	}
	strcpy(address.sun_path, argv[1]);
	const int client = socket(AF_UNIX, SOCK_STREAM, 0);
	if (client < 0) {
		perror("socket");
		return 1;
	}
	if (connect(client, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED &&
	    unlink(argv[1]) != 0) {
		perror(argv[1]);
		return 1;
	}
	close(client);
	execv(argv[2], argv + 2);
	perror(argv[2]);
	return 1;
}
