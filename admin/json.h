/* Values of JSON that more than one page has. Each gives the caller a reference. */
#pragma once

#include <stdint.h>

#include <jansson.h>

json_t *json_time(int64_t ms); /* since 1970, as RFC 3339 has it, in UTC */
/* What of it is no UTF-8 becomes question marks. NULL: null. */
json_t *json_text(const char *text);
