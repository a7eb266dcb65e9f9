/* The core side as JSON: an entry for each address that a backend's name leads to, and for each
 * backend of which none is known. */
#pragma once

#include <stdio.h>

#include "admin/report.h"

/* 200; 500: no memory. */
int backends_print(const struct report *report, FILE *out);
