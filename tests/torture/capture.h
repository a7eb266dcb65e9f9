/* What goes out, as a capture file for tshark: each message in a UDP datagram of its own. Beside it
 * FILE.index: one line for each frame, the test that it came from.
 *
 * Errors: a file that can't be written ends the program and says why. */
#pragma once

#include "proxy/str.h"

void capture_open(const char *path);
void capture_add(struct str message, const char *test); /* one that fits no datagram is left out */
void capture_close(void);
