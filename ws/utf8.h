/* Is it UTF-8 (RFC 3629)? A text message must be, both ways (RFC 6455 5.6, 8.1). */
#pragma once

#include "proxy/str.h"

bool utf8_valid(struct str bytes); /* no overlong forms, no surrogates, nothing above U+10FFFF */
