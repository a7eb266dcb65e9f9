#include "admin/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIME_TEXT = 32 };

json_t *json_time(int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    char text[TIME_TEXT];
    struct tm utc;
    size_t len;

    if (!gmtime_r(&seconds, &utc))
        return json_null();
    len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(text + len, sizeof(text) - len, ".%03dZ", (int)(ms % 1000));
    return json_string(text);
}

json_t *json_text(const char *text)
{
    json_t *value;
    char *plain;

    if (!text)
        return json_null();
    value = json_string(text);
    if (value)
        return value;
    plain = strdup(text);
    for (char *c = plain; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = plain ? json_string(plain) : json_null();
    free(plain);
    return value;
}
